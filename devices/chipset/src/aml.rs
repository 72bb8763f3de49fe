//! The shape that all our DSDT nodes share (ACPI 6.5 §6.1, §6.4).

use acpi_tables::Aml;
use acpi_tables::aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ResourceTemplate};

/// One resource of a node's `_CRS`.
pub(crate) enum Resource {
    /// Ports from a base, so many.
    Ports(u16, u8),
    /// Memory from a base, so many bytes.
    Memory(u32, u32),
    /// An edge-triggered, active-high, exclusive GSI.
    Edge(u32),
}

/// How a node says what it is (ACPI 6.5 §6.1.5).
pub(crate) enum Hid {
    /// An EISA id: `PNP0B00`.
    Eisa(&'static str),
    /// A string: `QEMU0001`.
    Text(&'static str),
}

/// `Device (name) { _HID, _STA, _CRS }`.
pub(crate) fn node(name: &'static str, hid: &Hid, resources: &[Resource]) -> Vec<u8> {
    let descriptors: Vec<Box<dyn Aml>> = resources.iter().map(descriptor).collect();
    let template = ResourceTemplate::new(descriptors.iter().map(|one| &**one).collect());
    let id: &dyn Aml = match hid {
        Hid::Eisa(id) => &EISAName::new(id),
        Hid::Text(id) => id,
    };
    // Present, enabled, shown, working (ACPI 6.5 §6.3.7).
    let status = Name::new("_STA".into(), &0x0f_u8);
    let mut bytes = Vec::new();
    Device::new(
        name.into(),
        vec![&Name::new("_HID".into(), id), &status, &Name::new("_CRS".into(), &template)],
    )
    .to_aml_bytes(&mut bytes);
    bytes
}

fn descriptor(resource: &Resource) -> Box<dyn Aml> {
    match *resource {
        Resource::Ports(base, count) => Box::new(IO::new(base, base, 1, count)),
        Resource::Memory(base, length) => Box::new(Memory32Fixed::new(true, base, length)),
        Resource::Edge(gsi) => Box::new(Interrupt::new(true, true, false, false, gsi)),
    }
}

/// The base of region `index` as a port number.
pub(crate) fn port(placed: &kezhan_device::Placement, index: usize) -> Option<u16> {
    u16::try_from(*placed.bases.get(index)?).ok()
}
