//! pc-testdev.
//!
//! The flush port asks a hypervisor to drop its mapping of a page, so that the next access goes the slow
//! way. No guest can see whether it did; we do not.

use super::spec::isa::{DATA_LENGTH, FLUSH_LENGTH, MEMORY_LENGTH};
use kezhan_device::{
    Access, Device, LineInterrupt, Region, RegionIndex, RestoreError, SavedState, Space,
    read_bytes, write_bytes,
};
use serde::{Deserialize, Serialize};

const KIND: &str = "pc-testdev";
const DATA: usize = 0;
const FLUSH: usize = 1;
const LINES: usize = 2;
const MEMORY: usize = 3;

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestdevState {
    /// The register that remembers.
    data: [u8; DATA_LENGTH as usize],
    /// Levels of the lines.
    lines: Vec<bool>,
    /// The memory up to its last byte that is not 0.
    memory: Vec<u8>,
}

/// The ISA test device. Port `n` of `lines` drives line `n`: 0 is low, anything else is high.
pub struct PcTestdev {
    name: String,
    lines: Vec<LineInterrupt>,
    data: [u8; DATA_LENGTH as usize],
    memory: Vec<u8>,
}

impl PcTestdev {
    /// A test device called `name` that drives `lines`: by custom the 24 inputs of the I/O APIC.
    pub fn new(name: &str, lines: Vec<LineInterrupt>) -> PcTestdev {
        let memory = vec![0; MEMORY_LENGTH as usize];
        PcTestdev { name: name.to_owned(), lines, data: [0; DATA_LENGTH as usize], memory }
    }

    fn read_byte(&self, region: usize, offset: u64) -> Option<u8> {
        let index = usize::try_from(offset).ok()?;
        match region {
            DATA => self.data.get(index).copied(),
            FLUSH => (offset < FLUSH_LENGTH).then_some(0),
            LINES => self.lines.get(index).map(|line| line.is_high().into()),
            MEMORY => self.memory.get(index).copied(),
            _ => None,
        }
    }

    fn write_byte(&mut self, region: usize, offset: u64, value: u8) -> bool {
        let Ok(index) = usize::try_from(offset) else { return false };
        let cell = match region {
            DATA => self.data.get_mut(index),
            MEMORY => self.memory.get_mut(index),
            FLUSH => return offset < FLUSH_LENGTH,
            LINES => return self.lines.get(index).map(|line| line.set(value != 0)).is_some(),
            _ => None,
        };
        cell.map(|cell| *cell = value).is_some()
    }
}

impl Device for PcTestdev {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        let lines = self.lines.len().max(1) as u64;
        vec![
            Region { name: "data", space: Space::Port, length: DATA_LENGTH },
            Region { name: "flush", space: Space::Port, length: FLUSH_LENGTH },
            Region { name: "lines", space: Space::Port, length: lines },
            Region { name: "memory", space: Space::Memory, length: MEMORY_LENGTH },
        ]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        read_bytes(offset, data, |offset| self.read_byte(region.0, offset))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        write_bytes(offset, data, |offset, value| self.write_byte(region.0, offset, value))
    }

    fn reset(&mut self) {
        self.data.fill(0);
        self.memory.fill(0);
        self.lines.iter().for_each(|line| line.set(false));
    }

    fn save(&self) -> SavedState {
        let used = self.memory.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let state = TestdevState {
            data: self.data,
            lines: self.lines.iter().map(LineInterrupt::is_high).collect(),
            memory: self.memory.iter().take(used).copied().collect(),
        };
        SavedState::new(KIND, 1, &state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let mut state: TestdevState = saved.open(KIND, 1)?;
        if state.lines.len() != self.lines.len() || state.memory.len() > self.memory.len() {
            return Err(RestoreError::invalid(KIND, "it has other lines or more memory"));
        }
        state.memory.resize(self.memory.len(), 0);
        (self.data, self.memory) = (state.data, state.memory);
        self.lines.iter().zip(state.lines).for_each(|(line, high)| line.set(high));
        Ok(())
    }
}

impl std::fmt::Debug for PcTestdev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PcTestdev({}, {} lines)", self.name, self.lines.len())
    }
}
