//! What PCI needs of the board: windows that move, interrupt routes, and the addresses that firmware
//! would have given.
//!
//! # Locks
//! A BAR is placed with the PCI host's lock held, so the table here is a leaf: a reader takes what it
//! needs out of it and lets go before it calls the device.

use crate::address_map::{PCI_MEMORY, PCI_PORTS};
use crate::engine::EngineLink;
use crate::slot::Slot;
use kezhan_acpi::PciRoute;
use kezhan_device::{Region, RegionIndex, Space};
use kezhan_pci::{BarTarget, PciAddress, PciFunction};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Registers of a function's header (PCI Local Bus 3.0 §6.1, figure 6-1).
mod header {
    pub const COMMAND: u16 = 0x04;
    pub const BAR0: u16 = 0x10;
    pub const INTERRUPT_LINE: u16 = 0x3c;
    pub const INTERRUPT_PIN: u16 = 0x3d;
    /// Command (§6.2.2): answers at ports and in memory.
    pub const DECODE: u16 = 0x3;
    /// BAR (§6.2.5.1): a port BAR.
    pub const BAR_PORTS: u32 = 1;
    /// BAR: the type field says that it is 64 bits wide.
    pub const BAR_WIDE: u32 = 0x4;
    /// BARs of an endpoint.
    pub const BARS: u16 = 6;
    /// Header type (§6.2.1), and the value of a bridge without its bit for more functions.
    pub const TYPE: u16 = 0x0e;
    pub const BRIDGE: u32 = 1;
    /// Of a bridge (PCI-to-PCI Bridge 1.2 §3.2): bus numbers, I/O, memory and prefetchable windows.
    pub const BUSES: u16 = 0x18;
    pub const IO_WINDOW: u16 = 0x1c;
    pub const MEMORY_WINDOW: u16 = 0x20;
    pub const PREFETCHABLE_WINDOW: u16 = 0x24;
    /// A window that ends before it begins is none (§3.2.5.6, §3.2.5.9).
    pub const NO_IO: u32 = 0x00f0;
    pub const NO_MEMORY: u32 = 0x0000_fff0;
    /// Command: may send messages.
    pub const MASTER: u32 = 0x4;
}

/// Memory for what may come behind a bridge, and its alignment.
const BRIDGE_MEMORY: u32 = 2 << 20;

/// Where an interrupt pin of a slot on bus 0 goes: swizzled over GSIs 16 to 23, or over ISA interrupts 10
/// and 11 for a guest without IOAPIC.
pub(crate) fn route(slot: u8, pin: u8) -> PciRoute {
    let turn = u32::from(slot) + u32::from(pin);
    PciRoute { slot, pin, gsi: 16 + turn % 8, isa: 10 + turn % 2 }
}

/// Every route of bus 0.
pub(crate) fn routes() -> Vec<PciRoute> {
    (0..32).flat_map(|slot| (0..4).map(move |pin| route(slot, pin))).collect()
}

/// A function's window as the guest has placed it.
struct Placed {
    function: PciAddress,
    region: usize,
    space: Space,
    addresses: Range<u64>,
}

/// The windows of PCI functions.
pub(crate) struct PciWindows {
    engine: Arc<EngineLink>,
    placed: RwLock<Vec<Placed>>,
    functions: RwLock<BTreeMap<PciAddress, Arc<Behind>>>,
}

/// A function on the board.
pub(crate) struct Behind {
    pub slot: Arc<Slot>,
    pub regions: Vec<Region>,
}

/// Where an access ends.
pub(crate) struct Hit {
    pub slot: Arc<Slot>,
    pub region: RegionIndex,
    pub offset: u64,
    pub length: u64,
}

impl PciWindows {
    pub(crate) fn new(engine: Arc<EngineLink>) -> PciWindows {
        PciWindows { engine, placed: RwLock::default(), functions: RwLock::default() }
    }

    /// Says which slot of the board a function is in.
    pub(crate) fn add(&self, address: PciAddress, behind: Behind) {
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        functions.insert(address, Arc::new(behind));
    }

    /// A function is gone, its windows with it.
    pub(crate) fn remove(&self, address: PciAddress) {
        self.functions.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }

    fn behind(&self, address: PciAddress) -> Option<Arc<Behind>> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// The window around an address. Where two overlap, the lower slot has it.
    pub(crate) fn find(&self, space: Space, address: u64) -> Option<Hit> {
        let placed = self.placed.read().unwrap_or_else(PoisonError::into_inner);
        let window = placed.iter().find(|p| p.space == space && p.addresses.contains(&address))?;
        let behind = self.behind(window.function)?;
        Some(Hit {
            slot: behind.slot.clone(),
            region: RegionIndex(window.region),
            offset: address - window.addresses.start,
            length: window.addresses.end - window.addresses.start,
        })
    }
}

impl BarTarget for PciWindows {
    fn place(&self, function: PciAddress, region: RegionIndex, base: Option<u64>) {
        let mut placed = self.placed.write().unwrap_or_else(PoisonError::into_inner);
        let Some(behind) = self.behind(function) else { return };
        let bells = behind.slot.post().and_then(|post| post.bells_in(region));
        if let Some(old) =
            placed.iter().position(|p| (p.function, p.region) == (function, region.0))
        {
            let old = placed.remove(old);
            if let Some((bells, bell)) = &bells {
                self.engine.unhang(bells, old.addresses.start, bell.descriptor());
            }
        }
        let Some((base, shape)) = base.zip(behind.regions.get(region.0)) else { return };
        if let Some((bells, bell)) = &bells
            && shape.space == Space::Memory
        {
            self.engine.hang(bells, base, bell.descriptor());
        }
        placed.push(Placed {
            function,
            region: region.0,
            space: shape.space,
            addresses: base..base.saturating_add(shape.length),
        });
        placed.sort_by_key(|p| (p.function, p.region));
    }
}

/// The interrupt pin of a function, 1 for INTA#; `None` when it has none (PCI Local Bus 3.0 §6.2.4).
pub(crate) fn interrupt_pin(function: &mut dyn PciFunction) -> Option<u8> {
    let pin = Header(function).read(header::INTERRUPT_PIN, 1) as u8;
    (pin != 0).then_some(pin)
}

/// Gives every function its addresses and its interrupt line, as firmware does after reset. The host tells
/// the windows when the board resumes.
pub(crate) fn assign(functions: &[(PciAddress, Arc<Mutex<dyn PciFunction>>)]) {
    let mut ports = u32::from(PCI_PORTS);
    let mut memory = PCI_MEMORY.start;
    let mut bus = 0;
    for (address, function) in functions {
        let mut function = function.lock().unwrap_or_else(PoisonError::into_inner);
        let mut header = Header(&mut *function);
        if header.read(header::TYPE, 1) & 0x7f == header::BRIDGE {
            bus += 1;
            header.place_bridge(bus, &mut memory);
            continue;
        }
        let mut bar = 0;
        while bar < header::BARS {
            bar += header.place_bar(header::BAR0 + 4 * bar, &mut ports, &mut memory);
        }
        let pin = header.read(header::INTERRUPT_PIN, 1) as u8;
        if let Some(pin) = pin.checked_sub(1) {
            let line = route(address.device, pin).isa;
            header.write(header::INTERRUPT_LINE, 1, line);
        }
        header.write(header::COMMAND, 2, header::DECODE.into());
    }
}

/// A function's header as firmware sees it.
struct Header<'a>(&'a mut dyn PciFunction);

impl Header<'_> {
    fn read(&mut self, register: u16, size: usize) -> u32 {
        let mut data = [0; 4];
        self.0.read_config(register, &mut data[..size.min(4)]);
        u32::from_le_bytes(data)
    }

    fn write(&mut self, register: u16, size: usize, value: u32) {
        self.0.write_config(register, &value.to_le_bytes()[..size.min(4)]);
    }

    /// Gives a bridge its bus and room for what may come behind it.
    fn place_bridge(&mut self, bus: u32, memory: &mut u32) {
        self.write(header::BUSES, 4, bus << 8 | bus << 16);
        self.write(header::IO_WINDOW, 2, header::NO_IO);
        self.write(header::PREFETCHABLE_WINDOW, 4, header::NO_MEMORY);
        let base = memory.next_multiple_of(BRIDGE_MEMORY);
        let window = match base.checked_add(BRIDGE_MEMORY).filter(|end| *end <= PCI_MEMORY.end) {
            Some(end) => {
                *memory = end;
                base >> 16 | (end - 1) & 0xfff0_0000
            }
            None => header::NO_MEMORY,
        };
        self.write(header::MEMORY_WINDOW, 4, window);
        self.write(header::COMMAND, 2, u32::from(header::DECODE) | header::MASTER);
    }

    /// Sizes a BAR (PCI Local Bus 3.0 §6.2.5.1) and places it; gives the number of registers it has.
    /// One that does not fit stays where it is, at 0, for the guest to see to.
    fn place_bar(&mut self, register: u16, ports: &mut u32, memory: &mut u32) -> u16 {
        self.write(register, 4, u32::MAX);
        let mask = self.read(register, 4);
        self.write(register, 4, 0);
        let is_port = mask & header::BAR_PORTS != 0;
        let registers = if !is_port && mask & header::BAR_WIDE != 0 { 2 } else { 1 };
        let size = (mask & if is_port { !0x3 } else { !0xf }).wrapping_neg();
        let (next, end) = if is_port { (ports, 0x1_0000) } else { (memory, PCI_MEMORY.end) };
        // Port BARs may leave the upper half of the register at 0 (§6.2.5.1).
        let size = if is_port { size & 0xffff } else { size };
        let base = next.checked_next_multiple_of(size.max(1));
        if let Some(base) = base
            && size != 0
            && base.checked_add(size).is_some_and(|last| last <= end)
        {
            self.write(register, 4, base);
            *next = base + size;
        }
        registers
    }
}
