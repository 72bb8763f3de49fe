//! Guest memory that a device lends to a port for the length of one call.
//!
//! A device that hands a request to a back-end gives it a buffer of its own, which outlives whatever the guest does.
//! What is done before the call returns needs no such buffer, and no copy: the host's kernel can write into the
//! guest's memory and read out of it by itself.
//!
//! The guest, its other CPUs and other devices use the memory at the same time. So nobody makes references to it,
//! and what is read twice may differ.

use std::marker::PhantomData;
use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// A part of it: its place in this process.
#[derive(Clone, Copy, Debug)]
pub struct LentPart {
    /// The first byte.
    pub start: *mut u8,
    /// Bytes.
    pub length: usize,
}

/// Parts of guest memory, one after the other. Each was mapped when it was lent, and stays so for `'a`.
///
/// Who has it written to tells the memory's log of it ([`vm_memory::bitmap::Bitmap::mark_dirty`]): the lender does.
#[derive(Clone, Debug, Default)]
pub struct LentMemory<'a> {
    parts: Vec<LentPart>,
    length: usize,
    lent: PhantomData<&'a ()>,
}

impl<'a> LentMemory<'a> {
    /// Appends a part. What goes on where the last part ends makes that one longer: the host has less to do for few.
    pub fn push<B: BitmapSlice>(&mut self, slice: &VolatileSlice<'a, B>) {
        let (start, length) = (slice.ptr_guard_mut().as_ptr(), slice.len());
        self.length += length;
        match self.parts.last_mut() {
            Some(last) if last.start.wrapping_add(last.length) == start => last.length += length,
            _ => self.parts.push(LentPart { start, length }),
        }
    }

    /// Its parts, in order. They are mapped as long as this value lives.
    pub fn parts(&self) -> &[LentPart] {
        &self.parts
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes `from .. from + length` of it, as far as it has them.
    #[must_use]
    pub fn part(&self, from: usize, length: usize) -> LentMemory<'a> {
        let (mut skip, mut left) = (from, length);
        let mut parts = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let before = skip.min(part.length);
            let count = (part.length - before).min(left);
            skip -= before;
            left -= count;
            if count > 0 {
                parts.push(LentPart { start: part.start.wrapping_add(before), length: count });
            }
        }
        LentMemory { parts, length: length - left, lent: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    #[test]
    fn a_part_of_it_begins_and_ends_within_parts() {
        let memory: GuestMemoryMmap =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4096)]).unwrap();
        let mut lent = LentMemory::default();
        for (address, length) in [(0, 10), (100, 20), (50, 30)] {
            lent.push(&memory.get_slice(GuestAddress(address), length).unwrap());
        }
        assert_eq!(lent.len(), 60);
        let base = lent.parts()[0].start as usize;
        let places = |lent: LentMemory<'_>| -> Vec<(usize, usize)> {
            lent.parts().iter().map(|part| (part.start as usize - base, part.length)).collect()
        };
        assert_eq!(places(lent.part(5, 30)), [(5, 5), (100, 20), (50, 5)]);
        assert_eq!(places(lent.part(10, 1)), [(100, 1)]);
        assert_eq!(places(lent.part(40, 100)), [(60, 20)]);
        assert_eq!(lent.part(40, 100).len(), 20);
    }
}
