//! fw_cfg: what the machine tells firmware and test programs about itself.
//!
//! ```text
//!   out 0x510, key (16 bits) ──► item chosen, offset 0
//!   in  0x511      (8 bits)  ◄── item[offset], offset + 1; 0 behind the end
//! ```
//!
//! An item is a key and bytes that do not change while the machine runs. Items with names are *files*:
//! their keys come from the directory, which is an item too and sorted by name. The board fills [`Items`]
//! before the device is made.
//!
//! # What was rejected
//! The DMA interface: it lets a port write anywhere in guest memory, and is an option that the id item says
//! is absent. Items that a guest writes: nothing here needs them.

mod spec;
#[cfg(test)]
mod tests;

use kezhan_device::{Access, Device, Region, RegionIndex, RestoreError, SavedState, Space};
use serde::{Deserialize, Serialize};
use spec::key;
use std::collections::BTreeMap;

const KIND: &str = "fw-cfg";

/// Version 1 of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FwCfgState {
    /// The key of the chosen item.
    key: u16,
    /// The offset of its next byte.
    offset: u32,
}

/// What a machine has to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    numbered: BTreeMap<u16, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Items {
    /// Of a machine with `cpus` vCPUs and `memory` bytes of RAM.
    pub fn new(cpus: u16, memory: u64) -> Items {
        let numbered = [
            (key::SIGNATURE, spec::SIGNATURE.to_vec()),
            (key::ID, spec::ID_PORTS.to_le_bytes().to_vec()),
            (key::RAM_SIZE, memory.to_le_bytes().to_vec()),
            (key::CPUS, cpus.to_le_bytes().to_vec()),
            (key::MAX_CPUS, cpus.to_le_bytes().to_vec()),
        ];
        Items { numbered: numbered.into(), files: BTreeMap::new() }
    }

    /// Adds a file, or replaces it. False, and nothing done, when its name is longer than 55 bytes or holds a
    /// zero, when it has 4 GiB or more, or when there are too many.
    pub fn add_file(&mut self, name: &str, bytes: Vec<u8>) -> bool {
        let fits = name.len() < spec::NAME_LENGTH
            && !name.contains('\0')
            && u32::try_from(bytes.len()).is_ok()
            && self.files.len() < spec::MOST_FILES;
        if fits {
            self.files.insert(name.to_owned(), bytes);
        }
        fits
    }

    /// Every item by its key, the directory among them.
    fn by_key(self) -> BTreeMap<u16, Vec<u8>> {
        let mut items = self.numbered;
        let mut directory = (self.files.len() as u32).to_be_bytes().to_vec();
        for (key, (name, bytes)) in (key::FIRST_FILE..).zip(self.files) {
            let mut padded = name.into_bytes();
            padded.resize(spec::NAME_LENGTH, 0);
            directory.extend((bytes.len() as u32).to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            directory.extend(padded);
            items.insert(key, bytes);
        }
        items.insert(key::DIRECTORY, directory);
        items
    }
}

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    name: String,
    items: BTreeMap<u16, Vec<u8>>,
    key: u16,
    offset: u32,
}

impl FwCfg {
    /// A device called `name` that tells `items`.
    pub fn new(name: &str, items: Items) -> FwCfg {
        FwCfg { name: name.to_owned(), items: items.by_key(), key: 0, offset: 0 }
    }

    fn next_byte(&mut self) -> u8 {
        let item = self.items.get(&self.key);
        let byte = item.and_then(|item| item.get(usize::try_from(self.offset).ok()?).copied());
        self.offset = self.offset.saturating_add(1);
        byte.unwrap_or(0)
    }
}

impl Device for FwCfg {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "registers", space: Space::Port, length: spec::PORTS }]
    }

    /// The data port alone gives bytes: firmware reads a string of them with INS.
    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let (RegionIndex(0), spec::DATA) = (region, offset) else { return Access::BadRegister };
        let [byte] = data else { return Access::BadSize };
        *byte = self.next_byte();
        Access::Done
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        match (region, offset, data) {
            (RegionIndex(0), 0, [low, high]) => {
                self.key = u16::from_le_bytes([*low, *high]) & !key::WRITE;
                self.offset = 0;
                Access::Done
            }
            (RegionIndex(0), spec::DATA, [_]) => Access::Done,
            (RegionIndex(0), 0 | spec::DATA, _) => Access::BadSize,
            _ => Access::BadRegister,
        }
    }

    fn reset(&mut self) {
        (self.key, self.offset) = (0, 0);
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &FwCfgState { key: self.key, offset: self.offset })
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let FwCfgState { key, offset } = state.open(KIND, 1)?;
        (self.key, self.offset) = (key, offset);
        Ok(())
    }
}
