//! Exceptions, and why a handler stops.

/// Exception vectors (Intel SDM vol. 3A table 6-1).
pub mod vector {
    /// Divide error.
    pub const DE: u8 = 0;
    /// Debug.
    pub const DB: u8 = 1;
    /// Breakpoint.
    pub const BP: u8 = 3;
    /// Overflow.
    pub const OF: u8 = 4;
    /// BOUND range exceeded.
    pub const BR: u8 = 5;
    /// Invalid opcode.
    pub const UD: u8 = 6;
    /// Device not available.
    pub const NM: u8 = 7;
    /// Double fault.
    pub const DF: u8 = 8;
    /// Invalid TSS.
    pub const TS: u8 = 10;
    /// Segment not present.
    pub const NP: u8 = 11;
    /// Stack fault.
    pub const SS: u8 = 12;
    /// General protection.
    pub const GP: u8 = 13;
    /// Page fault.
    pub const PF: u8 = 14;
    /// x87 floating-point error.
    pub const MF: u8 = 16;
    /// Alignment check.
    pub const AC: u8 = 17;
    /// SIMD floating-point.
    pub const XM: u8 = 19;
}

/// An exception that waits for delivery. It lies in the CPU state ([`crate::CpuState::exception`]) while
/// [`Stop::Exception`] travels up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// Its error code, for those that push one.
    pub error: Option<u32>,
    /// For a page fault, the linear address that goes to CR2.
    pub address: u64,
    /// For a debug exception, the bits that go to DR6.
    pub debug: u64,
    /// Raised after the instruction completed: RIP already points to the next one (#DB of single step,
    /// data breakpoints; #BP and #OF do the same by advancing RIP first).
    pub trap: bool,
}

/// Why a handler stopped. As wide as a register, so that `Result<u64, Stop>` travels in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stop {
    /// An exception lies in [`crate::CpuState::exception`].
    Exception = 1,
    /// A store met bytes from which instructions were decoded. Nothing was changed; the engine runs the
    /// instruction once more by itself and drops the decoded code.
    CodeWrite = 2,
    /// A fault while delivering an exception while delivering a double fault: the processor shuts down.
    Shutdown = 3,
}
