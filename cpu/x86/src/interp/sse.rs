//! SSE instructions that are commonest and simplest: moves, logic, byte compares.
//!
//! The rest of SSE runs natively ([`super::native`]); these are here because a few operations on
//! integers are faster than copying operands to a thunk. Legacy encodings only: they leave the upper
//! halves of the YMM registers alone (Intel SDM vol. 1 §14.1.3).

use super::unit::{Sse, Unit};
use crate::core::{Core, Outcome};
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, Mnemonic, OpKind};

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    if uses_mmx(instruction) {
        return None;
    }
    match row.operation {
        Operation::MovVector => mov_vector(instruction),
        Operation::MovScalar => mov_scalar(instruction),
        Operation::MovHalf => mov_half(instruction),
        Operation::Movd => movd(instruction),
        Operation::LogicVector => logic(instruction),
        Operation::CompareBytes => two_operands::<M, CompareBytes>(instruction),
        Operation::MoveMask => Some(move_mask),
        _ => None,
    }
}

fn uses_mmx(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_mm()
    })
}

fn is_xmm(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand).is_xmm()
}

impl<M: Memory> Core<'_, M> {
    #[inline(always)]
    fn xmm(&self, number: u8) -> u128 {
        self.cpu.fpu.xmm[usize::from(number & 15)]
    }

    #[inline(always)]
    fn set_xmm(&mut self, number: u8, value: u128) {
        self.cpu.fpu.xmm[usize::from(number & 15)] = value;
    }
}

// MOVAPS, MOVUPS, MOVDQA … and the non-temporal ones.

fn mov_vector<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let unaligned = matches!(
        instruction.mnemonic(),
        Mnemonic::Movups | Mnemonic::Movupd | Mnemonic::Movdqu | Mnemonic::Lddqu
    );
    match (form(instruction), unaligned) {
        (Form::RegReg, _) => Some(mov_vector_reg),
        (Form::RegMem, true) => Some(load_vector::<M, false>),
        (Form::RegMem, false) => Some(load_vector::<M, true>),
        (Form::MemReg, true) => Some(store_vector::<M, false>),
        (Form::MemReg, false) => Some(store_vector::<M, true>),
        _ => None,
    }
}

fn mov_vector_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.b);
    core.set_xmm(op.a, value);
    Ok(())
}

/// The 16 bytes of the memory operand.
#[inline(always)]
fn operand<M: Memory, const ALIGNED: bool>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Result<u128, crate::Stop> {
    let linear = core.address(op, 16, Intent::Read)?;
    if ALIGNED {
        core.require_aligned(linear, 16)?;
    }
    core.load_16(linear)
}

fn load_vector<M: Memory, const ALIGNED: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = operand::<M, ALIGNED>(core, op)?;
    core.set_xmm(op.a, value);
    Ok(())
}

fn store_vector<M: Memory, const ALIGNED: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let linear = core.address(op, 16, Intent::Write)?;
    if ALIGNED {
        core.require_aligned(linear, 16)?;
    }
    let value = core.xmm(op.a);
    core.store_16(linear, value)
}

// MOVSS, MOVSD, MOVD, MOVQ.

fn mov_scalar<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let double = instruction.mnemonic() == Mnemonic::Movsd;
    Some(match (form(instruction), double) {
        (Form::RegReg, false) => merge::<M, u32>,
        (Form::RegReg, true) => merge::<M, u64>,
        (Form::RegMem, false) => load_scalar::<M, u32>,
        (Form::RegMem, true) => load_scalar::<M, u64>,
        (Form::MemReg, false) => store_scalar::<M, u32>,
        (Form::MemReg, true) => store_scalar::<M, u64>,
        _ => return None,
    })
}

/// Between registers the rest of the destination stays.
fn merge<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let mask = u128::from(T::MASK);
    let value = core.xmm(op.a) & !mask | core.xmm(op.b) & mask;
    core.set_xmm(op.a, value);
    Ok(())
}

/// From memory the rest of the destination becomes zero.
fn load_scalar<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.load::<T>(op)?.u64();
    core.set_xmm(op.a, u128::from(value));
    Ok(())
}

fn store_scalar<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = T::low(core.xmm(op.a) as u64);
    core.store(op, value)
}

fn movd<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let vector = if is_xmm(instruction, 0) { 1 } else { 0 };
    let wide = match form(instruction) {
        Form::RegReg if is_xmm(instruction, 0) && is_xmm(instruction, 1) => {
            return Some(movq_vector);
        }
        _ => operand_bits(instruction, vector) == 64,
    };
    Some(match (form(instruction), vector, wide) {
        (Form::RegReg, 1, false) => general_to_vector::<M, u32>,
        (Form::RegReg, 1, true) => general_to_vector::<M, u64>,
        (Form::RegReg, _, false) => vector_to_general::<M, u32>,
        (Form::RegReg, _, true) => vector_to_general::<M, u64>,
        (Form::RegMem, _, false) => load_scalar::<M, u32>,
        (Form::RegMem, _, true) => load_scalar::<M, u64>,
        (Form::MemReg, _, false) => store_scalar::<M, u32>,
        (Form::MemReg, _, true) => store_scalar::<M, u64>,
        _ => return None,
    })
}

fn movq_vector<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.b) & u128::from(u64::MAX);
    core.set_xmm(op.a, value);
    Ok(())
}

fn general_to_vector<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.reg::<T>(op.b).u64();
    core.set_xmm(op.a, u128::from(value));
    Ok(())
}

fn vector_to_general<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = T::low(core.xmm(op.b) as u64);
    core.set_reg(op.a, value);
    Ok(())
}

// MOVLPS, MOVHPS and their kin.

fn mov_half<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let high = matches!(instruction.mnemonic(), Mnemonic::Movhps | Mnemonic::Movhpd);
    Some(match (form(instruction), high) {
        (Form::RegReg, _) if instruction.mnemonic() == Mnemonic::Movhlps => high_to_low,
        (Form::RegReg, _) => low_to_high,
        (Form::RegMem, true) => load_half::<M, true>,
        (Form::RegMem, false) => load_half::<M, false>,
        (Form::MemReg, true) => store_half::<M, true>,
        (Form::MemReg, false) => store_half::<M, false>,
        _ => return None,
    })
}

const LOW: u128 = u64::MAX as u128;

fn high_to_low<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.a) & !LOW | core.xmm(op.b) >> 64;
    core.set_xmm(op.a, value);
    Ok(())
}

fn low_to_high<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.a) & LOW | core.xmm(op.b) << 64;
    core.set_xmm(op.a, value);
    Ok(())
}

fn load_half<M: Memory, const HIGH: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let half = u128::from(core.load::<u64>(op)?);
    let old = core.xmm(op.a);
    let value = if HIGH { old & LOW | half << 64 } else { old & !LOW | half };
    core.set_xmm(op.a, value);
    Ok(())
}

fn store_half<M: Memory, const HIGH: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.a);
    core.store(op, (if HIGH { value >> 64 } else { value }) as u64)
}

// Logic and compares: `a = apply(a, b)`.

trait Binary: 'static {
    fn apply(left: u128, right: u128) -> u128;
}

struct And;
struct AndNot;
struct Or;
struct Xor;
struct CompareBytes;

impl Binary for And {
    #[inline(always)]
    fn apply(left: u128, right: u128) -> u128 {
        left & right
    }
}

impl Binary for AndNot {
    #[inline(always)]
    fn apply(left: u128, right: u128) -> u128 {
        !left & right
    }
}

impl Binary for Or {
    #[inline(always)]
    fn apply(left: u128, right: u128) -> u128 {
        left | right
    }
}

impl Binary for Xor {
    #[inline(always)]
    fn apply(left: u128, right: u128) -> u128 {
        left ^ right
    }
}

impl Binary for CompareBytes {
    #[inline(always)]
    fn apply(left: u128, right: u128) -> u128 {
        let half =
            |shift: u32| u128::from(equal_bytes((left >> shift) as u64, (right >> shift) as u64));
        half(64) << 64 | half(0)
    }
}

/// 0xff in every byte in which the two agree.
fn equal_bytes(left: u64, right: u64) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let differing = left ^ right;
    // The top bit of a byte: set when any bit differs; the addition stays within the byte.
    let top = ((differing & LOW_BITS) + LOW_BITS) | differing;
    let equal = !(top | LOW_BITS) >> 7;
    equal.wrapping_mul(0xff)
}

fn logic<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    use Mnemonic as N;
    match instruction.mnemonic() {
        N::Pand | N::Andps | N::Andpd => two_operands::<M, And>(instruction),
        N::Pandn | N::Andnps | N::Andnpd => two_operands::<M, AndNot>(instruction),
        N::Por | N::Orps | N::Orpd => two_operands::<M, Or>(instruction),
        N::Pxor | N::Xorps | N::Xorpd => two_operands::<M, Xor>(instruction),
        _ => None,
    }
}

fn two_operands<M: Memory, B: Binary>(instruction: &Instruction) -> Option<Handler<M>> {
    match form(instruction) {
        Form::RegReg => Some(binary_reg::<M, B>),
        Form::RegMem => Some(binary_mem::<M, B>),
        _ => None,
    }
}

fn binary_reg<M: Memory, B: Binary>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = B::apply(core.xmm(op.a), core.xmm(op.b));
    core.set_xmm(op.a, value);
    Ok(())
}

fn binary_mem<M: Memory, B: Binary>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let right = operand::<M, true>(core, op)?;
    let value = B::apply(core.xmm(op.a), right);
    core.set_xmm(op.a, value);
    Ok(())
}

/// PMOVMSKB: the sign bits of the bytes, zero-extended.
fn move_mask<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.xmm(op.b);
    let mask = sign_bits((value >> 64) as u64) << 8 | sign_bits(value as u64);
    core.set_reg(op.a, mask);
    Ok(())
}

/// The top bits of the eight bytes, gathered by a multiplication in which no two products meet.
fn sign_bits(bytes: u64) -> u64 {
    ((bytes >> 7) & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
