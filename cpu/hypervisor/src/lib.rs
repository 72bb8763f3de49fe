//! The engine contract: what a CPU engine promises, and all that it may ask of the machine.
//!
//! ```text
//!   vmm ── Hypervisor::create ──► Partition ── vcpu(i) ──► Vcpu (one host thread each)
//!                                    ▲                       │ run(io)
//!   devices, IOAPIC ── MSI, ExtINT ──┘                       ▼
//!                                                   CpuIo: the machine
//! ```
//!
//! The engine *calls* the machine through [`CpuIo`]; [`Vcpu::run`] returns only when somebody has to
//! decide something. The local APICs belong to the engine; PIC, IOAPIC, PIT and HPET are devices, the
//! same under every engine.
//!
//! # Life
//! 1. [`Hypervisor::create`] with memory, CPU count and CPUID gives a stopped [`Partition`].
//! 2. [`Partition::vcpu`] is called once for each index, on the thread that will run it; the vCPU is in
//!    its reset state (the bootstrap processor runnable, others waiting for SIPI).
//! 3. The loader sets the first vCPU's state with [`Vcpu::set_state`].
//! 4. Each thread calls [`Vcpu::run`] over and over until it is told to stop.
//! 5. To pause: kick every vCPU, wait until all have returned; [`Partition::pause`] stops the TSC and
//!    APIC timers. Then states may be read and written. [`Partition::resume`], and run again.
//!
//! # State
//! State travels as whole structs ([`VcpuState`]), the same for every engine, so that what was saved
//! under one restores under another.
//!
//! # Interrupts
//! * A device's message, and each IOAPIC pin, is an [`MsiMessage`] given to [`Partition::signal`]
//!   (through `MsiTarget`).
//! * [`Partition::set_route`] tells the engine what an IOAPIC pin would send, so that an irqfd can do it
//!   without us, and which vectors are level-triggered: only for those is
//!   [`CpuIo::end_of_interrupt`] called.
//! * The PIC's output is [`Partition::set_external_interrupt`]; when a vCPU takes it, the engine asks
//!   [`CpuIo::acknowledge_interrupt`] for the vector.
//!
//! # Locks
//! An engine calls [`CpuIo`] with none of its own locks held, and may be called back from inside such a
//! call (a device write that raises an interrupt).
//!
//! # What was rejected
//! Handing out exits as an enum of thirty kinds (a translator's slow path wants calls, and KVM does not
//! care); a register-at-a-time interface (slow, and never complete enough for a snapshot).

mod cpuid;
mod error;
pub mod flat;
mod state;
pub mod testkit;

pub use cpuid::{CpuidEntry, CpuidTable};
pub use error::EngineError;
pub use kezhan_device::{GuestMemory, MsiMessage, MsiTarget};
pub use state::{
    ApicState, DebugRegisters, DescriptorTable, Events, GeneralRegisters, MpState, Segment,
    SystemRegisters, VcpuState,
};

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// How fast a local APIC timer counts under every engine, before its divider, so that a timer that moves
/// from one to another keeps its time (Intel SDM vol. 3A §11.5.4). KVM can do so from Linux 6.12 on.
pub const APIC_TIMER_KHZ: u32 = 25_000;

/// What a partition is made of.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Guest RAM. Every region is mapped readable, writable and executable.
    pub memory: Arc<GuestMemory>,
    /// Number of vCPUs, 1 to 255; APIC ids are 0 to `cpus` - 1.
    pub cpus: u32,
    /// What CPUID answers; APIC-id fields are filled in by the engine for each vCPU.
    pub cpuid: CpuidTable,
    /// Number of IOAPIC pins that [`Partition::set_route`] serves.
    pub pins: u32,
}

/// An engine.
pub trait Hypervisor: Send + Sync {
    /// `"kvm"` or `"soft"`.
    fn name(&self) -> &'static str;

    /// All CPUID leaves that this engine can serve on this host.
    ///
    /// # Errors
    /// [`EngineError`] when the host facility cannot be asked.
    fn supported_cpuid(&self) -> Result<CpuidTable, EngineError>;

    /// Makes a partition.
    ///
    /// # Errors
    /// [`EngineError`] that names the host facility that is missing, or the value that is not possible.
    fn create(&self, config: PartitionConfig) -> Result<Arc<dyn Partition>, EngineError>;
}

/// The shared part of one machine's engine: callable from every thread.
pub trait Partition: MsiTarget {
    /// The vCPU `index`, to be run on the calling thread. Each index is given out once.
    ///
    /// # Errors
    /// [`EngineError::NoSuchVcpu`], or what the host said.
    fn vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, EngineError>;

    /// Makes `run` of that vCPU return [`Exit::Kicked`] soon, also when it has yet to be called.
    fn kick(&self, index: u32);

    /// What IOAPIC pin `pin` sends when it fires, and whether it is level-triggered; `None` when masked.
    fn set_route(&self, pin: u32, route: Option<Route>);

    /// The level of the PIC's INTR output.
    fn set_external_interrupt(&self, high: bool);

    /// Non-maskable interrupt to vCPU `index`.
    fn signal_nmi(&self, index: u32);

    /// Stops guest time. All vCPUs are out of `run`.
    fn pause(&self);

    /// Guest time goes on.
    fn resume(&self);

    /// Guest TSC frequency in kHz.
    fn tsc_khz(&self) -> u32;

    /// The paravirtual clock that guests read through shared memory (kernel
    /// `Documentation/virt/kvm/x86/msr.rst`, MSR_KVM_SYSTEM_TIME_NEW), in nanoseconds; `None` for an engine
    /// that has none. A snapshot needs it beside the vCPUs' states.
    fn paravirtual_clock(&self) -> Option<u64> {
        None
    }

    /// Sets what [`Partition::paravirtual_clock`] gives. While paused.
    fn set_paravirtual_clock(&self, _nanoseconds: u64) {}

    /// A read-only region (ROM): reads and fetches go to `memory`'s bytes, writes to [`CpuIo`]. The
    /// lowest address of `memory` comes to `address`; both are multiples of the page size, and no RAM
    /// lies there.
    ///
    /// # Errors
    /// What the host said.
    fn map_rom(&self, address: u64, memory: Arc<GuestMemory>) -> Result<(), EngineError>;

    /// The guest does not need what is in `address .. address + length`: the host gets its memory back, and the
    /// range reads as zeroes when the guest next touches it. False when it is not whole pages of one region
    /// of RAM, or when engine or host refuse: then nothing has changed. Callable while vCPUs run.
    fn release_memory(&self, _address: u64, _length: u64) -> bool {
        false
    }

    /// Dirty log, where the engine has one.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// What the engine has counted so far, one line for each subject, for people. While paused.
    fn statistics(&self) -> Vec<String> {
        Vec::new()
    }

    /// Interrupts and doorbells by event descriptor, where the engine has them.
    fn event_descriptors(&self) -> Option<&dyn EventDescriptors> {
        None
    }
}

/// What an IOAPIC pin sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The message.
    pub message: MsiMessage,
    /// Level-triggered: the end of the interrupt must be reported.
    pub level: bool,
}

/// Pages written by vCPUs.
pub trait DirtyLog {
    /// Turns logging on (which clears it) or off.
    ///
    /// # Errors
    /// What the host said.
    fn set_logging(&self, on: bool) -> Result<(), EngineError>;

    /// For each RAM region in address order: bit `n % 64` of word `n / 64` is set when page `n` was
    /// written since the last call. Clears the log.
    ///
    /// # Errors
    /// What the host said.
    fn take(&self) -> Result<Vec<Vec<u64>>, EngineError>;
}

/// Interrupts and doorbells that do not pass through our process.
pub trait EventDescriptors {
    /// Each time `event` is signalled, pin `pin`'s route is sent.
    ///
    /// # Errors
    /// What the host said.
    fn attach_interrupt(&self, pin: u32, event: BorrowedFd<'_>) -> Result<(), EngineError>;

    /// Undoes [`EventDescriptors::attach_interrupt`].
    ///
    /// # Errors
    /// What the host said.
    fn detach_interrupt(&self, pin: u32, event: BorrowedFd<'_>) -> Result<(), EngineError>;

    /// A guest write at the doorbell signals `event` and does not reach [`CpuIo`].
    ///
    /// # Errors
    /// What the host said.
    fn attach_doorbell(&self, bell: Doorbell, event: BorrowedFd<'_>) -> Result<(), EngineError>;

    /// Undoes [`EventDescriptors::attach_doorbell`].
    ///
    /// # Errors
    /// What the host said.
    fn detach_doorbell(&self, bell: Doorbell, event: BorrowedFd<'_>) -> Result<(), EngineError>;
}

/// A place where a write means "look".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Doorbell {
    /// An I/O port rather than memory.
    pub port: bool,
    /// The port or guest-physical address.
    pub address: u64,
    /// Bytes of the write, 1 to 8; 0 for any.
    pub size: u32,
    /// Only writes of this value, when given.
    pub value: Option<u64>,
}

/// One virtual CPU.
pub trait Vcpu: Send {
    /// Runs until something needs a decision. Everything else goes to `io`.
    fn run(&mut self, io: &dyn CpuIo) -> Exit;

    /// The whole state. Not while running.
    ///
    /// # Errors
    /// What the host said.
    fn state(&self) -> Result<VcpuState, EngineError>;

    /// Replaces the whole state. Not while running.
    ///
    /// # Errors
    /// What the host said, or the part that is not possible.
    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError>;
}

/// Why [`Vcpu::run`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Somebody called [`Partition::kick`].
    Kicked,
    /// Triple fault (Intel SDM vol. 3A §6.15): the machine resets.
    Shutdown,
    /// The engine cannot go on; the message names RIP, the bytes there and the cause.
    Failed(String),
}

/// Everything that an engine may ask of the machine. Called from vCPU threads.
pub trait CpuIo: Sync {
    /// `in`: fills `data` (1, 2 or 4 bytes).
    fn read_port(&self, port: u16, data: &mut [u8]);

    /// `out`.
    fn write_port(&self, port: u16, data: &[u8]);

    /// A read of guest-physical memory that is not RAM: fills `data` (1 to 8 bytes).
    fn read_memory(&self, address: u64, data: &mut [u8]);

    /// A write to guest-physical memory that is not RAM.
    fn write_memory(&self, address: u64, data: &[u8]);

    /// Interrupt acknowledge cycle: the PIC's vector.
    fn acknowledge_interrupt(&self) -> u8;

    /// A level-triggered vector has ended (EOI broadcast).
    fn end_of_interrupt(&self, vector: u8);

    /// The calling vCPU is halted and has nothing to do until an interrupt comes: the machine may do work of its own
    /// on this thread, not much at a time. `all`: so are all others, and the guest has done what it had to do. An engine
    /// whose vCPUs halt elsewhere does not call it.
    fn idle(&self, _all: bool) {}
}
