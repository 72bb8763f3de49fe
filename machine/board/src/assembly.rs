//! The board under construction: what a device's constructor may ask for.

use crate::address_map::{self, PCI_BUSES, Place};
use crate::attend::{Bell, Post, Staff};
use crate::bus::{Bus, Claim};
use crate::engine::EngineLink;
use crate::hotplug::Port;
use crate::pci;
use crate::pci::{Behind, PciWindows};
use crate::settings::Settings;
use crate::slot::{Attention, Slot};
use crate::{BoardError, DeviceKind, Host};
use kezhan_chipset::hpet::LegacyGate;
use kezhan_chipset::ioapic::SharedIoapic;
use kezhan_chipset::pic::SharedPic;
use kezhan_chipset::pm::Pm;
use kezhan_device::{
    Clock, Device, GuestMemory, LineInterrupt, LineTarget, MachineControl, MsiInterrupt, Placement,
    Region, Space,
};
use kezhan_input::I8042;
use kezhan_machine_spec::MachineSpec;
use kezhan_pci::{PciAddress, PciFunction, PciHost};
use kezhan_ports::chardev::NullCharDevice;
use kezhan_ports::{CharDevice, Disk, Entropy, Nic};
use kezhan_virtio::{BalloonHandle, ConsolePort, VirtioDevice, VirtioMmio};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Moves a region of a device away from its row in the address map: name of the region, base.
pub(crate) type Moved<'a> = &'a [(&'static str, u64)];

/// A PCI function and where it is plugged in.
pub(crate) type Plugged = (PciAddress, Arc<Mutex<dyn PciFunction>>);

/// What the devices of a board are joined by.
pub(crate) struct Wiring {
    pub engine: Arc<EngineLink>,
    pub pic: SharedPic,
    pub ioapic: SharedIoapic,
    /// Switches interrupts 0 and 8 between PIT and RTC, and the HPET.
    pub gate: Arc<LegacyGate>,
    pub pci: Arc<Mutex<PciHost>>,
    pub windows: Arc<PciWindows>,
    pub attention: Arc<Attention>,
    /// Whether the machine runs, for devices with a thread of their own.
    pub open: Arc<AtomicBool>,
}

/// The devices that a person's hands reach, once they are built.
#[derive(Default)]
pub(crate) struct Hands {
    /// The power button.
    pub pm: Option<Arc<Mutex<Pm>>>,
    /// Keyboard and mouse.
    pub i8042: Option<Arc<Mutex<I8042>>>,
    /// The memory balloon, when there is one.
    pub balloon: Option<BalloonHandle>,
    /// The hot-plug slots.
    pub ports: Vec<Port>,
}

/// The board under construction.
pub(crate) struct Assembly {
    host: Host,
    /// vCPUs.
    pub(crate) cpus: u16,
    /// Bytes of RAM.
    pub(crate) memory_size: u64,
    /// The machine's name.
    pub(crate) machine: String,
    pub(crate) wiring: Wiring,
    pub(crate) hands: Hands,
    slots: Vec<Arc<Slot>>,
    claims: Vec<Claim>,
    functions: Vec<Plugged>,
    behind: BTreeMap<PciAddress, Behind>,
    port_called: Arc<AtomicBool>,
    /// Calls the thread of the device under construction, if it gets one.
    bell: Option<Arc<dyn Bell>>,
    /// Virtio devices beside PCI.
    virtio_pages: u8,
}

/// What is left when it is finished.
pub(crate) struct Parts {
    pub slots: Vec<Arc<Slot>>,
    pub bus: Bus,
    pub wiring: Wiring,
    pub functions: Vec<Plugged>,
    pub hands: Hands,
    pub staff: Option<Arc<dyn Staff>>,
}

impl Wiring {
    fn new(attention: Arc<dyn Fn() + Send + Sync>) -> Wiring {
        let engine = Arc::new(EngineLink::default());
        let intr = LineInterrupt::new("intr", vec![(engine.clone(), 0)]);
        let msi = MsiInterrupt::new(engine.clone());
        let windows = Arc::new(PciWindows::new(engine.clone()));
        let pci = PciHost::new("pci-host", PCI_BUSES, windows.clone());
        let pic = SharedPic::new("pic", intr);
        let ioapic = SharedIoapic::new("ioapic", msi, Some(engine.clone()));
        let legacy = |irq: u8, name| LineInterrupt::new(name, isa_ends(&pic, &ioapic, irq));
        Wiring {
            gate: LegacyGate::new(legacy(0, "gate.irq0"), legacy(8, "gate.irq8")),
            pic,
            ioapic,
            engine,
            pci: Arc::new(Mutex::new(pci)),
            windows,
            attention: Arc::new(Attention::new(attention)),
            open: Arc::default(),
        }
    }

    /// A wire to ISA interrupt `irq`. Interrupts 0 and 8 go through the gate, as its first and second input.
    pub(crate) fn isa(&self, irq: u8, name: &str) -> LineInterrupt {
        let gate = |pin| vec![(self.gate.clone() as Arc<dyn LineTarget>, pin)];
        let ends = match irq {
            0 => gate(0),
            8 => gate(1),
            _ => isa_ends(&self.pic, &self.ioapic, irq),
        };
        LineInterrupt::new(name, ends)
    }

    /// A wire to an IOAPIC pin only.
    pub(crate) fn gsi(&self, pin: u32, name: &str) -> LineInterrupt {
        LineInterrupt::new(name, vec![(Arc::new(self.ioapic.clone()), pin)])
    }

    /// The wire of interrupt pin `pin` (1 for INTA#) of the function `name` in slot `slot` of bus 0. Functions
    /// share inputs of the controllers, which see to that.
    pub(crate) fn intx(&self, slot: u8, pin: u8, name: &str) -> LineInterrupt {
        let route = pci::route(slot, pin.saturating_sub(1) & 3);
        let pic: Arc<dyn LineTarget> = Arc::new(self.pic.clone());
        let ends = vec![(pic, route.isa), (Arc::new(self.ioapic.clone()) as _, route.gsi)];
        LineInterrupt::new(&format!("{name}.intx"), ends)
    }

    /// Messages to the engine.
    pub(crate) fn msi(&self) -> MsiInterrupt {
        MsiInterrupt::new(self.engine.clone())
    }
}

/// Where ISA interrupt `irq` ends: a pin of the PIC and one of the IOAPIC.
fn isa_ends(pic: &SharedPic, ioapic: &SharedIoapic, irq: u8) -> Vec<(Arc<dyn LineTarget>, u32)> {
    vec![(Arc::new(pic.clone()), irq.into()), (Arc::new(ioapic.clone()), address_map::gsi(irq))]
}

impl Assembly {
    pub(crate) fn new(host: Host, spec: &MachineSpec) -> Assembly {
        Assembly {
            cpus: u16::try_from(spec.cpus).unwrap_or(u16::MAX),
            memory_size: spec.memory.bytes(),
            machine: spec.name.clone(),
            wiring: Wiring::new(host.attention.clone()),
            host,
            hands: Hands::default(),
            slots: Vec::new(),
            claims: Vec::new(),
            functions: Vec::new(),
            behind: BTreeMap::new(),
            port_called: Arc::default(),
            bell: None,
            virtio_pages: 0,
        }
    }

    /// Builds a device of the list.
    pub(crate) fn build(
        &mut self,
        kind: &DeviceKind,
        given: &[(String, String)],
    ) -> Result<(), BoardError> {
        if self.slots.iter().any(|slot| slot.name() == kind.name) {
            return Err(BoardError::Duplicate(kind.name.to_owned()));
        }
        let settings = Settings::check(kind, given)?;
        self.port_called = Arc::default();
        (kind.build)(self, &settings)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.host.clock.clone()
    }

    pub(crate) fn control(&self) -> Arc<dyn MachineControl> {
        self.host.control.clone()
    }

    /// The character port of the device under construction, its waker set.
    pub(crate) fn port(&mut self, device: &str) -> Box<dyn CharDevice> {
        let Some(mut port) = self.host.ports.characters.remove(device) else {
            return Box::new(NullCharDevice);
        };
        port.set_waker(self.waker());
        port
    }

    /// The console ports, in order, their wakers set.
    pub(crate) fn consoles(&mut self) -> Vec<ConsolePort> {
        self.port_called = Arc::default();
        let mut ports = std::mem::take(&mut self.host.ports.consoles);
        for (_, port) in &mut ports {
            port.set_waker(self.waker());
        }
        ports.into_iter().map(|(name, device)| ConsolePort { name, device }).collect()
    }

    /// Has the chassis poll the device under construction.
    pub(crate) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        waker(&self.port_called, &self.wiring.attention, self.bell.clone())
    }

    /// Begins the device `name` outside the list, and gives the next disk for it, its waker set.
    pub(crate) fn begin_disk(&mut self, name: &str) -> Option<Box<dyn Disk>> {
        self.port_called = Arc::default();
        if self.host.ports.disks.is_empty() {
            return None;
        }
        self.bell = self.host.staff.as_ref().and_then(|staff| staff.bell(name));
        let mut disk = self.host.ports.disks.remove(0);
        disk.set_waker(self.waker());
        Some(disk)
    }

    /// Begins the device `name` outside the list, and gives the next network card's ports for it, their wakers set.
    /// A card with doorbells may have a thread.
    pub(crate) fn begin_nic(&mut self, name: &str, doorbells: bool) -> Option<Vec<Box<dyn Nic>>> {
        self.port_called = Arc::default();
        if self.host.ports.nics.is_empty() {
            return None;
        }
        let staff = self.host.staff.as_ref().filter(|_| doorbells);
        self.bell = staff.and_then(|staff| staff.bell(name));
        let mut ports = self.host.ports.nics.remove(0);
        for port in &mut ports {
            port.set_waker(self.waker());
        }
        Some(ports)
    }

    /// The source of random bytes, for the one device that gets it.
    pub(crate) fn entropy(&mut self) -> Option<Box<dyn Entropy>> {
        self.host.ports.entropy.take()
    }

    /// Guest RAM, for devices that read and write it.
    pub(crate) fn memory(&self) -> Arc<GuestMemory> {
        self.host.memory.clone()
    }

    /// The line of a device that the address map puts at an ISA interrupt.
    pub(crate) fn line(&self, device: &str, part: &str) -> Result<LineInterrupt, BoardError> {
        let name = format!("{device}.{part}");
        match address_map::find(device, part) {
            Some(Place::Irq(irq)) => Ok(self.wiring.isa(irq, &name)),
            _ => Err(BoardError::NoPlace(name)),
        }
    }

    /// Puts a device on the board, each region where the address map or `moved` says.
    pub(crate) fn mount(
        &mut self,
        device: Arc<Mutex<dyn Device>>,
        moved: Moved<'_>,
    ) -> Result<(), BoardError> {
        let (name, regions) = name_and_regions(&device);
        let places = regions
            .iter()
            .map(|region| place_of(&name, region, moved))
            .collect::<Result<Vec<_>, _>>()?;
        let interrupts = address_map::interrupts(&name);
        self.place(device, &places, interrupts.into_iter().map(address_map::gsi).collect());
        Ok(())
    }

    /// Puts a virtio device beside PCI: at the next free page, on an interrupt that it shares with PCI's.
    pub(crate) fn mount_virtio(
        &mut self,
        name: &str,
        device: Box<dyn VirtioDevice>,
    ) -> Result<(), BoardError> {
        let page = address_map::VIRTIO_MMIO.start + u64::from(self.virtio_pages) * 4096;
        let turn = self.virtio_pages;
        if page >= address_map::VIRTIO_MMIO.end {
            return Err(BoardError::NoPlace(name.to_owned()));
        }
        self.virtio_pages += 1;
        let line = self.wiring.intx(turn, 1, name);
        let device = VirtioMmio::new(name, device, self.memory(), line);
        self.place(Arc::new(Mutex::new(device)), &[(page, false)], vec![pci::route(turn, 0).gsi]);
        Ok(())
    }

    fn place(
        &mut self,
        device: Arc<Mutex<dyn Device>>,
        places: &[(u64, bool)],
        interrupts: Vec<u32>,
    ) {
        let (name, regions) = name_and_regions(&device);
        let bases = places.iter().map(|(base, _)| *base).collect();
        let slot = self.add(device, Placement { bases, interrupts });
        for (index, (region, (start, inside))) in regions.iter().zip(places).enumerate() {
            let (start, inside) = (*start, *inside);
            self.claims.push(Claim {
                slot: slot.clone(),
                region: index,
                name: format!("{name}.{}", region.name),
                space: region.space,
                start,
                length: region.length,
                inside,
            });
        }
    }

    /// Says which port leads to a bus.
    pub(crate) fn lead(&self, bus: u8, port: PciAddress) {
        self.wiring.pci.lock().unwrap_or_else(PoisonError::into_inner).lead(bus, port);
    }

    /// Plugs a PCI function into the first free slot of bus 0.
    pub(crate) fn plug<F: PciFunction + 'static>(&mut self, function: F) -> Result<(), BoardError> {
        self.plug_shared(Arc::new(Mutex::new(function))).map(drop)
    }

    /// The same with a function that somebody else has too; where it is.
    pub(crate) fn plug_shared<F: PciFunction + 'static>(
        &mut self,
        function: Arc<Mutex<F>>,
    ) -> Result<PciAddress, BoardError> {
        let device = u8::try_from(self.functions.len()).unwrap_or(u8::MAX);
        let address = PciAddress { bus: 0, device, function: 0 };
        {
            let mut function = function.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pin) = pci::interrupt_pin(&mut *function) {
                let line = self.wiring.intx(device, pin, function.name());
                function.connect_interrupt(line);
            }
        }
        let (name, regions) = name_and_regions(&(function.clone() as Arc<Mutex<dyn Device>>));
        let mut host = self.wiring.pci.lock().unwrap_or_else(PoisonError::into_inner);
        host.plug(address, function.clone())
            .map_err(|error| BoardError::Slot { device: name, error })?;
        drop(host);
        let slot = self.add(function.clone(), Placement::default());
        self.behind.insert(address, Behind { slot, regions });
        self.functions.push((address, function));
        Ok(address)
    }

    fn add(&mut self, device: Arc<Mutex<dyn Device>>, placement: Placement) -> Arc<Slot> {
        let doorbells = device.lock().unwrap_or_else(PoisonError::into_inner).doorbells();
        let mut slot = Slot::new(device, placement, self.port_called.clone());
        if let Some(bell) = self.bell.take() {
            slot = slot.with_post(Post::new(bell, doorbells, self.wiring.open.clone()));
        }
        let slot = Arc::new(slot);
        self.slots.push(slot.clone());
        slot
    }

    pub(crate) fn finish(self) -> Result<Parts, BoardError> {
        for (address, behind) in self.behind {
            self.wiring.windows.add(address, behind);
        }
        Ok(Parts {
            bus: Bus::new(self.claims, self.wiring.windows.clone())?,
            slots: self.slots,
            wiring: self.wiring,
            functions: self.functions,
            hands: self.hands,
            staff: self.host.staff,
        })
    }
}

/// Has the chassis poll a device: by its thread's bell, or in its turn.
pub(crate) fn waker(
    called: &Arc<AtomicBool>,
    attention: &Arc<Attention>,
    bell: Option<Arc<dyn Bell>>,
) -> Arc<dyn Fn() + Send + Sync> {
    let (called, attention) = (called.clone(), attention.clone());
    Arc::new(move || {
        if !called.swap(true, Ordering::SeqCst) {
            match &bell {
                Some(bell) => bell.ring(),
                None => attention.call(),
            }
        }
    })
}

fn name_and_regions(device: &Arc<Mutex<dyn Device>>) -> (String, Vec<Region>) {
    let device = device.lock().unwrap_or_else(PoisonError::into_inner);
    (device.name().to_owned(), device.regions())
}

/// Base of a region, and whether it lies inside another.
fn place_of(device: &str, region: &Region, moved: Moved<'_>) -> Result<(u64, bool), BoardError> {
    let base = moved.iter().find(|(name, _)| *name == region.name).map(|(_, base)| *base);
    let (space, start, inside) = match address_map::find(device, region.name) {
        Some(Place::Port(port)) => (Space::Port, port.into(), false),
        Some(Place::PortInside(port)) => (Space::Port, port.into(), true),
        Some(Place::Memory(address)) => (Space::Memory, address, false),
        Some(Place::Irq(_)) | None => return Err(no_place(device, region)),
    };
    if space != region.space {
        return Err(no_place(device, region));
    }
    Ok((base.unwrap_or(start), inside))
}

fn no_place(device: &str, region: &Region) -> BoardError {
    BoardError::NoPlace(format!("{device}.{}", region.name))
}
