//! Disks that come and go while the machine runs: root ports, and what is in their slots.
//!
//! ```text
//!   attach_disk ─► function behind a free port ─► RootPort::insert ─► the guest finds it
//!   ask_for_disk ─► RootPort::press_button ─► the guest lets go, power off ─► ejected ─► attention
//!   take_ejected ─► out of the slot, the windows and the board
//! ```
//! `--device hotplug,slots=N` gives a board N ports. What is behind port *n* has the address *n* + 1:00.0 for the
//! board, whatever number the guest gives the bus.
//!
//! # Locks
//! A port's occupant is a leaf. Attaching and taking out hold the board's life lock, so that nobody pauses or saves
//! half a device.

use crate::assembly::{Assembly, waker};
use crate::attend::{Attendance, Post};
use crate::pci::Behind;
use crate::settings::Settings;
use crate::slot::Slot;
use crate::{Board, BoardError, devices, life};
use kezhan_device::{Device, Placement};
use kezhan_machine_spec::DiskSpec;
use kezhan_pci::{PciAddress, PciFunction, RootPort, SlotHandle};
use kezhan_ports::Disk;
use std::sync::{Arc, Mutex, PoisonError};

/// A port with a slot.
pub(crate) struct Port {
    port: Arc<Mutex<RootPort>>,
    handle: SlotHandle,
    /// Where the port itself is.
    at: PciAddress,
    /// Where what is behind it is, for the board.
    behind: PciAddress,
    occupant: Mutex<Option<String>>,
}

/// `--device hotplug`: the ports, all empty.
pub(crate) fn ports(board: &mut Assembly, settings: &Settings<'_>) -> Result<(), BoardError> {
    if !board.hands.ports.is_empty() {
        return Err(BoardError::Duplicate("hotplug".to_owned()));
    }
    for index in 0..settings.count("slots", 4, 1..=16)? {
        let port = RootPort::new(&format!("hotplug{index}"), u16::from(index) + 1);
        let handle = port.handle();
        let attention = board.wiring.attention.clone();
        handle.set_waker(Arc::new(move || attention.call()));
        let port = Arc::new(Mutex::new(port));
        let at = board.plug_shared(port.clone())?;
        let behind = PciAddress::new(index + 1, 0, 0);
        board.lead(behind.bus, at);
        board.hands.ports.push(Port { port, handle, at, behind, occupant: Mutex::default() });
    }
    Ok(())
}

impl Port {
    fn occupant(&self) -> Option<String> {
        self.occupant.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_occupant(&self, name: Option<String>) {
        *self.occupant.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    fn change(&self, change: fn(&mut RootPort)) {
        change(&mut self.port.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Board {
    /// Puts a disk called `name` into a free slot, while the machine runs or stands still; gives the work of its
    /// thread, if it got a bell.
    ///
    /// # Errors
    /// [`BoardError::NoFreeSlot`], [`BoardError::Duplicate`] for a name that is taken.
    pub fn attach_disk(
        &self,
        name: &str,
        spec: &DiskSpec,
        mut disk: Box<dyn Disk>,
    ) -> Result<Option<Attendance>, BoardError> {
        let _life = life::lock(&self.life);
        let free = self.hands.ports.iter().find(|port| port.occupant().is_none());
        let port = free.ok_or(BoardError::NoFreeSlot(self.hands.ports.len()))?;
        if self.slots().iter().any(|slot| slot.name() == name) {
            return Err(BoardError::Duplicate(name.to_owned()));
        }
        let bell = self.staff.as_ref().and_then(|staff| staff.bell(name));
        let called = Arc::default();
        disk.set_waker(waker(&called, &self.wiring.attention, bell.clone()));
        let host = devices::DiskHost { cpus: self.cpus, memory: self.memory.clone() };
        let mut function = devices::block(name, spec, disk, (host, self.wiring.msi()));
        function.connect_interrupt(self.wiring.intx(port.at.device, 1, name));
        let (doorbells, regions) = (function.doorbells(), function.regions());
        let function = Arc::new(Mutex::new(function));
        let mut slot = Slot::new(function.clone(), Placement::default(), called);
        if let Some(bell) = bell {
            slot = slot.with_post(Post::new(bell, doorbells, self.wiring.open.clone()));
        }
        let slot = Arc::new(slot);
        let attendance = Attendance::of(&slot, &self.wiring.attention);
        self.wiring.windows.add(port.behind, Behind { slot: slot.clone(), regions });
        let mut host = self.wiring.pci.lock().unwrap_or_else(PoisonError::into_inner);
        host.plug(port.behind, function)
            .map_err(|error| BoardError::Slot { device: name.to_owned(), error })?;
        drop(host);
        let slots = self.slots().iter().cloned().chain([slot]).collect();
        self.set_slots(slots);
        port.set_occupant(Some(name.to_owned()));
        port.change(RootPort::insert);
        Ok(attendance)
    }

    /// Asks the guest to let go of a disk that [`Board::attach_disk`] put into a slot. It takes its time, or does
    /// not do it at all; [`Board::take_ejected`] tells.
    ///
    /// # Errors
    /// [`BoardError::NotInSlot`].
    pub fn ask_for_disk(&self, name: &str) -> Result<(), BoardError> {
        let holds = |port: &&Port| port.occupant().as_deref() == Some(name);
        let port = self.hands.ports.iter().find(holds);
        port.ok_or_else(|| BoardError::NotInSlot(name.to_owned()))?.change(RootPort::press_button);
        Ok(())
    }

    /// Takes out what the guest has let go of; the names. To be called after [`Board::service`].
    pub fn take_ejected(&self) -> Vec<String> {
        let ejected = self.hands.ports.iter().filter(|port| port.handle.take_ejected());
        ejected.filter_map(|port| self.take_out(port)).collect()
    }

    fn take_out(&self, port: &Port) -> Option<String> {
        let _life = life::lock(&self.life);
        let name = port.occupant()?;
        let mut host = self.wiring.pci.lock().unwrap_or_else(PoisonError::into_inner);
        host.unplug(port.behind);
        drop(host);
        self.wiring.windows.remove(port.behind);
        let (gone, left): (Vec<_>, Vec<_>) =
            self.slots().iter().cloned().partition(|slot| slot.name() == name);
        self.set_slots(left);
        for slot in gone {
            slot.call(&self.wiring.attention, |device| device.reset());
        }
        port.set_occupant(None);
        port.change(RootPort::remove);
        Some(name)
    }
}
