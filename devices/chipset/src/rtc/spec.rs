//! Registers of the MC146818A (Motorola data sheet, 1984) as a PC has it (IBM PC/AT Technical Reference, 1985,
//! "Real-Time Clock/CMOS RAM Information").

/// Bytes of each bank (Intel ICH9 data sheet §13.6, "Real Time Clock Registers").
pub const BANK: usize = 128;

/// Addresses (MC146818A, figure 11, "Address Map").
pub mod address {
    /// Seconds.
    pub const SECONDS: u8 = 0x00;
    /// Alarm: seconds.
    pub const ALARM_SECONDS: u8 = 0x01;
    /// Minutes.
    pub const MINUTES: u8 = 0x02;
    /// Alarm: minutes.
    pub const ALARM_MINUTES: u8 = 0x03;
    /// Hours.
    pub const HOURS: u8 = 0x04;
    /// Alarm: hours.
    pub const ALARM_HOURS: u8 = 0x05;
    /// Day of the week, Sunday is 1.
    pub const WEEKDAY: u8 = 0x06;
    /// Day of the month.
    pub const DAY: u8 = 0x07;
    /// Month.
    pub const MONTH: u8 = 0x08;
    /// Year of the century.
    pub const YEAR: u8 = 0x09;
    /// Register A.
    pub const A: u8 = 0x0a;
    /// Register B.
    pub const B: u8 = 0x0b;
    /// Register C.
    pub const C: u8 = 0x0c;
    /// Register D.
    pub const D: u8 = 0x0d;
    /// Century: the PC's convention; the FADT must name it (ACPI 6.5 §5.2.9, `CENTURY`).
    pub const CENTURY: u8 = 0x32;
}

/// Addresses of the time, in the order in which `TimeBytes` holds them.
pub const TIME: [u8; 8] = [
    address::SECONDS,
    address::MINUTES,
    address::HOURS,
    address::WEEKDAY,
    address::DAY,
    address::MONTH,
    address::YEAR,
    address::CENTURY,
];

/// Register A (MC146818A, "Register A").
pub mod a {
    /// Update in progress.
    pub const UIP: u8 = 1 << 7;
    /// Divider: with both upper bits set the clock stands (table 4).
    pub const DIVIDER_RESET: u8 = 3 << 5;
    /// Rate of the periodic interrupt (table 5).
    pub const RATE: u8 = 0x0f;
    /// Power-on: 32 768 Hz crystal, 1024 interrupts a second.
    pub const POWER_ON: u8 = 0x26;
}

/// Register B (MC146818A, "Register B").
pub mod b {
    /// Updates are stopped for the time to be set.
    pub const SET: u8 = 1 << 7;
    /// Update-ended interrupt enabled.
    pub const UIE: u8 = 1 << 4;
    /// Binary, not decimal.
    pub const BINARY: u8 = 1 << 2;
    /// 24 hours, not 12.
    pub const HOURS_24: u8 = 1 << 1;
    /// The interrupt enables, at the places of their flags in C; and square wave. Reset clears them.
    pub const RESET_CLEARS: u8 = 0x78;
}

/// Register C: flags, cleared by a read (MC146818A, "Register C").
pub mod c {
    /// Some enabled flag is set.
    pub const IRQF: u8 = 1 << 7;
    /// Periodic.
    pub const PF: u8 = 1 << 6;
    /// Alarm.
    pub const AF: u8 = 1 << 5;
    /// Update ended.
    pub const UF: u8 = 1 << 4;
    /// The flags that have an enable in B.
    pub const FLAGS: u8 = PF | AF | UF;
}

/// Register D: the battery is good.
pub const D_VALID: u8 = 1 << 7;

/// An alarm byte from here on matches everything (MC146818A, "Alarm").
pub const ALARM_ANY: u8 = 0xc0;

/// Afternoon, in the hours of the 12-hour format (MC146818A, table 3).
pub const PM: u8 = 1 << 7;

/// The crystal in hertz.
pub const FREQUENCY: u64 = 32_768;

/// Nanoseconds before the second's end at which UIP rises: 244 µs of notice and 1984 µs of update
/// (MC146818A, figure 17, tBUC and tUC).
pub const UPDATE: u32 = 2_228_000;

/// CMOS bytes by which a PC's firmware learns its memory and equipment (IBM PC/AT Technical Reference; above
/// 0x30 by the custom of firmware for virtual machines).
pub mod cmos {
    /// Equipment: coprocessor and pointing device.
    pub const EQUIPMENT: (u8, u8) = (0x14, 0x06);
    /// Base memory in KiB, 16 bits.
    pub const BASE: u8 = 0x15;
    /// Memory from 1 MiB in KiB, 16 bits, twice.
    pub const EXTENDED: [u8; 2] = [0x17, 0x30];
    /// Memory from 16 MiB to 4 GiB in 64 KiB, 16 bits.
    pub const ABOVE_16_MIB: u8 = 0x34;
    /// Memory from 4 GiB in 64 KiB, 24 bits.
    pub const ABOVE_4_GIB: u8 = 0x5b;
    /// First and last byte that the checksum covers, and where it is, high byte first.
    pub const CHECKSUM: (u8, u8, u8) = (0x10, 0x2d, 0x2e);
}
