//! Numbers of the ACPI Specification 6.5 and of the tables that other documents define.

/// Offset of the checksum in the header of every table (ACPI 6.5 §5.2.6).
pub const CHECKSUM: usize = 9;

/// OEM, table and creator identification (ACPI 6.5 §5.2.6): what guests show as the maker.
pub const OEM_ID: &[u8; 6] = b"KEZHAN";
/// OEM table identification.
pub const OEM_TABLE_ID: &[u8; 8] = b"KEZHANVM";
/// The creator of the tables.
pub const CREATOR: &[u8; 4] = b"KZVM";
/// Its revision.
pub const CREATOR_REVISION: u32 = 1;

/// Bytes of the RSDP (ACPI 6.5 §5.2.5.3).
pub const RSDP_LENGTH: usize = 36;
/// Bytes of it that its first checksum covers: the structure of ACPI 1.0.
pub const RSDP_OLD_LENGTH: usize = 20;

/// The FADT (ACPI 6.5 §5.2.9, table 5.9).
pub mod fadt {
    /// Its major revision.
    pub const REVISION: u8 = 6;
    /// Its length.
    pub const LENGTH: usize = 276;
    /// `Preferred_PM_Profile`: desktop.
    pub const PROFILE_DESKTOP: u8 = 1;
    /// `P_LVL2_LAT`: no C2.
    pub const NO_C2: u16 = 0x65;
    /// `P_LVL3_LAT`: no C3.
    pub const NO_C3: u16 = 0x3e9;
    /// CMOS register of the century.
    pub const CENTURY: u8 = 0x32;

    /// `IAPC_BOOT_ARCH` (§5.2.9.3): ISA devices, 8042, no VGA, no ASPM.
    pub const BOOT_ARCH: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 4;

    /// Flags (§5.2.9, table 5.10): WBINVD works.
    pub const WBINVD: u32 = 1;
    /// C1 on all processors.
    pub const PROC_C1: u32 = 1 << 2;
    /// No fixed sleep button.
    pub const SLP_BUTTON: u32 = 1 << 5;
    /// The RTC's wake status is not in fixed hardware.
    pub const FIX_RTC: u32 = 1 << 6;
    /// The PM timer has 32 bits.
    pub const TMR_VAL_EXT: u32 = 1 << 8;
    /// The reset register is there.
    pub const RESET_REG_SUP: u32 = 1 << 10;
}

/// Generic address structure (ACPI 6.5 §5.2.3.2, table 5.1).
pub mod gas {
    /// System memory.
    pub const MEMORY: u8 = 0;
    /// System I/O.
    pub const IO: u8 = 1;
    /// Byte access.
    pub const BYTE: u8 = 1;
    /// Word access.
    pub const WORD: u8 = 2;
    /// Double-word access.
    pub const DWORD: u8 = 3;
}

/// The MADT (ACPI 6.5 §5.2.12).
pub mod madt {
    /// Its revision.
    pub const REVISION: u8 = 5;
    /// Physical address of the local APICs.
    pub const LOCAL_APIC: u32 = 0xfee0_0000;
    /// Flag: there is a PIC too.
    pub const PCAT_COMPAT: u32 = 1;
    /// Processor local APIC (§5.2.12.2).
    pub const TYPE_LOCAL_APIC: u8 = 0;
    /// IOAPIC (§5.2.12.3).
    pub const TYPE_IOAPIC: u8 = 1;
    /// Interrupt source override (§5.2.12.5).
    pub const TYPE_OVERRIDE: u8 = 2;
    /// Local APIC NMI (§5.2.12.7).
    pub const TYPE_NMI: u8 = 4;
    /// Local APIC flag: enabled.
    pub const ENABLED: u32 = 1;
    /// MPS INTI flags (table 5.27): as the bus does.
    pub const CONFORMS: u16 = 0;
    /// MPS INTI flags: active high, level-triggered.
    pub const HIGH_LEVEL: u16 = 0b1101;
    /// All processors.
    pub const ALL: u8 = 0xff;
    /// The GSI of ISA interrupt 0.
    pub const TIMER_GSI: u32 = 2;
}

/// The FACS (ACPI 6.5 §5.2.10).
pub mod facs {
    /// Its length.
    pub const LENGTH: u32 = 64;
    /// Its version.
    pub const VERSION: u8 = 2;
}

/// The HPET's table (IA-PC HPET 1.0a §3.2.4).
pub mod hpet {
    /// Its revision.
    pub const REVISION: u8 = 1;
    /// Fewest ticks between interrupts of periodic mode without loss.
    pub const MINIMUM_TICK: u16 = 100;
}

/// `_OSC` of a PCI root (PCI Firmware 3.3 §4.5.1).
pub mod osc {
    /// Status: some of what was asked for was not granted.
    pub const MASKED: u8 = 1 << 4;
    /// Control: hot-plug slots are the guest's.
    pub const HOT_PLUG: u8 = 1 << 0;
    /// Control: the guest may have the PCI Express capability structures.
    pub const CAPABILITY: u8 = 1 << 4;
    /// Control: what is granted.
    pub const GRANTED: u8 = HOT_PLUG | CAPABILITY;
}
