//! Strings: MOVS, CMPS, SCAS, LODS, STOS with their repeat prefixes.
//!
//! ```text
//!   repeat ──► step ──► many at once (Memory::copy_forward, fill_forward), or one element
//!      ▲         │
//!      └─────────┘   rCX, rSI, rDI are exact after each step: a fault, or code met by a store, in
//!                    the middle leaves what is done done, and the instruction goes on from there
//! ```
//!
//! The destination is ES:rDI always, the source DS:rSI or another segment. One call does at most
//! [`BUDGET`] elements and then leaves RIP at the instruction, so that interrupts get in between, as
//! between any two iterations on a processor (Intel SDM vol. 2B, REP). In single-step mode that is
//! one element.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::fault::Stop;
use crate::flags::{DF, TF};
use crate::lower::operand_bits;
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{BLOCK, ES, RAX, RCX, RDI, RSI};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

/// Elements that one call does at most.
pub const BUDGET: u64 = 4096;
/// Bytes that a bulk step covers at most: what fits a page.
const BULK_BYTES: u64 = 4096;
/// Elements done singly after a bulk step was refused, before the next is tried.
const PATIENCE: u32 = 32;

const ACCUMULATOR: u8 = RAX as u8;

/// How an instruction is repeated.
#[derive(Clone, Copy, PartialEq)]
enum Repeat {
    Once,
    WhileEqual,
    WhileNotEqual,
}

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    let source_width = operand_bits(instruction, 1);
    match (row.operation, repeat_of(instruction)) {
        (Operation::Movs, Repeat::Once) => by_width!(width, movs),
        (Operation::Movs, _) => by_width!(width, rep_movs),
        (Operation::Stos, Repeat::Once) => by_width!(width, stos),
        (Operation::Stos, _) => by_width!(width, rep_stos),
        (Operation::Lods, Repeat::Once) => by_width!(source_width, lods),
        (Operation::Lods, _) => by_width!(source_width, rep_lods),
        (Operation::Cmps, Repeat::Once) => by_width!(width, cmps),
        (Operation::Cmps, Repeat::WhileEqual) => by_width!(width, repe_cmps),
        (Operation::Cmps, Repeat::WhileNotEqual) => by_width!(width, repne_cmps),
        (Operation::Scas, Repeat::Once) => by_width!(source_width, scas),
        (Operation::Scas, Repeat::WhileEqual) => by_width!(source_width, repe_scas),
        (Operation::Scas, Repeat::WhileNotEqual) => by_width!(source_width, repne_scas),
        _ => None,
    }
}

fn repeat_of(instruction: &Instruction) -> Repeat {
    if instruction.has_repne_prefix() {
        Repeat::WhileNotEqual
    } else if instruction.has_rep_prefix() {
        Repeat::WhileEqual
    } else {
        Repeat::Once
    }
}

/// Where a string instruction stands: its address size as a mask, and its direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    mask: u64,
    down: bool,
}

impl Walk {
    #[inline(always)]
    pub(crate) fn of<M: Memory>(core: &Core<'_, M>, op: &Op<M>) -> Walk {
        Walk { mask: op.address_mask(), down: core.cpu.rflags & DF != 0 }
    }

    /// A counter or index register, cut to the address size.
    #[inline(always)]
    fn read<M: Memory>(self, core: &Core<'_, M>, register: usize) -> u64 {
        core.cpu.gpr[register] & self.mask
    }

    /// Adds to a counter or index register: 32 bits zero-extend, 16 bits leave the rest.
    #[inline(always)]
    fn add<M: Memory>(self, core: &mut Core<'_, M>, register: usize, amount: u64) {
        let value = &mut core.cpu.gpr[register];
        let kept = if self.mask == 0xffff { *value & !0xffff } else { 0 };
        *value = kept | value.wrapping_add(amount) & self.mask;
    }

    /// Moves an index register past `count` elements of `size` bytes.
    #[inline(always)]
    pub(crate) fn pass<M: Memory>(
        self,
        core: &mut Core<'_, M>,
        register: usize,
        (count, size): (u64, u64),
    ) {
        let bytes = count.wrapping_mul(size);
        self.add(core, register, if self.down { bytes.wrapping_neg() } else { bytes });
    }

    /// The linear address of the element at ES:rDI.
    #[inline(always)]
    pub(crate) fn destination<M: Memory>(
        self,
        core: &mut Core<'_, M>,
        length: u64,
        intent: Intent,
    ) -> Result<u64, Stop> {
        let offset = self.read(core, RDI);
        core.segment_address(ES as u8, offset, length, intent)
    }

    /// The linear address of the element at rSI in the source segment of `op`.
    #[inline(always)]
    pub(crate) fn source<M: Memory>(
        self,
        core: &mut Core<'_, M>,
        op: &Op<M>,
        length: u64,
    ) -> Result<u64, Stop> {
        let offset = self.read(core, RSI);
        core.segment_address(op.seg, offset, length, Intent::Read)
    }

    /// How many elements a bulk step may cover from this index on: no more than `count`, within
    /// [`BULK_BYTES`], and without a wrap of the index.
    fn room<M: Memory>(
        self,
        core: &Core<'_, M>,
        register: usize,
        (count, size): (u64, u64),
    ) -> u64 {
        let before_wrap = (self.mask - self.read(core, register)).saturating_add(1) / size;
        count.min(BULK_BYTES / size).min(before_wrap)
    }
}

/// What a step of a repeated instruction did.
pub(crate) struct Step {
    /// Elements done; rSI and rDI are already past them.
    pub(crate) done: u64,
    /// The condition of REPE or REPNE ended the repetition.
    pub(crate) ended: bool,
}

impl Step {
    pub(crate) const ONE: Step = Step { done: 1, ended: false };
}

/// Repeats `step`, which is told how many elements it may do at most, and counts rCX down.
#[inline(always)]
pub(crate) fn repeat<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    mut step: impl FnMut(&mut Core<'_, M>, Walk, u64) -> Result<Step, Stop>,
) -> Outcome {
    let walk = Walk::of(core, op);
    let mut budget = if core.cpu.rflags & TF != 0 { 1 } else { BUDGET };
    loop {
        let count = walk.read(core, RCX);
        if count == 0 {
            break;
        }
        if budget == 0 {
            core.cpu.rip = core.cpu.gpr[BLOCK].wrapping_add(u64::from(op.offset));
            core.cpu.rip &= core.cpu.rip_mask;
            return Ok(());
        }
        let Step { done, ended } = step(core, walk, count.min(budget))?;
        walk.add(core, RCX, done.wrapping_neg());
        budget -= done;
        if ended {
            break;
        }
    }
    core.advance(op);
    Ok(())
}

/// Repeats with `bulk` where it does anything, and with `one` for a while where it does not.
#[inline(always)]
fn repeat_in_bulk<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    mut bulk: impl FnMut(&mut Core<'_, M>, Walk, u64) -> u64,
    mut one: impl FnMut(&mut Core<'_, M>, Walk) -> Outcome,
) -> Outcome {
    let mut patience = 0;
    repeat(core, op, |core, walk, limit| {
        if patience > 0 {
            patience -= 1;
        } else if !walk.down {
            let done = bulk(core, walk, limit);
            if done > 0 {
                return Ok(Step { done, ended: false });
            }
            patience = PATIENCE;
        }
        one(core, walk)?;
        Ok(Step::ONE)
    })
}

#[inline(always)]
fn move_one<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, walk: Walk) -> Outcome {
    let source = walk.source(core, op, T::BYTES)?;
    let value = M::load::<T>(core, source)?;
    let destination = walk.destination(core, T::BYTES, Intent::Write)?;
    M::store(core, destination, value)?;
    walk.pass(core, RSI, (1, T::BYTES));
    walk.pass(core, RDI, (1, T::BYTES));
    Ok(())
}

/// Gives the number of elements moved. A segment check that fails here is made again, and raised, by
/// the element that it is about.
fn move_many<M: Memory, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    walk: Walk,
    limit: u64,
) -> u64 {
    let count = walk.room(core, RSI, (limit, T::BYTES));
    let count = walk.room(core, RDI, (count, T::BYTES));
    let length = count * T::BYTES;
    let (Ok(source), Ok(destination)) =
        (walk.source(core, op, length), walk.destination(core, length, Intent::Write))
    else {
        return 0;
    };
    let done = M::copy_forward(core, destination, source, count, T::BYTES);
    walk.pass(core, RSI, (done, T::BYTES));
    walk.pass(core, RDI, (done, T::BYTES));
    done
}

fn movs<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let walk = Walk::of(core, op);
    move_one::<M, T>(core, op, walk)
}

fn rep_movs<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat_in_bulk(
        core,
        op,
        |core, walk, limit| move_many::<M, T>(core, op, walk, limit),
        |core, walk| move_one::<M, T>(core, op, walk),
    )
}

#[inline(always)]
fn store_one<M: Memory, T: Word>(core: &mut Core<'_, M>, walk: Walk) -> Outcome {
    let value = core.reg::<T>(ACCUMULATOR);
    let destination = walk.destination(core, T::BYTES, Intent::Write)?;
    M::store(core, destination, value)?;
    walk.pass(core, RDI, (1, T::BYTES));
    Ok(())
}

fn store_many<M: Memory, T: Word>(core: &mut Core<'_, M>, walk: Walk, limit: u64) -> u64 {
    let value = core.reg::<T>(ACCUMULATOR).u64();
    let count = walk.room(core, RDI, (limit, T::BYTES));
    let Ok(destination) = walk.destination(core, count * T::BYTES, Intent::Write) else {
        return 0;
    };
    let done = M::fill_forward(core, destination, value, count, T::BYTES);
    walk.pass(core, RDI, (done, T::BYTES));
    done
}

fn stos<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let walk = Walk::of(core, op);
    store_one::<M, T>(core, walk)
}

fn rep_stos<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat_in_bulk(core, op, store_many::<M, T>, store_one::<M, T>)
}

#[inline(always)]
fn load_one<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, walk: Walk) -> Outcome {
    let source = walk.source(core, op, T::BYTES)?;
    let value = M::load::<T>(core, source)?;
    core.set_reg(ACCUMULATOR, value);
    walk.pass(core, RSI, (1, T::BYTES));
    Ok(())
}

fn lods<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let walk = Walk::of(core, op);
    load_one::<M, T>(core, op, walk)
}

fn rep_lods<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat(core, op, |core, walk, _| {
        load_one::<M, T>(core, op, walk)?;
        Ok(Step::ONE)
    })
}

#[inline(always)]
fn compare<M: Memory, T: Word>(core: &mut Core<'_, M>, left: T, right: T) {
    let difference = T::low(left.u64().wrapping_sub(right.u64()));
    core.cpu.flags.set_sub(left, right, difference);
}

#[inline(always)]
fn compare_one<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, walk: Walk) -> Outcome {
    let source = walk.source(core, op, T::BYTES)?;
    let left = M::load::<T>(core, source)?;
    let destination = walk.destination(core, T::BYTES, Intent::Read)?;
    let right = M::load::<T>(core, destination)?;
    compare(core, left, right);
    walk.pass(core, RSI, (1, T::BYTES));
    walk.pass(core, RDI, (1, T::BYTES));
    Ok(())
}

fn cmps<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let walk = Walk::of(core, op);
    compare_one::<M, T>(core, op, walk)
}

fn repe_cmps<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat(core, op, |core, walk, _| {
        compare_one::<M, T>(core, op, walk)?;
        Ok(Step { done: 1, ended: !core.cpu.flags.zf() })
    })
}

fn repne_cmps<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat(core, op, |core, walk, _| {
        compare_one::<M, T>(core, op, walk)?;
        Ok(Step { done: 1, ended: core.cpu.flags.zf() })
    })
}

#[inline(always)]
fn scan_one<M: Memory, T: Word>(core: &mut Core<'_, M>, walk: Walk) -> Outcome {
    let destination = walk.destination(core, T::BYTES, Intent::Read)?;
    let right = M::load::<T>(core, destination)?;
    let left = core.reg::<T>(ACCUMULATOR);
    compare(core, left, right);
    walk.pass(core, RDI, (1, T::BYTES));
    Ok(())
}

fn scas<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let walk = Walk::of(core, op);
    scan_one::<M, T>(core, walk)
}

fn repe_scas<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat(core, op, |core, walk, _| {
        scan_one::<M, T>(core, walk)?;
        Ok(Step { done: 1, ended: !core.cpu.flags.zf() })
    })
}

fn repne_scas<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    repeat(core, op, |core, walk, _| {
        scan_one::<M, T>(core, walk)?;
        Ok(Step { done: 1, ended: core.cpu.flags.zf() })
    })
}
