//! The memory map that a guest is told.

/// What a range of guest-physical memory is (ACPI 6.5 §15, "Address Range Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Free for the guest.
    Ram,
    /// Not to be used as memory.
    Reserved,
}

impl MemoryKind {
    /// The type number, the same in e820, PVH and multiboot memory maps.
    pub fn number(self) -> u32 {
        match self {
            MemoryKind::Ram => 1,
            MemoryKind::Reserved => 2,
        }
    }
}

/// One range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: MemoryKind,
}

impl MemoryEntry {
    /// The address after its last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.length)
    }

    /// Whether it is RAM that holds all of `address .. end`.
    pub(crate) fn is_ram_around(&self, address: u64, end: u64) -> bool {
        self.kind == MemoryKind::Ram && self.address <= address && end <= self.end()
    }
}
