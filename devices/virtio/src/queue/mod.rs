//! A virtqueue: its registers, and its ring in one of two layouts.
//!
//! ```text
//!   driver ── available ──► pop() ─► Chain ─► device works ─► complete(chain, written) ── used ──► driver
//!                             │ a ring that makes no sense                  │
//!                             ▼                                             ▼
//!                        Broken: the device needs a reset       wants_interrupt() after a batch
//! ```
//!
//! # What a hostile driver cannot do
//! Indices are taken modulo the size, each descriptor is read once into a [`Chain`], a chain ends after as
//! many descriptors as the queue has (or the limit of a table), every address is checked by guest memory
//! when it is used, and the registers do not move while the device is live: the layout and the addresses
//! are those of the moment of DRIVER_OK.

mod packed;
mod split;

use crate::chain::{Chain, Segment};
use crate::spec::{descriptor, event, feature};
use kezhan_device::GuestMemory;
use packed::Packed;
use serde::{Deserialize, Serialize};
use split::Split;
use vm_memory::{Bytes, GuestAddress};

/// The ring makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

pub(crate) type Result<T> = std::result::Result<T, Broken>;

/// What a driver writes about a queue, and where its ring has got to. It is its own saved state, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registers {
    pub size: u16,
    pub enabled: bool,
    pub vector: u16,
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
    /// Next to be taken: the free-running index, or the place in a packed ring.
    pub next_available: u16,
    /// Next to be used, likewise.
    pub next_used: u16,
    /// Packed: the wrap counters that go with the two.
    pub wraps: [bool; 2],
}

impl Registers {
    pub(crate) fn power_on(size: u16) -> Registers {
        Registers {
            size,
            enabled: false,
            vector: crate::spec::pci::NO_VECTOR,
            descriptors: 0,
            driver: 0,
            device: 0,
            next_available: 0,
            next_used: 0,
            wraps: [true; 2],
        }
    }
}

/// A buffer that is given back, with `written` bytes from the start of its writable part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used<'a> {
    pub chain: &'a Chain,
    pub written: u32,
}

/// A queue. See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    pub registers: Registers,
    pub largest: u16,
    features: u64,
    /// Buffers used since the last look at [`Queue::wants_interrupt`].
    fresh: u16,
    /// Packed: the descriptors that those took.
    used_descriptors: u16,
}

impl Queue {
    pub(crate) fn new(largest: u16) -> Queue {
        Queue {
            registers: Registers::power_on(largest),
            largest,
            features: 0,
            fresh: 0,
            used_descriptors: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Queue::new(self.largest);
    }

    /// The device goes live with these features; false when an enabled queue cannot work.
    pub(crate) fn start(&mut self, features: u64) -> bool {
        self.features = features;
        (self.fresh, self.used_descriptors) = (0, 0);
        let Registers { size, enabled, descriptors, driver, device, .. } = self.registers;
        let packed = features & feature::RING_PACKED != 0;
        // virtio 1.2 §2.7, §2.8: alignments, and a power of two for split rings.
        let aligned = descriptors.is_multiple_of(16)
            && driver.is_multiple_of(if packed { 4 } else { 2 })
            && device.is_multiple_of(4);
        !enabled || size != 0 && aligned && (packed || size.is_power_of_two())
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// The next buffer, if there is one.
    pub(crate) fn pop(&mut self, memory: &GuestMemory) -> Result<Option<Chain>> {
        if !self.registers.enabled {
            return Ok(None);
        }
        if self.has(feature::RING_PACKED) {
            Packed { memory, queue: self }.pop()
        } else {
            Split { memory, queue: self }.pop()
        }
    }

    /// How many buffers wait, as far as a glance tells.
    pub(crate) fn waiting(&self, memory: &GuestMemory) -> u16 {
        let Registers { size, enabled, driver, next_available, .. } = self.registers;
        if !enabled {
            return 0;
        }
        if self.has(feature::RING_PACKED) {
            return packed::waiting(memory, &self.registers);
        }
        let index = load(memory, driver, crate::spec::split::INDEX).unwrap_or(next_available);
        index.wrapping_sub(next_available).min(size)
    }

    /// Asks the driver to notify, or not to: it may do as it likes. With event indices in a split ring, the wish is
    /// [`Queue::pop`]'s.
    pub(crate) fn ask_to_notify(&self, memory: &GuestMemory, notify: bool) -> Result<()> {
        let Registers { enabled, device, .. } = self.registers;
        if !enabled {
            return Ok(());
        }
        if self.has(feature::RING_PACKED) {
            let flags = if notify { event::ENABLE } else { event::DISABLE };
            return store(memory, device, event::FLAGS, flags);
        }
        if self.has(feature::EVENT_IDX) {
            return Ok(());
        }
        store(memory, device, 0, if notify { 0 } else { crate::spec::split::NO_NOTIFY })
    }

    /// Puts back a buffer: the one that was popped last of those that are not put back yet.
    pub(crate) fn unpop(&mut self, memory: &GuestMemory, chain: &Chain) {
        if self.has(feature::RING_PACKED) {
            Packed { memory, queue: self }.unpop(chain);
        } else {
            Split { memory, queue: self }.unpop();
        }
    }

    /// Gives buffers back, all of them at once in the driver's eyes.
    pub(crate) fn complete(&mut self, memory: &GuestMemory, used: &[Used<'_>]) -> Result<()> {
        if used.is_empty() {
            return Ok(());
        }
        self.fresh = self.fresh.saturating_add(used.len() as u16);
        if self.has(feature::RING_PACKED) {
            Packed { memory, queue: self }.complete(used)
        } else {
            Split { memory, queue: self }.complete(used)
        }
    }

    /// Whether the driver is to be interrupted for what was completed since the last call.
    pub(crate) fn wants_interrupt(&mut self, memory: &GuestMemory) -> Result<bool> {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh == 0 {
            return Ok(false);
        }
        // The used elements are visible before the driver's wish is read (virtio 1.2 §2.7.7.1).
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.has(feature::RING_PACKED) {
            Packed { memory, queue: self }.wants_interrupt()
        } else {
            Split { memory, queue: self }.wants_interrupt(fresh)
        }
    }
}

/// A descriptor as it lies in memory; the last two fields trade places between the layouts.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    length: u32,
    /// Split: flags. Packed: buffer ID.
    first: u16,
    /// Split: next. Packed: flags.
    second: u16,
}

impl Descriptor {
    fn of(bytes: [u8; descriptor::BYTES as usize]) -> Descriptor {
        let value = u128::from_le_bytes(bytes);
        Descriptor {
            address: value as u64,
            length: (value >> 64) as u32,
            first: (value >> 96) as u16,
            second: (value >> 112) as u16,
        }
    }

    fn segment(&self) -> Segment {
        Segment { address: self.address, length: self.length }
    }
}

/// Descriptor `index` of a table, read once.
fn descriptor(memory: &GuestMemory, table: u64, index: u16) -> Result<Descriptor> {
    let mut bytes = [0; descriptor::BYTES as usize];
    let at = address(table, u64::from(index) * descriptor::BYTES)?;
    memory.read_slice(&mut bytes, at).map_err(|_outside| Broken)?;
    Ok(Descriptor::of(bytes))
}

/// How many descriptors a table of descriptors has (virtio 1.2 §2.7.5.3.1).
fn table_length(table: &Descriptor) -> Result<u16> {
    let count = u64::from(table.length) / descriptor::BYTES;
    let whole = u64::from(table.length).is_multiple_of(descriptor::BYTES);
    let fits = (1..=descriptor::TABLE_LIMIT as u64).contains(&count);
    if whole && fits { u16::try_from(count).map_err(|_large| Broken) } else { Err(Broken) }
}

fn address(base: u64, offset: u64) -> Result<GuestAddress> {
    base.checked_add(offset).map(GuestAddress).ok_or(Broken)
}

fn load(memory: &GuestMemory, base: u64, offset: u64) -> Result<u16> {
    let order = std::sync::atomic::Ordering::Acquire;
    let value: u16 = memory.load(address(base, offset)?, order).map_err(|_outside| Broken)?;
    Ok(u16::from_le(value))
}

fn store(memory: &GuestMemory, base: u64, offset: u64, value: u16) -> Result<()> {
    let order = std::sync::atomic::Ordering::Release;
    memory.store(value.to_le(), address(base, offset)?, order).map_err(|_outside| Broken)
}

/// Whether going from `old` to `new` passes `event` (virtio 1.2 §2.7.7.1, §2.8.10).
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
