//! CPUID as data (Intel SDM vol. 2A, CPUID).

use serde::{Deserialize, Serialize};

/// One answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidEntry {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry; `None` where the leaf does not look at it.
    pub subleaf: Option<u32>,
    /// EAX, EBX, ECX, EDX on exit.
    pub registers: [u32; 4],
}

/// All answers of a CPU, in ascending order of leaf and subleaf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuidTable {
    /// The entries.
    pub entries: Vec<CpuidEntry>,
}

impl CpuidTable {
    /// The entry for `leaf` and `subleaf`, exactly.
    pub fn find(&self, leaf: u32, subleaf: u32) -> Option<&CpuidEntry> {
        self.entries.iter().find(|e| e.leaf == leaf && e.subleaf.is_none_or(|s| s == subleaf))
    }

    /// What the CPU answers: EAX, EBX, ECX, EDX. A basic or extended leaf above the highest answers as
    /// the highest basic leaf does; a leaf or subleaf that is absent answers zeros.
    pub fn answer(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        if let Some(entry) = self.find(leaf, subleaf) {
            return entry.registers;
        }
        let highest = |base: u32| self.find(base, 0).map_or(0, |e| e.registers[0]);
        let base = leaf & 0xc000_0000;
        let known_range = base == 0 || leaf >> 16 == 0x8000;
        let top = highest(if base == 0 { 0 } else { 0x8000_0000 });
        if known_range && leaf > top {
            return self.find(highest(0), subleaf).map_or([0; 4], |e| e.registers);
        }
        [0; 4]
    }

    /// Puts an entry in, in place of one with the same leaf and subleaf.
    pub fn set(&mut self, entry: CpuidEntry) {
        let key = |e: &CpuidEntry| (e.leaf, e.subleaf.unwrap_or(0));
        match self.entries.binary_search_by_key(&key(&entry), key) {
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
    }
}
