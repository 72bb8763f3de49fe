//! Numbers of the Virtual I/O Device specification, version 1.2.

/// Device status bits (virtio 1.2 §2.1).
pub mod status {
    /// The driver has found the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready: the device is live.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed upon.
    pub const FEATURES_OK: u8 = 8;
    /// The device has met an error that it cannot recover from.
    pub const NEEDS_RESET: u8 = 64;
    /// The driver has given up.
    pub const FAILED: u8 = 128;
    /// Bits that a driver may set.
    pub const OF_DRIVER: u8 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
}

/// Features of every device (virtio 1.2 §6).
pub mod feature {
    /// A descriptor may point to a table of descriptors (§2.7.5.3).
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are wanted at an index (§2.7.7, §2.7.10).
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device follows this specification.
    pub const VERSION_1: u64 = 1 << 32;
    /// Packed queues (§2.8).
    pub const RING_PACKED: u64 = 1 << 34;
    /// What the queues here can do.
    pub const OF_QUEUES: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_PACKED;
}

/// Descriptors, split and packed (virtio 1.2 §2.7.5, §2.8.1).
pub mod descriptor {
    /// Bytes of a descriptor.
    pub const BYTES: u64 = 16;
    /// The buffer goes on in another descriptor.
    pub const NEXT: u16 = 1;
    /// The device writes it; else the device reads it.
    pub const WRITE: u16 = 2;
    /// It is a table of descriptors.
    pub const INDIRECT: u16 = 4;
    /// Packed: made available, in the driver's sense of the ring wrap counter.
    pub const AVAIL: u16 = 1 << 7;
    /// Packed: used, in the device's sense.
    pub const USED: u16 = 1 << 15;
    /// Longest chain accepted through a table of descriptors, where drivers in the field exceed the queue
    /// size that §2.7.5.3.1 allows.
    pub const TABLE_LIMIT: usize = 1024;
}

/// Split rings (virtio 1.2 §2.7.6, §2.7.8).
pub mod split {
    /// Flags of the available ring: the driver wants no interrupts.
    pub const NO_INTERRUPT: u16 = 1;
    /// Flags of the used ring: the device wants no notifications.
    pub const NO_NOTIFY: u16 = 1;
    /// Offset of the index in either ring.
    pub const INDEX: u64 = 2;
    /// Offset of the first element in either ring.
    pub const RING: u64 = 4;
    /// Bytes of an element of the available ring.
    pub const AVAIL_BYTES: u64 = 2;
    /// Bytes of an element of the used ring.
    pub const USED_BYTES: u64 = 8;
}

/// Event suppression of packed rings (virtio 1.2 §2.8.10).
pub mod event {
    /// Flags: notifications.
    pub const ENABLE: u16 = 0;
    /// Flags: no notifications.
    pub const DISABLE: u16 = 1;
    /// Flags: a notification at a descriptor.
    pub const AT_DESCRIPTOR: u16 = 2;
    /// Offset of the flags.
    pub const FLAGS: u64 = 2;
}

/// PCI transport (virtio 1.2 §4.1).
pub mod pci {
    /// Vendor (§4.1.2).
    pub const VENDOR: u16 = 0x1af4;
    /// First device ID: the virtio device ID is added to it (§4.1.2.1).
    pub const DEVICE_BASE: u16 = 0x1040;
    /// Lowest revision of a device that follows this specification (§4.1.2.1).
    pub const REVISION: u8 = 1;
    /// Capability ID: vendor-specific (PCI 3.0 appendix H).
    pub const CAPABILITY: u8 = 0x09;
    /// Common configuration (§4.1.4.3).
    pub const COMMON: u8 = 1;
    /// Notifications (§4.1.4.4).
    pub const NOTIFY: u8 = 2;
    /// ISR status (§4.1.4.5).
    pub const ISR: u8 = 3;
    /// Device-specific configuration (§4.1.4.6).
    pub const DEVICE: u8 = 4;
    /// The window in configuration space (§4.1.4.9).
    pub const WINDOW: u8 = 5;
    /// ISR status: a queue has used buffers.
    pub const ISR_QUEUE: u8 = 1;
    /// ISR status: the configuration has changed.
    pub const ISR_CONFIG: u8 = 2;
    /// No vector (§4.1.5.1.2).
    pub const NO_VECTOR: u16 = 0xffff;
}

/// Common configuration structure: offsets (virtio 1.2 §4.1.4.3).
pub mod common {
    /// Which 32 bits of the device's features are shown.
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    /// Those bits.
    pub const DEVICE_FEATURE: u64 = 0x04;
    /// Which 32 bits of the driver's features are shown.
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    /// Those bits.
    pub const DRIVER_FEATURE: u64 = 0x0c;
    /// Vector of configuration changes.
    pub const CONFIG_VECTOR: u64 = 0x10;
    /// How many queues there are.
    pub const NUM_QUEUES: u64 = 0x12;
    /// Device status.
    pub const STATUS: u64 = 0x14;
    /// Counts changes of the configuration.
    pub const GENERATION: u64 = 0x15;
    /// Which queue the following are of.
    pub const QUEUE_SELECT: u64 = 0x16;
    /// Its size.
    pub const QUEUE_SIZE: u64 = 0x18;
    /// Its vector.
    pub const QUEUE_VECTOR: u64 = 0x1a;
    /// Whether it is enabled.
    pub const QUEUE_ENABLE: u64 = 0x1c;
    /// Where its notifications go, in units of the multiplier.
    pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    /// Its descriptor area, 64 bits.
    pub const QUEUE_DESC: u64 = 0x20;
    /// Its driver area, 64 bits.
    pub const QUEUE_DRIVER: u64 = 0x28;
    /// Its device area, 64 bits.
    pub const QUEUE_DEVICE: u64 = 0x30;
    /// Bytes in all.
    pub const LENGTH: u64 = 0x38;
}

/// Device IDs (virtio 1.2 §5).
pub mod device_id {
    /// Network card (§5.1).
    pub const NETWORK: u16 = 1;
    /// Block device (§5.2).
    pub const BLOCK: u16 = 2;
    /// Console (§5.3).
    pub const CONSOLE: u16 = 3;
    /// Entropy device (§5.4).
    pub const ENTROPY: u16 = 4;
    /// Memory balloon (§5.5).
    pub const BALLOON: u16 = 5;
}

/// Console (virtio 1.2 §5.3).
pub mod console {
    /// Feature: several ports, and control queues (§5.3.3).
    pub const MULTIPORT: u64 = 1 << 1;
    /// Bytes of a message without a name (§5.3.6.2).
    pub const MESSAGE_BYTES: usize = 8;
    /// From the driver: it is ready, or has failed.
    pub const DEVICE_READY: u16 = 0;
    /// To the driver: a port has been added.
    pub const PORT_ADD: u16 = 1;
    /// From the driver: a port is ready, or has failed.
    pub const PORT_READY: u16 = 3;
    /// To the driver: the port is a console.
    pub const CONSOLE_PORT: u16 = 4;
    /// Both ways: the port is open, or closed.
    pub const PORT_OPEN: u16 = 6;
    /// To the driver: the name of the port follows.
    pub const PORT_NAME: u16 = 7;
}

/// Memory balloon (virtio 1.2 §5.5).
pub mod balloon {
    /// Feature: a queue of statistics (§5.5.3).
    pub const STATS_VQ: u64 = 1 << 1;
    /// Feature: the guest may take pages back when it is short of memory.
    pub const DEFLATE_ON_OOM: u64 = 1 << 2;
    /// Feature: a queue of hints about free pages.
    pub const FREE_PAGE_HINT: u64 = 1 << 3;
    /// Feature: a queue of reports of free pages.
    pub const PAGE_REPORTING: u64 = 1 << 5;
    /// Queue: pages given to the host (§5.5.2).
    pub const INFLATE: usize = 0;
    /// Queue: statistics.
    pub const STATISTICS: usize = 2;
    /// Queue: reports of free pages.
    pub const REPORTING: usize = 4;
    /// Configuration: pages given, written by the driver (§5.5.4).
    pub const ACTUAL: u64 = 4;
    /// Bytes of a statistic: tag and value (§5.5.6.3).
    pub const STATISTIC_BYTES: usize = 10;
    /// Statistic: free memory (§5.5.6.4).
    pub const STATISTIC_FREE: u16 = 4;
    /// Statistic: all memory.
    pub const STATISTIC_TOTAL: u16 = 5;
    /// Statistic: memory to be had without swapping.
    pub const STATISTIC_AVAILABLE: u16 = 6;
    /// Statistic: caches of files.
    pub const STATISTIC_CACHES: u16 = 7;
}

/// MMIO transport (virtio 1.2 §4.2.2, table 4.1).
pub mod mmio {
    use super::common;

    /// "virt".
    pub const MAGIC: u64 = 0x000;
    /// Its value.
    pub const MAGIC_VALUE: u32 = 0x7472_6976;
    /// Version of the registers.
    pub const VERSION: u64 = 0x004;
    /// Its value.
    pub const VERSION_VALUE: u32 = 2;
    /// Virtio device ID.
    pub const DEVICE_ID: u64 = 0x008;
    /// Virtio subsystem vendor ID.
    pub const VENDOR_ID: u64 = 0x00c;
    /// Its value: the PCI vendor of virtio.
    pub const VENDOR_VALUE: u32 = super::pci::VENDOR as u32;
    /// 32 bits of the device's features.
    pub const DEVICE_FEATURES: u64 = 0x010;
    /// Which.
    pub const DEVICE_FEATURES_SELECT: u64 = 0x014;
    /// 32 bits of the driver's features.
    pub const DRIVER_FEATURES: u64 = 0x020;
    /// Which.
    pub const DRIVER_FEATURES_SELECT: u64 = 0x024;
    /// Which queue the following are of.
    pub const QUEUE_SELECT: u64 = 0x030;
    /// Its largest size.
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    /// Its size.
    pub const QUEUE_SIZE: u64 = 0x038;
    /// Whether it is enabled.
    pub const QUEUE_READY: u64 = 0x044;
    /// The queue to look at.
    pub const QUEUE_NOTIFY: u64 = 0x050;
    /// Why the line is high.
    pub const INTERRUPT_STATUS: u64 = 0x060;
    /// Interrupts that are handled.
    pub const INTERRUPT_ACK: u64 = 0x064;
    /// Device status.
    pub const STATUS: u64 = 0x070;
    /// Counts changes of the configuration.
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    /// Device configuration.
    pub const CONFIG: u64 = 0x100;
    /// Bytes of our region.
    pub const LENGTH: u64 = 0x1000;
    /// Interrupt: a queue has used buffers.
    pub const USED_BUFFER: u32 = 1;
    /// Interrupt: the configuration has changed.
    pub const CONFIG_CHANGE: u32 = 2;

    /// Registers that read as a field of the common configuration.
    pub const READABLE: [(u64, u64); 4] = [
        (DEVICE_FEATURES, common::DEVICE_FEATURE),
        (QUEUE_READY, common::QUEUE_ENABLE),
        (STATUS, common::STATUS),
        (CONFIG_GENERATION, common::GENERATION),
    ];

    /// Registers that write such a field, and whether its upper half.
    pub const WRITABLE: [(u64, u64, bool); 13] = [
        (DEVICE_FEATURES_SELECT, common::DEVICE_FEATURE_SELECT, false),
        (DRIVER_FEATURES, common::DRIVER_FEATURE, false),
        (DRIVER_FEATURES_SELECT, common::DRIVER_FEATURE_SELECT, false),
        (QUEUE_SELECT, common::QUEUE_SELECT, false),
        (QUEUE_SIZE, common::QUEUE_SIZE, false),
        (QUEUE_READY, common::QUEUE_ENABLE, false),
        (STATUS, common::STATUS, false),
        (0x080, common::QUEUE_DESC, false),
        (0x084, common::QUEUE_DESC, true),
        (0x090, common::QUEUE_DRIVER, false),
        (0x094, common::QUEUE_DRIVER, true),
        (0x0a0, common::QUEUE_DEVICE, false),
        (0x0a4, common::QUEUE_DEVICE, true),
    ];
}

/// Block device (virtio 1.2 §5.2).
pub mod block {
    /// Feature: the longest segment is told (§5.2.3).
    pub const SIZE_MAX: u64 = 1 << 1;
    /// Feature: the most segments are told.
    pub const SEG_MAX: u64 = 1 << 2;
    /// Feature: read-only.
    pub const READ_ONLY: u64 = 1 << 5;
    /// Feature: the logical block is told.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// Feature: flushes.
    pub const FLUSH: u64 = 1 << 9;
    /// Feature: the physical block is told.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// Feature: several queues.
    pub const MQ: u64 = 1 << 12;
    /// Feature: discards.
    pub const DISCARD: u64 = 1 << 13;
    /// Feature: zero-writes.
    pub const WRITE_ZEROES: u64 = 1 << 14;

    /// Request: read (§5.2.6).
    pub const IN: u32 = 0;
    /// Request: write.
    pub const OUT: u32 = 1;
    /// Request: flush.
    pub const FLUSH_REQUEST: u32 = 4;
    /// Request: the serial number.
    pub const GET_ID: u32 = 8;
    /// Request: discard.
    pub const DISCARD_REQUEST: u32 = 11;
    /// Request: write zeroes.
    pub const WRITE_ZEROES_REQUEST: u32 = 13;

    /// Status: done (§5.2.6).
    pub const OK: u8 = 0;
    /// Status: an error.
    pub const IO_ERROR: u8 = 1;
    /// Status: no such request.
    pub const UNSUPPORTED: u8 = 2;

    /// Bytes of a request's header.
    pub const HEADER: u64 = 16;
    /// Bytes of a serial number.
    pub const ID_BYTES: usize = 20;
    /// Bytes of a range of a discard or zero-write.
    pub const RANGE_BYTES: u64 = 16;
    /// Flag of a range: space may be given back.
    pub const UNMAP: u32 = 1;
    /// The unit of offsets and lengths, whatever the logical block.
    pub const SECTOR: u64 = 512;
    /// Bytes of the configuration (§5.2.4).
    pub const CONFIG_BYTES: usize = 60;
}

/// Network device (virtio 1.2 §5.1).
pub mod net {
    /// Feature: checksums of the guest's frames may be left to the device (§5.1.3).
    pub const CSUM: u64 = 1 << 0;
    /// Feature: those of frames to the guest may be left to it.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// Feature: commands that turn the guest's offloads on and off.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    /// Feature: the MTU is told.
    pub const MTU: u64 = 1 << 3;
    /// Feature: the Ethernet address is told.
    pub const MAC: u64 = 1 << 5;
    /// Feature: the guest takes uncut TCP over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// Feature: the guest takes uncut TCP over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// Feature: the device takes uncut TCP over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// Feature: the device takes uncut TCP over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// Feature: a frame to the guest may take several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// Feature: the state of the link is told.
    pub const STATUS: u64 = 1 << 16;
    /// Feature: a control queue.
    pub const CTRL_VQ: u64 = 1 << 17;
    /// Feature: commands that set what is received.
    pub const CTRL_RX: u64 = 1 << 18;
    /// Feature: commands that set which VLANs are received.
    pub const CTRL_VLAN: u64 = 1 << 19;
    /// Feature: more commands that set what is received.
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    /// Feature: several pairs of queues.
    pub const MQ: u64 = 1 << 22;
    /// Feature: a command that sets the Ethernet address.
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    /// What this device offers whatever is behind it.
    pub const ALWAYS: u64 = GUEST_CSUM
        | CTRL_GUEST_OFFLOADS
        | MTU
        | MAC
        | GUEST_TSO4
        | GUEST_TSO6
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | CTRL_RX
        | CTRL_VLAN
        | CTRL_RX_EXTRA
        | CTRL_MAC_ADDR;

    /// Bytes of the configuration as far as these features tell it (§5.1.4).
    pub const CONFIG_BYTES: usize = 12;
    /// Status: the link is up.
    pub const LINK_UP: u16 = 1;
    /// The smallest MTU that a device may tell (§5.1.4.1).
    pub const LEAST_MTU: u16 = 68;

    /// Header flag: a checksum is to be made (§5.1.6).
    pub const NEEDS_CSUM: u8 = 1;
    /// Header: nothing to cut.
    pub const GSO_NONE: u8 = 0;
    /// Header: TCP over IPv4 to be cut.
    pub const GSO_TCPV4: u8 = 1;
    /// Header: TCP over IPv6 to be cut.
    pub const GSO_TCPV6: u8 = 4;

    /// Answer to a command: done (§5.1.6.5).
    pub const ACK_OK: u8 = 0;
    /// Answer to a command: not done.
    pub const ACK_ERROR: u8 = 1;
    /// Class: what is received (§5.1.6.5.1).
    pub const CLASS_RX: u8 = 0;
    /// Everything.
    pub const RX_PROMISC: u8 = 0;
    /// All multicast.
    pub const RX_ALLMULTI: u8 = 1;
    /// All unicast.
    pub const RX_ALLUNI: u8 = 2;
    /// No multicast.
    pub const RX_NOMULTI: u8 = 3;
    /// No unicast.
    pub const RX_NOUNI: u8 = 4;
    /// No broadcast.
    pub const RX_NOBCAST: u8 = 5;
    /// Class: addresses (§5.1.6.5.2).
    pub const CLASS_MAC: u8 = 1;
    /// The tables of what is received.
    pub const MAC_TABLE_SET: u8 = 0;
    /// The card's own.
    pub const MAC_ADDR_SET: u8 = 1;
    /// Class: VLANs (§5.1.6.5.3).
    pub const CLASS_VLAN: u8 = 2;
    /// One more.
    pub const VLAN_ADD: u8 = 0;
    /// One less.
    pub const VLAN_DEL: u8 = 1;
    /// Class: pairs of queues (§5.1.6.5.5).
    pub const CLASS_MQ: u8 = 4;
    /// How many are used.
    pub const MQ_PAIRS_SET: u8 = 0;
    /// Class: the guest's offloads (§5.1.6.5.6).
    pub const CLASS_OFFLOADS: u8 = 5;
    /// Which are on.
    pub const OFFLOADS_SET: u8 = 0;
}
