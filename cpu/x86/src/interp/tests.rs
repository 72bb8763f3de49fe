//! Instructions by family: what an oracle on real silicon cannot show (faults, restarts, modes), and a
//! few results that explain the rules.

mod fast_call;
mod mov;
mod shift;
mod stack;
mod string;
mod system;

use crate::lower;
use crate::state::CodeBits;
use crate::table::{self, Operation};
use crate::testkit::FlatMemory;
use iced_x86::{Instruction, OpKind};
use std::collections::HashSet;

/// Operations whose handlers are tested here; every encoding of them must have one.
#[rustfmt::skip]
const GENERAL: &[Operation] = {
    use Operation::*;
    &[
        Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Inc, Dec, Neg, Not,
        Mul, Imul, Div, Idiv, Daa, Das, Aaa, Aas, Aam, Aad,
        Rol, Ror, Rcl, Rcr, Shl, Shr, Sar, Shld, Shrd, Bt, Bts, Btr, Btc, Bsf, Bsr, Popcnt, Bswap, Crc32,
        Mov, Movzx, Movsx, Lea, Xchg, Xadd, Cmpxchg, Cmpxchg8b, Cmpxchg16b, Cmov, Setcc,
        Cbw, Cwd, Lahf, Sahf, Xlat, Movbe, Salc, Push, Pop, Pusha, Popa, Pushf, Popf, Enter, Leave,
        Movs, Cmps, Scas, Lods, Stos, Ins, Outs, In, Out,
        Clc, Stc, Cmc, Cld, Std, Cli, Sti, Nop, Pause, Fence, Clflush,
    ]
};

/// Whether an operand is a segment, control or debug register: those moves are system instructions.
fn is_system(instruction: &Instruction) -> bool {
    (0..instruction.op_count())
        .filter(|operand| instruction.op_kind(*operand) == OpKind::Register)
        .any(|operand| !instruction.op_register(operand).is_gpr())
}

/// All opcodes of the three maps with every ModRM extension, on a register and on memory, behind
/// each prefix that can change the encoding.
fn encodings() -> impl Iterator<Item = Vec<u8>> {
    let prefixes: [&[u8]; 8] =
        [&[], &[0x66], &[0xf2], &[0xf3], &[0x48], &[0xf0], &[0xf3, 0x66], &[0x67]];
    let maps: [&[u8]; 3] = [&[], &[0x0f], &[0x0f, 0x38]];
    prefixes.into_iter().flat_map(move |prefix| {
        maps.into_iter().flat_map(move |map| {
            (0..=255_u8).flat_map(move |opcode| {
                (0..16_u8).map(move |form| {
                    let modrm = (form & 7) << 3 | if form < 8 { 0xc1 } else { 0x01 };
                    [prefix, map, &[opcode, modrm], &[1; 8]].concat()
                })
            })
        })
    })
}

#[test]
fn every_encoding_of_the_general_operations_has_a_handler() {
    let mut seen = HashSet::new();
    for bits in [CodeBits::Bits16, CodeBits::Bits32, CodeBits::Bits64] {
        for bytes in encodings() {
            let instruction = lower::decoder::<FlatMemory>(bits, &bytes, 0).decode();
            let Some(row) = table::row(instruction.code()) else { continue };
            if GENERAL.contains(&row.operation) && !is_system(&instruction) {
                let handler = super::select::<FlatMemory>(row, &instruction);
                assert!(handler.is_some(), "{:?} {bytes:02x?}", instruction.code());
                seen.insert(row.operation);
            }
        }
    }
    let missed: Vec<_> = GENERAL.iter().filter(|operation| !seen.contains(operation)).collect();
    assert!(missed.is_empty(), "never decoded: {missed:?}");
}
