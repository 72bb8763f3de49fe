//! Why translated code has left.

use super::step::Operand;

/// A place at which translated code can leave.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Linear address of the instruction at which it leaves, or where it goes on.
    pub rip: u64,
    /// Why.
    pub kind: Kind,
}

/// Why translated code has left, and what it takes to go back.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// The region of an access' site is another one.
    Access(Access),
    /// A branch within the page that has no translation yet.
    Link {
        /// Address of the four bytes that lead here.
        hole: u64,
        /// The flags are in the area.
        parked: bool,
    },
    /// A branch to another page whose slot is void.
    Slot {
        /// Its slot.
        slot: u32,
    },
    /// An indirect branch to where [`crate::area::Registers::rip`] says, which the jump cache does not know; or
    /// the bell.
    Indirect {
        /// How far the instruction has moved RSP.
        moved: i32,
    },
    /// The instruction is the interpreter's.
    Interpret,
    /// RDTSC or RDTSCP, for which the engine sets the registers.
    TimeStamp {
        /// RDTSCP.
        auxiliary: bool,
        /// Where to go on.
        resume: u64,
    },
    /// The bell.
    Leave,
}

/// An access that was not made.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// What is accessed.
    pub operand: Operand,
    /// How many instructions make it together.
    pub steps: u32,
    /// A page fault of it is the instruction's: nothing else of the instruction would fault before.
    pub faults: bool,
    /// Address of the four bytes that lead here rather than to a superblock of accesses that are checked apart, if
    /// there can be one.
    pub hole: Option<u64>,
    /// The flags are in the area.
    pub parked: bool,
    /// Bytes before the access that its check covers as well, and bytes in all.
    pub(super) span: (u32, u32),
    /// Its site.
    pub(super) site: u32,
    /// How far from a region's end, less one, it must start for the check to find it.
    pub(super) room: u64,
    /// Where to go on once the site is filled.
    pub(super) resume: u64,
}
