//! Numbers of Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (SDM,
//! 317453, revision 4.0) for the 82540EM.

/// PCI configuration (SDM §4.1).
pub mod pci {
    /// Intel.
    pub const VENDOR: u16 = 0x8086;
    /// 82540EM, desktop.
    pub const DEVICE: u16 = 0x100e;
    /// Ethernet controller.
    pub const CLASS: u32 = 0x02_0000;
    /// Stepping.
    pub const REVISION: u8 = 2;
    /// Bytes of the registers' window.
    pub const MEMORY: u64 = 0x2_0000;
    /// Bytes of the window of ports.
    pub const PORTS: u64 = 64;
}

/// Offsets of registers (SDM §13.2).
pub mod register {
    /// Device control.
    pub const CTRL: u32 = 0x0000;
    /// Device status.
    pub const STATUS: u32 = 0x0008;
    /// EEPROM control, bit by bit.
    pub const EECD: u32 = 0x0010;
    /// EEPROM read.
    pub const EERD: u32 = 0x0014;
    /// The PHY's registers.
    pub const MDIC: u32 = 0x0020;
    /// Interrupt causes; reading clears them.
    pub const ICR: u32 = 0x00c0;
    /// Sets causes.
    pub const ICS: u32 = 0x00c8;
    /// Enables causes.
    pub const IMS: u32 = 0x00d0;
    /// Disables causes.
    pub const IMC: u32 = 0x00d8;
    /// Receive control.
    pub const RCTL: u32 = 0x0100;
    /// Transmit control.
    pub const TCTL: u32 = 0x0400;
    /// Packet buffer allocation.
    pub const PBA: u32 = 0x1000;
    /// Receive ring: address, high half, length, head, tail.
    pub const RDBAL: u32 = 0x2800;
    /// High half.
    pub const RDBAH: u32 = 0x2804;
    /// Bytes.
    pub const RDLEN: u32 = 0x2808;
    /// Head.
    pub const RDH: u32 = 0x2810;
    /// Tail.
    pub const RDT: u32 = 0x2818;
    /// Transmit ring: address, high half, length, head, tail.
    pub const TDBAL: u32 = 0x3800;
    /// High half.
    pub const TDBAH: u32 = 0x3804;
    /// Bytes.
    pub const TDLEN: u32 = 0x3808;
    /// Head.
    pub const TDH: u32 = 0x3810;
    /// Tail.
    pub const TDT: u32 = 0x3818;
    /// First of the statistics, which reading clears (§13.7).
    pub const STATISTICS: u32 = 0x4000;
    /// Behind the last.
    pub const STATISTICS_END: u32 = 0x4100;
    /// Good packets received, and their bytes.
    pub const GPRC: u32 = 0x4074;
    /// Good packets transmitted.
    pub const GPTC: u32 = 0x4080;
    /// Multicast filter, 128 registers.
    pub const MTA: u32 = 0x5200;
    /// Receive addresses, 16 pairs.
    pub const RAL: u32 = 0x5400;
    /// VLAN filter, 128 registers.
    pub const VFTA: u32 = 0x5600;
    /// Behind the last register that is kept.
    pub const END: u32 = 0x6000;
}

/// CTRL (SDM §13.4.1).
pub mod control {
    /// Resets the device.
    pub const RESET: u32 = 1 << 26;
    /// VLAN tags are put in and taken out.
    pub const VLAN: u32 = 1 << 30;
    /// Resets the PHY.
    pub const PHY_RESET: u32 = 1 << 31;
    /// Full duplex, link up, 1000 Mb/s: the power-on value.
    pub const POWER_ON: u32 = 1 | 1 << 6 | 2 << 8;
}

/// STATUS (SDM §13.4.2).
pub mod status {
    /// The link is up.
    pub const LINK: u32 = 1 << 1;
    /// Full duplex, 1000 Mb/s.
    pub const FIXED: u32 = 1 | 2 << 6;
}

/// Interrupt causes (SDM §13.4.17).
pub mod cause {
    /// A descriptor was written back.
    pub const TRANSMITTED: u32 = 1 << 0;
    /// The transmit ring is empty.
    pub const TRANSMIT_EMPTY: u32 = 1 << 1;
    /// The link has changed.
    pub const LINK: u32 = 1 << 2;
    /// Few receive descriptors are left.
    pub const RECEIVE_LOW: u32 = 1 << 4;
    /// A packet has come.
    pub const RECEIVED: u32 = 1 << 7;
    /// The PHY's register was accessed.
    pub const MDI: u32 = 1 << 9;
    /// Those that there are.
    pub const ALL: u32 = 0x1_ffff;
}

/// RCTL (SDM §13.4.22).
pub mod receive {
    /// Receives.
    pub const ENABLE: u32 = 1 << 1;
    /// All unicast.
    pub const ALL_UNICAST: u32 = 1 << 3;
    /// All multicast.
    pub const ALL_MULTICAST: u32 = 1 << 4;
    /// Packets of more than 1522 bytes.
    pub const LONG: u32 = 1 << 5;
    /// Broadcast.
    pub const BROADCAST: u32 = 1 << 15;
    /// VLANs are filtered.
    pub const VLAN_FILTER: u32 = 1 << 18;
    /// Buffers are sixteen times as long.
    pub const LONG_BUFFERS: u32 = 1 << 25;
    /// The frame check sequence is left out.
    pub const STRIP: u32 = 1 << 26;
    /// The longest frame without [`LONG`], with its frame check sequence.
    pub const LONGEST: usize = 1522;
    /// Bytes of the frame check sequence.
    pub const CHECK: usize = 4;
}

/// TCTL (SDM §13.4.33): transmits.
pub const TRANSMIT_ENABLE: u32 = 1 << 1;

/// Receive descriptors (SDM §3.2.3).
pub mod rx {
    /// Done.
    pub const DONE: u8 = 1;
    /// The packet ends here.
    pub const END: u8 = 2;
    /// Checksums were not looked at.
    pub const IGNORE: u8 = 4;
    /// A VLAN tag was taken out.
    pub const TAGGED: u8 = 8;
}

/// Transmit descriptors (SDM §3.3.3 to §3.3.7): bits of the second doubleword.
pub mod tx {
    /// The packet ends here.
    pub const END: u32 = 1 << 24;
    /// A checksum is put in (legacy).
    pub const CHECKSUM: u32 = 1 << 26;
    /// A segment is to be cut (extended).
    pub const CUT: u32 = 1 << 26;
    /// The status is wanted.
    pub const REPORT: u32 = 1 << 27;
    /// Not a legacy descriptor.
    pub const EXTENDED: u32 = 1 << 29;
    /// A VLAN tag is put in.
    pub const TAG: u32 = 1 << 30;
    /// Data, not context (extended).
    pub const DATA: u32 = 1 << 20;
    /// Context: TCP and not UDP.
    pub const TCP: u32 = 1 << 24;
    /// Context: IPv4.
    pub const IPV4: u32 = 1 << 25;
    /// Third doubleword of data: the IP checksum is put in.
    pub const IP_CHECKSUM: u32 = 1 << 8;
    /// Third doubleword of data: the TCP or UDP checksum is put in.
    pub const TCP_CHECKSUM: u32 = 1 << 9;
}

/// Bytes of a descriptor.
pub const DESCRIPTOR: u64 = 16;
