//! Instructions made from their encodings: every operand form of every `Code`, for tests that want all.

use iced_x86::{Code, Instruction, OpCodeOperandKind, OpKind, Register};

/// What goes into the operands of a form.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Register numbers, by operand.
    pub numbers: [u8; 5],
    /// The operand that can be a register or memory is memory, with this base register.
    pub memory: Option<Register>,
    /// 8-bit registers 4 to 7 are AH, CH, DH, BH rather than SPL, BPL, SIL, DIL.
    pub high_bytes: bool,
    /// Value of the immediate.
    pub immediate: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { numbers: [3, 12, 9, 6, 2], memory: None, high_bytes: false, immediate: 0x5A }
    }
}

/// The instruction with encoding `code` whose operands follow `plan`, if it has such a form.
#[must_use]
pub fn form(code: Code, plan: &Plan) -> Option<Instruction> {
    let mut instruction = Instruction::default();
    instruction.set_code(code);
    let mut memory = false;
    for (operand, kind) in code.op_code().op_kinds().iter().enumerate() {
        let number = *plan.numbers.get(operand)?;
        let operand = operand as u32;
        if let Some(register) = register(*kind, number, plan) {
            instruction.set_op_kind(operand, OpKind::Register);
            instruction.set_op_register(operand, register);
        } else if let Some(kind) = immediate(*kind) {
            instruction.set_op_kind(operand, kind);
            set_immediate(&mut instruction, operand, kind, plan.immediate);
        } else {
            instruction.set_op_kind(operand, OpKind::Memory);
            instruction.set_memory_base(memory_base(*kind, plan)?);
            instruction.set_memory_displ_size(1);
            memory = true;
        }
    }
    (memory == plan.memory.is_some()).then_some(instruction)
}

fn memory_base(kind: OpCodeOperandKind, plan: &Plan) -> Option<Register> {
    use OpCodeOperandKind as K;
    let possible = matches!(
        kind,
        K::mem
            | K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem
    );
    plan.memory.filter(|_| possible)
}

fn byte_register(number: u8, plan: &Plan) -> Register {
    let skip = if number < 4 || plan.high_bytes { 0 } else { 4 };
    Register::AL + u32::from(number) + skip
}

fn register(kind: OpCodeOperandKind, number: u8, plan: &Plan) -> Option<Register> {
    use OpCodeOperandKind as K;
    let from = |first: Register| Some(first + u32::from(number));
    match kind {
        K::al => Some(Register::AL),
        K::cl => Some(Register::CL),
        K::ax => Some(Register::AX),
        K::dx => Some(Register::DX),
        K::eax => Some(Register::EAX),
        K::rax => Some(Register::RAX),
        K::st0 => Some(Register::ST0),
        K::sti_opcode => Some(Register::ST0 + u32::from(number & 7)),
        K::r8_reg | K::r8_opcode => Some(byte_register(number, plan)),
        K::r16_reg | K::r16_rm | K::r16_opcode => from(Register::AX),
        K::r32_reg | K::r32_rm | K::r32_opcode | K::r32_vvvv => from(Register::EAX),
        K::r64_reg | K::r64_rm | K::r64_opcode | K::r64_vvvv => from(Register::RAX),
        K::mm_reg | K::mm_rm => Some(Register::MM0 + u32::from(number & 7)),
        K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmm_is4 => from(Register::XMM0),
        K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 => from(Register::YMM0),
        _ if plan.memory.is_some() => None,
        K::r8_or_mem => Some(byte_register(number, plan)),
        K::r16_or_mem => from(Register::AX),
        K::r32_or_mem => from(Register::EAX),
        K::r64_or_mem => from(Register::RAX),
        K::mm_or_mem => Some(Register::MM0 + u32::from(number & 7)),
        K::xmm_or_mem => from(Register::XMM0),
        K::ymm_or_mem => from(Register::YMM0),
        _ => None,
    }
}

fn immediate(kind: OpCodeOperandKind) -> Option<OpKind> {
    use OpCodeOperandKind as K;
    Some(match kind {
        K::imm8 | K::imm8_const_1 => OpKind::Immediate8,
        K::imm8sex16 => OpKind::Immediate8to16,
        K::imm8sex32 => OpKind::Immediate8to32,
        K::imm8sex64 => OpKind::Immediate8to64,
        K::imm16 => OpKind::Immediate16,
        K::imm32 => OpKind::Immediate32,
        K::imm32sex64 => OpKind::Immediate32to64,
        K::imm64 => OpKind::Immediate64,
        _ => return None,
    })
}

fn set_immediate(instruction: &mut Instruction, operand: u32, kind: OpKind, value: u64) {
    use OpCodeOperandKind as K;
    if instruction.op_code().op_kind(operand) == K::imm8_const_1 {
        instruction.set_immediate8(1);
        return;
    }
    match kind {
        OpKind::Immediate8 => instruction.set_immediate8(value as u8),
        OpKind::Immediate8to16 => instruction.set_immediate8to16(i16::from(value as i8)),
        OpKind::Immediate8to32 => instruction.set_immediate8to32(i32::from(value as i8)),
        OpKind::Immediate8to64 => instruction.set_immediate8to64(i64::from(value as i8)),
        OpKind::Immediate16 => instruction.set_immediate16(value as u16),
        OpKind::Immediate32 => instruction.set_immediate32(value as u32),
        OpKind::Immediate32to64 => instruction.set_immediate32to64(i64::from(value as i32)),
        _ => instruction.set_immediate64(value),
    }
}
