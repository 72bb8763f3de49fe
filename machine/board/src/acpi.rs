//! The board as its ACPI tables describe it.

use crate::address_map::{self, ACPI_TABLES, PCI_BUSES, PCI_MEMORY, Place};
use crate::slot::Slot;
use crate::{BoardError, pci};
use kezhan_acpi::{Description, FixedHardware, Hpet, PciRoot, Tables};
use kezhan_chipset::pm;
use std::sync::Arc;

/// The tables of a board with `cpus` processors and these devices.
pub(crate) fn tables(cpus: u32, slots: &[Arc<Slot>]) -> Result<Tables, BoardError> {
    let description = Description {
        cpus,
        pm: fixed_hardware()?,
        ioapic: memory("ioapic", "registers")? as u32,
        hpet: Some(hpet(slots)?),
        pci: PciRoot {
            ecam: memory("pci-host", "ecam")?,
            buses: PCI_BUSES,
            memory: PCI_MEMORY,
            routes: pci::routes(),
        },
        nodes: slots.iter().filter_map(|slot| slot.aml()).collect(),
    };
    Ok(kezhan_acpi::build(&description, ACPI_TABLES)?)
}

/// Where the HPET is, and the lower half of its capabilities (IA-PC HPET 1.0a §2.3.4, §3.2.4).
fn hpet(slots: &[Arc<Slot>]) -> Result<Hpet, BoardError> {
    let missing = || BoardError::NoPlace("hpet.registers".to_owned());
    let slot = slots.iter().find(|slot| slot.name() == "hpet").ok_or_else(missing)?;
    Ok(Hpet { address: memory("hpet", "registers")?, block_id: slot.peek() })
}

fn fixed_hardware() -> Result<FixedHardware, BoardError> {
    let sci = address_map::interrupts("pm").first().copied();
    Ok(FixedHardware {
        event: port("pm", "event")?,
        control: port("pm", "control")?,
        timer: port("pm", "timer")?,
        gpe0: port("pm", "gpe0")?,
        gpe0_length: pm::GPE0_LENGTH as u8,
        reset: port("pm", "reset")?,
        reset_value: pm::ACPI_RESET_VALUE,
        sci: sci.ok_or_else(|| BoardError::NoPlace("pm.sci".to_owned()))?,
        s5_sleep_type: pm::S5_SLEEP_TYPE,
    })
}

fn port(device: &str, part: &str) -> Result<u16, BoardError> {
    match address_map::find(device, part) {
        Some(Place::Port(port) | Place::PortInside(port)) => Ok(port),
        _ => Err(BoardError::NoPlace(format!("{device}.{part}"))),
    }
}

fn memory(device: &str, part: &str) -> Result<u64, BoardError> {
    match address_map::find(device, part) {
        Some(Place::Memory(address)) => Ok(address),
        _ => Err(BoardError::NoPlace(format!("{device}.{part}"))),
    }
}
