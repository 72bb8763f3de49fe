//! Split rings (virtio 1.2 §2.7): a table of descriptors, a ring of heads from the driver, a ring of used
//! elements from the device.

use super::{Broken, Descriptor, Queue, Result, Used, address, load, passes, store, table_length};
use crate::chain::Chain;
use crate::spec::{descriptor, feature, split};
use kezhan_device::GuestMemory;
use vm_memory::Bytes;

/// A queue seen as a split ring.
pub(super) struct Split<'a> {
    pub memory: &'a GuestMemory,
    pub queue: &'a mut Queue,
}

impl Split<'_> {
    pub(super) fn pop(&mut self) -> Result<Option<Chain>> {
        let registers = &self.queue.registers;
        let (size, driver) = (registers.size, registers.driver);
        let index = registers.next_available;
        if load(self.memory, driver, split::INDEX)? == index {
            self.ask_for_notification()?;
            // What the driver added before it could see the wish is taken now (§2.7.10.1).
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        let waiting = load(self.memory, driver, split::INDEX)?.wrapping_sub(index);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > size {
            return Err(Broken);
        }
        let slot = u64::from(index % size);
        let head = load(self.memory, driver, split::RING + slot * split::AVAIL_BYTES)?;
        let chain = self.chain(head)?;
        self.queue.registers.next_available = index.wrapping_add(1);
        Ok(Some(chain))
    }

    /// With event indices the driver notifies only at the index that the device names (§2.7.10).
    fn ask_for_notification(&self) -> Result<()> {
        let Queue { registers, features, .. } = &*self.queue;
        if features & feature::EVENT_IDX == 0 {
            return Ok(());
        }
        let offset = split::RING + u64::from(registers.size) * split::USED_BYTES;
        store(self.memory, registers.device, offset, registers.next_available)
    }

    fn chain(&self, head: u16) -> Result<Chain> {
        let registers = &self.queue.registers;
        let mut chain = Chain::new(head);
        let (mut table, mut count, mut limit) =
            (registers.descriptors, registers.size, registers.size);
        let (mut index, mut inside) = (head, false);
        loop {
            if index >= count || chain.segments() >= usize::from(limit) {
                return Err(Broken);
            }
            let entry @ Descriptor { first: flags, second: next, .. } =
                super::descriptor(self.memory, table, index)?;
            if flags & descriptor::INDIRECT != 0 {
                // One table, at the end of the chain, when it was agreed upon (§2.7.5.3.1).
                let allowed = self.queue.features & feature::INDIRECT_DESC != 0 && !inside;
                if !allowed || flags & descriptor::NEXT != 0 {
                    return Err(Broken);
                }
                (table, count, inside, index) = (entry.address, table_length(&entry)?, true, 0);
                limit = limit.max(count);
                continue;
            }
            if !chain.push(entry.segment(), flags & descriptor::WRITE != 0) {
                return Err(Broken);
            }
            if flags & descriptor::NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
    }

    /// The buffers become visible to the driver with one store of the index.
    pub(super) fn complete(&mut self, used: &[Used<'_>]) -> Result<()> {
        let registers = &mut self.queue.registers;
        for Used { chain, written } in used {
            let slot = u64::from(registers.next_used % registers.size.max(1));
            let element = u64::from(chain.id) | u64::from(*written) << 32;
            let at = address(registers.device, split::RING + slot * split::USED_BYTES)?;
            self.memory.write_slice(&element.to_le_bytes(), at).map_err(|_outside| Broken)?;
            registers.next_used = registers.next_used.wrapping_add(1);
        }
        store(self.memory, registers.device, split::INDEX, registers.next_used)
    }

    /// Puts back the buffer that was popped last.
    pub(super) fn unpop(&mut self) {
        let registers = &mut self.queue.registers;
        registers.next_available = registers.next_available.wrapping_sub(1);
    }

    pub(super) fn wants_interrupt(&self, fresh: u16) -> Result<bool> {
        let Queue { registers, features, .. } = &*self.queue;
        if features & feature::EVENT_IDX == 0 {
            let flags = load(self.memory, registers.driver, 0)?;
            return Ok(flags & split::NO_INTERRUPT == 0);
        }
        let offset = split::RING + u64::from(registers.size) * split::AVAIL_BYTES;
        let event = load(self.memory, registers.driver, offset)?;
        Ok(passes(event, registers.next_used, registers.next_used.wrapping_sub(fresh)))
    }
}
