//! The two ways to configuration space, and the slots behind them.
//!
//! ```text
//!   ports  0xcf8/0xcfc ─┐                      ┌─► Arc<Mutex<dyn PciFunction>>
//!   memory ECAM ────────┴─► PciHost ── slots ──┼─► …
//!                              │               └─► absent: all-ones
//!                              └─► BarTarget::place (a BAR has moved)
//! ```
//!
//! # Locks
//! The chassis holds the host's lock during an access; the host takes the function's for the one
//! configuration access. Lock order: host → function. A function never calls the host. `BarTarget` is called
//! with the host's lock held and no function's: it may change the address map, so the chassis must
//! not hold its map while it is inside a device.
//!
//! # When the board is told
//! After each configuration write, and at [`Device::resume`] for whatever a reset or a restore has
//! changed. Only changes are told.

use crate::spec::{ECAM_PER_BUS, mechanism1};
use crate::{PciAddress, PciFunction};
use kezhan_device::{Access, Device, Region, RegionIndex, RestoreError, SavedState, Space};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const KIND: &str = "pci-host";
const CONFIG: usize = 0;
const ECAM: usize = 1;

/// Told where the guest has put the BARs.
pub trait BarTarget: Send + Sync {
    /// Region `region` of `function` now starts at `base`, or decodes nowhere. Where it was before, it is no
    /// longer. Two BARs of a guest's making may overlap each other or anything else.
    fn place(&self, function: PciAddress, region: RegionIndex, base: Option<u64>);
}

/// Why a function was not plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlugError {
    /// Another function is there.
    #[error("PCI slot {0} is taken; choose another")]
    Occupied(PciAddress),
    /// The host has no such slot.
    #[error(
        "PCI slot {address} does not exist; buses 0 to {last_bus:#x}, devices 0 to 1f, functions 0 to 7 do"
    )]
    NoSuchSlot {
        /// The slot asked for.
        address: PciAddress,
        /// The last bus.
        last_bus: u16,
    },
}

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostState {
    /// CONFIG_ADDRESS.
    address: u32,
}

struct Slot {
    function: Arc<Mutex<dyn PciFunction>>,
    told: Vec<Option<u64>>,
}

/// The configuration mechanisms and the slots. See the module.
pub struct PciHost {
    name: String,
    buses: u16,
    target: Arc<dyn BarTarget>,
    slots: BTreeMap<PciAddress, Slot>,
    /// Buses behind ports, and the ports.
    ports: Vec<(u8, PciAddress)>,
    address: u32,
}

impl PciHost {
    /// A host called `name` with `buses` buses (1 to 256; it decides the length of `ecam`).
    pub fn new(name: &str, buses: u16, target: Arc<dyn BarTarget>) -> PciHost {
        let buses = buses.clamp(1, 256);
        PciHost {
            name: name.to_owned(),
            buses,
            target,
            slots: BTreeMap::new(),
            ports: Vec::new(),
            address: 0,
        }
    }

    /// Puts a function in a slot: one of bus 0 before the machine runs, one behind a port at any time.
    ///
    /// # Errors
    /// [`PlugError`] when the slot is taken or does not exist.
    pub fn plug(
        &mut self,
        address: PciAddress,
        function: Arc<Mutex<dyn PciFunction>>,
    ) -> Result<(), PlugError> {
        let exists =
            u16::from(address.bus) < self.buses && address.device < 32 && address.function < 8;
        if !exists {
            return Err(PlugError::NoSuchSlot { address, last_bus: self.buses - 1 });
        }
        if self.slots.contains_key(&address) {
            return Err(PlugError::Occupied(address));
        }
        let told = vec![None; lock(&function).config().regions().len()];
        self.slots.insert(address, Slot { function, told });
        Ok(())
    }

    /// Says which of bus 0's functions leads to what is plugged in at bus `bus`.
    pub fn lead(&mut self, bus: u8, port: PciAddress) {
        self.ports.push((bus, port));
    }

    /// Takes a function out of a slot behind a port; its BARs decode no longer.
    pub fn unplug(&mut self, address: PciAddress) {
        if let Some(slot) = self.slots.remove(&address) {
            for (index, told) in slot.told.iter().enumerate() {
                if told.is_some() {
                    self.target.place(address, RegionIndex(index), None);
                }
            }
        }
    }

    /// The slot that a guest means: behind a port, bus numbers are the guest's.
    fn resolve(&self, address: PciAddress) -> Option<PciAddress> {
        if address.bus == 0 {
            return Some(address);
        }
        let leads = |port: &PciAddress| {
            let slot = self.slots.get(port);
            slot.is_some_and(|slot| lock(&slot.function).bus_behind() == Some(address.bus))
        };
        let (bus, _) = self.ports.iter().find(|(_, port)| leads(port))?;
        Some(PciAddress { bus: *bus, ..address })
    }

    /// The function and register that an access reaches, if configuration space it is.
    fn locate(&self, region: RegionIndex, offset: u64) -> Option<(PciAddress, u16)> {
        let (id, register) = match region.0 {
            CONFIG if self.address & mechanism1::ENABLE != 0 => {
                let register = (self.address & 0xfc) as u16 | (offset & 3) as u16;
                ((self.address >> 8) as u16, register)
            }
            ECAM => ((offset >> 12) as u16, (offset & 0xfff) as u16),
            _ => return None,
        };
        Some((self.resolve(PciAddress::from_routing_id(id))?, register))
    }

    fn read_function(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        if let Some((address, register)) = self.locate(region, offset)
            && let Some(slot) = self.slots.get(&address)
        {
            lock(&slot.function).read_config(register, data);
        }
    }

    fn write_function(&mut self, region: RegionIndex, offset: u64, data: &[u8]) {
        if let Some((address, register)) = self.locate(region, offset)
            && let Some(slot) = self.slots.get_mut(&address)
        {
            lock(&slot.function).write_config(register, data);
            slot.tell(address, &*self.target);
        }
    }

    /// Whether an access reaches configuration space, as far as size and place go.
    fn check(&self, region: RegionIndex, offset: u64, size: usize) -> Access {
        let (start, length) = match region.0 {
            CONFIG => (mechanism1::DATA, mechanism1::LENGTH),
            ECAM => (0, u64::from(self.buses) * ECAM_PER_BUS),
            _ => return Access::BadRegister,
        };
        match size {
            1 | 2 | 4 if !(start..length).contains(&offset) => Access::BadRegister,
            1 | 2 | 4 if offset % 4 + size as u64 > 4 => Access::Unaligned,
            1 | 2 | 4 => Access::Done,
            _ => Access::BadSize,
        }
    }
}

impl Slot {
    /// Tells what has changed since the last time.
    fn tell(&mut self, address: PciAddress, target: &dyn BarTarget) {
        let placements = lock(&self.function).config().placements();
        for (index, (told, now)) in self.told.iter_mut().zip(placements).enumerate() {
            if std::mem::replace(told, now) != now {
                target.place(address, RegionIndex(index), now);
            }
        }
    }
}

impl Device for PciHost {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        let ecam = u64::from(self.buses) * ECAM_PER_BUS;
        vec![
            Region { name: "config", space: Space::Port, length: mechanism1::LENGTH },
            Region { name: "ecam", space: Space::Memory, length: ecam },
        ]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        if region == RegionIndex(CONFIG)
            && offset == mechanism1::ADDRESS
            && let [_, _, _, _] = data
        {
            data.copy_from_slice(&self.address.to_le_bytes());
            return Access::Done;
        }
        let access = self.check(region, offset, data.len());
        if access == Access::Done {
            self.read_function(region, offset, data);
        }
        access
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        if region == RegionIndex(CONFIG)
            && offset == mechanism1::ADDRESS
            && let [a, b, c, d] = *data
        {
            self.address = u32::from_le_bytes([a, b, c, d]) & mechanism1::ALL;
            return Access::Done;
        }
        let access = self.check(region, offset, data.len());
        if access == Access::Done {
            self.write_function(region, offset, data);
        }
        access
    }

    fn resume(&mut self) {
        for (address, slot) in &mut self.slots {
            slot.tell(*address, &*self.target);
        }
    }

    fn reset(&mut self) {
        self.address = 0;
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &HostState { address: self.address })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        self.address = state.open::<HostState>(KIND, 1)?.address & mechanism1::ALL;
        Ok(())
    }
}

impl std::fmt::Debug for PciHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PciHost({}, functions {:?})", self.name, self.slots.keys())
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
