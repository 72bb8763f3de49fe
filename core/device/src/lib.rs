//! The device contract.
//!
//! A device is a plain state machine behind `&mut self`. It holds no lock, no thread, no file
//! descriptor and never reads a host clock: what it needs comes in as handles when it is built.
//!
//! ```text
//!            ports, lines, memory, clock (handles given at construction)
//!                 │
//!   guest ──►  ┌──▼─────┐ ── LineInterrupt / MsiInterrupt ──► interrupt controllers ──► engine
//!   access     │ Device │ ── MachineControl ──► state machine of the VM process
//!   time  ──►  └──▲─────┘
//!   wake-ups      │ poll(), when a port has something new
//!              chassis (`machine/board`): owns the lock around each device
//! ```
//!
//! # Chip and attachment
//! A device declares *named* [`Region`]s and *named* interrupt lines; it never knows its port
//! numbers, addresses or GSI numbers. The board gives those and reports conflicts by name.
//!
//! # Access
//! [`Device::read`] and [`Device::write`] return an [`Access`] value. Whatever a guest does, a device
//! does not panic: a bad access is a value, the chassis fills reads with all-ones and counts it.
//!
//! # Time
//! Virtual time is a number of nanoseconds since the machine was made ([`Nanoseconds`]) which stands
//! still while the machine is paused. A device reads it from the [`Clock`] handle, says with
//! [`Device::deadline`] when it next wants to be woken, and is woken by [`Device::wake`] at or after
//! that time. The chassis asks `deadline` again after every call into the device.
//!
//! # Ports
//! A device gets its ports (crate `kezhan-ports`) when it is built. Whoever builds it has set the port's
//! waker so that the chassis calls [`Device::poll`]; the device itself knows of no waker.
//!
//! # Doorbells
//! A register at which a write only means "look" ([`Device::doorbells`]) need not stop the vCPU that writes it:
//! the chassis may remember the write and have another thread call [`Device::rung`]. Where the device allows it, a
//! vCPU that is halted may do a part of that.
//!
//! # Life
//! ```text
//!   new ──► reset ──► running ◄──► paused ──► (dropped)
//!                        │            ▲ save / restore only here
//!                        └─ reset ────┘ (paused first, by the chassis)
//! ```
//! The chassis pauses vCPUs before devices and resumes devices before vCPUs.
//! [`Device::reset`] brings the power-on state back and lowers every line.
//!
//! # Locks
//! The chassis holds a device's lock during each call. While it is held the device may raise lines
//! and send MSIs: lock order is *device → interrupt controller → engine*. A controller never calls a
//! device.
//!
//! # What was rejected
//! Async devices (hard to follow, hard to snapshot), devices that know numbers (conflicts found at
//! run time), one fat trait per bus (a guest could reach an unimplemented default).

mod bytewise;
mod clock;
mod interrupt;
mod memory;
mod state;
pub mod testkit;

pub use bytewise::{read_bytes, write_bytes};
pub use clock::{Clock, ManualClock, Nanoseconds, SECOND};
pub use interrupt::{LineInterrupt, LineTarget, MsiInterrupt, MsiMessage, MsiTarget};
pub use memory::{CodeWatch, GuestMemory, MemoryReclaim, PAGE_SIZE, PageLog, PageLogSlice};
pub use state::{RestoreError, SavedState};

/// Which address space a region lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// The 64 KiB I/O port space.
    Port,
    /// Guest-physical memory.
    Memory,
}

/// A window of registers that a device declares by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The name, unique within the device, for example `"registers"`.
    pub name: &'static str,
    /// The address space it lives in.
    pub space: Space,
    /// Its length in bytes (ports: in ports).
    pub length: u64,
}

/// Index of a region in the list that [`Device::regions`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionIndex(pub usize);

/// Registers at which a write, whatever its value, only means "look": one every `step` bytes from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbells {
    /// The region that they lie in.
    pub region: RegionIndex,
    /// Offset of the first in bytes.
    pub start: u64,
    /// Bytes from one to the next; not 0.
    pub step: u64,
    /// How many there are.
    pub count: u64,
    /// A vCPU that has nothing else to do may answer them, by [`Device::rung_briefly`].
    pub brief: bool,
}

impl Doorbells {
    /// Whether a write at `offset` in `region` rings one.
    pub fn contain(&self, region: RegionIndex, offset: u64) -> bool {
        let end = self.start + self.step * self.count;
        region == self.region && (self.start..end).contains(&offset)
    }
}

/// What became of an access. Errors are for diagnosis only: the guest sees all-ones or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Done; a read has filled its buffer.
    Done,
    /// No register at this offset.
    BadRegister,
    /// The register does not take this access size.
    BadSize,
    /// The access is not aligned as the register asks.
    Unaligned,
}

/// A device: a state machine that the chassis drives. See the crate documentation for the contract.
pub trait Device: Send {
    /// The instance's name: `"com1"`, `"ioapic"`. Used in messages, saved state and logs.
    fn name(&self) -> &str;

    /// The windows it declares. The same list at every call.
    fn regions(&self) -> Vec<Region> {
        Vec::new()
    }

    /// The guest reads `data.len()` bytes (1, 2, 4 or 8) at `offset` in a region.
    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let _ = (region, offset, data);
        Access::BadRegister
    }

    /// The guest writes `data.len()` bytes (1, 2, 4 or 8) at `offset` in a region.
    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let _ = (region, offset, data);
        Access::BadRegister
    }

    /// The virtual time at which [`Device::wake`] is wanted, if any.
    fn deadline(&self) -> Option<Nanoseconds> {
        None
    }

    /// The virtual time `now` has reached the deadline (it may be later than asked).
    fn wake(&mut self, now: Nanoseconds) {
        let _ = now;
    }

    /// A port of this device has something new: take it.
    fn poll(&mut self) {}

    /// Its doorbells, if it has any. Never others than at first.
    fn doorbells(&self) -> Option<Doorbells> {
        None
    }

    /// How much work doorbells have announced that no call has taken yet, at a glance. The guest need not ring until
    /// the next [`Device::rung`], which follows soon.
    fn waiting(&mut self) -> u32 {
        0
    }

    /// What one of those usually costs, in the smallest ones.
    fn weight(&self) -> u32 {
        1
    }

    /// Doorbells were rung, or a port has something new: look at everything. In the place of the writes, which do
    /// not come as such; more of them than calls.
    fn rung(&mut self) {
        self.poll();
    }

    /// The same, but no more than takes a few microseconds. True when there is more.
    fn rung_briefly(&mut self) -> bool {
        self.rung();
        false
    }

    /// The machine starts to run, or goes on after a pause.
    fn resume(&mut self) {}

    /// The machine has been paused; no access follows before [`Device::resume`].
    fn pause(&mut self) {}

    /// Back to the power-on state, but for what a battery keeps; every line low.
    fn reset(&mut self);

    /// The whole guest-visible state. Called only when paused.
    fn save(&self) -> SavedState;

    /// Takes over a state made by [`Device::save`] of the same kind of device. Called only when paused.
    ///
    /// # Errors
    /// [`RestoreError`] when the state is of another device, of a version not known, or not valid; the
    /// device must then be reset before use.
    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError>;

    /// The AML of this device's node in the DSDT (ACPI 6.5 §5.2.11.1), given where the board put it.
    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let _ = placed;
        None
    }
}

/// Where the board put a device: bases in the order of [`Device::regions`], GSIs in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The base address or port of each region.
    pub bases: Vec<u64>,
    /// The global system interrupt of each line.
    pub interrupts: Vec<u32>,
}

/// What a device may ask of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEvent {
    /// Switch the machine off (ACPI S5).
    PowerOff,
    /// Reset it (keyboard controller, ACPI reset register, port 0xcf9).
    Reset,
    /// The guest says that it panicked (pvpanic).
    Panicked,
    /// The guest asks the process to end with this status (isa-debug-exit).
    Exit(u8),
}

/// Receiver of [`MachineEvent`]s; called from vCPU threads, must not block.
pub trait MachineControl: Send + Sync {
    /// Ask for it. The machine acts on it soon after the access that asked has finished.
    fn request(&self, event: MachineEvent);
}
