//! isa-debug-exit: ends the process with a status of the guest's choice.

use super::NoState;
use kezhan_device::{
    Access, Device, MachineControl, MachineEvent, Region, RegionIndex, RestoreError, SavedState,
    Space,
};
use std::sync::Arc;

const KIND: &str = "debug-exit";

/// A write of `value` to region `exit` asks for the process status `value << 1 | 1`: it is odd, so that
/// success of the guest's tests (0) is told from success of the process.
pub struct DebugExit {
    name: String,
    control: Arc<dyn MachineControl>,
}

impl DebugExit {
    /// An exit port called `name`.
    pub fn new(name: &str, control: Arc<dyn MachineControl>) -> DebugExit {
        DebugExit { name: name.to_owned(), control }
    }
}

impl Device for DebugExit {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "exit", space: Space::Port, length: 4 }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        if region != RegionIndex(0) || offset >= 4 {
            return Access::BadRegister;
        }
        data.fill(0);
        Access::Done
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let (RegionIndex(0), 0..4, Some(value)) = (region, offset, data.first()) else {
            return Access::BadRegister;
        };
        self.control.request(MachineEvent::Exit(value << 1 | 1));
        Access::Done
    }

    fn reset(&mut self) {}

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &NoState {})
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        state.open::<NoState>(KIND, 1).map(|_| ())
    }
}

impl std::fmt::Debug for DebugExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DebugExit({})", self.name)
    }
}
