//! Registers of the HPET (Intel IA-PC HPET Specification 1.0a, §2.3).

/// Length of the register block (HPET 1.0a §2.3.1: 1 KiB).
pub const LENGTH: u64 = 0x400;

/// Comparators (HPET 1.0a §2.1 asks for at least three).
pub const TIMERS: usize = 3;

/// Nanoseconds of a tick: 100 MHz.
pub const TICK: u64 = 10;

/// Register offsets (HPET 1.0a §2.3.2, table 2); 64 bits each.
pub mod register {
    /// General capabilities and ID.
    pub const CAPABILITIES: u64 = 0x000;
    /// General configuration.
    pub const CONFIGURATION: u64 = 0x010;
    /// General interrupt status.
    pub const STATUS: u64 = 0x020;
    /// Main counter.
    pub const COUNTER: u64 = 0x0f0;
    /// The first timer's registers.
    pub const TIMER: u64 = 0x100;
    /// Bytes from one timer to the next.
    pub const TIMER_STRIDE: u64 = 0x20;
    /// Within a timer: configuration and capabilities.
    pub const TIMER_CONFIGURATION: u64 = 0x00;
    /// Within a timer: comparator.
    pub const TIMER_COMPARATOR: u64 = 0x08;
    /// Within a timer: FSB interrupt route.
    pub const TIMER_FSB: u64 = 0x10;
}

/// General capabilities (HPET 1.0a §2.3.4): period in femtoseconds above; Intel, legacy replacement, 64-bit
/// counter, number of the last timer, revision 1 below.
pub const CAPABILITIES: u64 =
    (TICK * 1_000_000) << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | (TIMERS as u64 - 1) << 8 | 1;

/// General configuration (HPET 1.0a §2.3.5).
pub mod configuration {
    /// The counter runs and timers interrupt.
    pub const ENABLE: u64 = 1 << 0;
    /// Timers 0 and 1 take the place of the PIT and the RTC.
    pub const LEGACY: u64 = 1 << 1;
    /// The bits that exist.
    pub const ALL: u64 = ENABLE | LEGACY;
}

/// Timer configuration and capabilities (HPET 1.0a §2.3.8).
pub mod timer {
    /// Interrupts by level.
    pub const LEVEL: u64 = 1 << 1;
    /// Interrupts.
    pub const INTERRUPT: u64 = 1 << 2;
    /// Periodic.
    pub const PERIODIC: u64 = 1 << 3;
    /// Can be periodic, read only.
    pub const CAN_BE_PERIODIC: u64 = 1 << 4;
    /// Is 64 bits wide, read only.
    pub const IS_64_BIT: u64 = 1 << 5;
    /// The next write of the comparator sets it in periodic mode; clears itself.
    pub const SET_VALUE: u64 = 1 << 6;
    /// Works with 32 bits.
    pub const MODE_32: u64 = 1 << 8;
    /// Where the I/O APIC input starts.
    pub const ROUTE_SHIFT: u32 = 9;
    /// The I/O APIC input.
    pub const ROUTE: u64 = 0x1f << ROUTE_SHIFT;
    /// Interrupts by message.
    pub const FSB: u64 = 1 << 14;
    /// Can interrupt by message, read only.
    pub const CAN_FSB: u64 = 1 << 15;
    /// Where the mask of possible inputs starts, read only.
    pub const ROUTES_SHIFT: u32 = 32;
    /// The bits that a guest writes.
    pub const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | MODE_32 | ROUTE | FSB;
}
