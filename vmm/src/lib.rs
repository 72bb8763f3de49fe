//! The virtual machine process: one machine, one ordinary Linux process.
//!
//! ```text
//!                      ┌──────────── reset (paused for it) ────────────┐
//!                      ▼                                               │
//!   created ── start ──► running ◄── pause / resume ──► paused ────────┤
//!      │                   │                              ▲  │         │
//!      └── restore ────────┼──────────────────────────────┘  │         │
//!                          └───────────────┬─────────────────┘─────────┘
//!                                          ▼
//!                                       stopped (Ending) ── exit status
//! ```
//!
//! A running machine whose disk the host cannot serve (`on-error=pause`) *waits*: vCPUs and time stand still,
//! devices do not; it runs again when the disk does.
//!
//! # Threads
//! | thread | does |
//! |---|---|
//! | main | the *state driver*: owns every transition, serves device timers and ports, reads the terminal |
//! | `vcpu0` … | [`Vcpu::run`](kezhan_hypervisor::Vcpu::run), over and over |
//! | `disk0` … | a disk each: its guest's requests ([`attendants`]) |
//! | `net0` … | a user network each: its guest's frames, the host's sockets |
//! | `control`, `control-client` | answer what others ask of the machine |
//! | `chardev-out`, `serial-socket` | write what the guest prints, as slowly as the reader likes |
//!
//! Nothing but the driver changes the machine's state. Others put an event into its queue: a device that
//! wants a reset, a vCPU that came out of `run`, a log that cannot be written.
//!
//! # From the description to the first instruction
//! 1. Everything that can be wrong is found first: the description, the host's memory, the files.
//! 2. Signals are blocked, so that every later thread has them blocked.
//! 3. The engine is chosen; the back-ends are opened (the terminal is raw from here on).
//! 4. Memory, board, partition, vCPU threads; kernel loaded; run.
//!
//! # The end
//! The driver returns an [`Ending`]; vCPUs are parked, output is written out, the terminal restored, and
//! the process ends with [`Ending::status`]. A panic in any thread ends the process with 70, terminal
//! restored (see [`end_process_on_panic`]). SIGTERM, SIGINT, SIGHUP and SIGQUIT switch the machine off
//! at once: status 128 and the signal's number.
//!
//! # Locks
//! The queue's lock and the back-ends' are leaves. Everything else belongs to one thread.
//!
//! # What was rejected
//! An asynchronous runtime (threads that block are what vCPUs are; one poll serves the rest); a thread
//! for device timers (the main thread has nothing else to do, and transitions need no lock against it).

mod attendants;
mod backends;
mod clock;
mod commands;
mod control;
mod cpu_model;
mod disks;
pub mod doctor;
mod driver;
mod ending;
mod engine;
mod error;
mod events;
mod files;
mod guests;
mod host;
mod log_lines;
mod machine;
mod memory;
mod message;
mod nets;
mod signals;
mod snapshot;
#[cfg(test)]
mod testkit;
mod vcpus;
mod verdict;

pub use clock::VirtualClock;
pub use control::{folder as machines_folder, remove_leavings};
pub use doctor::KvmReport;
pub use ending::Ending;
pub use engine::inspect_kvm;
pub use error::{VmmError, status};
pub use guests::Guests;
pub use host::{HostMemory, HostRoot};
pub use log_lines::tell_log;
pub use machine::{Machine, MachineState};
pub use message::{end_process_on_panic, tell};
pub use snapshot::{MemoryImage, Snapshot};

use backends::Backends;
use driver::Driver;
use events::EventQueue;
use files::BootFiles;
use kezhan_machine_spec::MachineSpec;
use machine::Parts;
use signals::Signals;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the end waits for a slow reader of the guest's last output.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long when a signal wants the process gone.
const LAST_WORDS_IN_HASTE: Duration = Duration::from_millis(200);

/// What to tell of a run, beside what the guest does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Diagnosis {
    /// At the end, what the engine has counted.
    pub statistics: bool,
    /// For `perf`, what the software engine has translated.
    pub perf_map: bool,
}

/// Runs a machine from start to end in this process, in the foreground.
///
/// # Errors
/// [`VmmError`] when it cannot be started, or a reset fails; its status is [`VmmError::status`].
pub fn run(spec: &MachineSpec, diagnosis: Diagnosis) -> Result<Ending, VmmError> {
    spec.validate()?;
    memory::check_host_has(&HostRoot::default(), spec.memory)?;
    let files = BootFiles::open(spec)?;
    name_process(&spec.name);
    let host_call = |call: &str, error| VmmError::Host { call: call.to_owned(), error };
    let signals = Signals::block().map_err(|error| host_call("signalfd", error))?;
    let events = Arc::new(EventQueue::new().map_err(|error| host_call("eventfd", error))?);
    let chosen = engine::choose(spec, diagnosis.perf_map)?;
    chosen.check(&files)?;
    if let Some(notice) = &chosen.notice {
        tell(notice);
    }
    let engine = chosen.engine.name();
    let mut backends = Backends::open(spec, &events, engine)?;
    let ports = std::mem::take(&mut backends.ports);
    let parts = Parts { engine: chosen.engine, files, ports, events: events.clone() };
    let mut machine = Machine::new(spec, parts)?;
    machine.tell_idle(backends.idle_listener());
    machine.start()?;
    let mut driver = Driver {
        spec,
        engine,
        machine,
        backends,
        events,
        signals,
        next_try: Instant::now(),
        leaving: Vec::new(),
    };
    let result = driver.run();
    let Driver { mut machine, backends, .. } = driver;
    if diagnosis.statistics {
        for line in machine.statistics()? {
            tell(&line);
        }
    }
    drop(machine);
    backends.finish(patience(&result));
    result
}

fn patience(result: &Result<Ending, VmmError>) -> Duration {
    match result {
        Ok(Ending::Signal(_) | Ending::OutputClosed) => LAST_WORDS_IN_HASTE,
        _ => LAST_WORDS,
    }
}

/// The name that `ps` and `top` show for the process: `kezhan: NAME`, as far as 15 bytes go (proc_pid_comm(5)).
fn name_process(name: &str) {
    let title = format!("kezhan: {name}");
    let end = title.len().min(15);
    if let Ok(title) = CString::new(&title.as_bytes()[..end]) {
        rustix::thread::set_name(&title).ok();
    }
}
