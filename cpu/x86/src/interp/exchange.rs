//! Exchanges: XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B.
//!
//! XCHG with memory is atomic with or without LOCK (Intel SDM vol. 3A §8.1.2.1). CMPXCHG8B and
//! CMPXCHG16B are made atomic always, which costs nothing and saves a form each. CMPXCHG writes its
//! memory operand also when the comparison fails, so that the page must be writable in either case.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::flags::{LazyFlags, ZF};
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{RAX, RBX, RCX, RDX};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

const ACCUMULATOR: u8 = RAX as u8;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    let locked = instruction.has_lock_prefix();
    match (row.operation, form(instruction)) {
        (Operation::Xchg, Form::RegReg) => by_width!(width, xchg_reg),
        (Operation::Xchg, Form::MemReg | Form::RegMem) => by_width!(width, xchg_mem),
        (Operation::Xadd, Form::RegReg) => by_width!(width, xadd_reg),
        (Operation::Xadd, _) if locked => by_width!(width, xadd_locked),
        (Operation::Xadd, _) => by_width!(width, xadd_mem),
        (Operation::Cmpxchg, Form::RegReg) => by_width!(width, cmpxchg_reg),
        (Operation::Cmpxchg, _) if locked => by_width!(width, cmpxchg_locked),
        (Operation::Cmpxchg, _) => by_width!(width, cmpxchg_mem),
        (Operation::Cmpxchg8b, _) => Some(cmpxchg8b),
        (Operation::Cmpxchg16b, _) => Some(cmpxchg16b),
        _ => None,
    }
}

fn xchg_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (a, b) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    core.set_reg(op.a, b);
    core.set_reg(op.b, a);
    Ok(())
}

fn xchg_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let new = core.reg::<T>(op.a);
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let mut old = M::load_for_write::<T>(core, linear)?;
    loop {
        let found = M::compare_exchange(core, linear, old, new)?;
        if found == old {
            core.set_reg(op.a, old);
            return Ok(());
        }
        old = found;
    }
}

#[inline(always)]
fn sum<T: Word>(flags: &mut LazyFlags, left: T, right: T) -> T {
    let result = T::low(left.u64().wrapping_add(right.u64()));
    flags.set_add(left, right, result);
    result
}

/// The sum is written last: it stays when both operands are one register.
fn xadd_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (left, right) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    let result = sum(&mut core.cpu.flags, left, right);
    core.set_reg(op.b, left);
    core.set_reg(op.a, result);
    Ok(())
}

fn xadd_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let right = core.reg::<T>(op.a);
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let left = M::load_for_write::<T>(core, linear)?;
    let mut flags = core.cpu.flags;
    let result = sum(&mut flags, left, right);
    M::store(core, linear, result)?;
    core.cpu.flags = flags;
    core.set_reg(op.a, left);
    Ok(())
}

fn xadd_locked<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let right = core.reg::<T>(op.a);
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let mut left = M::load_for_write::<T>(core, linear)?;
    loop {
        let mut flags = core.cpu.flags;
        let result = sum(&mut flags, left, right);
        let found = M::compare_exchange(core, linear, left, result)?;
        if found == left {
            core.cpu.flags = flags;
            core.set_reg(op.a, left);
            return Ok(());
        }
        left = found;
    }
}

/// Sets the flags of the comparison; whether the operands are equal.
#[inline(always)]
fn compare<M: Memory, T: Word>(core: &mut Core<'_, M>, accumulator: T, found: T) -> bool {
    let difference = T::low(accumulator.u64().wrapping_sub(found.u64()));
    core.cpu.flags.set_sub(accumulator, found, difference);
    accumulator == found
}

/// Only one of the two registers is written, and zero-extended: processors leave the other whole.
fn cmpxchg_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (found, new) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    let accumulator = core.reg::<T>(ACCUMULATOR);
    if compare(core, accumulator, found) {
        core.set_reg(op.a, new);
    } else {
        core.set_reg(ACCUMULATOR, found);
    }
    Ok(())
}

fn cmpxchg_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (accumulator, new) = (core.reg::<T>(ACCUMULATOR), core.reg::<T>(op.a));
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let found = M::load_for_write::<T>(core, linear)?;
    M::store(core, linear, if accumulator == found { new } else { found })?;
    if !compare(core, accumulator, found) {
        core.set_reg(ACCUMULATOR, found);
    }
    Ok(())
}

fn cmpxchg_locked<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (accumulator, new) = (core.reg::<T>(ACCUMULATOR), core.reg::<T>(op.a));
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let found = M::compare_exchange(core, linear, accumulator, new)?;
    if !compare(core, accumulator, found) {
        core.set_reg(ACCUMULATOR, found);
    }
    Ok(())
}

fn cmpxchg8b<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let pair = |core: &Core<'_, M>, high: usize, low: usize| {
        core.reg::<u32>(high as u8).u64() << 32 | core.reg::<u32>(low as u8).u64()
    };
    let (old, new) = (pair(core, RDX, RAX), pair(core, RCX, RBX));
    let linear = core.address(op, 8, Intent::Write)?;
    let found = M::compare_exchange::<u64>(core, linear, old, new)?;
    core.cpu.flags.update(ZF, if found == old { ZF } else { 0 });
    if found != old {
        core.set_reg(RAX as u8, found as u32);
        core.set_reg(RDX as u8, (found >> 32) as u32);
    }
    Ok(())
}

/// #GP(0) unless the operand is aligned to 16 bytes.
fn cmpxchg16b<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let pair = |core: &Core<'_, M>, high: usize, low: usize| {
        u128::from(core.cpu.gpr[high]) << 64 | u128::from(core.cpu.gpr[low])
    };
    let (old, new) = (pair(core, RDX, RAX), pair(core, RCX, RBX));
    let linear = core.address(op, 16, Intent::Write)?;
    if linear % 16 != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    let found = M::compare_exchange_16(core, linear, old, new)?;
    core.cpu.flags.update(ZF, if found == old { ZF } else { 0 });
    if found != old {
        core.cpu.gpr[RAX] = found as u64;
        core.cpu.gpr[RDX] = (found >> 64) as u64;
    }
    Ok(())
}
