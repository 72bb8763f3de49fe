//! From a guest's instruction to the canonical one that its thunk runs.
//!
//! Two renamings, both of registers only:
//!
//! * [`canonical`], for interpreters: the first explicit vector operand becomes XMM1 (or YMM1), the
//!   second XMM2 …; the first explicit general register becomes R8, the second R9 …. Implicit operands
//!   stay. So `paddd xmm7, xmm3` and `paddd xmm2, [rbx]` need two thunks for all registers there are, and
//!   the number of thunks is bounded by encodings and immediates, whatever a guest does. [`Binding`]s say
//!   what goes where.
//! * [`host`], for every thunk: the memory operand becomes one in the frame, and RSP, which the host
//!   needs, becomes a free register.

use crate::frame::Frame;
use crate::shape::{Shape, is_high_byte};
use iced_x86::{Code, CodeSize, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use std::mem::offset_of;

/// Which register file an operand lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// General registers.
    General,
    /// XMM or YMM registers.
    Vector,
}

/// What a slot of the frame stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The instruction's explicit register operand of that index, counting registers of all classes.
    Operand(u8),
    /// That register, implicitly.
    Fixed(u8),
}

/// One register operand of a thunk: which frame slot carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which register file.
    pub class: Class,
    /// What it is in the guest's instruction.
    pub source: Source,
    /// Its number in the frame.
    pub slot: u8,
    /// The thunk writes it.
    pub written: bool,
}

/// The canonical form of an admitted instruction and what its slots stand for, written ones last to
/// first: when two are the same guest register, the first operand wins (MULX, Intel SDM vol. 2A).
pub(crate) fn canonical(instruction: &Instruction) -> (Instruction, Vec<Binding>) {
    let mut copy = plain(instruction);
    let mut bindings = Vec::new();
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let (mut index, mut general, mut vector) = (0, 8, 1);
    for operand in 0..instruction.op_count() {
        if instruction.op_kind(operand) != OpKind::Register {
            continue;
        }
        let register = instruction.op_register(operand);
        let written = !matches!(info.op_access(operand), OpAccess::Read | OpAccess::CondRead);
        let source = Source::Operand(index);
        index += 1;
        let (class, slot) = if register.is_gpr() && !is_fixed(instruction.code(), operand) {
            general += 1;
            (Class::General, general - 1)
        } else if register.is_vector_register() {
            vector += 1;
            (Class::Vector, vector - 1)
        } else {
            continue;
        };
        copy.set_op_register(operand, renumbered(register, slot));
        bindings.push(Binding { class, source, slot, written });
    }
    add_implicit(&copy, &mut bindings);
    bindings.reverse();
    (copy, bindings)
}

/// Operands that are registers by encoding, such as AL in `add al, imm8`, cannot be renamed.
fn is_fixed(code: Code, operand: u32) -> bool {
    use iced_x86::OpCodeOperandKind as K;
    matches!(code.op_code().op_kind(operand), K::al | K::cl | K::ax | K::dx | K::eax | K::rax)
}

fn add_implicit(copy: &Instruction, bindings: &mut Vec<Binding>) {
    let shape = Shape::of(copy);
    let files = [
        (Class::General, shape.gpr_used, shape.gpr_written),
        (Class::Vector, shape.vector_used, shape.vector_written),
    ];
    for (class, used, written) in files {
        for slot in crate::shape::members(used) {
            let known = bindings.iter().any(|bound| bound.class == class && bound.slot == slot);
            if !known {
                let written = written >> slot & 1 != 0;
                bindings.push(Binding { class, source: Source::Fixed(slot), slot, written });
            }
        }
    }
}

/// The register `number` of the same class and width as `register`; for AH, CH, DH and BH the low byte.
fn renumbered(register: Register, number: u8) -> Register {
    if is_high_byte(register) || register.is_gpr8() {
        // AL, CL, DL, BL, then AH … BH, then SPL …: numbers 4 and up lie four places further.
        let skip = if number < 4 { 0 } else { 4 };
        return Register::AL + u32::from(number) + skip;
    }
    let base = match register {
        _ if register.is_gpr16() => Register::AX,
        _ if register.is_gpr32() => Register::EAX,
        _ if register.is_gpr64() => Register::RAX,
        _ if register.is_xmm() => Register::XMM0,
        _ => Register::YMM0,
    };
    base + u32::from(number)
}

/// Without segment and superfluous repeat prefixes, in 64-bit code.
fn plain(instruction: &Instruction) -> Instruction {
    let mut copy = *instruction;
    copy.set_code_size(CodeSize::Code64);
    copy.set_segment_prefix(Register::None);
    copy.set_has_repe_prefix(false);
    copy.set_has_repne_prefix(false);
    copy.set_has_xacquire_prefix(false);
    copy.set_has_xrelease_prefix(false);
    copy
}

/// An instruction as the host runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosted {
    pub(crate) instruction: Instruction,
    pub(crate) shape: Shape,
    /// The register that holds the frame's address throughout.
    pub(crate) base: Register,
    /// The register that stands for RSP, when RSP takes part.
    pub(crate) stack_pointer: Option<Register>,
}

const RSP: u8 = 4;

/// Registers that a thunk may use without saving them (System V ABI for AMD64 §3.2.1); the first three
/// can stand beside a high-byte register.
const SPARE: [Register; 7] = [
    Register::RDI,
    Register::RSI,
    Register::RCX,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// Rewrites an admitted instruction for the host. `None` when its registers leave no room.
pub(crate) fn host(instruction: &Instruction) -> Option<Hosted> {
    let mut copy = plain(instruction);
    let shape = Shape::of(&copy);
    let mut free = SPARE
        .into_iter()
        .filter(|register| shape.gpr_used >> register.number() & 1 == 0)
        .take(if shape.high_byte { 3 } else { SPARE.len() });
    let base = free.next().filter(|base| !shape.high_byte || base.number() < 8)?;
    let mut stack_pointer = None;
    if shape.gpr_used >> RSP & 1 != 0 {
        let replacement = free.next()?;
        rename(&mut copy, replacement);
        stack_pointer = Some(replacement);
    }
    if shape.memory.is_some() {
        copy.set_memory_base(base);
        copy.set_memory_index(Register::None);
        copy.set_memory_index_scale(1);
        copy.set_memory_displ_size(8);
        copy.set_memory_displacement64(offset_of!(Frame, memory) as u64);
    }
    Some(Hosted { instruction: copy, shape, base, stack_pointer })
}

/// Replaces RSP, ESP, SP and SPL in operands and addresses (of LEA).
fn rename(copy: &mut Instruction, replacement: Register) {
    let number = replacement.number() as u8;
    for operand in 0..copy.op_count() {
        if copy.op_kind(operand) == OpKind::Register {
            let register = copy.op_register(operand);
            if register.is_gpr() && register.full_register() == Register::RSP {
                copy.set_op_register(operand, renumbered(register, number));
            }
        }
    }
    let base = copy.memory_base();
    if base != Register::None && base.full_register() == Register::RSP {
        copy.set_memory_base(renumbered(base, number));
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn decode(bytes: &[u8]) -> Instruction {
        Decoder::new(64, bytes, DecoderOptions::NONE).decode()
    }

    #[test]
    fn register_operands_get_the_same_slots_whatever_their_numbers() {
        // paddd xmm7, xmm3; paddd xmm0, xmm0
        let (seven, bindings) = canonical(&decode(&[0x66, 0x0F, 0xFE, 0xFB]));
        let (zero, _) = canonical(&decode(&[0x66, 0x0F, 0xFE, 0xC0]));
        assert_eq!(seven, zero);
        let slot = |source, slot, written| Binding { class: Class::Vector, source, slot, written };
        assert_eq!(
            bindings,
            [slot(Source::Operand(1), 2, false), slot(Source::Operand(0), 1, true)]
        );
    }

    #[test]
    fn an_implicit_operand_keeps_its_place() {
        // pblendvb xmm3, xmm4 with XMM0
        let (copy, bindings) = canonical(&decode(&[0x66, 0x0F, 0x38, 0x10, 0xDC]));
        assert_eq!(copy.op0_register(), Register::XMM1);
        assert!(bindings.iter().any(|bound| bound.source == Source::Fixed(0) && bound.slot == 0));
    }

    #[test]
    fn the_stack_pointer_and_the_memory_operand_move() {
        // movd xmm0, esp; pinsrw xmm0, [rsp + rax * 8 + 64], 1
        let hosted = host(&decode(&[0x66, 0x0F, 0x6E, 0xC4])).unwrap();
        assert_eq!(hosted.stack_pointer, Some(Register::RSI));
        assert_eq!(hosted.instruction.op1_register(), Register::ESI);
        let hosted = host(&decode(&[0x66, 0x0F, 0xC4, 0x44, 0xC4, 0x40, 1])).unwrap();
        assert_eq!(hosted.instruction.memory_base(), Register::RDI);
        assert_eq!(hosted.instruction.memory_index(), Register::None);
    }
}
