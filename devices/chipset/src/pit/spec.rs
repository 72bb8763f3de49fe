//! Registers of the 8254 (Intel 8254 data sheet, order number 231164-005) and of port 0x61 (Intel ICH9 data
//! sheet §13.7.1).

/// Frequency of the clock input in hertz: a twelfth of 14.318 18 MHz (ICH9 §5.7).
pub const FREQUENCY: u64 = 1_193_182;

/// Offset of the control word; 0 to 2 are the counters (8254, figure 6).
pub const CONTROL: u64 = 3;

/// The control word (8254, figure 7).
pub mod control {
    /// Which counter, bits 7:6; 3 is the read-back command.
    pub const COUNTER_SHIFT: u8 = 6;
    /// The value that means read-back.
    pub const READ_BACK: u8 = 3;
    /// Read/write mode, bits 5:4; 0 is the counter latch command.
    pub const ACCESS_SHIFT: u8 = 4;
    /// Mode, bits 3:1.
    pub const MODE_SHIFT: u8 = 1;
    /// Counts in decimal.
    pub const BCD: u8 = 1 << 0;
}

/// The read-back command (8254, figure 10): bits 1 to 3 choose counters 0 to 2.
pub mod read_back {
    /// Clear: latch the count.
    pub const NO_COUNT: u8 = 1 << 5;
    /// Clear: latch the status.
    pub const NO_STATUS: u8 = 1 << 4;
}

/// The status byte (8254, figure 11); bits 5:0 are those of the control word.
pub mod status {
    /// The OUT pin is high.
    pub const OUT: u8 = 1 << 7;
    /// The count written has not reached the counting element.
    pub const NULL_COUNT: u8 = 1 << 6;
}

/// Port 0x61, NMI status and control (ICH9 §13.7.1).
pub mod speaker {
    /// Gate of counter 2.
    pub const GATE: u8 = 1 << 0;
    /// The bits that a guest writes: gate, speaker, and two NMI enables.
    pub const WRITABLE: u8 = 0x0f;
    /// Toggles with each refresh.
    pub const REFRESH: u8 = 1 << 4;
    /// OUT of counter 2.
    pub const OUT: u8 = 1 << 5;
    /// Nanoseconds between refreshes: 18 clocks of the PIT, as counter 1 of a PC/AT gave (IBM PC/AT Technical
    /// Reference, 1985, "System Timers").
    pub const REFRESH_PERIOD: u64 = 15_085;
}
