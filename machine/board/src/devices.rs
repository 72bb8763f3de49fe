//! **The one list of devices**: what there is, what it is for, how it is set and built.
//!
//! Fixed devices are on every board, in the order of the list (interrupt controllers first). The others
//! are asked for with `--device NAME[,key=value]…`. To add one: a constructor below, an entry here, rows in
//! the address map. Disks and network cards of the description are built by [`disk`] and [`net`], one device
//! each; its consoles by [`consoles`].

use crate::BoardError;
use crate::address_map;
use crate::assembly::Assembly;
use crate::settings::Settings;
use kezhan_chipset::debug::{DebugConsole, DebugExit, PostCode, Pvpanic};
use kezhan_chipset::fwcfg::{FwCfg, Items};
use kezhan_chipset::hpet::{Hpet, HpetWires};
use kezhan_chipset::pit::Pit;
use kezhan_chipset::pm::Pm;
use kezhan_chipset::rtc::{CmosMemory, Rtc};
use kezhan_chipset::testdev::{PcTestdev, PciTestdev};
use kezhan_device::{GuestMemory, MsiInterrupt};
use kezhan_e1000::E1000;
use kezhan_input::{I8042, I8042Wires};
use kezhan_machine_spec::{DiskBus, DiskSpec, NetCard, NetSpec};
use kezhan_pci::HostBridge;
use kezhan_ports::Disk;
use kezhan_ports::nic::NullNic;
use kezhan_serial::Uart16550;
use kezhan_virtio::{Balloon, Block, BlockOptions, Console, Net, Rng, VirtioPci};
use std::sync::{Arc, Mutex};

/// A setting of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: &'static str,
    /// What it means and its default, in one line.
    pub help: &'static str,
}

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
pub struct DeviceKind {
    /// Its name: of the device, of its saved state, of its rows in the address map.
    pub name: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// On every board; else only when asked for.
    pub fixed: bool,
    /// Its settings.
    pub settings: &'static [Setting],
    pub(crate) build: Build,
}

type Build = fn(&mut Assembly, &Settings<'_>) -> Result<(), BoardError>;

const fn fixed(name: &'static str, help: &'static str, build: Build) -> DeviceKind {
    DeviceKind { name, help, fixed: true, settings: &[], build }
}

const fn optional(
    name: &'static str,
    help: &'static str,
    settings: &'static [Setting],
    build: Build,
) -> DeviceKind {
    DeviceKind { name, help, fixed: false, settings, build }
}

/// The list.
#[rustfmt::skip]
pub const DEVICES: &[DeviceKind] = &[
    fixed("pic", "interrupt controllers of the PC/AT, two 8259A", pic),
    fixed("ioapic", "I/O APIC with 24 pins", ioapic),
    fixed("hpet", "high precision event timer, three comparators", hpet),
    fixed("pit", "interval timer 8254 and speaker port", pit),
    fixed("rtc", "real-time clock MC146818 and CMOS memory", rtc),
    fixed("pm", "ACPI power management, PM timer, reset register", pm),
    fixed("i8042", "keyboard controller with keyboard and mouse", i8042),
    fixed("com1", "first serial port, a 16550A", com1),
    fixed("post-code", "power-on self-test codes, port 0x80", post_code),
    fixed("fw-cfg", "what firmware is told about the machine", fw_cfg),
    fixed("pci-host", "PCI configuration space", pci_host),
    fixed("host-bridge", "PCI host bridge, function 00:00.0", host_bridge),
    optional("isa-debug-exit", "ends the process with status (value * 2 + 1)", DEBUG_EXIT, debug_exit),
    optional("isa-debugcon", "a port whose bytes go to a character port of the host", DEBUGCON, debugcon),
    optional("pvpanic", "tells the machine that the guest has panicked", &[], pvpanic),
    optional("pc-testdev", "interrupt lines and memory for kvm-unit-tests", &[], pc_testdev),
    optional("virtio-rng", "random bytes for the guest", &[], virtio_rng),
    optional("virtio-balloon", "gives the host back what the guest does not use", &[], virtio_balloon),
    optional("hotplug", "slots for disks that come and go", HOTPLUG, crate::hotplug::ports),
    optional("pci-testdev", "a PCI function for kvm-unit-tests", &[], pci_testdev),
];

const DEBUG_EXIT: &[Setting] = &[Setting { key: "iobase", help: "its port, 0xf4 when left out" }];
const HOTPLUG: &[Setting] = &[Setting { key: "slots", help: "how many, 1 to 16; 4 when left out" }];
const DEBUGCON: &[Setting] =
    &[Setting { key: "iobase", help: "its port, 0xe9 when left out (firmware uses 0x402)" }];

/// The optional device called `name`.
pub(crate) fn find(name: &str) -> Result<&'static DeviceKind, BoardError> {
    let optional = DEVICES.iter().filter(|kind| !kind.fixed);
    optional.clone().find(|kind| kind.name == name).ok_or_else(|| BoardError::UnknownDevice {
        name: name.to_owned(),
        known: optional.map(|kind| kind.name).collect::<Vec<_>>().join(", "),
    })
}

fn pic(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let pic = board.wiring.pic.clone();
    board.mount(Arc::new(Mutex::new(pic)), &[])
}

fn ioapic(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let ioapic = board.wiring.ioapic.clone();
    board.mount(Arc::new(Mutex::new(ioapic)), &[])
}

/// Its timers may use the IOAPIC pins that no ISA interrupt has and PCI shares by level.
fn hpet(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let line = |pin: u32| (pin, board.wiring.gsi(pin, &format!("hpet.{pin}")));
    let wires = HpetWires {
        gate: board.wiring.gate.clone(),
        routes: (20..crate::IOAPIC_PINS).map(line).collect(),
        msi: Some(board.wiring.msi()),
    };
    let hpet = Hpet::new("hpet", board.clock(), wires);
    board.mount(Arc::new(Mutex::new(hpet)), &[])
}

fn pit(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let pit = Pit::new("pit", board.clock(), board.line("pit", "irq")?);
    board.mount(Arc::new(Mutex::new(pit)), &[])
}

fn rtc(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let (below_4g, above_4g) = address_map::below_and_above(board.memory_size);
    let memory = CmosMemory { below_4g, above_4g };
    let rtc = Rtc::new("rtc", board.clock(), board.line("rtc", "irq")?, memory);
    board.mount(Arc::new(Mutex::new(rtc)), &[])
}

fn pm(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let pm = Pm::new("pm", board.clock(), board.line("pm", "sci")?, board.control());
    let pm = Arc::new(Mutex::new(pm));
    board.hands.pm = Some(pm.clone());
    board.mount(pm, &[])
}

fn i8042(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let wires = I8042Wires {
        keyboard: board.line("i8042", "keyboard")?,
        mouse: board.line("i8042", "mouse")?,
        control: board.control(),
    };
    let i8042 = Arc::new(Mutex::new(I8042::new("i8042", wires)));
    board.hands.i8042 = Some(i8042.clone());
    board.mount(i8042, &[])
}

fn com1(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let uart = Uart16550::new("com1", board.port("com1"), board.line("com1", "irq")?);
    board.mount(Arc::new(Mutex::new(uart)), &[])
}

fn post_code(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    board.mount(Arc::new(Mutex::new(PostCode::new("post-code"))), &[])
}

fn fw_cfg(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let items = Items::new(board.cpus, board.memory_size);
    board.mount(Arc::new(Mutex::new(FwCfg::new("fw-cfg", items))), &[])
}

fn pci_host(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let host = board.wiring.pci.clone();
    board.mount(host, &[])
}

fn host_bridge(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    board.plug(HostBridge::new("host-bridge"))
}

fn debug_exit(board: &mut Assembly, settings: &Settings<'_>) -> Result<(), BoardError> {
    let port = settings.port("iobase", 0xf4)?;
    let exit = DebugExit::new("isa-debug-exit", board.control());
    board.mount(Arc::new(Mutex::new(exit)), &[("exit", port.into())])
}

fn debugcon(board: &mut Assembly, settings: &Settings<'_>) -> Result<(), BoardError> {
    let port = settings.port("iobase", 0xe9)?;
    let console = DebugConsole::new("isa-debugcon", board.port("isa-debugcon"));
    board.mount(Arc::new(Mutex::new(console)), &[("data", port.into())])
}

fn pvpanic(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    board.mount(Arc::new(Mutex::new(Pvpanic::new("pvpanic", board.control()))), &[])
}

/// Its lines are the ISA interrupts, then the IOAPIC's other pins.
fn pc_testdev(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let line = |pin: u32| {
        let name = format!("pc-testdev.{pin}");
        match u8::try_from(pin) {
            Ok(irq) if irq < 16 => board.wiring.isa(irq, &name),
            _ => board.wiring.gsi(pin, &name),
        }
    };
    let lines = (0..crate::IOAPIC_PINS).map(line).collect();
    board.mount(Arc::new(Mutex::new(PcTestdev::new("pc-testdev", lines))), &[])
}

fn pci_testdev(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    board.plug(PciTestdev::new("pci-testdev"))
}

/// Without a source of random bytes there is no device.
fn virtio_rng(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let Some(source) = board.entropy() else { return Ok(()) };
    let (memory, msi) = (board.memory(), board.wiring.msi());
    board.plug(VirtioPci::new("virtio-rng", Box::new(Rng::new(source)), memory, msi))
}

fn virtio_balloon(board: &mut Assembly, _: &Settings<'_>) -> Result<(), BoardError> {
    let balloon = Balloon::new(board.wiring.engine.clone());
    let handle = balloon.handle();
    handle.set_waker(board.waker());
    board.hands.balloon = Some(handle);
    let (memory, msi) = (board.memory(), board.wiring.msi());
    board.plug(VirtioPci::new("virtio-balloon", Box::new(balloon), memory, msi))
}

/// The consoles of the description: one virtio-console with a port for each.
pub(crate) fn consoles(board: &mut Assembly) -> Result<(), BoardError> {
    let ports = board.consoles();
    if ports.is_empty() {
        return Ok(());
    }
    let (memory, msi) = (board.memory(), board.wiring.msi());
    board.plug(VirtioPci::new("virtio-console", Box::new(Console::new(ports)), memory, msi))
}

/// Disk `index` of the description, called `disk0`, `disk1` and so on.
pub(crate) fn disk(board: &mut Assembly, index: usize, spec: &DiskSpec) -> Result<(), BoardError> {
    let name = format!("disk{index}");
    let Some(port) = board.begin_disk(&name) else { return Ok(()) };
    let host = DiskHost { cpus: board.cpus, memory: board.memory() };
    match spec.bus {
        DiskBus::Pci => board.plug(block(&name, spec, port, (host, board.wiring.msi()))),
        DiskBus::Mmio => {
            let options = BlockOptions { serial: spec.serial.clone(), queues: 1 };
            board.mount_virtio(&name, Box::new(Block::new(port, options)))
        }
    }
}

/// What a disk needs to know of the machine.
pub(crate) struct DiskHost {
    pub cpus: u16,
    pub memory: Arc<GuestMemory>,
}

/// A virtio-blk with a queue for each CPU.
pub(crate) fn block(
    name: &str,
    spec: &DiskSpec,
    port: Box<dyn Disk>,
    (host, msi): (DiskHost, MsiInterrupt),
) -> VirtioPci {
    let options = BlockOptions { serial: spec.serial.clone(), queues: host.cpus.min(16) };
    let block = Box::new(Block::new(port, options));
    VirtioPci::new(name, block, host.memory, msi)
}

/// Network card `index` of the description, called `net0`, `net1` and so on.
pub(crate) fn net(board: &mut Assembly, index: usize, spec: &NetSpec) -> Result<(), BoardError> {
    let name = format!("net{index}");
    let Some(ports) = board.begin_nic(&name, spec.card == NetCard::Virtio) else { return Ok(()) };
    let mac = spec.mac_of(&board.machine, index).bytes();
    let memory = board.memory();
    match spec.card {
        NetCard::Virtio => {
            let net = Box::new(Net::new(ports, mac));
            board.plug(VirtioPci::new(&name, net, memory, board.wiring.msi()))
        }
        NetCard::E1000 => {
            let port = ports.into_iter().next().unwrap_or_else(|| Box::new(NullNic));
            board.plug(E1000::new(&name, port, mac, memory))
        }
    }
}
