//! Addresses that need more than an addition: short address sizes, segment limits and rights.

use crate::core::Core;
use crate::fault::{Stop, vector};
use crate::memory::{Intent, Memory};
use crate::op::{FLAT, Op, bits};
use crate::state::{CodeBits, SS};
use kezhan_hypervisor::Segment;

impl<M: Memory> Core<'_, M> {
    /// The slow way of [`Core::address`].
    pub(crate) fn checked_address(
        &mut self,
        op: &Op<M>,
        length: u64,
        intent: Intent,
    ) -> Result<u64, Stop> {
        let offset = self.offset(op) & op.address_mask();
        self.segment_address(op.seg, offset, length, intent)
    }

    /// The linear address of `length` bytes at `offset` in segment `seg` (0 to 5, or [`FLAT`]), after
    /// the checks of protected mode (Intel SDM vol. 3A §5.3 to §5.5).
    ///
    /// # Errors
    /// #SS for the stack segment, #GP for the others.
    pub fn segment_address(
        &mut self,
        seg: u8,
        offset: u64,
        length: u64,
        intent: Intent,
    ) -> Result<u64, Stop> {
        if self.cpu.code_bits == CodeBits::Bits64 {
            return Ok(offset.wrapping_add(self.cpu.seg_base[usize::from(seg & 7)]));
        }
        if seg == FLAT {
            return Ok(offset & 0xffff_ffff);
        }
        let number = usize::from(seg) % 6;
        let segment = self.cpu.segments[number];
        if !allows(&segment, offset, length, intent, self.cpu.protected()) {
            let vector = if number == SS { vector::SS } else { vector::GP };
            return Err(self.raise_code(vector, 0));
        }
        Ok(segment.base.wrapping_add(offset) & 0xffff_ffff)
    }
}

impl<M> Op<M> {
    /// What an offset is cut to by the address size.
    pub fn address_mask(&self) -> u64 {
        if self.bits & bits::ADDRESS_16 != 0 {
            0xffff
        } else if self.bits & bits::ADDRESS_32 != 0 {
            0xffff_ffff
        } else {
            u64::MAX
        }
    }
}

const EXPAND_DOWN: u8 = 4;
const WRITABLE: u8 = 2;
const CODE: u8 = 8;

/// Limit and type checks. In real and virtual-8086 mode only the limit counts.
fn allows(segment: &Segment, offset: u64, length: u64, intent: Intent, protected: bool) -> bool {
    if segment.unusable {
        return false;
    }
    let code = segment.kind & CODE != 0;
    if protected {
        let readable = !code || segment.kind & WRITABLE != 0;
        let writable = !code && segment.kind & WRITABLE != 0;
        let right = match intent {
            Intent::Read => readable,
            Intent::Write => writable,
            Intent::Execute => code,
        };
        if !right {
            return false;
        }
    }
    let last = offset.wrapping_add(length.wrapping_sub(1));
    if !code && segment.kind & EXPAND_DOWN != 0 {
        let top = if segment.db { 0xffff_ffff } else { 0xffff };
        return offset > u64::from(segment.limit) && last <= top && last >= offset;
    }
    last <= u64::from(segment.limit) && last >= offset
}
