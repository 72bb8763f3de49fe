//! Commands of the control socket, done by the driver.
//!
//! ```text
//!   client's thread ── give(command) ─► Orders ─► driver: does it ── answer ─► client's thread
//! ```

use crate::driver::{Driver, Flow};
use crate::events::EventQueue;
use crate::{Ending, VmmError, disks};
use kezhan_block::Faults;
use kezhan_control::{Command, FailingRequests};
use kezhan_machine_spec::{DiskBus, DiskSpec, Size};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What became of a command: something to tell, or why it was not done.
pub(crate) type Outcome = Result<String, String>;

/// A command that waits to be done.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) command: Command,
    to: Sender<Outcome>,
}

impl Order {
    /// Tells who gave it, if somebody still listens.
    pub(crate) fn answer(&self, outcome: Outcome) {
        self.to.send(outcome).ok();
    }
}

/// The commands that wait.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Mutex<Vec<Order>>,
    events: Option<Arc<EventQueue>>,
}

impl Orders {
    /// Those of the driver that `events` wakes.
    pub(crate) fn new(events: Arc<EventQueue>) -> Orders {
        Orders { waiting: Mutex::default(), events: Some(events) }
    }

    /// Gives one; its outcome comes, or the end of the machine.
    pub(crate) fn give(&self, command: Command) -> Receiver<Outcome> {
        let (to, outcome) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Order { command, to });
        if let Some(events) = &self.events {
            events.wake();
        }
        outcome
    }

    /// Takes all, in order.
    pub(crate) fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver<'_> {
    /// Does what clients have asked for.
    pub(crate) fn take_commands(&mut self) -> Result<Flow, VmmError> {
        for order in self.backends.orders.take() {
            match &order.command {
                Command::Quit => {
                    order.answer(Ok(String::new()));
                    return Ok(Flow::Break(Ending::Quit));
                }
                Command::Reset => {
                    self.machine.reset()?;
                    order.answer(Ok(String::new()));
                }
                Command::Detach(disk) => match self.machine.ask_for_disk(disk) {
                    Ok(()) => self.leaving.push((disk.clone(), order)),
                    Err(error) => order.answer(Err(error.to_string())),
                },
                command => order.answer(self.obey(command)),
            }
        }
        Ok(Flow::Continue(()))
    }

    fn obey(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Status => Ok(self.status()),
            Command::PowerButton => {
                self.machine.press_power_button();
                Ok(String::new())
            }
            Command::Resize { disk, size } => self.resize(disk, *size),
            Command::Balloon(size) => self.set_balloon(*size),
            Command::Attach(disk) => self.attach(disk),
            Command::Fail { disk, requests } => self.fail(disk, *requests),
            Command::Reset | Command::Quit | Command::Detach(_) => Ok(String::new()),
        }
    }

    fn resize(&self, disk: &str, size: Size) -> Outcome {
        let handle = self.backends.disk(disk)?;
        handle.resize(size.bytes()).map_err(|error| error.to_string())?;
        Ok(String::new())
    }

    /// Requests to a disk fail, or no longer. A machine that waits for the disk tries again by itself.
    fn fail(&self, disk: &str, requests: FailingRequests) -> Outcome {
        let faults = Faults { reads: requests.reads(), writes: requests.writes() };
        self.backends.disk(disk)?.set_faults(faults);
        Ok(String::new())
    }

    /// The guest keeps `size` of its memory.
    fn set_balloon(&self, size: Size) -> Outcome {
        let memory = self.spec.memory;
        let balloon = self.machine.balloon().ok_or(
            "balloon: the machine has none; start it with --device virtio-balloon".to_owned(),
        )?;
        let Some(given) = memory.bytes().checked_sub(size.bytes()) else {
            return Err(format!("balloon {size}: the machine has {memory}; leave it at most that"));
        };
        balloon.set_target(u32::try_from(given / 4096).unwrap_or(u32::MAX));
        Ok(String::new())
    }

    /// Opens the image and puts it into a slot; the disk's name.
    fn attach(&mut self, spec: &DiskSpec) -> Outcome {
        if spec.bus == DiskBus::Mmio {
            return Err("attach: a slot is on PCI; leave bus=mmio out".to_owned());
        }
        let (disk, handle) = disks::open(spec, &self.events).map_err(|error| error.to_string())?;
        let taken = &self.backends.disks;
        let name = (0..).map(|n| format!("disk{n}")).find(|name| !taken.contains_key(name));
        let name = name.unwrap_or_default();
        self.machine.attach_disk(&name, spec, disk).map_err(|error| error.to_string())?;
        self.backends.disks.insert(name.clone(), handle);
        Ok(name)
    }

    /// Closes what the guest has let go of, and answers who asked for it.
    pub(crate) fn take_ejected(&mut self) {
        for name in self.machine.take_ejected() {
            self.backends.disks.remove(&name);
            let gone = self.leaving.extract_if(.., |(disk, _)| *disk == name);
            gone.for_each(|(_, order)| order.answer(Ok(String::new())));
        }
    }
}
