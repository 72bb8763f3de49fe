//! One machine: its board, engine, vCPUs, memory and clock, moved together from state to state.
//!
//! Every transition keeps the order that the contracts ask for: vCPUs park before devices pause, devices
//! resume before vCPUs run; the clock stands still exactly while nothing can read it.

use crate::attendants::Attendants;
use crate::clock::VirtualClock;
use crate::events::EventQueue;
use crate::files::BootFiles;
use crate::snapshot::{MemoryImage, Snapshot};
use crate::vcpus::Vcpus;
use crate::{VmmError, cpu_model, memory};
use kezhan_board::{BalloonHandle, Board, Host, IOAPIC_PINS, IdleListener, Ports, memory_ranges};
use kezhan_device::{Clock, GuestMemory};
use kezhan_hypervisor::{Hypervisor, Partition, PartitionConfig};
use kezhan_machine_spec::{DiskSpec, MachineSpec};
use kezhan_ports::Disk;
use std::sync::Arc;
use std::time::Duration;

/// Where a machine is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// Built; no kernel loaded.
    Created,
    /// vCPUs run.
    Running,
    /// vCPUs and time stand still while a disk waits for the host; devices take what it then gives.
    Waiting,
    /// Everything stands still.
    Paused,
}

/// What a machine is made from, beside its description.
pub(crate) struct Parts {
    pub(crate) engine: Arc<dyn Hypervisor>,
    pub(crate) files: BootFiles,
    pub(crate) ports: Ports,
    pub(crate) events: Arc<EventQueue>,
}

/// A machine. Fields are dropped in this order: threads before what they use.
pub struct Machine {
    vcpus: Vcpus,
    attendants: Arc<Attendants>,
    partition: Arc<dyn Partition>,
    board: Arc<Board>,
    memory: Arc<GuestMemory>,
    clock: Arc<VirtualClock>,
    files: BootFiles,
    state: MachineState,
}

impl Machine {
    /// Builds it, in state [`MachineState::Created`].
    ///
    /// # Errors
    /// [`VmmError`] from whatever part cannot be made.
    pub(crate) fn new(spec: &MachineSpec, parts: Parts) -> Result<Machine, VmmError> {
        let memory = Arc::new(memory::map(spec.memory, &memory_ranges(spec.memory.bytes()))?);
        let clock = Arc::new(VirtualClock::new());
        let hook = parts.events.clone();
        let attendants = Arc::new(Attendants::default());
        let host = Host {
            memory: memory.clone(),
            clock: clock.clone(),
            control: parts.events.clone(),
            attention: Arc::new(move || hook.wake()),
            ports: parts.ports,
            staff: Some(attendants.clone()),
        };
        let board = Arc::new(Board::new(spec, host)?);
        let partition = parts.engine.create(PartitionConfig {
            memory: memory.clone(),
            cpus: spec.cpus,
            cpuid: cpu_model::table(&spec.cpu, parts.engine.as_ref())?,
            pins: IOAPIC_PINS,
        })?;
        board.connect(partition.clone());
        for attendance in board.attendances() {
            attendants.start(attendance)?;
        }
        let vcpus = Vcpus::new(partition.clone(), spec.cpus, board.clone(), parts.events)?;
        let (files, state) = (parts.files, MachineState::Created);
        Ok(Machine { vcpus, attendants, partition, board, memory, clock, files, state })
    }

    /// Tells `listener` when the guest has nothing to do; to be called before it runs.
    pub(crate) fn tell_idle(&self, listener: Arc<dyn IdleListener>) {
        self.board.tell_idle(listener);
    }

    /// Where it is in its life.
    pub fn state(&self) -> MachineState {
        self.state
    }

    /// Virtual time since the start.
    pub fn uptime(&self) -> Duration {
        Duration::from_nanos(self.clock.now())
    }

    /// Loads the kernel and lets it run.
    ///
    /// # Errors
    /// [`VmmError::Kernel`], or what the engine said.
    pub fn start(&mut self) -> Result<(), VmmError> {
        self.load()?;
        self.go_on();
        Ok(())
    }

    /// Stops everything, if it runs.
    ///
    /// # Errors
    /// [`VmmError::VcpuLost`].
    pub fn pause(&mut self) -> Result<(), VmmError> {
        self.wait()?;
        if self.state == MachineState::Waiting {
            self.board.pause();
            self.state = MachineState::Paused;
        }
        Ok(())
    }

    /// Stops vCPUs and time only, if the machine runs: for a disk that the host cannot serve now. A pause from
    /// here gives up what the disk holds; the guest then sees errors.
    ///
    /// # Errors
    /// [`VmmError::VcpuLost`].
    pub(crate) fn wait(&mut self) -> Result<(), VmmError> {
        if self.state == MachineState::Running {
            self.vcpus.park()?;
            self.partition.pause();
            self.clock.stop();
            self.state = MachineState::Waiting;
        }
        Ok(())
    }

    /// Goes on when the disk does.
    pub(crate) fn end_wait(&mut self) {
        if self.state == MachineState::Waiting {
            self.partition.resume();
            self.clock.start();
            self.vcpus.run();
            self.state = MachineState::Running;
        }
    }

    /// Goes on after a pause.
    pub fn resume(&mut self) {
        if self.state == MachineState::Paused {
            self.partition.resume();
            self.go_on();
        }
    }

    /// Back to the power-on state, kernel loaded anew; then runs or stays paused as before.
    ///
    /// RAM keeps what the kernel does not overwrite, as in a real machine.
    ///
    /// # Errors
    /// [`VmmError`] of pausing or loading; the machine is paused then.
    pub fn reset(&mut self) -> Result<(), VmmError> {
        let was_running = matches!(self.state, MachineState::Running | MachineState::Waiting);
        self.pause()?;
        self.board.reset();
        self.load()?;
        if was_running {
            self.resume();
        }
        Ok(())
    }

    /// The whole state. A running machine is paused for it.
    ///
    /// # Errors
    /// [`VmmError`] of pausing, or what the engine said.
    pub fn save(&mut self) -> Result<Snapshot, VmmError> {
        let was_running = matches!(self.state, MachineState::Running | MachineState::Waiting);
        self.pause()?;
        let snapshot = Snapshot {
            time: self.clock.now(),
            devices: self.board.save(),
            vcpus: self.vcpus.states()?,
            memory: MemoryImage::read(&self.memory).map_err(unmapped)?,
        };
        if was_running {
            self.resume();
        }
        Ok(snapshot)
    }

    /// Takes over a state; the machine is paused afterwards.
    ///
    /// # Errors
    /// [`VmmError`] of the part that does not take its state; the machine must then be reset.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), VmmError> {
        self.pause()?;
        if self.state == MachineState::Created {
            self.partition.pause();
            self.state = MachineState::Paused;
        }
        self.clock.set(snapshot.time);
        snapshot.memory.write(&self.memory).map_err(unmapped)?;
        self.board.restore(&snapshot.devices)?;
        self.vcpus.set_states(snapshot.vcpus.clone())
    }

    /// What the engine has counted, one line for each subject. A running machine is paused for it.
    ///
    /// # Errors
    /// [`VmmError::VcpuLost`].
    pub fn statistics(&mut self) -> Result<Vec<String>, VmmError> {
        let was_running = self.state == MachineState::Running;
        self.pause()?;
        let lines = self.partition.statistics();
        if was_running {
            self.resume();
        }
        Ok(lines)
    }

    /// The hand on the memory balloon, if the machine has one.
    pub(crate) fn balloon(&self) -> Option<BalloonHandle> {
        self.board.balloon()
    }

    /// Puts a disk into a hot-plug slot.
    ///
    /// # Errors
    /// [`VmmError::Board`] when none is free; [`VmmError::Host`] without a thread.
    pub(crate) fn attach_disk(
        &self,
        name: &str,
        spec: &DiskSpec,
        disk: Box<dyn Disk>,
    ) -> Result<(), VmmError> {
        match self.board.attach_disk(name, spec, disk)? {
            Some(work) => self.attendants.start(work),
            None => Ok(()),
        }
    }

    /// Asks the guest to let go of a disk in a hot-plug slot.
    ///
    /// # Errors
    /// [`VmmError::Board`] when it is in none.
    pub(crate) fn ask_for_disk(&self, name: &str) -> Result<(), VmmError> {
        Ok(self.board.ask_for_disk(name)?)
    }

    /// The disks that the guest has let go of since the last call; they are closed.
    pub(crate) fn take_ejected(&self) -> Vec<String> {
        let names = self.board.take_ejected();
        names.iter().for_each(|name| self.attendants.end(name));
        names
    }

    /// Presses the power button.
    pub fn press_power_button(&self) {
        self.board.press_power_button();
    }

    /// Serves the devices whose time or port has come; gives the time until the next.
    pub fn service(&self) -> Option<Duration> {
        let next = self.board.service()?;
        Some(Duration::from_nanos(next.saturating_sub(self.clock.now())))
    }

    fn load(&mut self) -> Result<(), VmmError> {
        let entry = self.files.load(&self.board)?;
        let mut states = self.vcpus.fresh_states().to_vec();
        if let Some(first) = states.first_mut() {
            entry.apply(first);
        }
        self.vcpus.set_states(states)
    }

    fn go_on(&mut self) {
        self.clock.start();
        self.board.resume();
        self.vcpus.run();
        self.state = MachineState::Running;
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("state", &self.state).finish_non_exhaustive()
    }
}

fn unmapped(error: vm_memory::GuestMemoryError) -> VmmError {
    let error = std::io::Error::other(error.to_string());
    VmmError::Host { call: "guest memory".to_owned(), error }
}

#[cfg(test)]
mod tests;
