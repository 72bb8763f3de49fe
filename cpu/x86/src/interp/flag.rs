//! Single flags: CLC, STC, CMC, CLD, STD, CLI, STI, CLAC, STAC.
//!
//! CLI and STI need a CPL of IOPL or below; protected-mode virtual interrupts (CR4.PVI) and the
//! virtual-8086 extensions do not exist on this CPU. STI that sets IF holds interrupts off for one more
//! instruction (Intel SDM vol. 2B, STI).

use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::flags::{AC, DF, IF, IOPL};
use crate::memory::Memory;
use crate::op::{Handler, Op};
use crate::state::CpuState;
use crate::table::{Operation, Row};
use iced_x86::Instruction;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, _instruction: &Instruction) -> Option<Handler<M>> {
    Some(match row.operation {
        Operation::Clc => clc,
        Operation::Stc => stc,
        Operation::Cmc => cmc,
        Operation::Cld => cld,
        Operation::Std => std,
        Operation::Cli => cli,
        Operation::Sti => sti,
        Operation::Clac => clac,
        Operation::Stac => stac,
        _ => return None,
    })
}

impl CpuState {
    /// Whether the CPL is at most RFLAGS.IOPL: leave to change IF, and to use every port outside
    /// virtual-8086 mode (Intel SDM vol. 1 §19.5.1).
    pub fn may_set_interrupt_flag(&self) -> bool {
        u64::from(self.cpl) <= (self.rflags & IOPL) >> IOPL.trailing_zeros()
    }
}

fn clc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    core.cpu.flags.keep_carry(false);
    Ok(())
}

fn stc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    core.cpu.flags.keep_carry(true);
    Ok(())
}

fn cmc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let carry = core.cpu.flags.cf();
    core.cpu.flags.keep_carry(!carry);
    Ok(())
}

fn cld<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    core.cpu.rflags &= !DF;
    Ok(())
}

fn std<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    core.cpu.rflags |= DF;
    Ok(())
}

fn require_interrupt_privilege<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if !core.cpu.may_set_interrupt_flag() {
        return Err(core.raise_code(vector::GP, 0));
    }
    Ok(())
}

fn cli<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_interrupt_privilege(core)?;
    core.cpu.rflags &= !IF;
    core.advance(op);
    Ok(())
}

fn sti<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_interrupt_privilege(core)?;
    core.cpu.interrupt_shadow = core.cpu.rflags & IF == 0;
    core.cpu.rflags |= IF;
    core.advance(op);
    Ok(())
}

fn clac<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    set_access(core, op, 0)
}

fn stac<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    set_access(core, op, AC)
}

/// #UD, not #GP, above CPL 0 (Intel SDM vol. 2A, CLAC).
fn set_access<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, access: u64) -> Outcome {
    if core.cpu.cpl != 0 {
        return Err(core.raise(vector::UD));
    }
    core.cpu.rflags = core.cpu.rflags & !AC | access;
    M::permissions_changed(core);
    core.advance(op);
    Ok(())
}
