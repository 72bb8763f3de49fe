//! pvpanic: the guest's kernel says that it has panicked.

use super::NoState;
use super::spec::pvpanic::{EVENTS, PANICKED};
use crate::aml::{Hid, Resource, node, port};
use kezhan_device::{
    Access, Device, MachineControl, MachineEvent, Placement, Region, RegionIndex, RestoreError,
    SavedState, Space, read_bytes, write_bytes,
};
use std::sync::Arc;

const KIND: &str = "pvpanic";

/// A panic port. A crash kernel that was loaded deals with the panic itself, so `CRASH_LOADED` alone is
/// not an event for the machine.
pub struct Pvpanic {
    name: String,
    control: Arc<dyn MachineControl>,
}

impl Pvpanic {
    /// A panic port called `name`.
    pub fn new(name: &str, control: Arc<dyn MachineControl>) -> Pvpanic {
        Pvpanic { name: name.to_owned(), control }
    }
}

impl Device for Pvpanic {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "event", space: Space::Port, length: 1 }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        read_bytes(offset, data, |offset| (region.0 == 0 && offset == 0).then_some(EVENTS))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        write_bytes(offset, data, |offset, value| {
            let here = region.0 == 0 && offset == 0;
            if here && value & PANICKED != 0 {
                self.control.request(MachineEvent::Panicked);
            }
            here
        })
    }

    fn reset(&mut self) {}

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &NoState {})
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        state.open::<NoState>(KIND, 1).map(|_| ())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        Some(node("PEVT", &Hid::Text("QEMU0001"), &[Resource::Ports(port(placed, 0)?, 1)]))
    }
}

impl std::fmt::Debug for Pvpanic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pvpanic({})", self.name)
    }
}
