//! The one table of addresses, ports and interrupt numbers.
//!
//! ```text
//!   0            RAM
//!   0xa0000      not RAM for the guest: adapter memory, ROMs, ACPI tables (0xe0000)
//!   0x100000     RAM up to 3 GiB
//!   0xc0000000   ECAM, 256 MiB                    (PCI Express base specification §7.2.2)
//!   0xd0000000   PCI memory window up to 0xfebfffff
//!   0xfec00000   IOAPIC   0xfed00000 HPET   0xfed80000 virtio devices beside PCI, 4 KiB each
//!   0xfee00000   local APICs   0xff000000 test memory
//!   0x100000000  the rest of RAM
//! ```
//! Ports and ISA interrupts are those of the IBM PC/AT; the others follow what Intel's 9-series boards
//! and QEMU's machines of that kind made customary, so that guests find what they expect.

use kezhan_firmware::{MemoryEntry, MemoryKind};
use std::ops::Range;
use vm_memory::GuestAddress;

/// Input pins of the IOAPIC.
pub const IOAPIC_PINS: u32 = 24;

/// Buses of the PCI root; each has a mebibyte of the ECAM.
pub(crate) const PCI_BUSES: u16 = 256;
/// Memory for PCI functions.
pub(crate) const PCI_MEMORY: Range<u32> = 0xd000_0000..0xfec0_0000;
/// The first port for PCI functions.
pub(crate) const PCI_PORTS: u16 = 0xc000;
/// Where the ACPI tables are: where a guest looks for the RSDP (ACPI 6.5 §5.2.5.1).
pub(crate) const ACPI_TABLES: Range<u32> = 0xe_0000..0xf_0000;

/// Registers of virtio devices beside PCI, a page each.
pub(crate) const VIRTIO_MMIO: Range<u64> = 0xfed8_0000..0xfee0_0000;

/// Where the PCI hole begins: RAM below 4 GiB ends here at the latest.
pub(crate) const HOLE_START: u64 = 0xc000_0000;
/// Where RAM goes on.
pub(crate) const HOLE_END: u64 = 0x1_0000_0000;
/// Where RAM that a guest may use as such ends below 1 MiB: the usual start of the EBDA.
const EBDA: u64 = 0x9_fc00;
/// One mebibyte.
const MEBIBYTE: u64 = 0x10_0000;

/// Where a part of a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A region at an I/O port.
    Port(u16),
    /// A region at an I/O port that another device's region has around it: an access that starts
    /// inside goes here.
    PortInside(u16),
    /// A region at a guest-physical address.
    Memory(u64),
    /// A line at an ISA interrupt.
    Irq(u8),
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The device's name.
    pub device: &'static str,
    /// The name of its region or line.
    pub part: &'static str,
    /// Where it is.
    pub place: Place,
}

const fn row(device: &'static str, part: &'static str, place: Place) -> Row {
    Row { device, part, place }
}

/// The table. Settings may move an optional device.
#[rustfmt::skip]
pub const ADDRESS_MAP: &[Row] = &[
    row("pic", "master", Place::Port(0x20)),
    row("pic", "slave", Place::Port(0xa0)),
    row("pic", "elcr", Place::Port(0x4d0)),
    row("ioapic", "registers", Place::Memory(0xfec0_0000)),
    row("hpet", "registers", Place::Memory(0xfed0_0000)),
    row("pit", "counters", Place::Port(0x40)),
    row("pit", "speaker", Place::Port(0x61)),
    row("pit", "irq", Place::Irq(0)),
    row("rtc", "index-data", Place::Port(0x70)),
    row("rtc", "extended", Place::Port(0x72)),
    row("rtc", "irq", Place::Irq(8)),
    row("pm", "event", Place::Port(0x600)),
    row("pm", "control", Place::Port(0x604)),
    row("pm", "timer", Place::Port(0x608)),
    row("pm", "gpe0", Place::Port(0x620)),
    row("pm", "reset", Place::PortInside(0xcf9)),
    row("pm", "sci", Place::Irq(9)),
    row("i8042", "data", Place::Port(0x60)),
    row("i8042", "command", Place::Port(0x64)),
    row("i8042", "system-control", Place::Port(0x92)),
    row("i8042", "keyboard", Place::Irq(1)),
    row("i8042", "mouse", Place::Irq(12)),
    row("com1", "registers", Place::Port(0x3f8)),
    row("com1", "irq", Place::Irq(4)),
    row("post-code", "code", Place::Port(0x80)),
    row("fw-cfg", "registers", Place::Port(0x510)),
    row("pci-host", "config", Place::Port(0xcf8)),
    row("pci-host", "ecam", Place::Memory(HOLE_START)),
    row("isa-debug-exit", "exit", Place::Port(0xf4)),
    row("isa-debugcon", "data", Place::Port(0xe9)),
    row("pvpanic", "event", Place::Port(0x505)),
    row("pc-testdev", "data", Place::Port(0xe0)),
    row("pc-testdev", "flush", Place::Port(0xe4)),
    row("pc-testdev", "lines", Place::Port(0x2000)),
    row("pc-testdev", "memory", Place::Memory(0xff00_0000)),
];

/// Where `part` of `device` is.
pub(crate) fn find(device: &str, part: &str) -> Option<Place> {
    ADDRESS_MAP.iter().find(|row| row.device == device && row.part == part).map(|row| row.place)
}

/// The ISA interrupts of a device, in the order of the table.
pub(crate) fn interrupts(device: &str) -> Vec<u8> {
    let rows = ADDRESS_MAP.iter().filter(|row| row.device == device);
    rows.filter_map(|row| match row.place {
        Place::Irq(irq) => Some(irq),
        _ => None,
    })
    .collect()
}

/// The IOAPIC pin of an ISA interrupt: the same number, but 2 for the timer.
pub(crate) fn gsi(irq: u8) -> u32 {
    if irq == 0 { 2 } else { irq.into() }
}

/// The regions of guest RAM for `size` bytes: below the PCI hole, and above 4 GiB what is left.
pub fn memory_ranges(size: u64) -> Vec<(GuestAddress, usize)> {
    let (low, high) = below_and_above(size);
    let mut ranges = vec![(GuestAddress(0), low as usize)];
    if high > 0 {
        ranges.push((GuestAddress(HOLE_END), high as usize));
    }
    ranges
}

/// Of `size` bytes of RAM: how many lie below the PCI hole, how many from 4 GiB on.
pub(crate) fn below_and_above(size: u64) -> (u64, u64) {
    (size.min(HOLE_START), size.saturating_sub(HOLE_START))
}

/// What a guest with `size` bytes of RAM is told (e820 and its like).
pub fn memory_map(size: u64) -> Vec<MemoryEntry> {
    use MemoryKind::{Ram, Reserved};
    let range = |address, end, kind| MemoryEntry { address, length: end - address, kind };
    let (low, high) = below_and_above(size.max(MEBIBYTE));
    let mut map = vec![
        range(0, EBDA, Ram),
        range(EBDA, MEBIBYTE, Reserved),
        range(MEBIBYTE, low, Ram),
        range(HOLE_START, HOLE_START + (u64::from(PCI_BUSES) << 20), Reserved),
    ];
    if high > 0 {
        map.push(range(HOLE_END, HOLE_END + high, Ram));
    }
    map
}
