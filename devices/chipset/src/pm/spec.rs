//! Fixed ACPI hardware (ACPI 6.5 §4.8) and the reset register (Intel ICH9 data sheet §13.7.5).

/// PM1 status, low half of the event block; write 1 to clear (ACPI 6.5 §4.8.3.1.1, table 4.11).
pub mod pm1_status {
    /// The timer's top bit has changed.
    pub const TIMER: u16 = 1 << 0;
    /// The power button was pressed.
    pub const POWER_BUTTON: u16 = 1 << 8;
    /// The bits that can be set: timer, bus master, global, power button, sleep button, RTC, wake.
    pub const ALL: u16 = 0x8731;
}

/// PM1 enable, high half of the event block (ACPI 6.5 §4.8.3.1.2, table 4.12).
pub mod pm1_enable {
    /// The bits that exist: timer, global, power button, sleep button, RTC.
    pub const ALL: u16 = 0x0721;
}

/// PM1 control (ACPI 6.5 §4.8.3.2.1, table 4.13).
pub mod pm1_control {
    /// ACPI mode: power management events raise the SCI. Always set: there is no SMM to leave.
    pub const SCI_ENABLE: u16 = 1 << 0;
    /// What a guest can set and read back: bus-master reload, sleep type.
    pub const KEPT: u16 = 1 << 1 | 7 << SLEEP_TYPE_SHIFT;
    /// Where the sleep type starts; three bits.
    pub const SLEEP_TYPE_SHIFT: u16 = 10;
    /// Go to sleep; write only.
    pub const SLEEP_ENABLE: u16 = 1 << 13;
}

/// The sleep type of S5 that the DSDT's `\_S5` must give (ACPI 6.5 §7.4.2). 0, because firmware that cannot
/// read the DSDT (SeaBIOS, OVMF) switches virtual machines off with it.
pub const S5_SLEEP_TYPE: u8 = 0;

/// The power management timer (ACPI 6.5 §4.8.2.1).
pub mod timer {
    /// Its frequency in hertz.
    pub const FREQUENCY: u64 = 3_579_545;
    /// Its width in bits: `TMR_VAL_EXT` is set in the FADT.
    pub const WIDTH: u32 = 32;
}

/// General-purpose events of block 0: 16, so 2 bytes of status and 2 of enable (ACPI 6.5 §4.8.4.1).
pub const GPE0_LENGTH: u64 = 4;

/// Reset control (ICH9 §13.7.5).
pub mod reset {
    /// Reset the processor: a write of 1 acts.
    pub const RESET_CPU: u8 = 1 << 2;
    /// What a guest can read back: system reset, full reset.
    pub const KEPT: u8 = 1 << 1 | 1 << 3;
    /// The value for the FADT's `RESET_VALUE` (ACPI 6.5 §4.8.3.6).
    pub const ACPI_VALUE: u8 = 0x06;
}
