//! What an instruction needs around it: which registers are loaded and stored, and whether flags, MXCSR
//! and the x87 state come into it.

use crate::spec::STATUS_FLAGS;
use iced_x86::{
    CpuidFeature, EncodingKind, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, RflagsBits,
};

/// The memory operand of a thunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Its length, 1 to 64.
    pub bytes: u8,
    /// The instruction reads it.
    pub read: bool,
    /// The instruction writes it.
    pub write: bool,
}

/// A set of the registers 0 to 15 of one class.
pub(crate) type RegisterSet = u16;

/// Members of a set in ascending order.
pub(crate) fn members(set: RegisterSet) -> impl DoubleEndedIterator<Item = u8> {
    (0..16).filter(move |number| set >> number & 1 != 0)
}

/// What an instruction needs around it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) gpr_used: RegisterSet,
    pub(crate) gpr_written: RegisterSet,
    pub(crate) vector_used: RegisterSet,
    pub(crate) vector_written: RegisterSet,
    /// VEX-encoded: whole YMM registers matter (Intel SDM vol. 1 §14.1.3).
    pub(crate) wide: bool,
    /// Works on x87 or MMX registers.
    pub(crate) x87: bool,
    /// Works on MMX rather than x87 registers.
    pub(crate) mmx: bool,
    /// Obeys MXCSR and sets its flags.
    pub(crate) mxcsr: bool,
    pub(crate) flags_in: bool,
    pub(crate) flags_out: bool,
    /// No REX prefix is possible: a high-byte register takes part.
    pub(crate) high_byte: bool,
    pub(crate) memory: Option<MemoryUse>,
}

impl Shape {
    /// The shape of an admitted instruction.
    pub(crate) fn of(instruction: &Instruction) -> Shape {
        let mut shape = Shape {
            wide: instruction.op_code().encoding() == EncodingKind::VEX
                && uses_vectors(instruction),
            x87: uses_mmx(instruction) || uses_x87(instruction),
            mmx: uses_mmx(instruction),
            mxcsr: obeys_mxcsr(instruction.mnemonic()),
            memory: memory_use(instruction),
            ..Shape::default()
        };
        shape.add_registers(instruction);
        shape.add_flags(instruction);
        shape
    }

    fn add_registers(&mut self, instruction: &Instruction) {
        let mut copy = *instruction;
        if self.memory.is_some() {
            // What forms the address plays no part: the operand will be in the frame.
            copy.set_memory_base(Register::None);
            copy.set_memory_index(Register::None);
            copy.set_memory_displ_size(4);
        }
        let mut factory = InstructionInfoFactory::new();
        for used in factory.info(&copy).used_registers() {
            let register = used.register();
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            // AH's own number is 4, which is RSP's.
            let bit = 1 << (register.full_register().number() & 15);
            if register.is_gpr() {
                self.gpr_used |= bit;
                self.gpr_written |= if written { bit } else { 0 };
                self.high_byte |= is_high_byte(register);
            } else if register.is_vector_register() {
                self.vector_used |= bit;
                self.vector_written |= if written { bit } else { 0 };
            }
        }
    }

    fn add_flags(&mut self, instruction: &Instruction) {
        let status = STATUS_FLAGS_ICED;
        let modified = instruction.rflags_modified() & status;
        self.flags_out = modified != 0;
        // A shift by zero or a string compare of nothing leaves flags as they were; only vector compares
        // always give all six.
        let partial = modified != 0 && (modified != status || self.gpr_used != 0);
        self.flags_in = partial || instruction.rflags_read() & status != 0;
    }
}

const STATUS_FLAGS_ICED: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

const _: () = assert!(STATUS_FLAGS.count_ones() == 6);

/// AH, CH, DH or BH.
pub(crate) fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn uses_vectors(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand).is_vector_register()
    })
}

fn uses_x87(instruction: &Instruction) -> bool {
    let features = instruction.cpuid_features();
    features.iter().any(|feature| matches!(feature, CpuidFeature::FPU | CpuidFeature::FPU387))
}

/// CVTPI2PS with memory counts as MMX: it leaves x87 mode all the same (Intel SDM vol. 2A, CVTPI2PS).
fn uses_mmx(instruction: &Instruction) -> bool {
    instruction.cpuid_features().contains(&CpuidFeature::MMX)
        || instruction.mnemonic() == Mnemonic::Cvtpi2ps
        || (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && instruction.op_register(operand).is_mm()
        })
}

fn memory_use(instruction: &Instruction) -> Option<MemoryUse> {
    let operand =
        (0..instruction.op_count()).find(|n| instruction.op_kind(*n) == OpKind::Memory)?;
    if instruction.mnemonic() == Mnemonic::Lea {
        return None;
    }
    let mut factory = InstructionInfoFactory::new();
    let access = factory.info(instruction).op_access(operand);
    let bytes = instruction.memory_size().size() as u8;
    use OpAccess as A;
    Some(MemoryUse {
        bytes,
        read: matches!(access, A::Read | A::CondRead | A::ReadWrite | A::ReadCondWrite),
        write: matches!(access, A::Write | A::CondWrite | A::ReadWrite | A::ReadCondWrite),
    })
}

/// Arithmetic, comparison, rounding and conversion of SSE and AVX floating point: what Intel SDM vol. 2
/// lists "SIMD Floating-Point Exceptions" for, and RCP and RSQRT, which only honour DAZ and FZ.
fn obeys_mxcsr(mnemonic: Mnemonic) -> bool {
    let name = format!("{mnemonic:?}");
    let name = name.strip_prefix('V').unwrap_or(&name).to_ascii_lowercase();
    let float = ["ps", "pd", "ss", "sd"].iter().any(|suffix| name.ends_with(suffix));
    const ARITHMETIC: [&str; 19] = [
        "add", "sub", "mul", "div", "sqrt", "min", "max", "cmp", "comi", "ucomi", "round", "dp",
        "hadd", "hsub", "addsub", "rcp", "rsqrt", "fm", "fnm",
    ];
    name.starts_with("cvt")
        || name.ends_with("mxcsr")
        || float && ARITHMETIC.iter().any(|stem| name.starts_with(stem))
}

#[cfg(test)]
mod test {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn shape(bytes: &[u8]) -> Shape {
        Shape::of(&Decoder::new(64, bytes, DecoderOptions::NONE).decode())
    }

    #[test]
    fn only_the_operands_of_an_sse_instruction_are_loaded() {
        // addps xmm1, [rax + rcx * 4]
        let shape = shape(&[0x0F, 0x58, 0x0C, 0x88]);
        assert_eq!((shape.gpr_used, shape.vector_used, shape.vector_written), (0, 2, 2));
        assert!(shape.mxcsr && !shape.flags_in && !shape.flags_out && !shape.x87);
        assert_eq!(shape.memory, Some(MemoryUse { bytes: 16, read: true, write: false }));
    }

    #[test]
    fn implicit_registers_are_seen() {
        // pcmpestri xmm1, xmm2, 0
        let shape = shape(&[0x66, 0x0F, 0x3A, 0x61, 0xCA, 0]);
        assert_eq!(shape.gpr_used, 0b111);
        assert_eq!(shape.gpr_written, 0b010);
        assert!(shape.flags_out);
    }

    #[test]
    fn moves_and_integer_operations_leave_mxcsr_alone() {
        assert!(!shape(&[0x0F, 0x28, 0xC1]).mxcsr, "movaps");
        assert!(!shape(&[0x66, 0x0F, 0xFE, 0xC1]).mxcsr, "paddd");
        assert!(shape(&[0xF2, 0x0F, 0x2C, 0xC1]).mxcsr, "cvttsd2si");
        assert!(shape(&[0x0F, 0x2E, 0xC1]).mxcsr, "ucomiss");
    }

    #[test]
    fn mmx_registers_are_x87_state() {
        assert!(shape(&[0x0F, 0xFE, 0xC1]).x87, "paddd mm0, mm1");
        assert!(shape(&[0xD8, 0xC1]).x87, "fadd st, st1");
        assert!(!shape(&[0x66, 0x0F, 0xFE, 0xC1]).x87, "paddd xmm0, xmm1");
    }
}
