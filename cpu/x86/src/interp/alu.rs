//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::flags::LazyFlags;
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

/// A two-operand operation.
trait Binary: 'static {
    /// Whether the result is kept.
    const KEEPS: bool = true;
    /// The result of `left` and `right`; sets the flags.
    fn apply<T: Word>(flags: &mut LazyFlags, left: T, right: T) -> T;
}

macro_rules! binary {
    ($name:ident, $keeps:expr, |$flags:ident, $left:ident, $right:ident| $body:expr) => {
        struct $name;
        impl Binary for $name {
            const KEEPS: bool = $keeps;
            #[inline(always)]
            fn apply<T: Word>($flags: &mut LazyFlags, $left: T, $right: T) -> T {
                $body
            }
        }
    };
}

#[inline(always)]
fn add<T: Word>(flags: &mut LazyFlags, left: T, right: T, carry: bool) -> T {
    let result = T::low(left.u64().wrapping_add(right.u64()).wrapping_add(u64::from(carry)));
    flags.set_add(left, right, result);
    result
}

#[inline(always)]
fn subtract<T: Word>(flags: &mut LazyFlags, left: T, right: T, borrow: bool) -> T {
    let result = T::low(left.u64().wrapping_sub(right.u64()).wrapping_sub(u64::from(borrow)));
    flags.set_sub(left, right, result);
    result
}

#[inline(always)]
fn logic<T: Word>(flags: &mut LazyFlags, result: u64) -> T {
    let result = T::low(result);
    flags.set_logic(result);
    result
}

binary!(Add, true, |flags, left, right| add(flags, left, right, false));
binary!(Adc, true, |flags, left, right| {
    let carry = flags.cf();
    add(flags, left, right, carry)
});
binary!(Sub, true, |flags, left, right| subtract(flags, left, right, false));
binary!(Sbb, true, |flags, left, right| {
    let borrow = flags.cf();
    subtract(flags, left, right, borrow)
});
binary!(Cmp, false, |flags, left, right| subtract(flags, left, right, false));
binary!(And, true, |flags, left, right| logic(flags, left.u64() & right.u64()));
binary!(Or, true, |flags, left, right| logic(flags, left.u64() | right.u64()));
binary!(Xor, true, |flags, left, right| logic(flags, left.u64() ^ right.u64()));
binary!(Test, false, |flags, left, right| logic(flags, left.u64() & right.u64()));

/// A one-operand operation.
trait Unary: 'static {
    fn apply<T: Word>(flags: &mut LazyFlags, value: T) -> T;
}

macro_rules! unary {
    ($name:ident, |$flags:ident, $value:ident| $body:expr) => {
        struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn apply<T: Word>($flags: &mut LazyFlags, $value: T) -> T {
                $body
            }
        }
    };
}

unary!(Inc, |flags, value| {
    let carry = flags.cf();
    let result = add(flags, value, T::low(1), false);
    flags.keep_carry(carry);
    result
});
unary!(Dec, |flags, value| {
    let carry = flags.cf();
    let result = subtract(flags, value, T::low(1), false);
    flags.keep_carry(carry);
    result
});
unary!(Neg, |flags, value| subtract(flags, T::low(0), value, false));
unary!(Not, |_flags, value| T::low(!value.u64()));

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Add => binary::<M, Add>(instruction),
        Operation::Or => binary::<M, Or>(instruction),
        Operation::Adc => binary::<M, Adc>(instruction),
        Operation::Sbb => binary::<M, Sbb>(instruction),
        Operation::And => binary::<M, And>(instruction),
        Operation::Sub => binary::<M, Sub>(instruction),
        Operation::Xor => binary::<M, Xor>(instruction),
        Operation::Cmp => binary::<M, Cmp>(instruction),
        Operation::Test => binary::<M, Test>(instruction),
        Operation::Inc => unary::<M, Inc>(instruction),
        Operation::Dec => unary::<M, Dec>(instruction),
        Operation::Neg => unary::<M, Neg>(instruction),
        Operation::Not => unary::<M, Not>(instruction),
        _ => None,
    }
}

fn binary<M: Memory, B: Binary>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::RegReg => by_width!(width, reg_reg, B),
        Form::RegMem => by_width!(width, reg_mem, B),
        Form::RegImm => by_width!(width, reg_imm, B),
        Form::MemReg if B::KEEPS && instruction.has_lock_prefix() => {
            by_width!(width, locked_reg, B)
        }
        Form::MemReg if B::KEEPS => by_width!(width, mem_reg, B),
        Form::MemReg => by_width!(width, compare_mem_reg, B),
        Form::MemImm if B::KEEPS && instruction.has_lock_prefix() => {
            by_width!(width, locked_imm, B)
        }
        Form::MemImm if B::KEEPS => by_width!(width, mem_imm, B),
        Form::MemImm => by_width!(width, compare_mem_imm, B),
        _ => None,
    }
}

fn unary<M: Memory, U: Unary>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::Reg => by_width!(width, unary_reg, U),
        Form::Mem if instruction.has_lock_prefix() => by_width!(width, locked_unary, U),
        Form::Mem => by_width!(width, unary_mem, U),
        _ => None,
    }
}

fn reg_reg<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (left, right) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    let result = B::apply(&mut core.cpu.flags, left, right);
    if B::KEEPS {
        core.set_reg(op.a, result);
    }
    Ok(())
}

fn reg_imm<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let left = core.reg::<T>(op.a);
    let result = B::apply(&mut core.cpu.flags, left, T::low(op.imm));
    if B::KEEPS {
        core.set_reg(op.a, result);
    }
    Ok(())
}

fn reg_mem<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let right = core.load::<T>(op)?;
    let left = core.reg::<T>(op.a);
    let result = B::apply(&mut core.cpu.flags, left, right);
    if B::KEEPS {
        core.set_reg(op.a, result);
    }
    Ok(())
}

fn mem_reg<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let right = core.reg::<T>(op.a);
    modify::<M, B, T>(core, op, right)
}

fn mem_imm<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    modify::<M, B, T>(core, op, T::low(op.imm))
}

#[inline(always)]
fn modify<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, right: T) -> Outcome {
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let left = M::load_for_write::<T>(core, linear)?;
    let mut flags = core.cpu.flags;
    let result = B::apply(&mut flags, left, right);
    M::store(core, linear, result)?;
    core.cpu.flags = flags;
    Ok(())
}

fn compare_mem_reg<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let left = core.load::<T>(op)?;
    let right = core.reg::<T>(op.a);
    B::apply(&mut core.cpu.flags, left, right);
    Ok(())
}

fn compare_mem_imm<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let left = core.load::<T>(op)?;
    B::apply(&mut core.cpu.flags, left, T::low(op.imm));
    Ok(())
}

fn locked_reg<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let right = core.reg::<T>(op.a);
    locked::<M, B, T>(core, op, right)
}

fn locked_imm<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    locked::<M, B, T>(core, op, T::low(op.imm))
}

fn locked<M: Memory, B: Binary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, right: T) -> Outcome {
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let mut left = M::load_for_write::<T>(core, linear)?;
    loop {
        let mut flags = core.cpu.flags;
        let result = B::apply(&mut flags, left, right);
        let found = M::compare_exchange(core, linear, left, result)?;
        if found == left {
            core.cpu.flags = flags;
            return Ok(());
        }
        left = found;
    }
}

fn unary_reg<M: Memory, U: Unary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.a);
    let result = U::apply(&mut core.cpu.flags, value);
    core.set_reg(op.a, result);
    Ok(())
}

fn unary_mem<M: Memory, U: Unary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let value = M::load_for_write::<T>(core, linear)?;
    let mut flags = core.cpu.flags;
    let result = U::apply(&mut flags, value);
    M::store(core, linear, result)?;
    core.cpu.flags = flags;
    Ok(())
}

fn locked_unary<M: Memory, U: Unary, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let mut value = M::load_for_write::<T>(core, linear)?;
    loop {
        let mut flags = core.cpu.flags;
        let result = U::apply(&mut flags, value);
        let found = M::compare_exchange(core, linear, value, result)?;
        if found == value {
            core.cpu.flags = flags;
            return Ok(());
        }
        value = found;
    }
}
