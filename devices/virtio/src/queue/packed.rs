//! Packed rings (virtio 1.2 §2.8): one ring of descriptors that the driver makes available and the device
//! marks as used, in place; which of the two is told by bits that turn with each lap.

use super::{
    Broken, Descriptor, Queue, Registers, Result, Used, address, load, passes, store, table_length,
};
use crate::chain::Chain;
use crate::spec::{descriptor, event, feature};
use kezhan_device::GuestMemory;
use vm_memory::Bytes;

/// Descriptors that a glance looks at.
const GLANCE: u16 = 32;

/// A queue seen as a packed ring.
pub(super) struct Packed<'a> {
    pub memory: &'a GuestMemory,
    pub queue: &'a mut Queue,
}

/// `place` moved on by `count` in a ring, and whether it has lapped.
fn advance(place: u16, count: u16, size: u16) -> (u16, bool) {
    let next = u32::from(place) + u32::from(count);
    let lapped = next >= u32::from(size);
    ((if lapped { next - u32::from(size) } else { next }) as u16, lapped)
}

/// Whether the descriptor at `place` is available: its two bits differ, the first as the driver's counter (§2.8.1).
fn is_available(memory: &GuestMemory, ring: u64, place: u16, wrap: bool) -> Result<bool> {
    let flags = load(memory, ring, u64::from(place) * descriptor::BYTES + 14)?;
    let bits = (flags & descriptor::AVAIL != 0, flags & descriptor::USED != 0);
    Ok(bits == (wrap, !wrap))
}

/// How many descriptors are available, counted up to [`GLANCE`].
pub(super) fn waiting(memory: &GuestMemory, registers: &Registers) -> u16 {
    let (mut place, mut wrap) = (registers.next_available, registers.wraps[0]);
    let mut count = 0;
    while count < GLANCE.min(registers.size)
        && is_available(memory, registers.descriptors, place, wrap) == Ok(true)
    {
        let (next, lapped) = advance(place, 1, registers.size);
        (place, wrap, count) = (next, wrap ^ lapped, count + 1);
    }
    count
}

impl Packed<'_> {
    pub(super) fn pop(&mut self) -> Result<Option<Chain>> {
        let registers = &self.queue.registers;
        let (place, wrap) = (registers.next_available, registers.wraps[0]);
        let ring = registers.descriptors;
        if place >= registers.size {
            return Err(Broken);
        }
        if !is_available(self.memory, ring, place, wrap)? {
            return Ok(None);
        }
        let chain = self.chain(place)?;
        let registers = &mut self.queue.registers;
        let (next, lapped) = advance(place, chain.taken, registers.size);
        registers.next_available = next;
        registers.wraps[0] ^= lapped;
        Ok(Some(chain))
    }

    fn chain(&self, first: u16) -> Result<Chain> {
        let registers = &self.queue.registers;
        let mut chain = Chain::new(0);
        let mut place = first;
        loop {
            let entry @ Descriptor { first: id, second: flags, .. } =
                super::descriptor(self.memory, registers.descriptors, place)?;
            if flags & descriptor::INDIRECT != 0 {
                // A table stands alone (§2.8.8).
                let alone = flags & descriptor::NEXT == 0 && chain.segments() == 0;
                if self.queue.features & feature::INDIRECT_DESC == 0 || !alone {
                    return Err(Broken);
                }
                self.push_table(&mut chain, &entry)?;
            } else if !chain.push(entry.segment(), flags & descriptor::WRITE != 0) {
                return Err(Broken);
            }
            if flags & descriptor::NEXT == 0 {
                // The ID is that of the last descriptor (§2.8.6).
                chain.id = id;
                return Ok(chain);
            }
            if chain.taken >= registers.size {
                return Err(Broken);
            }
            chain.taken += 1;
            (place, _) = advance(place, 1, registers.size);
        }
    }

    /// Only the write flag counts inside a table (§2.8.8).
    fn push_table(&self, chain: &mut Chain, table: &Descriptor) -> Result<()> {
        let mut entries = vec![0; usize::from(table_length(table)?) * descriptor::BYTES as usize];
        let at = address(table.address, 0)?;
        self.memory.read_slice(&mut entries, at).map_err(|_outside| Broken)?;
        for entry in entries.as_chunks().0 {
            let entry = Descriptor::of(*entry);
            if !chain.push(entry.segment(), entry.second & descriptor::WRITE != 0) {
                return Err(Broken);
            }
        }
        Ok(())
    }

    /// The first buffer is marked last, for the driver looks no further than to one that is not used: all
    /// of them become visible to it together.
    pub(super) fn complete(&mut self, used: &[Used<'_>]) -> Result<()> {
        let mut marks = Vec::with_capacity(used.len());
        for Used { chain, written } in used {
            let registers = &mut self.queue.registers;
            let offset = u64::from(registers.next_used) * descriptor::BYTES;
            let body = u64::from(*written) | u64::from(chain.id) << 32;
            let at = address(registers.descriptors, offset + 8)?;
            self.memory.write_slice(&body.to_le_bytes()[..6], at).map_err(|_outside| Broken)?;
            let lap = if registers.wraps[1] { descriptor::AVAIL | descriptor::USED } else { 0 };
            marks.push((offset + 14, lap | if *written > 0 { descriptor::WRITE } else { 0 }));
            let (next, lapped) = advance(registers.next_used, chain.taken, registers.size);
            registers.next_used = next;
            registers.wraps[1] ^= lapped;
            self.queue.used_descriptors = self.queue.used_descriptors.saturating_add(chain.taken);
        }
        let ring = self.queue.registers.descriptors;
        marks.iter().rev().try_for_each(|(at, flags)| store(self.memory, ring, *at, *flags))
    }

    /// Puts back the buffer that was popped last.
    pub(super) fn unpop(&mut self, chain: &Chain) {
        let registers = &mut self.queue.registers;
        let lapped = registers.next_available < chain.taken;
        let lap = if lapped { registers.size } else { 0 };
        registers.next_available =
            registers.next_available.wrapping_add(lap).wrapping_sub(chain.taken);
        registers.wraps[0] ^= lapped;
    }

    pub(super) fn wants_interrupt(&mut self) -> Result<bool> {
        let used = std::mem::take(&mut self.queue.used_descriptors);
        let registers = &self.queue.registers;
        let flags = load(self.memory, registers.driver, event::FLAGS)?;
        let by_index = self.queue.features & feature::EVENT_IDX != 0;
        if flags & 3 != event::AT_DESCRIPTOR || !by_index {
            return Ok(flags & 3 != event::DISABLE);
        }
        // Offset in 15 bits, the driver's wrap counter above (§2.8.10.1).
        let wanted = load(self.memory, registers.driver, 0)?;
        let mut place = wanted & 0x7fff;
        if (wanted >> 15 != 0) != registers.wraps[1] {
            place = place.wrapping_sub(registers.size);
        }
        let new = registers.next_used;
        Ok(passes(place, new, new.wrapping_sub(used)))
    }
}
