//! Moves: MOV, MOVZX, MOVSX, LEA, CMOVcc, SETcc, CBW, CWD, LAHF, SAHF, XLAT, MOVBE, BSWAP, SALC.
//!
//! MOV to and from segment, control and debug registers is not here: only general registers are.

use super::branch::{by_condition, condition, condition_number};
use super::by_width;
use crate::core::{Core, Outcome};
use crate::flags::{AF, CF, FIXED, PF, SF, ZF};
use crate::lower::{Form, address_bits, form, is_general, operand_bits};
use crate::memory::Memory;
use crate::op::{Handler, Op};
use crate::state::{RAX, RDX, ZERO};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

/// AH as a register operand.
const AH: u8 = 32;
/// AL, AX, EAX, RAX as a register operand.
const ACCUMULATOR: u8 = RAX as u8;
/// DX, EDX, RDX as a register operand.
const HIGH_HALF: u8 = RDX as u8;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match row.operation {
        Operation::Mov if is_general(instruction) => mov(instruction, width),
        Operation::Movzx => movzx(instruction, width),
        Operation::Movsx => movsx(instruction, width),
        Operation::Lea => lea(instruction, width),
        Operation::Cmov => cmov(instruction, width),
        Operation::Setcc => Some(setcc(instruction)),
        Operation::Cbw => convert(instruction),
        Operation::Cwd => convert_double(instruction),
        Operation::Lahf => Some(lahf),
        Operation::Sahf => Some(sahf),
        Operation::Xlat => Some(xlat),
        Operation::Movbe => movbe(instruction, width),
        Operation::Bswap => by_width!(width, bswap),
        Operation::Salc => Some(salc),
        _ => None,
    }
}

fn mov<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    match form(instruction) {
        Form::RegReg => by_width!(width, reg_reg),
        Form::RegMem => by_width!(width, reg_mem),
        Form::MemReg => by_width!(width, mem_reg),
        Form::RegImm => by_width!(width, reg_imm),
        Form::MemImm => by_width!(width, mem_imm),
        _ => None,
    }
}

/// Zero extension to 32 bits is zero extension to 64.
fn movzx<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    let to_16 = width == 16;
    Some(match (form(instruction), operand_bits(instruction, 1)) {
        (Form::RegReg, 8) if to_16 => zero_extend_reg::<M, u16, u8>,
        (Form::RegReg, 8) => zero_extend_reg::<M, u64, u8>,
        (Form::RegReg, _) if to_16 => reg_reg::<M, u16>,
        (Form::RegReg, _) => zero_extend_reg::<M, u64, u16>,
        (_, 8) if to_16 => zero_extend_mem::<M, u16, u8>,
        (_, 8) => zero_extend_mem::<M, u64, u8>,
        (_, _) if to_16 => reg_mem::<M, u16>,
        _ => zero_extend_mem::<M, u64, u16>,
    })
}

fn movsx<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    let register = form(instruction) == Form::RegReg;
    match (operand_bits(instruction, 1), register) {
        (8, true) => by_width!(width, sign_extend_reg, u8),
        (8, false) => by_width!(width, sign_extend_mem, u8),
        (16, true) => by_width!(width, sign_extend_reg, u16),
        (16, false) => by_width!(width, sign_extend_mem, u16),
        (_, true) => by_width!(width, sign_extend_reg, u32),
        (_, false) => by_width!(width, sign_extend_mem, u32),
    }
}

fn lea<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    if form(instruction) != Form::RegMem {
        return None;
    }
    if address_bits(instruction, 1) >= width {
        by_width!(width, lea_whole)
    } else {
        by_width!(width, lea_short)
    }
}

fn cmov<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    let number = condition_number(instruction);
    Some(match (form(instruction), width) {
        (Form::RegReg, 16) => by_condition!(number, cmov_reg, u16),
        (Form::RegReg, 32) => by_condition!(number, cmov_reg, u32),
        (Form::RegReg, _) => by_condition!(number, cmov_reg, u64),
        (_, 16) => by_condition!(number, cmov_mem, u16),
        (_, 32) => by_condition!(number, cmov_mem, u32),
        _ => by_condition!(number, cmov_mem, u64),
    })
}

fn setcc<M: Memory>(instruction: &Instruction) -> Handler<M> {
    let number = condition_number(instruction);
    match form(instruction) {
        Form::Reg => by_condition!(number, set_reg),
        _ => by_condition!(number, set_mem),
    }
}

fn convert<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    use iced_x86::Code as C;
    Some(match instruction.code() {
        C::Cbw => widen::<M, u16, u8>,
        C::Cwde => widen::<M, u32, u16>,
        C::Cdqe => widen::<M, u64, u32>,
        _ => return None,
    })
}

fn convert_double<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    use iced_x86::Code as C;
    Some(match instruction.code() {
        C::Cwd => spread_sign::<M, u16>,
        C::Cdq => spread_sign::<M, u32>,
        C::Cqo => spread_sign::<M, u64>,
        _ => return None,
    })
}

fn movbe<M: Memory>(instruction: &Instruction, width: u32) -> Option<Handler<M>> {
    match form(instruction) {
        Form::RegMem => by_width!(width, load_swapped),
        Form::MemReg => by_width!(width, store_swapped),
        _ => None,
    }
}

fn reg_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.b);
    core.set_reg(op.a, value);
    Ok(())
}

fn reg_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<T>(op)?;
    core.set_reg(op.a, value);
    Ok(())
}

fn mem_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.a);
    core.store(op, value)
}

fn reg_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.set_reg(op.a, T::low(op.imm));
    Ok(())
}

fn mem_imm<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.store(op, T::low(op.imm))
}

fn zero_extend_reg<M: Memory, D: Word, S: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<S>(op.b);
    core.set_reg(op.a, D::low(value.u64()));
    Ok(())
}

fn zero_extend_mem<M: Memory, D: Word, S: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<S>(op)?;
    core.set_reg(op.a, D::low(value.u64()));
    Ok(())
}

fn sign_extend_reg<M: Memory, S: Word, D: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<S>(op.b);
    core.set_reg(op.a, D::low(value.sign_extended()));
    Ok(())
}

fn sign_extend_mem<M: Memory, S: Word, D: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<S>(op)?;
    core.set_reg(op.a, D::low(value.sign_extended()));
    Ok(())
}

/// LEA with an address at least as wide as the destination.
fn lea_whole<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let offset = core.offset(op);
    core.set_reg(op.a, T::low(offset));
    Ok(())
}

fn lea_short<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let offset = core.offset(op) & op.address_mask();
    core.set_reg(op.a, T::low(offset));
    Ok(())
}

/// Writes the destination in either case: 32 bits zero-extend also when the condition is false.
fn cmov_reg<M: Memory, const CC: u8, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (old, new) = (core.reg::<T>(op.a), core.reg::<T>(op.b));
    let value = if condition::<CC>(&core.cpu.flags) { new } else { old };
    core.set_reg(op.a, value);
    Ok(())
}

/// Loads in either case: a false condition does not spare a page fault.
fn cmov_mem<M: Memory, const CC: u8, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let new = core.load::<T>(op)?;
    let old = core.reg::<T>(op.a);
    let value = if condition::<CC>(&core.cpu.flags) { new } else { old };
    core.set_reg(op.a, value);
    Ok(())
}

fn set_reg<M: Memory, const CC: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = u8::from(condition::<CC>(&core.cpu.flags));
    core.set_reg(op.a, value);
    Ok(())
}

fn set_mem<M: Memory, const CC: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = u8::from(condition::<CC>(&core.cpu.flags));
    core.store(op, value)
}

/// CBW, CWDE, CDQE.
fn widen<M: Memory, D: Word, S: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let value = core.reg::<S>(ACCUMULATOR);
    core.set_reg(ACCUMULATOR, D::low(value.sign_extended()));
    Ok(())
}

/// CWD, CDQ, CQO.
fn spread_sign<M: Memory, T: Word>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let negative = (core.reg::<T>(ACCUMULATOR).sign_extended() as i64) < 0;
    core.set_reg(HIGH_HALF, T::low(if negative { u64::MAX } else { 0 }));
    Ok(())
}

fn lahf<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let low = (core.cpu.flags.bits() | FIXED) as u8;
    core.set_reg(AH, low);
    Ok(())
}

fn sahf<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let bits = core.reg::<u8>(AH);
    core.cpu.flags.update(SF | ZF | AF | PF | CF, u64::from(bits));
    Ok(())
}

/// The index of the operand is AL alone.
fn xlat<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let mut at = *op;
    at.index = ZERO as u8;
    at.disp = i64::from(core.reg::<u8>(ACCUMULATOR));
    let value = core.load::<u8>(&at)?;
    core.set_reg(ACCUMULATOR, value);
    Ok(())
}

#[inline(always)]
fn swapped<T: Word>(value: T) -> T {
    T::low(value.u64().swap_bytes() >> (64 - T::BITS))
}

fn load_swapped<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<T>(op)?;
    core.set_reg(op.a, swapped(value));
    Ok(())
}

fn store_swapped<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.a);
    core.store(op, swapped(value))
}

/// With 16 bits the manual leaves the result undefined; processors give zero.
fn bswap<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<T>(op.a);
    let result = if T::BITS == 16 { T::low(0) } else { swapped(value) };
    core.set_reg(op.a, result);
    Ok(())
}

fn salc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let value = if core.cpu.flags.cf() { 0xff_u8 } else { 0 };
    core.set_reg(ACCUMULATOR, value);
    Ok(())
}
