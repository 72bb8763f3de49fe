//! Registers of the debug devices. They are conventions, not standards: the sources are named.

/// pvpanic (Linux `include/uapi/misc/pvpanic.h`; QEMU `docs/specs/pvpanic`, "ISA interface").
pub mod pvpanic {
    /// The guest has panicked.
    pub const PANICKED: u8 = 1 << 0;
    /// The guest has panicked and has loaded a crash kernel that will handle it.
    pub const CRASH_LOADED: u8 = 1 << 1;
    /// What a read gives: the events that the device knows.
    pub const EVENTS: u8 = PANICKED | CRASH_LOADED;
}

/// The debug console (Bochs `iodev/unmapped.cc`, port 0xe9): a read gives the port's own number, by which
/// a guest finds it.
pub mod console {
    /// What a read gives.
    pub const PRESENT: u8 = 0xe9;
    /// How much output waits for a slow port before it is dropped.
    pub const BACKLOG: usize = 4096;
}
