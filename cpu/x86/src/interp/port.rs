//! Ports: IN, OUT, INS, OUTS, and who may use them.
//!
//! In real mode, and in protected mode with a CPL of IOPL or below, every port may be used. Otherwise the
//! I/O permission bitmap in the task-state segment decides, with one bit for each port (Intel SDM vol. 1
//! §19.5.2):
//!
//! ```text
//!   TR.base ─► +66H  word: where the bitmap begins      bit n = 0: port n may be used
//!              +map  bytes, up to TR.limit              beyond the limit: none may
//! ```
//!
//! A read of a port can change a device, so that INS probes its destination before it. All of these end
//! their block: a device may have raised an interrupt.

use super::string::{Step, Walk, repeat};
use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::lower::operand_bits;
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{RAX, RDI, RDX, RSI};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, OpKind};

/// Offset of the bitmap's offset in a task-state segment of 32 or 64 bits (Intel SDM vol. 3A §7.2.1).
const MAP_BASE: u64 = 0x66;
/// Descriptor types of such segments, available and busy (Intel SDM vol. 3A table 3-2).
const TSS_TYPES: [u8; 2] = [9, 11];

const ACCUMULATOR: u8 = RAX as u8;
const PORT: u8 = RDX as u8;

/// Gives `$function::<M, T>` for the type `T` of `$bits` bits (8, 16 or 32).
macro_rules! by_port_width {
    ($bits:expr, $function:ident) => {
        match $bits {
            8 => Some($function::<M, u8> as Handler<M>),
            16 => Some($function::<M, u16>),
            32 => Some($function::<M, u32>),
            _ => None,
        }
    };
}

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let (first, second) = (operand_bits(instruction, 0), operand_bits(instruction, 1));
    match (row.operation, repeated) {
        (Operation::In, _) if instruction.op1_kind() == OpKind::Immediate8 => {
            by_port_width!(first, in_imm)
        }
        (Operation::In, _) => by_port_width!(first, in_dx),
        (Operation::Out, _) if instruction.op0_kind() == OpKind::Immediate8 => {
            by_port_width!(second, out_imm)
        }
        (Operation::Out, _) => by_port_width!(second, out_dx),
        (Operation::Ins, false) => by_port_width!(first, ins),
        (Operation::Ins, true) => by_port_width!(first, rep_ins),
        (Operation::Outs, false) => by_port_width!(second, outs),
        (Operation::Outs, true) => by_port_width!(second, rep_outs),
        _ => None,
    }
}

/// #GP(0) unless `size` ports from `port` on may be used.
fn require_ports<M: Memory>(core: &mut Core<'_, M>, port: u16, size: u64) -> Outcome {
    let by_level = core.cpu.may_set_interrupt_flag() && !core.cpu.virtual_8086();
    if by_level || in_map(core, port, size)? {
        return Ok(());
    }
    Err(core.raise_code(vector::GP, 0))
}

/// Whether the bitmap lets the ports pass. Two bytes are read always, as processors do, which is why a
/// bitmap ends with a byte of ones.
#[cold]
fn in_map<M: Memory>(core: &mut Core<'_, M>, port: u16, size: u64) -> Result<bool, crate::Stop> {
    let tr = core.cpu.tr;
    let limit = u64::from(tr.limit);
    if tr.unusable || !TSS_TYPES.contains(&tr.kind) || limit < MAP_BASE + 1 {
        return Ok(false);
    }
    let map = M::load_system::<u16>(core, tr.base.wrapping_add(MAP_BASE))?;
    let at = u64::from(map) + u64::from(port / 8);
    if at + 1 > limit {
        return Ok(false);
    }
    let bits = M::load_system::<u16>(core, tr.base.wrapping_add(at))?;
    let wanted = ((1_u32 << size) - 1) << (port % 8);
    Ok(u32::from(bits) & wanted == 0)
}

#[inline(always)]
fn read<M: Memory, T: Word>(core: &Core<'_, M>, port: u16) -> T {
    let mut data = [0; 4];
    let data = &mut data[..T::BYTES as usize];
    core.io.read_port(port, data);
    T::from_bytes(data)
}

#[inline(always)]
fn write<M: Memory, T: Word>(core: &Core<'_, M>, port: u16, value: T) {
    core.io.write_port(port, &value.u64().to_le_bytes()[..T::BYTES as usize]);
}

fn in_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    input::<M, T>(core, op, u16::from(op.imm as u8))
}

fn in_dx<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    input::<M, T>(core, op, port)
}

fn input<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, port: u16) -> Outcome {
    require_ports(core, port, T::BYTES)?;
    let value = read::<M, T>(core, port);
    core.set_reg(ACCUMULATOR, value);
    core.advance(op);
    Ok(())
}

fn out_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    output::<M, T>(core, op, u16::from(op.imm as u8))
}

fn out_dx<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    output::<M, T>(core, op, port)
}

fn output<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, port: u16) -> Outcome {
    require_ports(core, port, T::BYTES)?;
    write(core, port, core.reg::<T>(ACCUMULATOR));
    core.advance(op);
    Ok(())
}

fn input_one<M: Memory, T: Word>(core: &mut Core<'_, M>, walk: Walk, port: u16) -> Outcome {
    let destination = walk.destination(core, T::BYTES, Intent::Write)?;
    M::probe(core, destination, T::BYTES, Intent::Write)?;
    let value = read::<M, T>(core, port);
    M::store(core, destination, value)?;
    walk.pass(core, RDI, (1, T::BYTES));
    Ok(())
}

fn ins<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    require_ports(core, port, T::BYTES)?;
    let walk = Walk::of(core, op);
    input_one::<M, T>(core, walk, port)?;
    core.advance(op);
    Ok(())
}

fn rep_ins<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    require_ports(core, port, T::BYTES)?;
    repeat(core, op, |core, walk, _| {
        input_one::<M, T>(core, walk, port)?;
        Ok(Step::ONE)
    })
}

fn output_one<M: Memory, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    walk: Walk,
    port: u16,
) -> Outcome {
    let source = walk.source(core, op, T::BYTES)?;
    let value = M::load::<T>(core, source)?;
    write(core, port, value);
    walk.pass(core, RSI, (1, T::BYTES));
    Ok(())
}

fn outs<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    require_ports(core, port, T::BYTES)?;
    let walk = Walk::of(core, op);
    output_one::<M, T>(core, op, walk, port)?;
    core.advance(op);
    Ok(())
}

fn rep_outs<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let port = core.reg::<u16>(PORT);
    require_ports(core, port, T::BYTES)?;
    repeat(core, op, |core, walk, _| {
        output_one::<M, T>(core, op, walk, port)?;
        Ok(Step::ONE)
    })
}
