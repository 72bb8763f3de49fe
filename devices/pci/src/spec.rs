//! Configuration space (PCI Local Bus Specification 3.0, chapter 6; PCI-to-PCI Bridge Architecture
//! Specification 1.2, chapter 3; PCI Express Base Specification 4.0, §7.2).

/// Offsets in every header (PCI 3.0 §6.1, figure 6-1).
pub mod header {
    /// Vendor, 16 bits.
    pub const VENDOR: usize = 0x00;
    /// Device, 16 bits.
    pub const DEVICE: usize = 0x02;
    /// Command, 16 bits.
    pub const COMMAND: usize = 0x04;
    /// Status, 16 bits.
    pub const STATUS: usize = 0x06;
    /// Revision; the class code is the three bytes that follow.
    pub const REVISION: usize = 0x08;
    /// Cache line size.
    pub const CACHE_LINE: usize = 0x0c;
    /// Latency timer.
    pub const LATENCY: usize = 0x0d;
    /// Header type.
    pub const TYPE: usize = 0x0e;
    /// The first base address register.
    pub const BAR: usize = 0x10;
    /// Subsystem vendor, 16 bits (type 0).
    pub const SUBSYSTEM_VENDOR: usize = 0x2c;
    /// Subsystem, 16 bits (type 0).
    pub const SUBSYSTEM: usize = 0x2e;
    /// The first capability.
    pub const CAPABILITIES: usize = 0x34;
    /// Interrupt line: a scratch byte of the firmware's.
    pub const INTERRUPT_LINE: usize = 0x3c;
    /// Interrupt pin: 1 is INTA#.
    pub const INTERRUPT_PIN: usize = 0x3d;
    /// The first byte after the header, where capabilities start.
    pub const END: usize = 0x40;
    /// Bytes of configuration space without PCI Express.
    pub const LENGTH: usize = 0x100;
}

/// Writable fields of a type 1 header: offset and mask, 32 bits each (Bridge 1.2 §3.2, figure 3-1): bus
/// numbers, I/O window with the secondary status, memory window, prefetchable window, its upper
/// halves, bridge control.
pub const BRIDGE_WRITABLE: [(usize, u32); 7] = [
    (0x18, 0x00ff_ffff),
    (0x1c, 0x0000_f0f0),
    (0x20, 0xfff0_fff0),
    (0x24, 0xfff0_fff0),
    (0x28, 0xffff_ffff),
    (0x2c, 0xffff_ffff),
    (0x3c, 0x0fff_00ff),
];

/// Secondary status of a bridge and its write-1-to-clear bits (Bridge 1.2 §3.2.5.7).
pub const BRIDGE_STATUS: (usize, u16) = (0x1e, status::CLEARED_BY_ONE);

/// Header types (PCI 3.0 §6.2.1).
pub mod header_type {
    /// An ordinary function: six BARs.
    pub const ENDPOINT: u8 = 0;
    /// A PCI-to-PCI bridge: two BARs.
    pub const BRIDGE: u8 = 1;
}

/// Command register (PCI 3.0 §6.2.2, table 6-1).
pub mod command {
    /// I/O BARs decode.
    pub const IO: u16 = 1 << 0;
    /// Memory BARs decode.
    pub const MEMORY: u16 = 1 << 1;
    /// INTx# is not driven.
    pub const INTERRUPT_DISABLE: u16 = 1 << 10;
    /// Writable bits: I/O, memory, master, parity, SERR#, interrupt disable.
    pub const WRITABLE: u16 = 0x0547;
}

/// Status register (PCI 3.0 §6.2.3, table 6-2).
pub mod status {
    /// INTx# would be driven if it were not disabled.
    pub const INTERRUPT: u16 = 1 << 3;
    /// There is a capability list.
    pub const CAPABILITIES: u16 = 1 << 4;
    /// Error bits, cleared by writing 1.
    pub const CLEARED_BY_ONE: u16 = 0xf900;
}

/// Base address registers (PCI 3.0 §6.2.5.1, figures 6-5 and 6-6).
pub mod bar {
    /// An I/O BAR.
    pub const IO: u32 = 1 << 0;
    /// A memory BAR of 64 bits: it takes the next register too.
    pub const MEMORY_64: u32 = 2 << 1;
    /// A memory BAR whose reads have no side effects.
    pub const PREFETCHABLE: u32 = 1 << 3;
    /// The smallest memory BAR.
    pub const SMALLEST_MEMORY: u64 = 16;
    /// The smallest I/O BAR.
    pub const SMALLEST_IO: u64 = 4;
}

/// Configuration mechanism #1 (PCI 3.0 §3.2.2.3.2, figure 3-2).
pub mod mechanism1 {
    /// CONFIG_ADDRESS, at the start of the ports.
    pub const ADDRESS: u64 = 0;
    /// CONFIG_DATA.
    pub const DATA: u64 = 4;
    /// Ports in all.
    pub const LENGTH: u64 = 8;
    /// CONFIG_DATA reaches configuration space.
    pub const ENABLE: u32 = 1 << 31;
    /// The bits of CONFIG_ADDRESS that exist.
    pub const ALL: u32 = 0x80ff_fffc;
}

/// Bytes of the enhanced configuration window for each bus (PCI Express 4.0 §7.2.2, table 7-1).
pub const ECAM_PER_BUS: u64 = 1 << 20;

/// The host bridge: Intel 82Q35 class DRAM controller (Intel 3 Series data sheet §5.1, table 5-1).
pub mod host_bridge {
    /// Intel.
    pub const VENDOR: u16 = 0x8086;
    /// DRAM controller.
    pub const DEVICE: u16 = 0x29c0;
    /// Host bridge (PCI 3.0 appendix D, class 06h, subclass 00h).
    pub const CLASS: u32 = 0x06_0000;
}

/// PCI Express capability of a root port with a slot (PCI Express Base 4.0 §7.5.3). Offsets are from the start of
/// the capability.
pub mod express {
    /// Red Hat, as guests know the port of virtual machines.
    pub const VENDOR: u16 = 0x1b36;
    /// Root port.
    pub const DEVICE: u16 = 0x000c;
    /// PCI-to-PCI bridge (PCI 3.0 appendix D, class 06h, subclass 04h).
    pub const CLASS: u32 = 0x06_0400;
    /// Number of the bus behind a bridge (Bridge 1.2 §3.2.5.4).
    pub const SECONDARY_BUS: u16 = 0x19;
    /// Capability ID (§7.5.3.1).
    pub const CAPABILITY: u8 = 0x10;
    /// Bytes after ID and link.
    pub const LENGTH: usize = 0x3a;
    /// Capabilities (§7.5.3.2): version 2, root port, with a slot.
    pub const CAPABILITIES: u16 = 0x2 | 4 << 4 | 1 << 8;
    /// Link capabilities (§7.5.3.6): 2.5 GT/s, one lane, tells when it is active.
    pub const LINK_CAPABILITIES: u32 = 1 | 1 << 4 | 1 << 20;
    /// Link status (§7.5.3.8).
    pub const LINK_STATUS_AT: u16 = 0x12;
    /// Link status: 2.5 GT/s, one lane.
    pub const LINK_STATUS: u16 = 1 | 1 << 4;
    /// Link status: active.
    pub const LINK_UP: u16 = 1 << 13;
    /// Slot capabilities (§7.5.3.9): attention button, power controller, power indicator, hot-plug; commands are
    /// done at once.
    pub const SLOT_CAPABILITIES: u32 = 1 | 1 << 1 | 1 << 4 | 1 << 6 | 1 << 18;
    /// Slot control (§7.5.3.10).
    pub const SLOT_CONTROL_AT: u16 = 0x18;
    /// Slot control: an interrupt when the button is pressed.
    pub const BUTTON_ENABLE: u16 = 1;
    /// Slot control: an interrupt when something comes or goes.
    pub const PRESENCE_ENABLE: u16 = 1 << 3;
    /// Slot control: interrupts at all.
    pub const INTERRUPT: u16 = 1 << 5;
    /// Slot control: the power is off.
    pub const POWER_OFF: u16 = 1 << 10;
    /// Slot control: an interrupt when the link comes up or goes down.
    pub const LINK_ENABLE: u16 = 1 << 12;
    /// Slot control after reset: both indicators off, power on.
    pub const POWER_ON_CONTROL: u16 = 0x03c0;
    /// Slot control: bits that a guest writes.
    pub const CONTROL_WRITABLE: u16 = 0x1fff;
    /// Slot status (§7.5.3.11).
    pub const SLOT_STATUS_AT: u16 = 0x1a;
    /// Slot status: the button was pressed.
    pub const BUTTON_PRESSED: u16 = 1;
    /// Slot status: something came or went.
    pub const PRESENCE_CHANGED: u16 = 1 << 3;
    /// Slot status: something is there.
    pub const PRESENT: u16 = 1 << 6;
    /// Slot status: the link came up or went down.
    pub const LINK_CHANGED: u16 = 1 << 8;
    /// Slot status: what is cleared by writing 1.
    pub const EVENTS: u16 = BUTTON_PRESSED | PRESENCE_CHANGED | LINK_CHANGED;
}

/// MSI-X (PCI 3.0 §6.8.2, figures 6-10 to 6-12).
pub mod msix {
    /// Capability ID (PCI 3.0 appendix H).
    pub const CAPABILITY: u8 = 0x11;
    /// Message control (§6.8.2.3): messages are sent.
    pub const ENABLE: u16 = 1 << 15;
    /// Message control: every vector is masked.
    pub const FUNCTION_MASK: u16 = 1 << 14;
    /// Message control: the bits that a guest may write.
    pub const CONTROL_BITS: u16 = ENABLE | FUNCTION_MASK;
    /// Vector control (§6.8.2.9): this vector is masked.
    pub const MASKED: u32 = 1;
    /// Bytes of a row.
    pub const ENTRY_BYTES: u64 = 16;
    /// Where our pending bits are in the region.
    pub const PENDING_OFFSET: u64 = 0x800;
    /// Bytes of our region.
    pub const REGION_BYTES: u64 = 0x1000;
    /// Rows that fit before the pending bits.
    pub const VECTOR_LIMIT: u16 = 128;
}
