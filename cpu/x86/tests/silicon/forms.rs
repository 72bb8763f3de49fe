//! The forms under test: every encoding that the table has and that user mode can run, with every kind of
//! operand: distinct registers, the same register, RSP and its kin, high bytes, memory, LOCK.

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, OpKind, Register};
use kezhan_jit::oracle::forms::{Plan, form};
use kezhan_x86::table;

/// Which variant of an encoding a form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Registers,
    SameRegister,
    StackPointer,
    HighBytes,
    Memory,
    IndexedMemory,
    MemoryHighBytes,
    Locked,
}

use Variant as V;

const VARIANTS: [Variant; 8] = [
    V::Registers,
    V::SameRegister,
    V::StackPointer,
    V::HighBytes,
    V::Memory,
    V::IndexedMemory,
    V::MemoryHighBytes,
    V::Locked,
];

/// A form: an encoding and a variant that it has.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub code: Code,
    pub variant: Variant,
}

impl Form {
    /// The instruction with that immediate, decoded from its bytes as a guest's would be.
    pub fn instruction(self, immediate: u64) -> Option<Instruction> {
        let mut instruction = form(self.code, &plan(self.variant, immediate))?;
        if self.variant == V::IndexedMemory {
            instruction.set_memory_index(Register::R14);
            instruction.set_memory_index_scale(4);
            instruction.set_memory_displacement64(0x40);
        }
        if self.variant == V::Locked {
            if !self.code.op_code().can_use_lock_prefix() {
                return None;
            }
            instruction.set_has_lock_prefix(true);
        }
        if matches!(self.variant, V::HighBytes | V::MemoryHighBytes) && !has_high_byte(&instruction)
        {
            return None;
        }
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, 0).ok()?;
        let bytes = encoder.take_buffer();
        let decoded = Decoder::new(64, &bytes, DecoderOptions::NONE).decode();
        (!decoded.is_invalid()).then_some(decoded)
    }
}

fn plan(variant: Variant, immediate: u64) -> Plan {
    let plan = Plan { immediate, ..Plan::default() };
    match variant {
        V::Registers => plan,
        V::SameRegister => Plan { numbers: [1; 5], ..plan },
        V::StackPointer => Plan { numbers: [4, 5, 4, 11, 0], ..plan },
        V::HighBytes => Plan { numbers: [4, 5, 6, 7, 4], high_bytes: true, ..plan },
        V::Memory => Plan { memory: Some(Register::RSI), ..plan },
        V::IndexedMemory => Plan { memory: Some(Register::R13), numbers: [0, 15, 8, 3, 7], ..plan },
        V::MemoryHighBytes => {
            Plan { memory: Some(Register::RSI), numbers: [7, 6, 5, 4, 4], high_bytes: true, ..plan }
        }
        V::Locked => Plan { memory: Some(Register::RSI), numbers: [3, 12, 9, 0, 2], ..plan },
    }
}

fn has_high_byte(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && matches!(
                instruction.op_register(operand),
                Register::AH | Register::BH | Register::CH | Register::DH
            )
    })
}

/// All forms of encodings that have a row and exist in 64-bit mode.
pub fn all() -> Vec<Form> {
    Code::values()
        .filter(|code| code.op_code().mode64() && table::row(*code).is_some())
        .flat_map(|code| VARIANTS.map(|variant| Form { code, variant }))
        .filter(|form| form.instruction(0x5a).is_some())
        .collect()
}
