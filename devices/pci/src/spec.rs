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
