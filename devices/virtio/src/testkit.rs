//! The driver's side: a guest that negotiates, lays out rings in either format, and looks at what was used.

use crate::spec::{common, descriptor, feature, status};
use crate::{VirtioDevice, VirtioPci};
use kezhan_device::testkit::{Recorder, read, write};
use kezhan_device::{Device, GuestMemory, MsiInterrupt, MsiMessage};
use kezhan_pci::PciFunction;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

/// Guest memory of the bench.
pub(crate) const MEMORY: usize = 1 << 20;
const MSIX: usize = 0;
const VIRTIO: usize = 1;
const NOTIFY: u64 = 0x3000;

/// A device, the memory that it works in, and the interrupts that it sent.
pub(crate) struct Bench {
    pub device: VirtioPci,
    pub memory: Arc<GuestMemory>,
    sent: Arc<Recorder>,
    packed: bool,
}

impl Bench {
    pub(crate) fn new(device: impl VirtioDevice + 'static) -> Bench {
        let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap());
        let sent = Arc::new(Recorder::default());
        let msi = MsiInterrupt::new(sent.clone());
        let device = VirtioPci::new("virtio", Box::new(device), memory.clone(), msi);
        Bench { device, memory, sent, packed: false }
    }

    pub(crate) fn get(&mut self, field: u64, size: usize) -> u64 {
        read(&mut self.device, VIRTIO, field, size)
    }

    pub(crate) fn set(&mut self, field: u64, size: usize, value: u64) {
        write(&mut self.device, VIRTIO, field, size, value);
    }

    pub(crate) fn status(&mut self) -> u8 {
        self.get(common::STATUS, 1) as u8
    }

    pub(crate) fn set_status(&mut self, value: u8) {
        self.set(common::STATUS, 1, value.into());
    }

    /// Turns MSI-X on: vector *n* sends *n*.
    pub(crate) fn use_msix(&mut self) {
        for vector in 0..4_u64 {
            write(&mut self.device, MSIX, vector * 16, 4, 0xfee0_0000);
            write(&mut self.device, MSIX, vector * 16 + 8, 8, vector);
        }
        self.device.write_config(0x42, &0x8000_u16.to_le_bytes());
    }

    /// Up to FEATURES_OK; whether the device agreed.
    pub(crate) fn negotiate(&mut self, features: u64) -> bool {
        let features = features | feature::VERSION_1;
        self.packed = features & feature::RING_PACKED != 0;
        self.set_status(status::ACKNOWLEDGE | status::DRIVER);
        for half in 0..2 {
            self.set(common::DRIVER_FEATURE_SELECT, 4, half);
            self.set(common::DRIVER_FEATURE, 4, features >> (32 * half) & 0xffff_ffff);
        }
        self.set_status(status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK);
        self.status() & status::FEATURES_OK != 0
    }

    /// A ring of 8 at its usual place, enabled, with vector `index + 1`.
    pub(crate) fn ring(&mut self, index: u16) -> Ring {
        let base = 0x1_0000 * (u64::from(index) + 1);
        self.set(common::QUEUE_SELECT, 2, index.into());
        self.set(common::QUEUE_SIZE, 2, Ring::SIZE.into());
        self.set(common::QUEUE_VECTOR, 2, u64::from(index) + 1);
        for (field, offset) in [
            (common::QUEUE_DESC, 0),
            (common::QUEUE_DRIVER, 0x1000),
            (common::QUEUE_DEVICE, 0x2000),
        ] {
            self.set(field, 4, base + offset);
            self.set(field + 4, 4, 0);
        }
        self.set(common::QUEUE_ENABLE, 2, 1);
        let (memory, packed) = (self.memory.clone(), self.packed);
        Ring { memory, base, packed, free: 0, added: 0, taken: 0, wraps: [true; 2] }
    }

    pub(crate) fn go_live(&mut self) {
        self.set_status(0xf);
    }

    /// Negotiates, lays out queue 0 and goes live.
    pub(crate) fn live(&mut self, features: u64) -> Ring {
        assert!(self.negotiate(features), "features {features:#x} are agreed upon");
        let ring = self.ring(0);
        self.go_live();
        ring
    }

    pub(crate) fn notify(&mut self, queue: u64) {
        self.set(NOTIFY + 4 * queue, 2, queue);
    }

    pub(crate) fn poll(&mut self) {
        self.device.poll();
    }

    /// The vectors of the interrupts since the last call.
    pub(crate) fn interrupts(&self) -> Vec<u32> {
        self.sent.take_messages().iter().map(|MsiMessage { data, .. }| *data).collect()
    }

    pub(crate) fn put(&self, address: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(address)).unwrap();
    }

    pub(crate) fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory.read_slice(&mut data, GuestAddress(address)).unwrap();
        data
    }
}

/// A part of a buffer: address, length, whether the device writes it.
pub(crate) type Part = (u64, u32, bool);

/// A ring as a driver keeps it.
pub(crate) struct Ring {
    memory: Arc<GuestMemory>,
    pub base: u64,
    packed: bool,
    free: u16,
    added: u16,
    taken: u16,
    wraps: [bool; 2],
}

impl Ring {
    pub(crate) const SIZE: u16 = 8;

    fn put(&self, address: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(address)).unwrap();
    }

    pub(crate) fn word(&self, address: u64) -> u16 {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes a descriptor of a split ring or of a table.
    pub(crate) fn describe(&self, at: u64, part: Part, flags: u16, next: u16) {
        let flags = flags | if part.2 { descriptor::WRITE } else { 0 };
        self.put(at, &part.0.to_le_bytes());
        self.put(at + 8, &part.1.to_le_bytes());
        let (first, second) = if self.packed { (next, flags) } else { (flags, next) };
        self.put(at + 12, &first.to_le_bytes());
        self.put(at + 14, &second.to_le_bytes());
    }

    /// Makes a buffer available; gives its ID.
    pub(crate) fn add(&mut self, parts: &[Part]) -> u16 {
        if self.packed { self.add_packed(parts) } else { self.add_split(parts) }
    }

    fn add_split(&mut self, parts: &[Part]) -> u16 {
        let head = self.free;
        for (position, part) in parts.iter().enumerate() {
            let slot = self.free;
            self.free = (slot + 1) % Ring::SIZE;
            let more = position + 1 < parts.len();
            let flags = if more { descriptor::NEXT } else { 0 };
            self.describe(self.base + u64::from(slot) * 16, *part, flags, self.free);
        }
        self.offer(head);
        head
    }

    /// Puts a head into the available ring.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.added % Ring::SIZE);
        self.put(self.base + 0x1004 + slot * 2, &head.to_le_bytes());
        self.added = self.added.wrapping_add(1);
        self.put(self.base + 0x1002, &self.added.to_le_bytes());
    }

    fn add_packed(&mut self, parts: &[Part]) -> u16 {
        let id = 100 + self.added;
        for (position, part) in parts.iter().enumerate() {
            let lap = if self.wraps[0] { descriptor::AVAIL } else { descriptor::USED };
            let more = position + 1 < parts.len();
            let flags = lap | if more { descriptor::NEXT } else { 0 };
            self.describe(self.base + u64::from(self.free) * 16, *part, flags, id);
            self.free = (self.free + 1) % Ring::SIZE;
            self.wraps[0] ^= self.free == 0;
        }
        self.added += 1;
        id
    }

    /// Makes a buffer available through a table of descriptors at `table`.
    pub(crate) fn add_indirect(&mut self, table: u64, parts: &[Part]) {
        for (position, part) in (0..).zip(parts) {
            let more = usize::from(position) + 1 < parts.len() && !self.packed;
            let flags = if more { descriptor::NEXT } else { 0 };
            self.describe(table + u64::from(position) * 16, *part, flags, position + 1);
        }
        let slot = self.free;
        self.add(&[(table, parts.len() as u32 * 16, false)]);
        let at = self.base + u64::from(slot) * 16 + if self.packed { 14 } else { 12 };
        let flags = self.word(at) | descriptor::INDIRECT;
        self.put(at, &flags.to_le_bytes());
    }

    /// The next used buffer: ID and length. `descriptors` is what it took in a packed ring.
    pub(crate) fn take(&mut self, descriptors: u16) -> Option<(u16, u32)> {
        if self.packed {
            return self.take_packed(descriptors);
        }
        if self.word(self.base + 0x2002) == self.taken {
            return None;
        }
        let at = self.base + 0x2004 + u64::from(self.taken % Ring::SIZE) * 8;
        self.taken = self.taken.wrapping_add(1);
        Some((self.word(at), self.memory.read_obj(GuestAddress(at + 4)).unwrap()))
    }

    fn take_packed(&mut self, descriptors: u16) -> Option<(u16, u32)> {
        let at = self.base + u64::from(self.taken) * 16;
        let flags = self.word(at + 14);
        let bits = (flags & descriptor::AVAIL != 0, flags & descriptor::USED != 0);
        if bits != (self.wraps[1], self.wraps[1]) {
            return None;
        }
        self.taken += descriptors;
        if self.taken >= Ring::SIZE {
            self.taken -= Ring::SIZE;
            self.wraps[1] ^= true;
        }
        Some((self.word(at + 12), self.memory.read_obj(GuestAddress(at + 8)).unwrap()))
    }
}
