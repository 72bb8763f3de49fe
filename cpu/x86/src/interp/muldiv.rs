//! MUL, IMUL, DIV, IDIV.
//!
//! With 8-bit operands the double-width number is AX, otherwise rDX:rAX. CF and OF tell whether the upper
//! half of a product matters; the other flags are undefined and follow the lower half here, and DIV and
//! IDIV leave all of them as they were (Intel SDM vol. 2A).

use super::by_width;
use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::lower::{Form, form, operand_bits};
use crate::memory::Memory;
use crate::op::{Handler, Op};
use crate::state::{RAX, RDX};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

const LOW: u8 = RAX as u8;
const HIGH: u8 = RDX as u8;
const AH: u8 = 32;

/// An operation between the accumulator and one operand.
trait WithAccumulator: 'static {
    fn apply<M: Memory, T: Word>(core: &mut Core<'_, M>, operand: T) -> Outcome;
}

struct Mul;
struct Imul;
struct Div;
struct Idiv;

impl WithAccumulator for Mul {
    #[inline(always)]
    fn apply<M: Memory, T: Word>(core: &mut Core<'_, M>, operand: T) -> Outcome {
        let (a, b) = (core.reg::<T>(LOW).u64(), operand.u64());
        let (low, high) = if T::BITS == 64 {
            let product = u128::from(a) * u128::from(b);
            (product as u64, (product >> 64) as u64)
        } else {
            let product = a.wrapping_mul(b);
            (product, product >> (T::BITS % 64))
        };
        let (low, high) = (T::low(low), T::low(high));
        let matters = high != T::low(0);
        core.cpu.flags.set_shift(low, matters, matters);
        set_double(core, low, high);
        Ok(())
    }
}

impl WithAccumulator for Imul {
    #[inline(always)]
    fn apply<M: Memory, T: Word>(core: &mut Core<'_, M>, operand: T) -> Outcome {
        let (low, high, matters) = signed_product(core.reg::<T>(LOW), operand);
        core.cpu.flags.set_shift(low, matters, matters);
        set_double(core, low, high);
        Ok(())
    }
}

impl WithAccumulator for Div {
    #[inline(always)]
    fn apply<M: Memory, T: Word>(core: &mut Core<'_, M>, operand: T) -> Outcome {
        let (low, high) = double::<M, T>(core);
        let divisor = operand.u64();
        if high >= divisor {
            return Err(core.raise(vector::DE));
        }
        let (quotient, remainder) = if T::BITS == 64 && high != 0 {
            let dividend = u128::from(high) << 64 | u128::from(low);
            let divisor = u128::from(divisor);
            ((dividend / divisor) as u64, (dividend % divisor) as u64)
        } else {
            let dividend = high << (T::BITS % 64) | low;
            (dividend / divisor, dividend % divisor)
        };
        set_double(core, T::low(quotient), T::low(remainder));
        Ok(())
    }
}

impl WithAccumulator for Idiv {
    #[inline(always)]
    fn apply<M: Memory, T: Word>(core: &mut Core<'_, M>, operand: T) -> Outcome {
        let (low, high) = double::<M, T>(core);
        let divisor = operand.sign_extended() as i64;
        let divided = if T::BITS == 64 {
            divide_signed(high, low, divisor)
        } else {
            // Sign-extended from twice the width, which is at most 64 bits.
            let unused = (64 - 2 * T::BITS.min(32)) % 64;
            let dividend = ((high << (T::BITS % 64) | low) << unused) as i64 >> unused;
            dividend.checked_div(divisor).map(|quotient| (quotient, dividend % divisor))
        };
        match divided {
            Some((quotient, remainder))
                if T::low(quotient as u64).sign_extended() as i64 == quotient =>
            {
                set_double(core, T::low(quotient as u64), T::low(remainder as u64));
                Ok(())
            }
            _ => Err(core.raise(vector::DE)),
        }
    }
}

/// A 128-bit dividend; `None` when the divisor is zero or the quotient too large.
fn divide_signed(high: u64, low: u64, divisor: i64) -> Option<(i64, i64)> {
    if high == ((low as i64) >> 63) as u64 {
        let dividend = low as i64;
        return dividend.checked_div(divisor).map(|quotient| (quotient, dividend % divisor));
    }
    let dividend = i128::from(high as i64) << 64 | i128::from(low);
    let quotient = dividend.checked_div(i128::from(divisor))?;
    let remainder = dividend % i128::from(divisor);
    Some((i64::try_from(quotient).ok()?, remainder as i64))
}

/// Lower half, upper half, and whether the upper half is more than the lower's sign.
#[inline(always)]
fn signed_product<T: Word>(a: T, b: T) -> (T, T, bool) {
    let (a, b) = (a.sign_extended() as i64, b.sign_extended() as i64);
    let (low, high) = if T::BITS == 64 {
        let product = i128::from(a) * i128::from(b);
        (product as u64, (product >> 64) as u64)
    } else {
        let product = a.wrapping_mul(b);
        (product as u64, (product >> (T::BITS % 64)) as u64)
    };
    let (low, high) = (T::low(low), T::low(high));
    let sign = ((low.sign_extended() as i64) >> 63) as u64;
    (low, high, high != T::low(sign))
}

/// The lower and upper half of AX or rDX:rAX.
#[inline(always)]
fn double<M: Memory, T: Word>(core: &Core<'_, M>) -> (u64, u64) {
    let high = if T::BYTES == 1 { AH } else { HIGH };
    (core.reg::<T>(LOW).u64(), core.reg::<T>(high).u64())
}

/// Sets AX or rDX:rAX: a product's halves, or quotient and remainder.
#[inline(always)]
fn set_double<M: Memory, T: Word>(core: &mut Core<'_, M>, low: T, high: T) {
    if T::BYTES == 1 {
        core.set_reg(LOW, (high.u64() << 8 | low.u64()) as u16);
    } else {
        core.set_reg(LOW, low);
        core.set_reg(HIGH, high);
    }
}

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Mul => one::<M, Mul>(instruction),
        Operation::Imul if instruction.op_count() == 1 => one::<M, Imul>(instruction),
        Operation::Imul => imul(instruction),
        Operation::Div => one::<M, Div>(instruction),
        Operation::Idiv => one::<M, Idiv>(instruction),
        _ => None,
    }
}

fn one<M: Memory, W: WithAccumulator>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::Reg => by_width!(width, with_reg, W),
        Form::Mem => by_width!(width, with_mem, W),
        _ => None,
    }
}

/// The forms with a destination of their own.
fn imul<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    let by_imm = instruction.op_count() == 3;
    match form(instruction) {
        Form::RegReg if by_imm => by_width!(width, imul_reg_imm),
        Form::RegReg => by_width!(width, imul_reg),
        Form::RegMem if by_imm => by_width!(width, imul_mem_imm),
        Form::RegMem => by_width!(width, imul_mem),
        _ => None,
    }
}

fn with_reg<M: Memory, W: WithAccumulator, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let operand = core.reg::<T>(op.a);
    W::apply(core, operand)
}

fn with_mem<M: Memory, W: WithAccumulator, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let operand = core.load::<T>(op)?;
    W::apply(core, operand)
}

#[inline(always)]
fn set_product<M: Memory, T: Word>(core: &mut Core<'_, M>, register: u8, a: T, b: T) -> Outcome {
    let (low, _, matters) = signed_product(a, b);
    core.cpu.flags.set_shift(low, matters, matters);
    core.set_reg(register, low);
    Ok(())
}

fn imul_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (a, b) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    set_product(core, op.a, a, b)
}

fn imul_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let b = core.load::<T>(op)?;
    let a = core.reg::<T>(op.a);
    set_product(core, op.a, a, b)
}

fn imul_reg_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let a = core.reg::<T>(op.b);
    set_product(core, op.a, a, T::low(op.imm))
}

fn imul_mem_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let a = core.load::<T>(op)?;
    set_product(core, op.a, a, T::low(op.imm))
}
