//! The interpreter: one small function for each operation, width and operand form.
//!
//! A family of instructions is a file; its `select` gives the handler for a row and an instruction, or
//! `None` when the family does not have it. [`select`] asks the families one after the other, which
//! happens once for each decoded instruction, never while running.

mod address;
mod alu;
mod bcd;
mod bits;
mod branch;
pub mod control;
pub mod deliver;
pub mod descriptor;
mod exchange;
mod far;
pub mod fast_call;
mod flag;
mod fpu;
mod hint;
mod mask;
mod mov;
mod muldiv;
pub mod native;
mod port;
mod segment;
mod shift;
mod sse;
mod stack;
mod string;
mod system;
mod task;
mod unit;
mod xsave;

use crate::memory::Memory;
use crate::op::Handler;
use crate::table::{Operation, Row};
use iced_x86::Instruction;

type Select<M> = fn(&Row, &Instruction) -> Option<Handler<M>>;

/// The handler for an instruction, or `None` when this CPU does not have it.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    // Families that own a special operand (segment, control register) come before the general ones.
    let families: &[Select<M>] = &[
        segment::select,
        system::select,
        far::select,
        fast_call::select,
        alu::select,
        mov::select,
        branch::select,
        stack::select,
        shift::select,
        muldiv::select,
        bits::select,
        exchange::select,
        string::select,
        flag::select,
        port::select,
        bcd::select,
        hint::select,
        sse::select,
        mask::select,
        fpu::select,
        xsave::select,
    ];
    families.iter().find_map(|select| select(row, instruction))
}

/// Whether an instruction that is no jump ends its block all the same: it may change how the next one
/// is fetched, decoded, interrupted or stepped, or it wants the engine's attention.
pub fn ends_block(instruction: &Instruction) -> bool {
    use Operation as O;
    let Some(row) = crate::table::row(instruction.code()) else { return true };
    matches!(
        row.operation,
        O::Popf
            | O::Cli
            | O::Sti
            | O::Clac
            | O::Stac
            | O::Hlt
            | O::Mwait
            | O::Pause
            | O::Clts
            | O::Lmsw
            | O::Wrmsr
            | O::Xsetbv
            | O::Invlpg
            | O::Invpcid
            | O::Invd
            | O::Wbinvd
            | O::Cpuid
            | O::Lldt
            | O::Ltr
            | O::LoadFar
            | O::In
            | O::Out
            | O::Ins
            | O::Outs
            | O::Xrstor
            | O::Xrstors
            | O::Fxrstor
    ) || instruction.has_rep_prefix() && is_string(row.operation)
        || instruction.has_repne_prefix() && is_string(row.operation)
}

fn is_string(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::Movs | O::Cmps | O::Scas | O::Lods | O::Stos | O::Ins | O::Outs)
}

/// Gives `$function::<M, $($parameter,)* T>` for the type `T` of `$bits` bits (8, 16, 32 or 64).
macro_rules! by_width {
    ($bits:expr, $function:ident $(, $parameter:ty)*) => {
        match $bits {
            8 => Some($function::<M, $($parameter,)* u8> as Handler<M>),
            16 => Some($function::<M, $($parameter,)* u16> as Handler<M>),
            32 => Some($function::<M, $($parameter,)* u32> as Handler<M>),
            64 => Some($function::<M, $($parameter,)* u64> as Handler<M>),
            _ => None,
        }
    };
}
use by_width;

/// Ends a block that no instruction ended: an [`Op`](crate::Op) whose offset is the block's length.
pub fn fall_through<M: Memory>(
    core: &mut crate::Core<'_, M>,
    op: &crate::Op<M>,
) -> crate::core::Outcome {
    core.advance(op);
    Ok(())
}
#[cfg(test)]
mod tests;
