//! pci-testdev.
//!
//! Each BAR starts with a header. The program writes a test's number, reads width, offset and value from
//! the header, makes such writes, and reads how many were counted.

use super::spec::pci::{
    CLASS, COUNT, DATA, DEVICE, MEMORY_LENGTH, NAME, OFFSET, PORTS_LENGTH, TARGET, TEST, TESTS,
    VENDOR, WIDTH,
};
use kezhan_device::{Access, Device, Region, RegionIndex, RestoreError, SavedState, read_bytes};
use kezhan_pci::{Bar, BarKind, ConfigSpace, ConfigState, Identity, PciFunction};
use serde::{Deserialize, Serialize};

const KIND: &str = "pci-testdev";
const REGIONS: usize = 2;

/// One BAR's test, part of version 1 of the saved state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    /// The test chosen.
    test: u8,
    /// The writes counted.
    count: u32,
}

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestdevState {
    config: ConfigState,
    counters: [Counter; REGIONS],
}

impl Counter {
    /// The bytes that the header shows.
    fn header(&self) -> [u8; TARGET as usize] {
        let mut bytes = [0; TARGET as usize];
        let mut put = |at: usize, value: &[u8]| {
            bytes.iter_mut().skip(at).zip(value).for_each(|(byte, value)| *byte = *value);
        };
        put(TEST as usize, &[self.test]);
        put(COUNT, &self.count.to_le_bytes());
        if let Some((width, data, name)) = TESTS.get(usize::from(self.test)) {
            put(WIDTH, &[*width]);
            put(OFFSET, &(TARGET as u32).to_le_bytes());
            put(DATA, &data.to_le_bytes());
            put(NAME, name.as_bytes());
        }
        bytes
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (TEST, [test, ..]) = (offset, data) {
            *self = Counter { test: *test, count: 0 };
        }
        if let Some((width, value, _)) = TESTS.get(usize::from(self.test))
            && offset == TARGET
            && value.to_le_bytes().get(..usize::from(*width)) == Some(data)
        {
            self.count = self.count.wrapping_add(1);
        }
    }
}

/// The PCI test function.
#[derive(Debug)]
pub struct PciTestdev {
    name: String,
    config: ConfigSpace,
    counters: [Counter; REGIONS],
}

impl PciTestdev {
    /// A test function called `name`.
    pub fn new(name: &str) -> PciTestdev {
        let identity =
            Identity { vendor: VENDOR, device: DEVICE, class: CLASS, ..Identity::default() };
        let memory = Bar { region: "memory", kind: BarKind::Memory32, size: MEMORY_LENGTH };
        let ports = Bar { region: "ports", kind: BarKind::Port, size: PORTS_LENGTH };
        PciTestdev {
            name: name.to_owned(),
            config: ConfigSpace::endpoint(identity).with_bar(0, memory).with_bar(1, ports),
            counters: [Counter::default(); REGIONS],
        }
    }

    fn length(region: RegionIndex) -> u64 {
        [MEMORY_LENGTH, PORTS_LENGTH].get(region.0).copied().unwrap_or(0)
    }
}

impl Device for PciTestdev {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        self.config.regions()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let Some(counter) = self.counters.get(region.0) else { return Access::BadRegister };
        let (header, length) = (counter.header(), PciTestdev::length(region));
        read_bytes(offset, data, |offset| {
            let index = usize::try_from(offset).ok()?;
            (offset < length).then(|| header.get(index).copied().unwrap_or(0))
        })
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        match self.counters.get_mut(region.0) {
            Some(counter) if offset < PciTestdev::length(region) => counter.write(offset, data),
            _ => return Access::BadRegister,
        }
        Access::Done
    }

    fn reset(&mut self) {
        self.config.reset();
        self.counters = [Counter::default(); REGIONS];
    }

    fn save(&self) -> SavedState {
        let state = TestdevState { config: self.config.save(), counters: self.counters };
        SavedState::new(KIND, 1, &state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: TestdevState = saved.open(KIND, 1)?;
        self.config.restore(&state.config)?;
        self.counters = state.counters;
        Ok(())
    }
}

impl PciFunction for PciTestdev {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}
