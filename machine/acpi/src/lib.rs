//! ACPI tables of a board: how a guest learns what hardware there is.
//!
//! ```text
//!   RSDP ──► RSDT ─┬► FADT ─┬► FACS
//!      └───► XSDT ─┤        └► DSDT: \_S5, \_PIC, \_SB { processors, devices, PCI root }
//!                  ├► MADT: local APICs, IOAPIC, interrupt overrides
//!                  ├► HPET
//!                  └► MCFG: where the PCI configuration space is mapped
//! ```
//!
//! [`build`] is a pure function from a [`Description`] to bytes at addresses; the board writes them into
//! the area below 1 MiB where operating systems look for the RSDP (ACPI 6.5 §5.2.5.1).
//!
//! The machine is not hardware-reduced: it has the fixed PM1a block, a 32-bit PM timer, a fixed power
//! button and the SCI. There is no SMM and so no SMI command port: `SCI_EN` is always set.
//!
//! Devices describe themselves: each hands over the AML of its node (`Device::aml`), and this crate
//! knows only what no single device does (processors, PCI root, interrupt routing).
//!
//! # What was rejected
//! The table builders of the acpi_tables crate, which recompute the checksum at every byte and have
//! neither HPET nor RSDT; its AML is used. An XSDT alone: older guests read only the RSDT.

mod dsdt;
mod fixed;
pub mod spec;
mod table;
pub mod testkit;

use fixed::Pointers;
use std::ops::Range;
use table::align;

/// What the tables say of a board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Number of processors; APIC ids and UIDs are 0 to `cpus` - 1.
    pub cpus: u32,
    /// Ports of the fixed hardware.
    pub pm: FixedHardware,
    /// Address of the IOAPIC, whose pins are GSIs from 0 on.
    pub ioapic: u32,
    /// The HPET.
    pub hpet: Option<Hpet>,
    /// The PCI root.
    pub pci: PciRoot,
    /// AML of the devices, each a node of `\_SB`.
    pub nodes: Vec<Vec<u8>>,
}

/// Ports of the fixed ACPI hardware (ACPI 6.5 §4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedHardware {
    /// PM1a event block, 4 ports.
    pub event: u16,
    /// PM1a control block, 2 ports.
    pub control: u16,
    /// PM timer, 4 ports.
    pub timer: u16,
    /// General-purpose event block 0.
    pub gpe0: u16,
    /// Its length in ports.
    pub gpe0_length: u8,
    /// Reset register.
    pub reset: u16,
    /// The value that resets.
    pub reset_value: u8,
    /// ISA interrupt and GSI of the SCI.
    pub sci: u8,
    /// `SLP_TYP` of S5.
    pub s5_sleep_type: u8,
}

/// The high precision event timer (IA-PC HPET 1.0a §3.2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hpet {
    /// Its address.
    pub address: u64,
    /// The lower half of its capabilities register.
    pub block_id: u32,
}

/// The PCI root bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciRoot {
    /// Where configuration space is mapped.
    pub ecam: u64,
    /// Number of buses in it.
    pub buses: u16,
    /// Memory that is the devices' behind it.
    pub memory: Range<u32>,
    /// Where interrupt pins go.
    pub routes: Vec<PciRoute>,
}

/// Where an interrupt pin of a slot goes (ACPI 6.5 §6.2.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciRoute {
    /// Device number on bus 0.
    pub slot: u8,
    /// 0 for INTA to 3 for INTD.
    pub pin: u8,
    /// GSI, when the guest uses the IOAPIC.
    pub gsi: u32,
    /// ISA interrupt, when it uses the PIC.
    pub isa: u32,
}

/// The tables, ready to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Address of the RSDP.
    pub rsdp: u64,
    /// Bytes at addresses.
    pub parts: Vec<(u64, Vec<u8>)>,
}

/// Why there are no tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiError {
    /// They need more room.
    #[error("ACPI tables take {needed} bytes, there is room for {room}; use fewer devices")]
    TooLarge {
        /// Bytes needed.
        needed: u64,
        /// Bytes possible.
        room: u64,
    },
}

/// Makes the tables that describe a board and lays them out in `area`, the RSDP first.
///
/// # Errors
/// [`AcpiError::TooLarge`] when they do not fit.
pub fn build(description: &Description, area: Range<u32>) -> Result<Tables, AcpiError> {
    let mut layout = Layout { next: area.start, parts: Vec::new() };
    let rsdp = layout.reserve(spec::RSDP_LENGTH);
    let facs = layout.place(fixed::facs());
    let dsdt = layout.place(dsdt::dsdt(description));
    let fadt = layout.place(fixed::fadt(description, &Pointers { facs, dsdt }));
    let mut listed = vec![fadt, layout.place(fixed::madt(description))];
    if let Some(hpet) = &description.hpet {
        listed.push(layout.place(fixed::hpet(hpet)));
    }
    listed.push(layout.place(fixed::mcfg(&description.pci)));
    let rsdt = layout.place(fixed::rsdt(&listed));
    let xsdt = layout.place(fixed::xsdt(&listed));
    layout.parts.push((rsdp.into(), fixed::rsdp(rsdt, xsdt)));
    if layout.next > area.end {
        return Err(AcpiError::TooLarge {
            needed: (layout.next - area.start).into(),
            room: (area.end - area.start).into(),
        });
    }
    Ok(Tables { rsdp: rsdp.into(), parts: layout.parts })
}

/// Tables one after the other, each where a FACS may be (ACPI 6.5 §5.2.10: 64 bytes).
struct Layout {
    next: u32,
    parts: Vec<(u64, Vec<u8>)>,
}

impl Layout {
    fn reserve(&mut self, length: usize) -> u32 {
        let address = self.next;
        self.next = align(address.saturating_add(u32::try_from(length).unwrap_or(u32::MAX)));
        address
    }

    fn place(&mut self, table: Vec<u8>) -> u32 {
        let address = self.reserve(table.len());
        self.parts.push((address.into(), table));
        address
    }
}

#[cfg(test)]
mod tests;
