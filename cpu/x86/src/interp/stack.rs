//! The stack: PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE.
//!
//! Two widths meet here: the operand's (how many bytes move) and the stack's (how RSP wraps:
//! [`crate::CpuState::stack_mask`]). Segment registers are pushed and popped elsewhere.
//!
//! Instructions with several stores probe them all before the first: see the crate's rule of restart.
//! Virtual-8086 mode extensions (CR4.VME) do not exist on this CPU: PUSHF and POPF with an IOPL below 3
//! are #GP there.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::flags::{AC, ARITHMETIC, DF, ID, IF, IOPL, NT, RF, TF, VM};
use crate::lower::{Form, form, is_general};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{RAX, RBP, RSP, SS};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Code, Instruction};

/// Registers that PUSHA pushes.
const ALL: u64 = 8;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let width = 8 * instruction.stack_pointer_increment().unsigned_abs();
    match (row.operation, form(instruction)) {
        (Operation::Push | Operation::Pop, _) if !is_general(instruction) => None,
        (Operation::Push, Form::Reg) => by_width!(width, push_reg),
        (Operation::Push, Form::Mem) => by_width!(width, push_mem),
        (Operation::Push, Form::Imm) => by_width!(width, push_imm),
        (Operation::Pop, Form::Reg) => by_width!(width, pop_reg),
        (Operation::Pop, Form::Mem) => by_width!(width, pop_mem),
        (Operation::Pusha, _) => by_width!(width / ALL as u32, pusha),
        (Operation::Popa, _) => by_width!(width / ALL as u32, popa),
        (Operation::Pushf, _) => by_width!(width, pushf),
        (Operation::Popf, _) => by_width!(width, popf),
        (Operation::Enter | Operation::Leave, _) => frame(instruction),
        _ => None,
    }
}

fn frame<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    Some(match instruction.code() {
        Code::Enterw_imm16_imm8 => enter::<M, u16>,
        Code::Enterd_imm16_imm8 => enter::<M, u32>,
        Code::Enterq_imm16_imm8 => enter::<M, u64>,
        Code::Leavew => leave::<M, u16>,
        Code::Leaved => leave::<M, u32>,
        Code::Leaveq => leave::<M, u64>,
        _ => return None,
    })
}

/// The value of RSP is the one before (Intel SDM vol. 2B, PUSH).
fn push_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.a);
    core.push(value)
}

/// The operand's address is made with RSP as it was before.
fn push_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<T>(op)?;
    core.push(value)
}

fn push_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.push(T::low(op.imm))
}

/// What POP RSP loads stays.
fn pop_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.peek::<T>(0)?;
    core.drop_stack(T::BYTES);
    core.set_reg(op.a, value);
    Ok(())
}

/// The operand's address is made with RSP as it is after (Intel SDM vol. 2B, POP).
fn pop_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.peek::<T>(0)?;
    let before = core.cpu.gpr[RSP];
    core.drop_stack(T::BYTES);
    let stored = core.store(op, value);
    if stored.is_err() {
        core.cpu.gpr[RSP] = before;
    }
    stored
}

impl<M: Memory> Core<'_, M> {
    /// The linear address of `length` bytes at `offset` in the stack segment.
    fn stack_address(&mut self, offset: u64, length: u64, intent: Intent) -> Result<u64, Stop> {
        let offset = offset & self.cpu.stack_mask();
        self.segment_address(SS as u8, offset, length, intent)
    }

    /// Checks that a push of `T` would succeed with the stack pointer at `top`.
    fn probe_push<T: Word>(&mut self, top: u64) -> Outcome {
        let linear = self.stack_address(top.wrapping_sub(T::BYTES), T::BYTES, Intent::Write)?;
        M::probe(self, linear, T::BYTES, Intent::Write)
    }
}

fn pusha<M: Memory, T: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let top = core.cpu.gpr[RSP];
    for number in 0..ALL {
        core.probe_push::<T>(top.wrapping_sub(number * T::BYTES))?;
    }
    for number in 0..ALL {
        let value = if number == RSP as u64 { T::low(top) } else { core.reg::<T>(number as u8) };
        core.push(value)?;
    }
    Ok(())
}

/// The value for rSP is skipped.
fn popa<M: Memory, T: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let mut values = [T::low(0); ALL as usize];
    for (place, value) in values.iter_mut().rev().enumerate() {
        *value = core.peek::<T>(place as u64 * T::BYTES)?;
    }
    core.drop_stack(ALL * T::BYTES);
    for (number, value) in values.into_iter().enumerate().filter(|(number, _)| *number != RSP) {
        core.set_reg((RAX + number) as u8, value);
    }
    Ok(())
}

/// #GP(0) in virtual-8086 mode with an IOPL below 3.
fn require_flags_access<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if core.cpu.virtual_8086() && core.cpu.rflags & IOPL != IOPL {
        return Err(core.raise_code(vector::GP, 0));
    }
    Ok(())
}

/// VM and RF read as zero.
fn pushf<M: Memory, T: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    require_flags_access(core)?;
    let value = core.cpu.rflags() & !(VM | RF);
    core.push(T::low(value))
}

/// The flags that POPF may change (Intel SDM vol. 2B, POPF/POPFD/POPFQ): IOPL at CPL 0 only, IF at a CPL
/// of IOPL or below, VM, VIF and VIP never. RF becomes zero.
fn popf<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_flags_access(core)?;
    let value = core.peek::<T>(0)?.u64();
    let before = core.cpu.rflags();
    let mut mask = ARITHMETIC | TF | DF | NT | AC | ID | RF;
    if core.cpu.cpl == 0 {
        mask |= IOPL;
    }
    if core.cpu.may_set_interrupt_flag() {
        mask |= IF;
    }
    let mask = mask & T::MASK;
    let after = before & !mask | value & mask & !RF;
    core.drop_stack(T::BYTES);
    core.cpu.set_rflags(after);
    if (before ^ after) & AC != 0 {
        M::permissions_changed(core);
    }
    core.advance(op);
    Ok(())
}

/// Stores the frame pointer and `level` − 1 outer ones, then the new frame pointer, and reserves space
/// (Intel SDM vol. 2A, ENTER). All loads and stores, and a write at the final stack pointer, are probed
/// first: the loads may meet what the pushes stored, so that they cannot come before them.
fn enter<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (space, level) = (op.imm & 0xffff, (op.disp & 31) as u64);
    let (top, outer) = (core.cpu.gpr[RSP], core.cpu.gpr[RBP]);
    let pushes = if level == 0 { 1 } else { level + 1 };
    for number in 0..pushes {
        core.probe_push::<T>(top.wrapping_sub(number * T::BYTES))?;
    }
    for number in 1..level {
        let at = outer.wrapping_sub(number * T::BYTES);
        let linear = core.stack_address(at, T::BYTES, Intent::Read)?;
        M::probe(core, linear, T::BYTES, Intent::Read)?;
    }
    let bottom = top.wrapping_sub(pushes * T::BYTES + space);
    let linear = core.stack_address(bottom, T::BYTES, Intent::Write)?;
    M::probe(core, linear, T::BYTES, Intent::Write)?;
    core.push(core.reg::<T>(RBP as u8))?;
    let frame = core.reg::<T>(RSP as u8);
    for number in 1..level {
        let at = outer.wrapping_sub(number * T::BYTES);
        let linear = core.stack_address(at, T::BYTES, Intent::Read)?;
        let pointer = M::load::<T>(core, linear)?;
        core.push(pointer)?;
    }
    if level > 0 {
        core.push(frame)?;
    }
    core.set_reg(RBP as u8, frame);
    core.drop_stack(space.wrapping_neg());
    Ok(())
}

fn leave<M: Memory, T: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let mask = core.cpu.stack_mask();
    let base = core.cpu.gpr[RBP] & mask;
    let linear = core.stack_address(base, T::BYTES, Intent::Read)?;
    let pointer = M::load::<T>(core, linear)?;
    core.cpu.gpr[RSP] = core.cpu.gpr[RSP] & !mask | base.wrapping_add(T::BYTES) & mask;
    core.set_reg(RBP as u8, pointer);
    Ok(())
}
