//! The debug console: a port whose bytes go to a character device.

use super::spec::console::{BACKLOG, PRESENT};
use kezhan_device::{
    Access, Device, Region, RegionIndex, RestoreError, SavedState, Space, read_bytes, write_bytes,
};
use kezhan_ports::CharDevice;
use serde::{Deserialize, Serialize};

const KIND: &str = "debug-console";

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleState {
    /// Output not yet taken by the port.
    backlog: Vec<u8>,
}

/// A write-only console without flow control: what a slow port has not taken waits, and beyond 4 KiB
/// is dropped, since the guest has no way to be told to wait.
pub struct DebugConsole {
    name: String,
    port: Box<dyn CharDevice>,
    backlog: Vec<u8>,
}

impl DebugConsole {
    /// A console called `name` on `port`.
    pub fn new(name: &str, port: Box<dyn CharDevice>) -> DebugConsole {
        DebugConsole { name: name.to_owned(), port, backlog: Vec::new() }
    }

    fn drain(&mut self) {
        if !self.backlog.is_empty() {
            let taken = self.port.write(&self.backlog).min(self.backlog.len());
            self.backlog.drain(..taken);
        }
    }
}

impl Device for DebugConsole {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "data", space: Space::Port, length: 1 }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        read_bytes(offset, data, |offset| (region.0 == 0 && offset == 0).then_some(PRESENT))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let access = write_bytes(offset, data, |offset, value| {
            let here = region.0 == 0 && offset == 0;
            if here && self.backlog.len() < BACKLOG {
                self.backlog.push(value);
            }
            here
        });
        self.drain();
        access
    }

    fn poll(&mut self) {
        self.drain();
    }

    fn reset(&mut self) {
        self.backlog.clear();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &ConsoleState { backlog: self.backlog.clone() })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let state: ConsoleState = state.open(KIND, 1)?;
        if state.backlog.len() > BACKLOG {
            return Err(RestoreError::invalid(KIND, "the backlog is longer than 4096 bytes"));
        }
        self.backlog = state.backlog;
        Ok(())
    }
}

impl std::fmt::Debug for DebugConsole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DebugConsole({}, {} waiting)", self.name, self.backlog.len())
    }
}
