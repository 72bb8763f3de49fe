//! The state driver: the main thread, which alone decides what becomes of the machine.
//!
//! It sleeps until one of these has something, and serves all of them:
//!
//! | source | what follows |
//! |---|---|
//! | signalfd | the end; after SIGCONT the terminal is raw again |
//! | event queue | power-off, reset, panic, exit, a failed vCPU, closed output, a disk that waits for the host |
//! | orders of the control socket's clients | what they ask for (`commands`) |
//! | terminal | typing to the guest, commands of the menu |
//! | the devices' earliest deadline, their ports | [`Machine::service`] |
//! | `--timeout` | the end |

use crate::backends::Backends;
use crate::commands::Order;
use crate::events::{Event, EventQueue};
use crate::machine::{Machine, MachineState};
use crate::signals::{Arrived, Signals};
use crate::{Ending, VmmError, tell};
use kezhan_block::DiskHandle;
use kezhan_chardev::{MENU_HELP, MenuCommand};
use kezhan_device::MachineEvent;
use kezhan_hypervisor::Exit;
use kezhan_machine_spec::MachineSpec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a machine that waits for a disk tries again.
const RETRY: Duration = Duration::from_millis(500);

/// Goes on, or ends the machine.
pub(crate) type Flow = ControlFlow<Ending>;

/// What the driver holds.
pub(crate) struct Driver<'a> {
    pub(crate) spec: &'a MachineSpec,
    pub(crate) engine: &'static str,
    pub(crate) machine: Machine,
    pub(crate) backends: Backends,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) signals: Signals,
    /// When a machine that waits for a disk tries again.
    pub(crate) next_try: Instant,
    /// Who waits for which disk to be let go.
    pub(crate) leaving: Vec<(String, Order)>,
}

/// What poll said.
struct Ready {
    signals: bool,
    terminal: bool,
}

impl Driver<'_> {
    /// Drives a machine that runs to its end.
    ///
    /// # Errors
    /// [`VmmError`] when a reset or a pause fails.
    pub(crate) fn run(&mut self) -> Result<Ending, VmmError> {
        let until = self.spec.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        loop {
            match self.step(until)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(ending) => return Ok(ending),
            }
        }
    }

    fn step(&mut self, until: Option<Instant>) -> Result<Flow, VmmError> {
        let device = self.machine.service();
        let end = until.map(|until| until.saturating_duration_since(Instant::now()));
        if let (Some(Duration::ZERO), Some(seconds)) = (end, self.spec.timeout) {
            return Ok(Flow::Break(Ending::TimedOut(seconds)));
        }
        let retry = (self.machine.state() == MachineState::Waiting)
            .then(|| self.next_try.saturating_duration_since(Instant::now()));
        let ready = self.wait([device, end, retry].into_iter().flatten().min());
        self.go_on_if_disks_do();
        if ready.signals
            && let Flow::Break(ending) = self.take_signals()
        {
            return Ok(Flow::Break(ending));
        }
        for event in self.events.take() {
            if let Flow::Break(ending) = self.handle(event)? {
                return Ok(Flow::Break(ending));
            }
        }
        self.take_ejected();
        if let Flow::Break(ending) = self.take_commands()? {
            return Ok(Flow::Break(ending));
        }
        if ready.terminal {
            return self.take_input();
        }
        Ok(Flow::Continue(()))
    }

    fn wait(&self, longest: Option<Duration>) -> Ready {
        let terminal = self.backends.terminal.as_ref().and_then(|terminal| terminal.input());
        let bell = self.events.bell();
        let mut sources = vec![
            PollFd::from_borrowed_fd(self.signals.descriptor(), PollFlags::IN),
            PollFd::from_borrowed_fd(bell, PollFlags::IN),
        ];
        sources.extend(terminal.map(|input| PollFd::from_borrowed_fd(input, PollFlags::IN)));
        let longest = longest.and_then(|longest| Timespec::try_from(longest).ok());
        // An error here is EINTR: nothing is ready then, and the loop comes back.
        poll(&mut sources, longest.as_ref()).ok();
        let ready = |at: usize| sources.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ready { signals: ready(0), terminal: ready(2) }
    }

    fn take_signals(&self) -> Flow {
        while let Some(arrived) = self.signals.next() {
            match (arrived, &self.backends.terminal) {
                (Arrived::End(number), _) => return Flow::Break(Ending::Signal(number)),
                (Arrived::Continued, Some(terminal)) => terminal.continued(),
                (Arrived::Continued, None) => {}
            }
        }
        Flow::Continue(())
    }

    fn handle(&mut self, event: Event) -> Result<Flow, VmmError> {
        match event {
            Event::Machine(MachineEvent::PowerOff) => Ok(Flow::Break(Ending::PowerOff)),
            Event::Machine(MachineEvent::Panicked) => Ok(Flow::Break(Ending::Panicked)),
            Event::Machine(MachineEvent::Exit(status)) => Ok(Flow::Break(Ending::Exit(status))),
            Event::Machine(MachineEvent::Reset) | Event::Vcpu(_, Exit::Shutdown) => self.reset(),
            Event::Vcpu(_, Exit::Kicked) => Ok(Flow::Continue(())),
            Event::Vcpu(index, Exit::Failed(message)) => Ok(Flow::Break(Ending::Failed {
                host: self.engine == "kvm",
                message: format!("vCPU {index}: {message}"),
            })),
            Event::OutputClosed => Ok(Flow::Break(Ending::OutputClosed)),
            Event::DiskHeld(reason) => self.wait_for_disk(&reason),
            Event::Notice(text) => {
                self.say(&text);
                Ok(Flow::Continue(()))
            }
        }
    }

    /// The machine stands still until the host can serve the disk again; each retry that fails comes here too.
    fn wait_for_disk(&mut self, reason: &str) -> Result<Flow, VmmError> {
        if self.machine.state() == MachineState::Running {
            self.machine.wait()?;
            self.next_try = Instant::now() + RETRY;
            self.say(&format!("{reason}; the machine waits and goes on when that is mended"));
        }
        Ok(Flow::Continue(()))
    }

    /// While the machine waits: tries again what is held, and goes on when nothing is left.
    fn go_on_if_disks_do(&mut self) {
        if self.machine.state() != MachineState::Waiting {
            return;
        }
        if self.backends.disks.values().all(DiskHandle::is_idle) {
            self.machine.end_wait();
            self.say("the disk works again, the machine goes on");
            return;
        }
        if self.next_try <= Instant::now() {
            self.next_try = Instant::now() + RETRY;
            self.backends.disks.values().for_each(DiskHandle::retry);
        }
    }

    /// The guest's own reset.
    fn reset(&mut self) -> Result<Flow, VmmError> {
        if self.spec.no_reboot {
            return Ok(Flow::Break(Ending::Reset));
        }
        self.machine.reset()?;
        // Whatever the guest asked for before it was reset is of no meaning any more.
        let left = self.events.take();
        let keep = |event: &Event| !matches!(event, Event::Machine(_) | Event::Vcpu(..));
        left.into_iter().filter(keep).for_each(|event| self.events.push(event));
        Ok(Flow::Continue(()))
    }

    fn take_input(&mut self) -> Result<Flow, VmmError> {
        let Some(terminal) = &mut self.backends.terminal else {
            return Ok(Flow::Continue(()));
        };
        for command in terminal.take_input() {
            match command {
                MenuCommand::Quit => return Ok(Flow::Break(Ending::Quit)),
                MenuCommand::Reset => self.machine.reset()?,
                MenuCommand::PowerButton => self.machine.press_power_button(),
                MenuCommand::Status => self.say(&self.status()),
                MenuCommand::Help => self.say(MENU_HELP),
            }
        }
        Ok(Flow::Continue(()))
    }

    pub(crate) fn status(&self) -> String {
        let state = match self.machine.state() {
            MachineState::Created => "created",
            MachineState::Running => "running",
            MachineState::Waiting => "waiting for a disk",
            MachineState::Paused => "paused",
        };
        let (cpus, memory, engine) = (self.spec.cpus, self.spec.memory, self.engine);
        let up = self.machine.uptime().as_secs_f64();
        let process = std::process::id();
        format!(
            "{state} for {up:.1} s: engine {engine}, {cpus} CPUs, {memory} memory, process {process}"
        )
    }

    fn say(&self, text: &str) {
        let text = format!("{}: {text}", self.spec.name);
        match &self.backends.terminal {
            Some(terminal) => terminal.say(&format!("kezhan: {text}")),
            None => tell(&text),
        }
    }
}
