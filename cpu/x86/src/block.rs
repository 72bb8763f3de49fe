//! Blocks: runs of instructions that are decoded once and executed many times.
//!
//! A block starts anywhere, lies within one page, and ends at the first instruction that may change
//! where or how execution goes on ([`crate::lower::ends_block`]), at the page's end, or after
//! [`LONGEST`] instructions. It knows neither its linear nor its physical address.

use crate::interp::fall_through;
use crate::lower::{decoder, ends_block, lower};
use crate::memory::Memory;
use crate::op::Op;
use crate::state::CodeBits;
use iced_x86::Instruction;

/// The most instructions in a block.
pub const LONGEST: usize = 48;

/// The most bytes in an instruction (Intel SDM vol. 2A §2.3.11).
pub const LONGEST_INSTRUCTION: usize = 15;

/// A block.
#[derive(Debug)]
pub struct Block<M> {
    /// Its instructions; the last one sets RIP.
    pub ops: Box<[Op<M>]>,
    /// Its length in bytes.
    pub length: u16,
}

/// Decodes a block from `bytes`, which end at the page's end (or further on when `limit` is 1).
/// `None` when the very first instruction is longer than the bytes given.
pub fn decode<M: Memory>(bytes: &[u8], code_bits: CodeBits, limit: usize) -> Option<Block<M>> {
    let mut decoder = decoder::<M>(code_bits, bytes, 0);
    let mut instruction = Instruction::default();
    let mut ops = Vec::with_capacity(8);
    let mut length = 0_u16;
    while ops.len() < limit && decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
            break;
        }
        ops.push(lower::<M>(&instruction, length, code_bits));
        length += instruction.len() as u16;
        if instruction.is_invalid() || ends_block(&instruction) {
            return Some(Block { ops: ops.into(), length });
        }
    }
    let first = ops.first()?;
    ops.push(Op { run: fall_through::<M>, offset: length, len: 0, ..*first });
    Some(Block { ops: ops.into(), length })
}
