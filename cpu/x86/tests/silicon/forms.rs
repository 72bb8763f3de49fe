//! The forms under test: every encoding that the table has and that user mode can run, with every kind of
//! operand: distinct registers, the same register, RSP and its kin, high bytes, memory, LOCK; in 64-bit and
//! in 32-bit code.

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, OpKind, Register};
use kezhan_jit::oracle::forms::{Plan, form};
use kezhan_x86::state::CodeBits;
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

/// A form: an encoding and a variant that it has, in code of that width.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub code: Code,
    pub variant: Variant,
    pub bits: CodeBits,
}

impl Form {
    /// The instruction with that immediate, decoded from its bytes as a guest's would be.
    pub fn instruction(self, immediate: u64) -> Option<Instruction> {
        let wide = self.bits == CodeBits::Bits64;
        let plan = if wide { plan } else { plan_32 };
        let mut instruction = form(self.code, &plan(self.variant, immediate))?;
        if self.variant == V::IndexedMemory {
            instruction.set_memory_index(if wide { Register::R14 } else { Register::EDI });
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
        let mut encoder = Encoder::new(self.bits.number());
        encoder.encode(&instruction, 0).ok()?;
        let bytes = encoder.take_buffer();
        let decoded = Decoder::new(self.bits.number(), &bytes, DecoderOptions::NONE).decode();
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

/// The same with the eight registers of 32-bit code.
fn plan_32(variant: Variant, immediate: u64) -> Plan {
    let plan = Plan { immediate, high_bytes: true, ..Plan::default() };
    let memory = Some(Register::ESI);
    match variant {
        V::Registers => Plan { numbers: [3, 2, 1, 0, 3], ..plan },
        V::SameRegister => Plan { numbers: [1; 5], ..plan },
        V::StackPointer => Plan { numbers: [4, 5, 4, 7, 0], ..plan },
        V::HighBytes => Plan { numbers: [4, 5, 6, 7, 4], ..plan },
        V::Memory | V::Locked => Plan { memory, numbers: [3, 2, 1, 0, 3], ..plan },
        V::IndexedMemory => Plan { memory, numbers: [0, 3, 2, 1, 5], ..plan },
        V::MemoryHighBytes => Plan { memory, numbers: [7, 5, 4, 4, 4], ..plan },
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

/// All forms of encodings that have a row.
pub fn all() -> Vec<Form> {
    let exists = |code: Code, bits: CodeBits| match bits {
        CodeBits::Bits64 => code.op_code().mode64(),
        _ => code.op_code().mode32(),
    };
    [CodeBits::Bits64, CodeBits::Bits32]
        .into_iter()
        .flat_map(|bits| Code::values().map(move |code| (code, bits)))
        .filter(|(code, bits)| exists(*code, *bits) && table::row(*code).is_some())
        .flat_map(|(code, bits)| VARIANTS.map(|variant| Form { code, variant, bits }))
        .filter(|form| form.instruction(0x5a).is_some())
        .collect()
}
