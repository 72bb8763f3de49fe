//! Where a function is.

use std::fmt;

/// Bus, device and function (PCI 3.0 §3.2.2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// Bus number.
    pub bus: u8,
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// The function `bus:device.function`.
    pub const fn new(bus: u8, device: u8, function: u8) -> PciAddress {
        PciAddress { bus, device, function }
    }

    /// The address in bits 23:8 as in CONFIG_ADDRESS, shifted down to bit 0.
    pub(crate) fn from_routing_id(id: u16) -> PciAddress {
        let [low, bus] = id.to_le_bytes();
        PciAddress { bus, device: low >> 3, function: low & 7 }
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}
