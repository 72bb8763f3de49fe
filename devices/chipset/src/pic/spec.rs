//! Command words of the 8259A (Intel 8259A data sheet, order number 231468-003).

/// Initialisation command word 1, a write to A0 = 0 (8259A, "Initialization Command Words", figure 7).
pub mod icw1 {
    /// Marks a write as ICW1.
    pub const MARK: u8 = 1 << 4;
    /// No cascade: there will be no ICW3.
    pub const SINGLE: u8 = 1 << 1;
    /// ICW4 will follow.
    pub const NEEDS_ICW4: u8 = 1 << 0;
}

/// Initialisation command word 4 (8259A, figure 7).
pub mod icw4 {
    /// Special fully nested mode.
    pub const SPECIAL_FULLY_NESTED: u8 = 1 << 4;
    /// Automatic end of interrupt.
    pub const AUTO_EOI: u8 = 1 << 1;
}

/// Operation command word 2: bits 7:5 say what, bits 2:0 which input (8259A, figure 8).
pub mod ocw2 {
    /// Stop rotating in automatic EOI mode.
    pub const ROTATE_IN_AUTO_EOI_CLEAR: u8 = 0;
    /// Non-specific EOI.
    pub const EOI: u8 = 1;
    /// Specific EOI.
    pub const SPECIFIC_EOI: u8 = 3;
    /// Rotate in automatic EOI mode.
    pub const ROTATE_IN_AUTO_EOI_SET: u8 = 4;
    /// Non-specific EOI and rotate.
    pub const ROTATE_ON_EOI: u8 = 5;
    /// The named input gets the lowest priority.
    pub const SET_PRIORITY: u8 = 6;
    /// Specific EOI and rotate.
    pub const ROTATE_ON_SPECIFIC_EOI: u8 = 7;
}

/// Operation command word 3 (8259A, figure 8).
pub mod ocw3 {
    /// Marks a write to A0 = 0 as OCW3 when bit 4 is clear.
    pub const MARK: u8 = 1 << 3;
    /// The next read is a poll.
    pub const POLL: u8 = 1 << 2;
    /// Bit 0 chooses the register to read.
    pub const READ_REGISTER: u8 = 1 << 1;
    /// Read the in-service register, not the request register.
    pub const READ_ISR: u8 = 1 << 0;
    /// Bit 5 is the new special mask mode.
    pub const ENABLE_SPECIAL_MASK: u8 = 1 << 6;
    /// Special mask mode.
    pub const SPECIAL_MASK: u8 = 1 << 5;
}

/// A poll's answer: bit 7 when an input waits, its number below (8259A, "Poll Command").
pub const POLL_PENDING: u8 = 1 << 7;

/// The master's input at which the slave ends on a PC (Intel ICH9 data sheet §5.8, table 5-15).
pub const CASCADE: u8 = 2;

/// Inputs that may be level triggered: not 0, 1, 2, 8 and 13 (Intel ICH9 data sheet §13.4.10, §13.4.11).
pub const ELCR_MASK: [u8; 2] = [0xf8, 0xde];
