//! The 256 bytes of a function's configuration space.
//!
//! Each byte has a value, a mask of bits that a guest may write, and a mask of bits that it clears by
//! writing 1; everything else is fixed when the function is built. BARs and capabilities are declared by
//! the builder methods, which set those masks.
//!
//! ```text
//!   ConfigSpace::endpoint(identity).with_bar(0, bar)…      built
//!        │ guest writes command and BARs
//!        ▼
//!   placements(): where each BAR decodes now, or None
//! ```

use crate::spec::{
    BRIDGE_STATUS, BRIDGE_WRITABLE, bar as bits, command, header, header_type, status,
};
use kezhan_device::{Access, Region, RestoreError, Space};
use serde::{Deserialize, Serialize};

const KIND: &str = "pci-config";

/// Who a function is (PCI 3.0 §6.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code, 24 bits: class, subclass, programming interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Subsystem vendor ID (type 0 headers only).
    pub subsystem_vendor: u16,
    /// Subsystem ID (type 0 headers only).
    pub subsystem: u16,
}

/// What a BAR decodes (PCI 3.0 §6.2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Port,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere, prefetchable; it takes two registers.
    Memory64,
}

/// A base address register, declared by the name of the region behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Name of the region.
    pub region: &'static str,
    /// What it decodes.
    pub kind: BarKind,
    /// Its size in bytes or ports; rounded up to a power of two that a BAR can express.
    pub size: u64,
}

#[derive(Clone, Copy, Debug)]
struct PlacedBar {
    offset: usize,
    bar: Bar,
}

/// Saved form of a configuration space: part of the function's own state; version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigState {
    /// All 256 bytes.
    pub bytes: Vec<u8>,
}

/// A configuration space. See the module.
#[derive(Clone)]
pub struct ConfigSpace {
    bytes: [u8; header::LENGTH],
    writable: [u8; header::LENGTH],
    clear_by_one: [u8; header::LENGTH],
    power_on: [u8; header::LENGTH],
    bars: Vec<PlacedBar>,
    last_capability: usize,
    capabilities_end: usize,
}

impl ConfigSpace {
    /// The space of an ordinary function: a type 0 header.
    pub fn endpoint(identity: Identity) -> ConfigSpace {
        let mut space = ConfigSpace::with_header(identity, header_type::ENDPOINT);
        space.fix(header::SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        space.fix(header::SUBSYSTEM, &identity.subsystem.to_le_bytes());
        space
    }

    /// The space of a PCI-to-PCI bridge: a type 1 header with its bus numbers and windows.
    pub fn bridge(identity: Identity) -> ConfigSpace {
        let mut space = ConfigSpace::with_header(identity, header_type::BRIDGE);
        for (offset, mask) in BRIDGE_WRITABLE {
            set(&mut space.writable, offset, &mask.to_le_bytes());
        }
        set(&mut space.clear_by_one, BRIDGE_STATUS.0, &BRIDGE_STATUS.1.to_le_bytes());
        space
    }

    fn with_header(identity: Identity, kind: u8) -> ConfigSpace {
        let zero = [0; header::LENGTH];
        let mut space = ConfigSpace {
            bytes: zero,
            writable: zero,
            clear_by_one: zero,
            power_on: zero,
            bars: Vec::new(),
            last_capability: header::CAPABILITIES,
            capabilities_end: header::END,
        };
        space.fix(header::VENDOR, &identity.vendor.to_le_bytes());
        space.fix(header::DEVICE, &identity.device.to_le_bytes());
        let class = identity.class << 8 | u32::from(identity.revision);
        space.fix(header::REVISION, &class.to_le_bytes());
        space.fix(header::TYPE, &[kind]);
        set(&mut space.writable, header::COMMAND, &command::WRITABLE.to_le_bytes());
        set(&mut space.writable, header::CACHE_LINE, &[0xff]);
        set(&mut space.writable, header::LATENCY, &[0xff]);
        set(&mut space.writable, header::INTERRUPT_LINE, &[0xff]);
        set(&mut space.clear_by_one, header::STATUS, &status::CLEARED_BY_ONE.to_le_bytes());
        space
    }

    /// Adds `bar` as base address register `index` (0 to 5; a bridge has 0 and 1).
    #[must_use]
    pub fn with_bar(mut self, index: usize, bar: Bar) -> ConfigSpace {
        let smallest = match bar.kind {
            BarKind::Port => bits::SMALLEST_IO,
            BarKind::Memory32 | BarKind::Memory64 => bits::SMALLEST_MEMORY,
        };
        let size = bar.size.max(smallest).checked_next_power_of_two().unwrap_or(1 << 63);
        let offset = header::BAR + index * 4;
        let address = !(size - 1);
        match bar.kind {
            BarKind::Port => self.add_bar_register(offset, bits::IO, address as u32),
            BarKind::Memory32 => self.add_bar_register(offset, 0, address as u32),
            BarKind::Memory64 => {
                let kind = bits::MEMORY_64 | bits::PREFETCHABLE;
                self.add_bar_register(offset, kind, address as u32);
                self.add_bar_register(offset + 4, 0, (address >> 32) as u32);
            }
        }
        self.bars.push(PlacedBar { offset, bar: Bar { size, ..bar } });
        self
    }

    fn add_bar_register(&mut self, offset: usize, kind: u32, writable: u32) {
        self.fix(offset, &kind.to_le_bytes());
        set(&mut self.writable, offset, &writable.to_le_bytes());
    }

    /// Says that the function drives INTx#, `pin` 1 for INTA# to 4 for INTD# (PCI 3.0 §6.2.4).
    #[must_use]
    pub fn with_interrupt_pin(mut self, pin: u8) -> ConfigSpace {
        self.fix(header::INTERRUPT_PIN, &[pin]);
        self
    }

    /// Appends a capability (PCI 3.0 §6.7): `body` follows the id and the link, `writable` is the mask of
    /// its bits that a guest may write. Gives its offset, or `None` when the space is full.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Option<u8> {
        let offset = self.capabilities_end;
        let end = offset.checked_add(2 + body.len())?.next_multiple_of(4);
        if end > header::LENGTH {
            return None;
        }
        let place = u8::try_from(offset).ok()?;
        self.fix(self.last_capability, &[place]);
        self.fix(offset, &[id, 0]);
        self.fix(offset + 2, body);
        set(&mut self.writable, offset + 2, writable);
        let status = self.word(header::STATUS) | status::CAPABILITIES;
        self.fix(header::STATUS, &status.to_le_bytes());
        (self.last_capability, self.capabilities_end) = (offset + 1, end);
        Some(place)
    }

    /// Sets a value as the function's builder gave it: it is also the power-on value.
    fn fix(&mut self, offset: usize, value: &[u8]) {
        set(&mut self.bytes, offset, value);
        set(&mut self.power_on, offset, value);
    }

    pub(crate) fn word(&self, offset: usize) -> u16 {
        let at = |index: usize| self.bytes.get(index).copied().unwrap_or(0);
        u16::from_le_bytes([at(offset), at(offset + 1)])
    }

    /// A read of the guest's. Beyond byte 255 a conventional function answers with all-ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) -> Access {
        for (byte, index) in data.iter_mut().zip(usize::from(offset)..) {
            *byte = self.bytes.get(index).copied().unwrap_or(0xff);
        }
        Access::Done
    }

    /// A write of the guest's; bits that are not writable keep their values.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> Access {
        let places = self.bytes.iter_mut().zip(&self.writable).zip(&self.clear_by_one);
        for (((byte, writable), clear), value) in places.skip(offset.into()).zip(data) {
            *byte = (*byte & !writable | value & writable) & !(value & clear);
        }
        Access::Done
    }

    /// The regions of the BARs, in the order in which they were declared: a function gives them first.
    pub fn regions(&self) -> Vec<Region> {
        let space = |kind| if kind == BarKind::Port { Space::Port } else { Space::Memory };
        self.bars
            .iter()
            .map(|PlacedBar { bar, .. }| Region {
                name: bar.region,
                space: space(bar.kind),
                length: bar.size,
            })
            .collect()
    }

    /// Where each BAR decodes now, in the order of [`ConfigSpace::regions`]. `None` while decoding is off
    /// or the address is not one: zero, or (as during sizing) at the very end of the space.
    pub fn placements(&self) -> Vec<Option<u64>> {
        self.bars.iter().map(|placed| self.placement(placed)).collect()
    }

    fn placement(&self, placed: &PlacedBar) -> Option<u64> {
        let (enable, last) = match placed.bar.kind {
            BarKind::Port => (command::IO, u64::from(u16::MAX)),
            BarKind::Memory32 => (command::MEMORY, u64::from(u32::MAX)),
            BarKind::Memory64 => (command::MEMORY, u64::MAX),
        };
        let halves: [u16; 4] = std::array::from_fn(|half| self.word(placed.offset + half * 2));
        let mut address = u64::from(halves[0]) | u64::from(halves[1]) << 16;
        if placed.bar.kind == BarKind::Memory64 {
            address |= u64::from(halves[2]) << 32 | u64::from(halves[3]) << 48;
        }
        let base = address & !(placed.bar.size - 1);
        let end = base.checked_add(placed.bar.size - 1)?;
        (self.word(header::COMMAND) & enable != 0 && base != 0 && end < last).then_some(base)
    }

    /// Whether the function wants INTx#; gives the level to drive, which the guest may have disabled.
    pub fn set_interrupt(&mut self, wanted: bool) -> bool {
        let status = self.word(header::STATUS) & !status::INTERRUPT;
        let status = if wanted { status | status::INTERRUPT } else { status };
        set(&mut self.bytes, header::STATUS, &status.to_le_bytes());
        self.interrupt_level()
    }

    /// The level of INTx#: to be driven again after every configuration write.
    pub fn interrupt_level(&self) -> bool {
        self.word(header::STATUS) & status::INTERRUPT != 0
            && self.word(header::COMMAND) & command::INTERRUPT_DISABLE == 0
    }

    /// Back to the power-on values.
    pub fn reset(&mut self) {
        self.bytes = self.power_on;
    }

    /// The state to save.
    pub fn save(&self) -> ConfigState {
        ConfigState { bytes: self.bytes.to_vec() }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] when bits differ that no guest could have changed: the state is of another
    /// function.
    pub fn restore(&mut self, state: &ConfigState) -> Result<(), RestoreError> {
        let bytes = <[u8; header::LENGTH]>::try_from(state.bytes.as_slice())
            .map_err(|_not_256| RestoreError::invalid(KIND, "it is not 256 bytes long"))?;
        let mut changeable = self.writable;
        for (mask, clear) in changeable.iter_mut().zip(&self.clear_by_one) {
            *mask |= clear;
        }
        changeable[header::STATUS] |= status::INTERRUPT as u8;
        let fixed = bytes.iter().zip(&self.power_on).zip(&changeable);
        if let Some(at) = fixed.clone().position(|((new, own), mask)| (new ^ own) & !mask != 0) {
            let reason = format!("byte {at:#x} has bits that belong to another function");
            return Err(RestoreError::invalid(KIND, &reason));
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// Copies `value` to `offset`; what does not fit is left out.
fn set(bytes: &mut [u8; header::LENGTH], offset: usize, value: &[u8]) {
    for (byte, value) in bytes.iter_mut().skip(offset).zip(value) {
        *byte = *value;
    }
}

impl std::fmt::Debug for ConfigSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (vendor, device) = (self.word(header::VENDOR), self.word(header::DEVICE));
        write!(f, "ConfigSpace({vendor:04x}:{device:04x}, {} BARs)", self.bars.len())
    }
}
