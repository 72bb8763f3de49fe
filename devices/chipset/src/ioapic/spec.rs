//! Registers of the I/O APIC (Intel 82093AA data sheet, order number 290566-001, §3; Intel ICH9 data
//! sheet §13.5).

/// Number of interrupt inputs (82093AA §2.4).
pub const PINS: usize = 24;

/// Offsets in the window (82093AA §3.1; ICH9 §13.5.1).
pub mod window {
    /// Register select.
    pub const SELECT: u64 = 0x00;
    /// The selected register.
    pub const DATA: u64 = 0x10;
    /// End of interrupt, write only (ICH9 §13.5.4).
    pub const EOI: u64 = 0x40;
    /// Length that the chipset decodes (ICH9 §13.5.1).
    pub const LENGTH: u64 = 0x1000;
}

/// Selected registers (82093AA §3.2).
pub mod index {
    /// Identification: bits 27:24.
    pub const ID: u8 = 0x00;
    /// Version.
    pub const VERSION: u8 = 0x01;
    /// Arbitration: follows the identification.
    pub const ARBITRATION: u8 = 0x02;
    /// The low half of redirection entry 0; entries follow each other.
    pub const REDIRECTION: u8 = 0x10;
    /// The register after the last entry.
    pub const END: u8 = REDIRECTION + 2 * super::PINS as u8;
}

/// The version register (82093AA §3.2.2): version 0x20, which has an EOI register, and the last entry.
pub const VERSION: u32 = 0x20 | (PINS as u32 - 1) << 16;

/// Where the identification lies in its register.
pub const ID_SHIFT: u32 = 24;

/// A redirection entry (82093AA §3.2.4).
pub mod entry {
    /// Vector.
    pub const VECTOR: u64 = 0xff;
    /// Delivery mode, bits 10:8: 0 fixed, 1 lowest priority; the others are edges whatever bit 15 says.
    pub const DELIVERY_MODE: u64 = 7 << 8;
    /// Delivery mode 1, lowest priority; fixed is 0.
    pub const LOWEST_PRIORITY: u64 = 1 << 8;
    /// Destination mode: logical.
    pub const LOGICAL: u64 = 1 << 11;
    /// Delivery status, read only; delivery is at once here, so it reads 0.
    pub const DELIVERY_STATUS: u64 = 1 << 12;
    /// Remote IRR, read only.
    pub const REMOTE_IRR: u64 = 1 << 14;
    /// Level triggered.
    pub const LEVEL: u64 = 1 << 15;
    /// Masked.
    pub const MASKED: u64 = 1 << 16;
    /// Where the destination starts.
    pub const DESTINATION_SHIFT: u32 = 56;
    /// The bits that exist.
    pub const ALL: u64 = 0xff00_0000_0001_ffff & !DELIVERY_STATUS;
}

/// An interrupt message (Intel SDM vol. 3A §11.11).
pub mod message {
    /// The address of local APICs (§11.11.1).
    pub const BASE: u64 = 0xfee0_0000;
    /// Where the destination starts in the address.
    pub const DESTINATION_SHIFT: u32 = 12;
    /// Destination mode in the address.
    pub const LOGICAL: u64 = 1 << 2;
    /// Level "assert" in the data (§11.11.2).
    pub const ASSERT: u32 = 1 << 14;
    /// Trigger mode "level" in the data.
    pub const LEVEL: u32 = 1 << 15;
}
