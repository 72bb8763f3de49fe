//! Instructions that change nothing: NOP (prefetches and the rest of the hint space among them), PAUSE, fences,
//! CLFLUSH.
//!
//! Guest accesses are host accesses in the same order, and the host's memory model is the guest's: all
//! three fences are the host's own. Prefetches never fault, so they touch no memory; CLFLUSH
//! checks its operand like a byte load (Intel SDM vol. 2A, CLFLUSH).

use crate::core::{Core, Outcome};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::table::{Operation, Row};
use iced_x86::Instruction;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, _instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Nop => Some(nothing),
        Operation::Fence => Some(fence),
        Operation::Clflush => Some(clflush),
        Operation::Pause => Some(pause),
        _ => None,
    }
}

fn nothing<M: Memory>(_core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    Ok(())
}

/// A store followed by a load of another address is the one order that the host does not keep by
/// itself.
fn fence<M: Memory>(_core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

fn clflush<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let linear = core.address(op, 1, Intent::Read)?;
    M::probe(core, linear, 1, Intent::Read)
}

/// Ends the block: a CPU that spins lets the engine look around.
fn pause<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    M::pause(core);
    core.advance(op);
    Ok(())
}
