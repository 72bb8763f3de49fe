//! Decimal adjustment: DAA, DAS, AAA, AAS, AAM, AAD (Intel SDM vol. 2A; not in 64-bit mode).

use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::flags::{AF, CF};
use crate::memory::Memory;
use crate::op::{Handler, Op};
use crate::state::RAX;
use crate::table::{Operation, Row};
use iced_x86::Instruction;

const AL: u8 = RAX as u8;
const AX: u8 = RAX as u8;
const AH: u8 = 32;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, _instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Daa => Some(daa),
        Operation::Das => Some(das),
        Operation::Aaa => Some(aaa),
        Operation::Aas => Some(aas),
        Operation::Aam => Some(aam),
        Operation::Aad => Some(aad),
        _ => None,
    }
}

/// Whether the lower digit, and the byte as a whole, need an adjustment.
fn digits_over<M: Memory>(core: &Core<'_, M>) -> (bool, bool) {
    let al = core.reg::<u8>(AL);
    let flags = &core.cpu.flags;
    (al & 15 > 9 || flags.af(), al > 0x99 || flags.cf())
}

fn flag(on: bool, mask: u64) -> u64 {
    if on { mask } else { 0 }
}

/// AL with SF, ZF and PF after it, and AF and CF as given.
fn set_al<M: Memory>(core: &mut Core<'_, M>, al: u8, auxiliary: bool, carry: bool) {
    core.set_reg(AL, al);
    core.cpu.flags.set_logic(al);
    core.cpu.flags.update(AF | CF, flag(auxiliary, AF) | flag(carry, CF));
}

fn daa<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let (low, high) = digits_over(core);
    let adjustment = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    let al = core.reg::<u8>(AL).wrapping_add(adjustment);
    set_al(core, al, low, high);
    Ok(())
}

/// A borrow of the lower digit's adjustment stays in CF.
fn das<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let (low, high) = digits_over(core);
    let al = core.reg::<u8>(AL);
    let borrow = low && al < 6;
    let adjustment = if low { 6 } else { 0 } + if high { 0x60 } else { 0 };
    set_al(core, al.wrapping_sub(adjustment), low, high || borrow);
    Ok(())
}

fn aaa<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let (low, _) = digits_over(core);
    let ax = core.reg::<u16>(AX);
    let ax = if low { ax.wrapping_add(0x106) } else { ax };
    core.set_reg(AX, ax & 0xff0f);
    core.cpu.flags.update(AF | CF, flag(low, AF | CF));
    Ok(())
}

fn aas<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let (low, _) = digits_over(core);
    let ax = core.reg::<u16>(AX);
    let ax = if low { ax.wrapping_sub(0x106) } else { ax };
    core.set_reg(AX, ax & 0xff0f);
    core.cpu.flags.update(AF | CF, flag(low, AF | CF));
    Ok(())
}

/// #DE when the base is zero.
fn aam<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (al, base) = (core.reg::<u8>(AL), op.imm as u8);
    let (Some(tens), Some(ones)) = (al.checked_div(base), al.checked_rem(base)) else {
        return Err(core.raise(vector::DE));
    };
    core.set_reg(AH, tens);
    set_al(core, ones, false, false);
    Ok(())
}

fn aad<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (al, ah) = (core.reg::<u8>(AL), core.reg::<u8>(AH));
    let value = al.wrapping_add(ah.wrapping_mul(op.imm as u8));
    core.set_reg(AH, 0_u8);
    set_al(core, value, false, false);
    Ok(())
}
