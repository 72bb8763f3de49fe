//! What the translator makes of each instruction.
//!
//! The interpreter has every instruction of the table; the translator takes those that can run as themselves
//! once their operands are in place. Whatever is not listed here is the interpreter's.

use super::{Operation, row};
use crate::lower::{is_general, operand_bits};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use kezhan_jit::translate::{Rule, Segment};

/// What the rules depend on beside the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// XMM registers may be used, and all SIMD exceptions are masked.
    pub vectors: bool,
    /// x87 registers may be used, and all x87 exceptions are masked.
    pub x87: bool,
    /// CPL is 0; otherwise it is 3.
    pub supervisor: bool,
    /// CR4.SMAP is set.
    pub guarded: bool,
}

/// The rule for an instruction of 64-bit mode.
pub fn rule(instruction: &Instruction, now: Conditions) -> Rule {
    let Some(row) = row(instruction.code()) else { return Rule::Interpret };
    let strange = instruction.is_invalid()
        || instruction.has_lock_prefix() && !crate::lower::lock_is_legal(instruction);
    if strange {
        return Rule::Interpret;
    }
    match row.operation {
        operation if is_x87(operation, instruction) => {
            if now.x87 {
                Rule::X87
            } else {
                Rule::Interpret
            }
        }
        operation if is_vector(operation) => vector(instruction, now.vectors),
        operation if is_copied(operation, instruction) => Rule::Copy,
        Operation::Div | Operation::Idiv if operand_bits(instruction, 0) >= 32 => Rule::Divide,
        Operation::Pushf if instruction.code() == Code::Pushfq => Rule::PushFlags,
        Operation::Swapgs if now.supervisor => Rule::SwapGs,
        Operation::Cli if now.supervisor => Rule::ClearInterrupt,
        Operation::Sti if now.supervisor => Rule::SetInterrupt,
        Operation::Cmpxchg16b => Rule::ExchangePair,
        Operation::Movs if is_plain_string(instruction) => Rule::MoveString,
        Operation::Stos if is_plain_string(instruction) => Rule::StoreString,
        Operation::Mov if reads_segment(instruction) => Rule::ReadSegment,
        Operation::Bt | Operation::Bts | Operation::Btr | Operation::Btc
            if operand_bits(instruction, 1) >= 32 =>
        {
            Rule::BitString
        }
        Operation::Mov if now.supervisor && reads_control(instruction) => Rule::ReadControl,
        Operation::Cld => Rule::ClearDirection,
        Operation::Rdpkru => Rule::ReadKeys,
        Operation::Rdtsc | Operation::Rdtscp => Rule::TimeStamp,
        Operation::Syscall if !now.supervisor => Rule::SystemCall,
        Operation::Sysret if now.supervisor && instruction.code() == Code::Sysretq => {
            Rule::SystemReturn
        }
        Operation::Stac if now.supervisor && now.guarded => Rule::SetAccess,
        Operation::Clac if now.supervisor && now.guarded => Rule::ClearAccess,
        Operation::Rdfsbase => Rule::ReadBase(Segment::Fs),
        Operation::Rdgsbase => Rule::ReadBase(Segment::Gs),
        Operation::Wrfsbase => Rule::WriteBase(Segment::Fs),
        Operation::Wrgsbase => Rule::WriteBase(Segment::Gs),
        Operation::Lea => Rule::Address,
        Operation::Nop => Rule::Nothing,
        Operation::Push => push(instruction),
        Operation::Pop => pop(instruction),
        Operation::Leave if instruction.code() == Code::Leaveq => Rule::Leave,
        Operation::Call => near(instruction, Code::Call_rel32_64, Code::Call_rm64, Rule::Call),
        Operation::Jmp if instruction.code() == Code::Jmp_rel8_64 => Rule::Jump,
        Operation::Jmp => near(instruction, Code::Jmp_rel32_64, Code::Jmp_rm64, Rule::Jump),
        Operation::Ret if matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16) => {
            Rule::Return
        }
        Operation::Jcc if operand_bits(instruction, 0) == 64 => Rule::Branch,
        _ => Rule::Interpret,
    }
}

/// What computes on the x87 stack, or reads its words; nothing that changes the control word or the environment.
fn is_x87(operation: Operation, instruction: &Instruction) -> bool {
    use iced_x86::CpuidFeature as F;
    let features = instruction.cpuid_features();
    let of_x87 = features.iter().any(|it| matches!(it, F::FPU | F::FPU287 | F::FPU387));
    let converts = instruction.mnemonic() == Mnemonic::Fisttp;
    let known = matches!(operation, Operation::Native | Operation::Fnstcw | Operation::Fnstsw);
    known && (of_x87 || converts)
}

/// Whether an instruction has to do with XMM registers, MXCSR or x87 registers.
pub fn touches_vectors(code: Code) -> bool {
    use Operation as O;
    let Some(row) = row(code) else { return false };
    is_vector(row.operation)
        || matches!(
            row.operation,
            O::Fninit
                | O::Fnclex
                | O::Fldcw
                | O::Fnstcw
                | O::Fnstsw
                | O::Fnstenv
                | O::Fldenv
                | O::Fnsave
                | O::Frstor
                | O::Wait
                | O::Emms
                | O::Fxsave
                | O::Fxrstor
                | O::Xsave
                | O::Xsaveopt
                | O::Xsavec
                | O::Xsaves
                | O::Xrstor
                | O::Xrstors
                | O::Ldmxcsr
                | O::Stmxcsr
                | O::MaskedStore
                | O::MaskedMove
                | O::Gather
                | O::ZeroVectors
        )
}

/// Integer instructions that run as themselves.
fn is_copied(operation: Operation, instruction: &Instruction) -> bool {
    use Operation as O;
    let copied = match operation {
        O::Add | O::Or | O::Adc | O::Sbb | O::And | O::Sub | O::Xor | O::Cmp | O::Test => true,
        O::Inc | O::Dec | O::Neg | O::Not | O::Mul | O::Imul => true,
        O::Rol | O::Ror | O::Rcl | O::Rcr | O::Shl | O::Shr | O::Sar | O::Shld | O::Shrd => true,
        O::Bt | O::Bts | O::Btr | O::Btc => !reaches_any_byte(instruction),
        O::Bsf | O::Bsr | O::Popcnt | O::Bswap | O::Crc32 => true,
        O::Mov | O::Movzx | O::Movsx | O::Xchg | O::Xadd | O::Cmpxchg | O::Cmpxchg8b => true,
        O::Cmov | O::Setcc | O::Cbw | O::Cwd | O::Lahf | O::Sahf | O::Movbe => true,
        O::Clc | O::Stc | O::Cmc => true,
        O::Fence => instruction.op_count() == 0,
        _ => false,
    };
    copied && is_general(instruction)
}

/// MOVS or STOS with 64-bit addresses and segments without a base.
fn is_plain_string(instruction: &Instruction) -> bool {
    let wide = (0..instruction.op_count()).all(|operand| {
        let kind = instruction.op_kind(operand);
        matches!(kind, OpKind::MemoryESRDI | OpKind::MemorySegRSI | OpKind::Register)
    });
    let based = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    wide && !based && !instruction.has_repne_prefix()
}

fn reads_segment(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register
        && instruction.op1_register().is_segment_register()
}

/// MOV from a control register whose value is as it was written.
fn reads_control(instruction: &Instruction) -> bool {
    let plain = matches!(
        instruction.op1_register(),
        Register::CR0 | Register::CR2 | Register::CR3 | Register::CR4
    );
    instruction.code() == Code::Mov_r64_cr && plain
}

/// BT and its kin with memory and a register reach any byte (Intel SDM vol. 2A §3.1.1.9).
fn reaches_any_byte(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Memory && instruction.op1_kind() == OpKind::Register
}

fn is_vector(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::MovVector
            | O::MovScalar
            | O::MovHalf
            | O::Movd
            | O::LogicVector
            | O::CompareBytes
            | O::MoveMask
            | O::Native
    )
}

/// Legacy SSE on XMM and general registers. MMX and x87 registers, VEX encodings and hidden operands are
/// the interpreter's.
fn vector(instruction: &Instruction, vectors: bool) -> Rule {
    let known = (0..instruction.op_count()).all(|operand| match instruction.op_kind(operand) {
        OpKind::Register => {
            let register = instruction.op_register(operand);
            register.is_xmm() || register.is_gpr()
        }
        OpKind::Memory | OpKind::Immediate8 => true,
        _ => false,
    });
    let touches_xmm = (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand).is_xmm()
    });
    let legacy = instruction.code().encoding() == iced_x86::EncodingKind::Legacy;
    let apart = matches!(
        instruction.mnemonic(),
        Mnemonic::Maskmovdqu | Mnemonic::Movnti | Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr
    );
    if vectors && known && touches_xmm && legacy && !apart { Rule::Vector } else { Rule::Interpret }
}

fn push(instruction: &Instruction) -> Rule {
    let plain = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().is_gpr64(),
        OpKind::Memory if instruction.code() == Code::Push_rm64 => return Rule::PushMemory,
        OpKind::Memory => false,
        _ => operand_bits(instruction, 0) == 64 || instruction.code() == Code::Pushq_imm8,
    };
    if plain { Rule::Push } else { Rule::Interpret }
}

fn pop(instruction: &Instruction) -> Rule {
    let plain = instruction.op0_kind() == OpKind::Register && instruction.op0_register().is_gpr64();
    if plain { Rule::Pop } else { Rule::Interpret }
}

fn near(instruction: &Instruction, direct: Code, indirect: Code, rule: Rule) -> Rule {
    let code = instruction.code();
    if code == direct || code == indirect { rule } else { Rule::Interpret }
}
