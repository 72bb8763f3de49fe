//! Bits: BT, BTS, BTR, BTC, BSF, BSR, POPCNT, CRC32.
//!
//! With a memory operand and a bit number in a register, the operand is the start of a bit string that
//! reaches ±2^(width − 1) bits: the number's upper part, signed, moves the address by whole operands
//! (Intel SDM vol. 2A, BT). An immediate bit number stays inside the operand.

use super::by_width;
use crate::core::{Core, Outcome};
use crate::flags::{LazyFlags, ZF};
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;

/// What becomes of the bit that was tested.
trait BitChange: 'static {
    /// Whether the operand is written.
    const WRITES: bool = true;
    /// The operand after the change of the bits in `mask`.
    fn apply(value: u64, mask: u64) -> u64;
}

macro_rules! bit_change {
    ($name:ident, $writes:expr, |$value:ident, $mask:ident| $body:expr) => {
        struct $name;
        impl BitChange for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn apply($value: u64, $mask: u64) -> u64 {
                $body
            }
        }
    };
}

bit_change!(Keep, false, |value, _mask| value);
bit_change!(Set, true, |value, mask| value | mask);
bit_change!(Reset, true, |value, mask| value & !mask);
bit_change!(Complement, true, |value, mask| value ^ mask);

/// A search from one end.
trait Scan: 'static {
    /// The number of the bit found in a value that is not zero.
    fn find(value: u64) -> u32;
}

struct Forward;
struct Reverse;

impl Scan for Forward {
    #[inline(always)]
    fn find(value: u64) -> u32 {
        value.trailing_zeros()
    }
}

impl Scan for Reverse {
    #[inline(always)]
    fn find(value: u64) -> u32 {
        63 - value.leading_zeros()
    }
}

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::Bt => test::<M, Keep>(instruction),
        Operation::Bts => test::<M, Set>(instruction),
        Operation::Btr => test::<M, Reset>(instruction),
        Operation::Btc => test::<M, Complement>(instruction),
        Operation::Bsf => scan::<M, Forward>(instruction),
        Operation::Bsr => scan::<M, Reverse>(instruction),
        Operation::Popcnt => popcnt(instruction),
        Operation::Crc32 => crc32(instruction),
        _ => None,
    }
}

fn test<M: Memory, B: BitChange>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    let locked = instruction.has_lock_prefix();
    match form(instruction) {
        Form::RegReg => by_width!(width, reg_reg, B),
        Form::RegImm => by_width!(width, reg_imm, B),
        Form::MemReg if locked => by_width!(width, locked_reg, B),
        Form::MemReg => by_width!(width, mem_reg, B),
        Form::MemImm if locked => by_width!(width, locked_imm, B),
        Form::MemImm => by_width!(width, mem_imm, B),
        _ => None,
    }
}

fn scan<M: Memory, S: Scan>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::RegReg => by_width!(width, scan_reg, S),
        Form::RegMem => by_width!(width, scan_mem, S),
        _ => None,
    }
}

fn popcnt<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 0);
    match form(instruction) {
        Form::RegReg => by_width!(width, popcnt_reg),
        Form::RegMem => by_width!(width, popcnt_mem),
        _ => None,
    }
}

fn crc32<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let width = operand_bits(instruction, 1);
    match form(instruction) {
        Form::RegReg => by_width!(width, crc32_reg),
        Form::RegMem => by_width!(width, crc32_mem),
        _ => None,
    }
}

/// The bit's mask within an operand of type `T`.
#[inline(always)]
fn mask_of<T: Word>(number: u64) -> u64 {
    1 << (number & u64::from(T::BITS - 1))
}

fn reg_reg<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let number = core.reg::<T>(op.b).u64();
    on_reg::<M, B, T>(core, op, number)
}

fn reg_imm<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    on_reg::<M, B, T>(core, op, op.imm)
}

#[inline(always)]
fn on_reg<M: Memory, B: BitChange, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    number: u64,
) -> Outcome {
    let (value, mask) = (core.reg::<T>(op.a).u64(), mask_of::<T>(number));
    core.cpu.flags.keep_carry(value & mask != 0);
    if B::WRITES {
        core.set_reg(op.a, T::low(B::apply(value, mask)));
    }
    Ok(())
}

/// The operand that holds bit `number` of the bit string at the operand of `op`.
#[inline(always)]
fn in_string<M: Memory, T: Word>(core: &Core<'_, M>, op: &Op<M>) -> (Op<M>, u64) {
    let number = core.reg::<T>(op.a).sign_extended();
    let operands = (number as i64) >> T::BITS.trailing_zeros();
    let mut at = *op;
    at.disp = at.disp.wrapping_add(operands.wrapping_mul(T::BYTES as i64));
    (at, number)
}

fn mem_reg<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (at, number) = in_string::<M, T>(core, op);
    on_mem::<M, B, T>(core, &at, number)
}

fn mem_imm<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    on_mem::<M, B, T>(core, op, op.imm)
}

#[inline(always)]
fn on_mem<M: Memory, B: BitChange, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    number: u64,
) -> Outcome {
    let mask = mask_of::<T>(number);
    let value = if B::WRITES {
        let linear = core.address(op, T::BYTES, Intent::Write)?;
        let value = M::load_for_write::<T>(core, linear)?.u64();
        M::store(core, linear, T::low(B::apply(value, mask)))?;
        value
    } else {
        core.load::<T>(op)?.u64()
    };
    core.cpu.flags.keep_carry(value & mask != 0);
    Ok(())
}

fn locked_reg<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (at, number) = in_string::<M, T>(core, op);
    locked::<M, B, T>(core, &at, number)
}

fn locked_imm<M: Memory, B: BitChange, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    locked::<M, B, T>(core, op, op.imm)
}

#[inline(always)]
fn locked<M: Memory, B: BitChange, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    number: u64,
) -> Outcome {
    let mask = mask_of::<T>(number);
    let linear = core.address(op, T::BYTES, Intent::Write)?;
    let mut value = M::load_for_write::<T>(core, linear)?;
    loop {
        let changed = T::low(B::apply(value.u64(), mask));
        let found = M::compare_exchange(core, linear, value, changed)?;
        if found == value {
            core.cpu.flags.keep_carry(value.u64() & mask != 0);
            return Ok(());
        }
        value = found;
    }
}

fn scan_reg<M: Memory, S: Scan, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.reg::<T>(op.b);
    scanned::<M, S, T>(core, op, source)
}

fn scan_mem<M: Memory, S: Scan, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.load::<T>(op)?;
    scanned::<M, S, T>(core, op, source)
}

/// A source of zero leaves the destination as it was: undefined in Intel's manual, defined in AMD's
/// (APM vol. 3, BSF), relied upon by systems.
#[inline(always)]
fn scanned<M: Memory, S: Scan, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, source: T) -> Outcome {
    core.cpu.flags.set_logic(source);
    if source != T::low(0) {
        core.set_reg(op.a, T::low(u64::from(S::find(source.u64()))));
    }
    Ok(())
}

fn popcnt_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.reg::<T>(op.b);
    counted(core, op, source)
}

fn popcnt_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.load::<T>(op)?;
    counted(core, op, source)
}

/// All flags are zero but ZF.
#[inline(always)]
fn counted<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, source: T) -> Outcome {
    let zero = if source == T::low(0) { ZF } else { 0 };
    core.cpu.flags = LazyFlags::from_bits(zero);
    core.set_reg(op.a, T::low(u64::from(source.u64().count_ones())));
    Ok(())
}

/// The remainders of all bytes by the polynomial 11EDC6F41H (its bit 32 is implied), bits reflected (Intel SDM vol. 2A, CRC32).
const REMAINDERS: [u32; 256] = remainders();

const fn remainders() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x1edc_6f41;
    const REFLECTED: u32 = POLYNOMIAL.reverse_bits();
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut step = 0;
        while step < 8 {
            remainder =
                if remainder & 1 != 0 { remainder >> 1 ^ REFLECTED } else { remainder >> 1 };
            step += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

fn crc32_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.reg::<T>(op.b);
    accumulated(core, op, source)
}

fn crc32_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let source = core.load::<T>(op)?;
    accumulated(core, op, source)
}

/// The checksum is 32 bits also in a 64-bit destination, whose upper half becomes zero.
#[inline(always)]
fn accumulated<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, source: T) -> Outcome {
    let mut checksum = core.reg::<u32>(op.a);
    for byte in source.u64().to_le_bytes().iter().take(T::BYTES as usize) {
        let index = (checksum as u8 ^ byte) as usize;
        checksum = checksum >> 8 ^ REMAINDERS[index];
    }
    core.set_reg(op.a, checksum);
    Ok(())
}
