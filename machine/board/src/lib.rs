//! The board: where every device sits, what it is wired to, and how all of them live together.
//!
//! ```text
//!   vmm ── Board::new(spec, host) ── connect(partition) ── load(files) ──► Entry of vCPU 0
//!
//!   vCPU threads ── CpuIo ──► Bus ──► Slot ──► device lock ──► Device
//!                              (immutable table)   │
//!   vmm's event thread ── service() ───────────────┤ wake, poll
//!                            ▲                     ▼
//!        attention hook ◄────┴── new deadline   lines ──► PIC, IOAPIC ──► EngineLink ──► Partition
//! ```
//!
//! # Who calls what when
//! 1. [`Board::new`] builds every fixed device of [`DEVICES`] and those that the description asks for,
//!    from the one [`ADDRESS_MAP`]; a conflict is an error that names both.
//! 2. [`Board::connect`] gives it the engine's partition, once, before anything else.
//! 3. [`Board::load`] writes ACPI tables and kernel into memory and gives the first vCPU's [`Entry`].
//! 4. [`Board::resume`]; then vCPU threads use it as [`CpuIo`].
//! 5. Each time the attention hook has been called, and when the time that [`Board::service`] last
//!    returned has come, the vmm calls [`Board::service`] from a thread of its own.
//! 6. [`Board::pause`] once every vCPU is out of `run`; then [`Board::save`], [`Board::restore`],
//!    [`Board::reset`]; then `resume` again.
//!
//! There is no thread in here, and no host clock; but the vmm can give a device a thread ([`Staff`]), and takes
//! that thread's work out of here ([`Board::attendances`]).
//!
//! # Time
//! After every call into a device the slot asks it for its deadline. The earliest one announced is kept;
//! the hook is called only when a call brings an earlier one, so that a device which pushes its deadline
//! back costs nothing: the vmm wakes once in vain and is told the new time.
//!
//! # Interrupts
//! ISA interrupt *n* is one wire to pin *n* of the PIC and pin *n* of the IOAPIC, but for interrupt 0,
//! which ends at IOAPIC pin 2. Interrupts 0 and 8 pass the gate by which the HPET takes them over. The PIC's INTR goes to [`Partition::set_external_interrupt`]; an IOAPIC
//! pin is a message to [`Partition::signal`](kezhan_hypervisor::MsiTarget::signal), announced before by
//! [`Partition::set_route`].
//!
//! # Locks, in the order in which they may be nested
//! 1. the board's life state (`service`, `pause`, `resume`, `reset`, `save`, `restore`),
//! 2. one device (the PCI host bridge before a function behind it),
//! 3. the HPET's gate,
//! 4. an interrupt controller,
//! 5. the engine's own.
//!
//! The table of movable windows and the count of stray accesses are leaves: nothing is called while one
//! of them is held. The hook is called with no device locked; it must not call back.
//!
//! # What was rejected
//! A board that waits for the partition before it exists (the partition wants the route table's size,
//! and tests want boards without engines); a bus that devices change while it runs (only PCI windows
//! move, and they have a table of their own); one timer per device (the earliest is enough).

mod acpi;
mod address_map;
mod assembly;
mod attend;
mod bios;
mod bus;
mod devices;
mod engine;
mod error;
mod hands;
mod hotplug;
mod life;
mod pci;
mod settings;
mod slot;

pub use address_map::{ADDRESS_MAP, IOAPIC_PINS, Place, Row, memory_map, memory_ranges};
pub use attend::{Attendance, Bell, ServedIdly, Staff};
pub use bus::{Stray, StrayKind};
pub use devices::{DEVICES, DeviceKind, Setting};
pub use error::BoardError;
pub use kezhan_firmware::{Entry, Image, KernelError, system_version};
pub use kezhan_input::{KeyEvent, MouseEvent};
pub use kezhan_virtio::BalloonHandle;

use assembly::{Assembly, Hands, Plugged, Wiring};
use bus::Bus;
use kezhan_acpi::Tables;
use kezhan_device::{Clock, GuestMemory, MachineControl, Nanoseconds};
use kezhan_hypervisor::{CpuIo, Partition};
use kezhan_machine_spec::MachineSpec;
use kezhan_ports::{CharDevice, Disk, Entropy, Nic};
use life::Life;
use slot::Slot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use vm_memory::{Bytes, GuestAddress};

/// The ports that stand behind a board's devices. A device without one has nothing behind it.
#[derive(Default)]
pub struct Ports {
    /// Character ports by the name of the device that gets them (`com1`, `isa-debugcon`).
    pub characters: BTreeMap<String, Box<dyn CharDevice>>,
    /// Consoles in the order of the description, with their names.
    pub consoles: Vec<(String, Box<dyn CharDevice>)>,
    /// Disks in the order of the description.
    pub disks: Vec<Box<dyn Disk>>,
    /// For each network card of the description, in order, a port for each pair of its queues.
    pub nics: Vec<Vec<Box<dyn Nic>>>,
    /// Random bytes.
    pub entropy: Option<Box<dyn Entropy>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (characters, disks, nics) = (self.characters.keys(), self.disks.len(), self.nics.len());
        write!(f, "Ports({characters:?}, {disks} disks, {nics} network cards)")
    }
}

/// What the host gives a board.
pub struct Host {
    /// Guest RAM, laid out by [`memory_ranges`].
    pub memory: Arc<GuestMemory>,
    /// The machine's virtual clock.
    pub clock: Arc<dyn Clock>,
    /// Who acts on power-off, reset and the like.
    pub control: Arc<dyn MachineControl>,
    /// Called from any thread when [`Board::service`] should be called soon. It must not block and
    /// must not call back.
    pub attention: Arc<dyn Fn() + Send + Sync>,
    /// Back-ends.
    pub ports: Ports,
    /// Who gives devices threads of their own, if anybody does.
    pub staff: Option<Arc<dyn Staff>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("ports", &self.ports).finish_non_exhaustive()
    }
}

/// The files of a direct kernel start.
#[derive(Clone, Copy)]
pub struct GuestFiles<'a> {
    /// The kernel.
    pub kernel: &'a dyn Image,
    /// The initial RAM disk.
    pub initrd: Option<&'a dyn Image>,
    /// The command line.
    pub cmdline: &'a str,
}

impl std::fmt::Debug for GuestFiles<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestFiles").field("cmdline", &self.cmdline).finish_non_exhaustive()
    }
}

/// Who wants to know that the guest has done all that it had to do.
pub trait IdleListener: Send + Sync + std::fmt::Debug {
    /// The last vCPU that had something to do is about to wait for an interrupt. Called on its thread, which this must
    /// not keep: to signal is enough.
    fn idle(&self);
}

/// All devices, in the order of building.
type Slots = Arc<[Arc<Slot>]>;

/// A machine without its CPUs.
pub struct Board {
    memory: Arc<GuestMemory>,
    clock: Arc<dyn Clock>,
    cpus: u16,
    map: Vec<kezhan_firmware::MemoryEntry>,
    /// Replaced whole when a disk comes or goes.
    slots: RwLock<Slots>,
    bus: Bus,
    wiring: Wiring,
    functions: Vec<Plugged>,
    hands: Hands,
    staff: Option<Arc<dyn Staff>>,
    idle: OnceLock<Arc<dyn IdleListener>>,
    tables: Tables,
    life: Mutex<Life>,
}

impl Board {
    /// Builds the board that `spec` describes, every device in its power-on state.
    ///
    /// # Errors
    /// [`BoardError`] that names the device, setting or conflict.
    pub fn new(spec: &MachineSpec, host: Host) -> Result<Board, BoardError> {
        let (memory, clock) = (host.memory.clone(), host.clock.clone());
        let mut assembly = Assembly::new(host, spec);
        for kind in DEVICES.iter().filter(|kind| kind.fixed) {
            assembly.build(kind, &[])?;
        }
        for (index, net) in spec.nets.iter().filter(|net| net.is_card()).enumerate() {
            devices::net(&mut assembly, index, net)?;
        }
        for (index, disk) in spec.disks.iter().enumerate() {
            devices::disk(&mut assembly, index, disk)?;
        }
        devices::consoles(&mut assembly)?;
        for device in &spec.devices {
            assembly.build(devices::find(&device.name)?, &device.settings)?;
        }
        let parts = assembly.finish()?;
        Ok(Board {
            memory,
            clock,
            map: memory_map(spec.memory.bytes()),
            cpus: u16::try_from(spec.cpus).unwrap_or(u16::MAX),
            tables: acpi::tables(spec.cpus, &parts.slots)?,
            slots: RwLock::new(parts.slots.into()),
            bus: parts.bus,
            wiring: parts.wiring,
            functions: parts.functions,
            hands: parts.hands,
            staff: parts.staff,
            idle: OnceLock::new(),
            life: Mutex::new(Life::Paused),
        })
    }

    /// Tells `listener` from now on when the guest waits, where the engine says so. Once; a second call changes nothing.
    pub fn tell_idle(&self, listener: Arc<dyn IdleListener>) {
        self.idle.set(listener).ok();
    }

    /// Connects the engine. Once, before [`Board::load`] and before the machine runs; a second call
    /// changes nothing.
    pub fn connect(&self, partition: Arc<dyn Partition>) {
        self.wiring.engine.connect(partition);
    }

    /// Loads a kernel and what it needs to know of the machine, as firmware would: at the start, and
    /// again after each [`Board::reset`].
    ///
    /// # Errors
    /// [`KernelError`]; the caller puts the file's name in front.
    pub fn load(&self, files: &GuestFiles<'_>) -> Result<Entry, KernelError> {
        for (address, table) in &self.tables.parts {
            let written = self.memory.write_slice(table, GuestAddress(*address));
            written.map_err(|_absent| KernelError::GuestMemory(*address))?;
        }
        pci::assign(&self.functions);
        bios::leave_behind(&self.memory, self).map_err(|_absent| KernelError::GuestMemory(0))?;
        let guest = kezhan_firmware::Guest {
            kernel: files.kernel,
            initrd: files.initrd,
            cmdline: files.cmdline,
            rsdp: self.tables.rsdp,
            memory_map: &self.map,
        };
        kezhan_firmware::load(&self.memory, &guest)
    }

    /// Polls the devices whose ports called, wakes those whose time has come, and says when to call
    /// again at the latest. Nothing happens while the board is paused.
    pub fn service(&self) -> Option<Nanoseconds> {
        let life = life::lock(&self.life);
        if *life != Life::Running {
            return None;
        }
        self.wiring.attention.serve(&self.slots(), self.clock.now())
    }

    fn slots(&self) -> Slots {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_slots(&self, slots: Vec<Arc<Slot>>) {
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = slots.into();
    }

    /// The work of each device's own thread. The threads must not outlive the machine's engine.
    pub fn attendances(&self) -> Vec<Attendance> {
        let attention = &self.wiring.attention;
        self.slots().iter().filter_map(|slot| Attendance::of(slot, attention)).collect()
    }

    /// The accesses that nobody answered, most frequent first.
    pub fn strays(&self) -> Vec<Stray> {
        self.bus.strays()
    }
}

impl CpuIo for Board {
    fn read_port(&self, port: u16, data: &mut [u8]) {
        self.bus.read(&self.wiring.attention, bus::port(port), data);
    }

    fn write_port(&self, port: u16, data: &[u8]) {
        self.bus.write(&self.wiring.attention, bus::port(port), data);
    }

    fn read_memory(&self, address: u64, data: &mut [u8]) {
        self.bus.read(&self.wiring.attention, bus::memory(address), data);
    }

    fn write_memory(&self, address: u64, data: &[u8]) {
        self.bus.write(&self.wiring.attention, bus::memory(address), data);
    }

    fn acknowledge_interrupt(&self) -> u8 {
        self.wiring.pic.acknowledge()
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.wiring.ioapic.end_of_interrupt(vector);
    }

    fn idle(&self, all: bool) {
        if let Some(listener) = self.idle.get().filter(|_| all) {
            listener.idle();
        }
        self.slots().iter().for_each(|slot| attend::serve_idly(slot, &self.wiring.attention));
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.slots().iter().map(|slot| slot.name())).finish()
    }
}

#[cfg(test)]
mod tests;
