//! Numbers of fw_cfg (QEMU `docs/specs/fw_cfg.rst`; Linux `include/uapi/linux/qemu_fw_cfg.h`).

/// Ports of the device ("x86, ia64 register locations"): a word selects at the first, bytes come from the
/// second.
pub const PORTS: u64 = 2;
/// Offset of the port that gives an item's next byte.
pub const DATA: u64 = 1;

/// Keys of items ("Selector (Control) register", "Firmware configuration items").
pub mod key {
    /// Four letters by which a guest finds the device.
    pub const SIGNATURE: u16 = 0x00;
    /// A little-endian doubleword: which interfaces there are.
    pub const ID: u16 = 0x01;
    /// Bytes of RAM, a little-endian quadword (Linux `FW_CFG_RAM_SIZE`).
    pub const RAM_SIZE: u16 = 0x03;
    /// vCPUs at the start, a little-endian word (Linux `FW_CFG_NB_CPUS`).
    pub const CPUS: u16 = 0x05;
    /// One more than the highest APIC id that can come, a little-endian word (Linux `FW_CFG_MAX_CPUS`).
    pub const MAX_CPUS: u16 = 0x0f;
    /// The directory of files.
    pub const DIRECTORY: u16 = 0x19;
    /// Key of the first file.
    pub const FIRST_FILE: u16 = 0x20;
    /// Bit that once asked for a write; writes are ignored, the bit too.
    pub const WRITE: u16 = 0x4000;
}

/// Value of the signature item ("Signature (Key 0x0000, FW_CFG_SIGNATURE)").
pub const SIGNATURE: &[u8; 4] = b"QEMU";
/// Bit 0 of the id item: the two ports. Bit 1, DMA, is not offered.
pub const ID_PORTS: u32 = 1;

/// Bytes of a file's name in the directory, its closing zero with it ("File Directory").
pub const NAME_LENGTH: usize = 56;
/// Most files that fit below the keys of the architecture.
pub const MOST_FILES: usize = 0x1000;
