//! The POST code port, 0x80 on a PC: firmware writes how far it has come, kernels write to it to wait.

use kezhan_device::{
    Access, Device, Region, RegionIndex, RestoreError, SavedState, Space, read_bytes, write_bytes,
};
use serde::{Deserialize, Serialize};

const KIND: &str = "post-code";

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostState {
    /// The last code.
    code: u8,
}

/// A latch of one byte.
#[derive(Debug)]
pub struct PostCode {
    name: String,
    code: u8,
}

impl PostCode {
    /// A latch called `name`.
    pub fn new(name: &str) -> PostCode {
        PostCode { name: name.to_owned(), code: 0 }
    }

    /// The last code written.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl Device for PostCode {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "code", space: Space::Port, length: 1 }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        read_bytes(offset, data, |offset| (region.0 == 0 && offset == 0).then_some(self.code))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        write_bytes(offset, data, |offset, value| {
            let here = region.0 == 0 && offset == 0;
            if here {
                self.code = value;
            }
            here
        })
    }

    fn reset(&mut self) {
        self.code = 0;
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &PostState { code: self.code })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        self.code = state.open::<PostState>(KIND, 1)?.code;
        Ok(())
    }
}
