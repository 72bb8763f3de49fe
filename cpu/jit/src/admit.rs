//! Which instructions may run natively at all.
//!
//! An instruction is admitted when all of this holds; everything else is refused.
//!
//! * It falls through to the next one, needs no privilege, touches no stack, is no string instruction.
//! * Its operands are general, XMM, YMM, MMX or x87 registers, immediates, and at most one memory operand
//!   with an ordinary address: no segment, control, debug or mask registers, no vector index.
//! * It accesses no memory but through that operand, and not at an offset that a register gives (BT with
//!   a register and memory) or that its own data selects (XLAT, MASKMOV, gathers).
//! * Every CPUID feature that it belongs to is on the list below, and the host has it.
//! * Its immediate has 8 bits, so that the number of thunks is bounded.
//! * An integer instruction has its mnemonic on a list besides. The x87 environment, MXCSR and the save
//!   and restore instructions are on none: they would show host addresses or unmask exceptions.
//!
//! # How features are named
//! As in the Intel SDM vol. 2A, table 3-8 and following (CPUID leaf 1 and 7).

use iced_x86::{
    CpuidFeature, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind,
};
use thiserror::Error;

/// Why an instruction cannot run natively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotNative {
    /// It is not on the list.
    #[error("instruction {code:?}: {reason}; it needs a handler of its own")]
    Refused {
        /// Its encoding.
        code: iced_x86::Code,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The host CPU does not have it.
    #[error(
        "instruction {code:?}: the host CPU lacks {feature:?}; hide that feature from the guest"
    )]
    HostLacks {
        /// Its encoding.
        code: iced_x86::Code,
        /// What is missing.
        feature: CpuidFeature,
    },
    /// No executable memory, or no more of it.
    #[error("instruction {code:?}: no executable memory is left for it; restart the machine")]
    NoMemory {
        /// Its encoding.
        code: iced_x86::Code,
    },
}

/// How much is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What an interpreter may run for a guest.
    Guest,
    /// Besides that, longer immediates, instructions that can raise #DE, LOCK forms, control words and environments, masked
    /// moves, and BT with memory and a register: their caller stands ready for exceptions and has
    /// checked the offset.
    #[cfg(any(test, feature = "oracle"))]
    Laboratory,
}

/// Checks `instruction`.
pub(crate) fn admit(instruction: &Instruction, scope: Scope) -> Result<(), NotNative> {
    let code = instruction.code();
    if let Some(reason) = refusal(instruction, scope) {
        return Err(NotNative::Refused { code, reason });
    }
    for feature in instruction.cpuid_features() {
        match host_has(*feature) {
            None => {
                let reason = "its CPUID feature is not run natively";
                return Err(NotNative::Refused { code, reason });
            }
            Some(false) => return Err(NotNative::HostLacks { code, feature: *feature }),
            Some(true) => {}
        }
    }
    Ok(())
}

fn refusal(instruction: &Instruction, scope: Scope) -> Option<&'static str> {
    if instruction.is_invalid() || instruction.flow_control() != FlowControl::Next {
        return Some("it changes the flow of control");
    }
    if instruction.is_privileged() || instruction.is_save_restore_instruction() {
        return Some("it works on system state");
    }
    if instruction.is_stack_instruction() || instruction.is_string_instruction() {
        return Some("it has implicit memory operands");
    }
    if !matches!(instruction.op_code().encoding(), EncodingKind::Legacy | EncodingKind::VEX) {
        return Some("its encoding is not run natively");
    }
    if scope == Scope::Guest && instruction.has_lock_prefix() {
        return Some("it is to be atomic on guest memory");
    }
    operand_refusal(instruction, scope).or_else(|| mnemonic_refusal(instruction, scope))
}

fn operand_refusal(instruction: &Instruction, scope: Scope) -> Option<&'static str> {
    if instruction.is_vsib() {
        return Some("it accesses several places in memory");
    }
    let mut memory_operands = 0;
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::Register => {
                let register = instruction.op_register(operand);
                if !(register.is_gpr()
                    || register.is_xmm()
                    || register.is_ymm()
                    || register.is_mm()
                    || register.is_st())
                {
                    return Some("it works on a register that guests do not share with hosts");
                }
            }
            OpKind::Memory => memory_operands += 1,
            kind if is_short_immediate(kind) => {}
            kind if is_immediate(kind) && scope != Scope::Guest => {}
            kind if is_immediate(kind) => return Some("its immediate is long"),
            _ => return Some("it has implicit memory operands"),
        }
    }
    let accesses = InstructionInfoFactory::new().info(instruction).used_memory().len();
    let address_only = instruction.mnemonic() == Mnemonic::Lea;
    if memory_operands > 1 || (accesses != memory_operands && !address_only) {
        return Some("it accesses memory beside its operand");
    }
    let indexed_bits = memory_operands == 1
        && instruction.op_count() == 2
        && instruction.op_kind(1) == OpKind::Register
        && is_bit_test(instruction.mnemonic());
    (indexed_bits && scope == Scope::Guest).then_some("a register offsets its memory operand")
}

/// Immediates of one byte.
fn is_short_immediate(kind: OpKind) -> bool {
    use OpKind as K;
    matches!(
        kind,
        K::Immediate8
            | K::Immediate8_2nd
            | K::Immediate8to16
            | K::Immediate8to32
            | K::Immediate8to64
    )
}

/// Immediates of any length.
pub(crate) fn is_immediate(kind: OpKind) -> bool {
    use OpKind as K;
    is_short_immediate(kind)
        || matches!(kind, K::Immediate16 | K::Immediate32 | K::Immediate64 | K::Immediate32to64)
}

fn is_bit_test(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
}

/// Integer instructions need a place on a list; others are admitted by their features but for a few.
fn mnemonic_refusal(instruction: &Instruction, scope: Scope) -> Option<&'static str> {
    let mnemonic = instruction.mnemonic();
    let integer = instruction.cpuid_features().iter().all(|feature| is_integer(*feature));
    if !integer {
        let refused =
            changes_control(mnemonic) && !(scope != Scope::Guest && is_harmless(mnemonic));
        return refused.then_some("it works on floating-point control state");
    }
    let memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
    let exchange = mnemonic == Mnemonic::Xchg && memory;
    if exchange && scope == Scope::Guest {
        return Some("it is to be atomic on guest memory");
    }
    if is_ordinary_integer(mnemonic) {
        return None;
    }
    let faulting = matches!(mnemonic, Mnemonic::Div | Mnemonic::Idiv);
    if faulting && scope != Scope::Guest {
        return None;
    }
    Some("it is not on the list of integer instructions")
}

/// x87 and SSE instructions that read or write pointers, control words or whole states
/// (Intel SDM vol. 1 §8.1 and §10.2.3), or that store where a register says.
fn changes_control(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fldcw
            | M::Fldenv
            | M::Fnstenv
            | M::Fstenv
            | M::Fnstcw
            | M::Fstcw
            | M::Fnstsw
            | M::Fstsw
            | M::Fninit
            | M::Finit
            | M::Fnclex
            | M::Fclex
            | M::Fnsave
            | M::Fsave
            | M::Frstor
            | M::Fneni
            | M::Fndisi
            | M::Fnsetpm
            | M::Feni
            | M::Fdisi
            | M::Fsetpm
            | M::Frstpm
            | M::Fstdw
            | M::Fstsg
            | M::Wait
            | M::Ldmxcsr
            | M::Stmxcsr
            | M::Vldmxcsr
            | M::Vstmxcsr
            | M::Maskmovq
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
            | M::Sfence
            | M::Lfence
            | M::Mfence
            | M::Pause
            | M::Prefetchnta
            | M::Prefetcht0
            | M::Prefetcht1
            | M::Prefetcht2
            | M::Vzeroall
            | M::Vzeroupper
    )
}

/// Of those, what a test may run: nothing that leaves the frame.
fn is_harmless(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fldcw
            | M::Fldenv
            | M::Fnstenv
            | M::Fnstcw
            | M::Fnstsw
            | M::Fninit
            | M::Fnclex
            | M::Wait
            | M::Ldmxcsr
            | M::Stmxcsr
            | M::Vldmxcsr
            | M::Vstmxcsr
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
    )
}

fn is_integer(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL186
            | F::INTEL286
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::CMOV
            | F::CX8
            | F::CMPXCHG16B
            | F::MOVBE
            | F::POPCNT
            | F::LZCNT
            | F::ADX
            | F::BMI1
            | F::BMI2
    )
}

#[rustfmt::skip]
fn is_ordinary_integer(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Add | M::Adc | M::Sub | M::Sbb | M::And | M::Or | M::Xor | M::Cmp | M::Test
            | M::Inc | M::Dec | M::Neg | M::Not | M::Mul | M::Imul
            | M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
            | M::Bt | M::Bts | M::Btr | M::Btc | M::Bsf | M::Bsr | M::Bswap
            | M::Mov | M::Movzx | M::Movsx | M::Movsxd | M::Xchg | M::Xadd | M::Lea
            | M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b | M::Movbe
            | M::Cbw | M::Cwde | M::Cdqe | M::Cwd | M::Cdq | M::Cqo | M::Lahf | M::Sahf
            | M::Clc | M::Stc | M::Cmc
            | M::Seto | M::Setno | M::Setb | M::Setae | M::Sete | M::Setne | M::Setbe | M::Seta
            | M::Sets | M::Setns | M::Setp | M::Setnp | M::Setl | M::Setge | M::Setle | M::Setg
            | M::Cmovo | M::Cmovno | M::Cmovb | M::Cmovae | M::Cmove | M::Cmovne | M::Cmovbe | M::Cmova
            | M::Cmovs | M::Cmovns | M::Cmovp | M::Cmovnp | M::Cmovl | M::Cmovge | M::Cmovle | M::Cmovg
            | M::Popcnt | M::Lzcnt | M::Tzcnt | M::Andn | M::Bextr | M::Blsi | M::Blsmsk | M::Blsr
            | M::Bzhi | M::Mulx | M::Pdep | M::Pext | M::Rorx | M::Sarx | M::Shlx | M::Shrx
            | M::Adcx | M::Adox
    )
}

/// Whether the host has a feature; `None` for features that are never run natively.
fn host_has(feature: CpuidFeature) -> Option<bool> {
    use CpuidFeature as F;
    Some(match feature {
        F::FPU | F::FPU387 | F::MMX | F::SSE | F::SSE2 | F::CMOV | F::CX8 | F::X64 => true,
        F::INTEL8086 | F::INTEL186 | F::INTEL286 | F::INTEL386 | F::INTEL486 => true,
        F::SSE3 => is_x86_feature_detected!("sse3"),
        F::SSSE3 => is_x86_feature_detected!("ssse3"),
        F::SSE4_1 => is_x86_feature_detected!("sse4.1"),
        F::SSE4_2 => is_x86_feature_detected!("sse4.2"),
        F::AES => is_x86_feature_detected!("aes"),
        F::PCLMULQDQ => is_x86_feature_detected!("pclmulqdq"),
        F::SHA => is_x86_feature_detected!("sha"),
        F::AVX => is_x86_feature_detected!("avx"),
        F::AVX2 => is_x86_feature_detected!("avx2"),
        F::FMA => is_x86_feature_detected!("fma"),
        F::F16C => is_x86_feature_detected!("f16c"),
        F::GFNI => is_x86_feature_detected!("gfni"),
        F::VAES => is_x86_feature_detected!("vaes"),
        F::VPCLMULQDQ => is_x86_feature_detected!("vpclmulqdq"),
        F::CMPXCHG16B => is_x86_feature_detected!("cmpxchg16b"),
        F::MOVBE => is_x86_feature_detected!("movbe"),
        F::POPCNT => is_x86_feature_detected!("popcnt"),
        F::LZCNT => is_x86_feature_detected!("lzcnt"),
        F::ADX => is_x86_feature_detected!("adx"),
        F::BMI1 => is_x86_feature_detected!("bmi1"),
        F::BMI2 => is_x86_feature_detected!("bmi2"),
        _ => return None,
    })
}
