//! Shifts and rotates: ROL, ROR, RCL, RCR, SHL, SHR, SAR, SHLD, SHRD.
//!
//! The count is masked to 5 bits, to 6 with 64-bit operands (Intel SDM vol. 2B, SAL/SAR/SHL/SHR). A
//! masked count of zero leaves all flags, but the destination is written all the same: a 32-bit
//! register is zero-extended, and memory must be writable. Rotates change CF and OF only.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::flags::LazyFlags;
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::RCX;
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, OpKind};

/// A shift or rotate by a masked count that is not zero.
trait Shift: 'static {
    fn apply<T: Word>(flags: &mut LazyFlags, value: T, count: u32) -> T;
}

/// A shift across two operands, likewise.
trait DoubleShift: 'static {
    fn apply<T: Word>(flags: &mut LazyFlags, value: T, other: T, count: u32) -> T;
}

#[inline(always)]
fn bit(value: u64, number: u32) -> bool {
    value >> number & 1 != 0
}

#[inline(always)]
fn top<T: Word>(value: T) -> bool {
    bit(value.u64(), T::BITS - 1)
}

/// The two top bits differ.
#[inline(always)]
fn tops_differ<T: Word>(value: T) -> bool {
    top(value) != bit(value.u64(), T::BITS - 2)
}

macro_rules! shift {
    ($trait:ident, $name:ident, |$flags:ident, [$($argument:ident),*], $count:ident| $body:expr) => {
        struct $name;
        impl $trait for $name {
            #[inline(always)]
            fn apply<T: Word>($flags: &mut LazyFlags, $($argument: T,)* $count: u32) -> T {
                $body
            }
        }
    };
}

shift!(Shift, Shl, |flags, [value], count| {
    let result = T::low(value.u64() << count);
    // The last bit that left; beyond the width only zeroes do.
    let carry = if T::BITS == 64 {
        bit(value.u64(), 64 - count)
    } else {
        bit(value.u64() << count, T::BITS)
    };
    flags.set_shift(result, carry, top(result) != carry);
    result
});

shift!(Shift, Shr, |flags, [value], count| {
    let result = T::low(value.u64() >> count);
    flags.set_shift(result, bit(value.u64(), count - 1), top(value));
    result
});

shift!(Shift, Sar, |flags, [value], count| {
    let wide = value.sign_extended() as i64;
    let result = T::low((wide >> count) as u64);
    flags.set_shift(result, bit(wide as u64, count - 1), false);
    result
});

shift!(Shift, Rol, |flags, [value], count| {
    let count = count % T::BITS;
    let back = (T::BITS - count) % T::BITS;
    let result = T::low(value.u64() << count | value.u64() >> back);
    let carry = bit(result.u64(), 0);
    flags.set_carry_and_overflow(carry, top(result) != carry);
    result
});

shift!(Shift, Ror, |flags, [value], count| {
    let count = count % T::BITS;
    let back = (T::BITS - count) % T::BITS;
    let result = T::low(value.u64() >> count | value.u64() << back);
    flags.set_carry_and_overflow(top(result), tops_differ(result));
    result
});

/// The value with the carry above it, rotated left by `count` within `T::BITS` + 1 bits.
#[inline(always)]
fn rotate_with_carry<T: Word>(value: T, carry: bool, count: u32) -> (T, bool) {
    let whole = u128::from(carry) << T::BITS | u128::from(value.u64());
    let turned = whole << count | whole >> (T::BITS + 1 - count);
    (T::low(turned as u64), turned >> T::BITS & 1 != 0)
}

shift!(Shift, Rcl, |flags, [value], count| {
    let (result, carry) = rotate_with_carry(value, flags.cf(), count % (T::BITS + 1));
    flags.set_carry_and_overflow(carry, top(result) != carry);
    result
});

shift!(Shift, Rcr, |flags, [value], count| {
    let left = (T::BITS + 1 - count % (T::BITS + 1)) % (T::BITS + 1);
    let (result, carry) = rotate_with_carry(value, flags.cf(), left);
    flags.set_carry_and_overflow(carry, tops_differ(result));
    result
});

// Counts above 16 with 16-bit operands, which the manual leaves undefined, go on with the second
// operand once more, as AMD's processors do (Intel's go on with the first).
shift!(DoubleShift, Shld, |flags, [value, other], count| {
    let (result, carry) = if T::BITS == 16 {
        let whole = value.u64() << 32 | other.u64() << 16 | other.u64();
        (T::low(whole << count >> 32), bit(whole, 48 - count))
    } else {
        let result = T::low(value.u64() << count | other.u64() >> (T::BITS - count));
        (result, bit(value.u64(), T::BITS - count))
    };
    flags.set_shift(result, carry, top(result) != top(value));
    result
});

shift!(DoubleShift, Shrd, |flags, [value, other], count| {
    let (result, carry) = if T::BITS == 16 {
        let whole = other.u64() << 32 | other.u64() << 16 | value.u64();
        (T::low(whole >> count), bit(whole, count - 1))
    } else {
        let result = T::low(value.u64() >> count | other.u64() << (T::BITS - count));
        (result, bit(value.u64(), count - 1))
    };
    flags.set_shift(result, carry, top(result) != top(value));
    result
});

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Rol => single::<M, Rol>(instruction),
        Operation::Ror => single::<M, Ror>(instruction),
        Operation::Rcl => single::<M, Rcl>(instruction),
        Operation::Rcr => single::<M, Rcr>(instruction),
        Operation::Shl => single::<M, Shl>(instruction),
        Operation::Shr => single::<M, Shr>(instruction),
        Operation::Sar => single::<M, Sar>(instruction),
        Operation::Shld => double::<M, Shld>(instruction),
        Operation::Shrd => double::<M, Shrd>(instruction),
        _ => None,
    }
}

fn single<M: Memory, S: Shift>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::RegImm => by_width!(width, reg_imm, S),
        Form::RegReg => by_width!(width, reg_cl, S),
        Form::MemImm => by_width!(width, mem_imm, S),
        Form::MemReg => by_width!(width, mem_cl, S),
        _ => None,
    }
}

fn double<M: Memory, S: DoubleShift>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    let by_cl = instruction.op2_kind() == OpKind::Register;
    match form(instruction) {
        Form::RegReg if by_cl => by_width!(width, double_reg_cl, S),
        Form::RegReg => by_width!(width, double_reg_imm, S),
        Form::MemReg if by_cl => by_width!(width, double_mem_cl, S),
        Form::MemReg => by_width!(width, double_mem_imm, S),
        _ => None,
    }
}

/// The count as processors mask it.
#[inline(always)]
fn masked<T: Word>(count: u64) -> u32 {
    count as u32 & if T::BITS == 64 { 63 } else { 31 }
}

#[inline(always)]
fn in_cl<M: Memory>(core: &Core<'_, M>) -> u64 {
    core.cpu.gpr[RCX]
}

fn reg_imm<M: Memory, S: Shift, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    on_reg::<M, S, T>(core, op, op.imm)
}

fn reg_cl<M: Memory, S: Shift, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let count = in_cl(core);
    on_reg::<M, S, T>(core, op, count)
}

#[inline(always)]
fn on_reg<M: Memory, S: Shift, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, by: u64) -> Outcome {
    let value = core.reg::<T>(op.a);
    let count = masked::<T>(by);
    let result = if count == 0 { value } else { S::apply(&mut core.cpu.flags, value, count) };
    core.set_reg(op.a, result);
    Ok(())
}

fn mem_imm<M: Memory, S: Shift, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    on_mem::<M, T>(core, op, op.imm, S::apply)
}

fn mem_cl<M: Memory, S: Shift, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let count = in_cl(core);
    on_mem::<M, T>(core, op, count, S::apply)
}

#[inline(always)]
fn on_mem<M: Memory, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    by: u64,
    apply: impl FnOnce(&mut LazyFlags, T, u32) -> T,
) -> Outcome {
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let value = M::load_for_write::<T>(core, linear)?;
    let count = masked::<T>(by);
    let mut flags = core.cpu.flags;
    let result = if count == 0 { value } else { apply(&mut flags, value, count) };
    M::store(core, linear, result)?;
    core.cpu.flags = flags;
    Ok(())
}

fn double_reg_imm<M: Memory, S: DoubleShift, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    double_on_reg::<M, S, T>(core, op, op.imm)
}

fn double_reg_cl<M: Memory, S: DoubleShift, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    let count = in_cl(core);
    double_on_reg::<M, S, T>(core, op, count)
}

#[inline(always)]
fn double_on_reg<M: Memory, S: DoubleShift, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    by: u64,
) -> Outcome {
    let (value, other) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    let count = masked::<T>(by);
    let flags = &mut core.cpu.flags;
    let result = if count == 0 { value } else { S::apply(flags, value, other, count) };
    core.set_reg(op.a, result);
    Ok(())
}

fn double_mem_imm<M: Memory, S: DoubleShift, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    let other = core.reg::<T>(op.a);
    on_mem::<M, T>(core, op, op.imm, |flags, value, count| S::apply(flags, value, other, count))
}

fn double_mem_cl<M: Memory, S: DoubleShift, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    let (other, by) = (core.reg::<T>(op.a), in_cl(core));
    on_mem::<M, T>(core, op, by, |flags, value, count| S::apply(flags, value, other, count))
}
