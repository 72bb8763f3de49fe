//! The DSDT: what only AML can say (ACPI 6.5 §5.2.11.1).
//!
//! ```text
//!   \_S5, \PICM, \_PIC
//!   \_SB ── C000 … processors
//!       ├── device nodes (COM1, RTC, …)
//!       ├── MBRD: what is taken and belongs to nobody else
//!       └── PCI0: _CRS, _PRT, _OSC
//! ```

use crate::spec::osc;
use crate::table::Table;
use crate::{Description, FixedHardware, PciRoot};
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, IO, If,
    Memory32Fixed, Method, Name, NotEqual, Or, Package, PackageBuilder, Path, ResourceTemplate,
    Return, Scope, Store, ZERO,
};

pub(crate) fn dsdt(board: &Description) -> Vec<u8> {
    let mut table = Table::new(b"DSDT", 2);
    table.bytes(&sleep(board.pm.s5_sleep_type)).bytes(&interrupt_mode());
    let mut system_bus = Vec::new();
    (0..board.cpus).for_each(|cpu| system_bus.extend(processor(cpu)));
    board.nodes.iter().for_each(|node| system_bus.extend(node));
    system_bus.extend(mainboard(&board.pm, &board.pci));
    system_bus.extend(pci_root(&board.pci));
    table.bytes(&Scope::raw("_SB_".into(), system_bus));
    table.finish()
}

fn encode(object: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.to_aml_bytes(&mut bytes);
    bytes
}

/// `\_S5` (ACPI 6.5 §7.4.2.6): the sleep type for PM1a, for PM1b, two reserved.
fn sleep(sleep_type: u8) -> Vec<u8> {
    encode(&Name::new("_S5_".into(), &Package::new(vec![&sleep_type, &ZERO, &ZERO, &ZERO])))
}

/// `\_PIC` (ACPI 6.5 §5.8.1): the guest says 1 when it uses the IOAPIC.
fn interrupt_mode() -> Vec<u8> {
    let mode = Path::new("\\PICM");
    let mut bytes = encode(&Name::new("PICM".into(), &ZERO));
    bytes.extend(encode(&Method::new("_PIC".into(), 1, false, vec![&Store::new(&mode, &Arg(0))])));
    bytes
}

/// A processor device (ACPI 6.5 §8.4).
fn processor(cpu: u32) -> Vec<u8> {
    let name = format!("C{cpu:03X}");
    encode(&Device::new(
        name.as_str().into(),
        vec![&Name::new("_HID".into(), &"ACPI0007"), &Name::new("_UID".into(), &cpu)],
    ))
}

/// What is taken on the board and is no device's own (PNP0C02): fixed hardware and the ECAM, as PCI
/// Firmware 3.3 §4.1.2 asks.
fn mainboard(pm: &FixedHardware, pci: &PciRoot) -> Vec<u8> {
    let ecam = Memory32Fixed::new(true, pci.ecam as u32, u32::from(pci.buses) << 20);
    let ports = |base: u16, count: u8| IO::new(base, base, 1, count);
    let (event, control, timer) = (ports(pm.event, 4), ports(pm.control, 2), ports(pm.timer, 4));
    let gpe0 = ports(pm.gpe0, pm.gpe0_length);
    let template = ResourceTemplate::new(vec![&event, &control, &timer, &gpe0, &ecam]);
    encode(&Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &template),
        ],
    ))
}

/// The PCI Express root bridge.
fn pci_root(pci: &PciRoot) -> Vec<u8> {
    let with_ioapic = routing(pci, |route| route.gsi);
    let with_pic = routing(pci, |route| route.isa);
    let (ioapic_table, pic_table) = (Path::new("PRTA"), Path::new("PRTP"));
    let mode = Path::new("\\PICM");
    let choice = Return::new(&ioapic_table);
    encode(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_SEG".into(), &ZERO),
            &Name::new("_BBN".into(), &ZERO),
            &Name::new("_UID".into(), &ZERO),
            &Raw(encode(&Name::new("_CRS".into(), &Raw(windows(pci))))),
            &Name::new("PRTA".into(), &with_ioapic),
            &Name::new("PRTP".into(), &with_pic),
            &Method::new(
                "_PRT".into(),
                0,
                false,
                vec![&If::new(&mode, vec![&choice]), &Return::new(&pic_table)],
            ),
            &Raw(operating_system_capabilities()),
        ],
    ))
}

/// What the bridge passes on (ACPI 6.5 §6.2.2): buses, every port but its own, its memory.
fn windows(pci: &PciRoot) -> Vec<u8> {
    let last_bus = pci.buses.saturating_sub(1).min(255);
    let last = pci.memory.end.saturating_sub(1);
    let cache = AddressSpaceCacheable::NotCacheable;
    encode(&ResourceTemplate::new(vec![
        &AddressSpace::<u16>::new_bus_number(0, last_bus),
        &IO::new(0xcf8, 0xcf8, 1, 8),
        &AddressSpace::<u16>::new_io(0, 0xcf7, None),
        &AddressSpace::<u16>::new_io(0xd00, 0xffff, None),
        &AddressSpace::<u32>::new_memory(cache, true, pci.memory.start, last, None),
    ]))
}

/// A `_PRT` package (ACPI 6.5 §6.2.13): address, pin, no link device, interrupt.
fn routing(pci: &PciRoot, interrupt: impl Fn(&crate::PciRoute) -> u32) -> PackageBuilder {
    let mut table = PackageBuilder::new();
    for route in &pci.routes {
        let address = u32::from(route.slot) << 16 | 0xffff;
        let interrupt = interrupt(route);
        table.add_element(&Package::new(vec![&address, &route.pin, &ZERO, &interrupt]));
    }
    table
}

/// `_OSC` (ACPI 6.5 §6.2.11.3; PCI Firmware 3.3 §4.5.1): grants the capability structures and
/// hot-plug, nothing else.
fn operating_system_capabilities() -> Vec<u8> {
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let masked = Or::new(&status, &status, &osc::MASKED);
    let refused = !u32::from(osc::GRANTED);
    let beyond = And::new(&ZERO, &control, &refused);
    encode(&Method::new(
        "_OSC".into(),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &0_u8),
            &CreateDWordField::new(&control, &Arg(3), &8_u8),
            &If::new(&NotEqual::new(&beyond, &ZERO), vec![&masked]),
            &And::new(&control, &control, &osc::GRANTED),
            &Return::new(&Arg(3)),
        ],
    ))
}

/// AML that is encoded already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}
