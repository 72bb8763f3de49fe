//! The one list of instructions.
//!
//! A row gives a mnemonic its [`Operation`] and the arithmetic flags that the manual leaves undefined.
//! Encodings, operand kinds and widths come from iced-x86's own data; the row and the operands together
//! choose the handler ([`crate::interp::select`]). A mnemonic without a row does not exist on this CPU:
//! it raises #UD. [`rule`] says what the translator makes of it.

use crate::flags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};
use iced_x86::{Code, Mnemonic};
use std::sync::LazyLock;

/// What an instruction does, independent of widths and operand kinds. Named as in the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the manual's mnemonics")]
#[rustfmt::skip]
pub enum Operation {
    // Arithmetic and logic
    Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not,
    Mul, Imul, Div, Idiv, Daa, Das, Aaa, Aas, Aam, Aad,
    // Shifts and bits
    Rol, Ror, Rcl, Rcr, Shl, Shr, Sar, Shld, Shrd,
    Bt, Bts, Btr, Btc, Bsf, Bsr, Popcnt, Bswap, Crc32,
    // Moves
    Mov, Movzx, Movsx, Lea, Xchg, Xadd, Cmpxchg, Cmpxchg8b, Cmpxchg16b, Cmov, Setcc,
    Cbw, Cwd, Lahf, Sahf, Xlat, Movbe, Salc,
    // Stack
    Push, Pop, Pusha, Popa, Pushf, Popf, Enter, Leave,
    // Control flow
    Jcc, Jmp, Call, Ret, Loop, Loope, Loopne, Jcxz, RetFar, Iret,
    Int, Int3, Into, Int1, Syscall, Sysret, Sysenter, Sysexit, Bound, Ud,
    // Strings and ports
    Movs, Cmps, Scas, Lods, Stos, Ins, Outs, In, Out,
    // Flags
    Clc, Stc, Cmc, Cld, Std, Cli, Sti, Clac, Stac,
    // Segments
    LoadFar,
    Lar, Lsl, Verr, Verw, Arpl, Lldt, Sldt, Ltr, Str, Lgdt, Lidt, Sgdt, Sidt, Lmsw, Smsw,
    Rdfsbase, Rdgsbase, Wrfsbase, Wrgsbase, Swapgs, Rdpkru, Wrpkru,
    // System
    Clts, Hlt, Cpuid, Rdtsc, Rdtscp, Rdpmc, Rdmsr, Wrmsr, Rdpid,
    Invlpg, Invpcid, Invd, Wbinvd, Nop, Pause, Fence, Clflush, Monitor, Mwait, Rdrand, Rdseed,
    Xgetbv, Xsetbv,
    // x87 and SSE state
    Fninit, Fnclex, Fldcw, Fnstcw, Fnstsw, Fnstenv, Fldenv, Fnsave, Frstor, Wait, Emms,
    Fxsave, Fxrstor, Xsave, Xsaveopt, Xsavec, Xsaves, Xrstor, Xrstors, Ldmxcsr, Stmxcsr,
    // SSE with semantics of our own
    MovVector, MovScalar, MovHalf, Movd, LogicVector, CompareBytes, MoveMask,
    MaskedStore, MaskedMove, Gather, ZeroVectors,
    // All that runs as itself on the host
    Native,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The mnemonic, as iced-x86 names it.
    pub mnemonic: Mnemonic,
    /// What it does.
    pub operation: Operation,
    /// Arithmetic flags that are undefined afterwards.
    pub undefined: u64,
}

mod rows;
pub mod rule;
mod vector;

static ALL: LazyLock<Vec<Row>> =
    LazyLock::new(|| rows::ROWS.iter().copied().chain(vector::rows()).collect());

static BY_MNEMONIC: LazyLock<Vec<Option<Row>>> = LazyLock::new(|| {
    let last = ALL.iter().map(|row| row.mnemonic as usize).max().unwrap_or(0);
    let mut table = vec![None; last + 1];
    for row in ALL.iter() {
        table[row.mnemonic as usize] = Some(*row);
    }
    table
});

/// All rows.
pub fn rows() -> &'static [Row] {
    &ALL
}

/// MOVSD and CMPSD of doublewords, whose names belong to SSE2 instructions as well.
static STRINGS: [Row; 2] = [
    Row { mnemonic: Mnemonic::Movsd, operation: Operation::Movs, undefined: 0 },
    Row { mnemonic: Mnemonic::Cmpsd, operation: Operation::Cmps, undefined: 0 },
];

/// The row of an encoding, if this CPU has the instruction.
pub fn row(code: Code) -> Option<&'static Row> {
    match code {
        Code::Movsd_m32_m32 => Some(&STRINGS[0]),
        Code::Cmpsd_m32_m32 => Some(&STRINGS[1]),
        _ => BY_MNEMONIC.get(code.mnemonic() as usize)?.as_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_mnemonic_has_two_rows() {
        let mut seen = HashSet::new();
        for row in rows() {
            assert!(seen.insert(row.mnemonic), "{:?} has two rows", row.mnemonic);
            assert_eq!(row.undefined & !ARITHMETIC, 0);
        }
    }

    #[test]
    fn a_row_is_found_by_its_encoding() {
        let found = row(Code::Imul_r64_rm64).unwrap();
        assert_eq!(found.operation, Operation::Imul);
        assert_eq!(found.undefined, SF | ZF | AF | PF);
        assert_eq!(row(Code::And_rm8_r8).unwrap().undefined, AF);
        assert_eq!(row(Code::Bsf_r32_rm32).unwrap().undefined, CF | OF | SF | AF | PF);
    }
}
