//! Linear memory without paging.

use crate::core::{Core, Outcome};
use crate::fault::Stop;
use crate::memory::{Intent, Memory, Platform};
use crate::word::Word;
use std::collections::BTreeMap;
use std::ops::Range;

/// Page-fault error code bits (Intel SDM vol. 3A §4.7).
mod error {
    pub const PRESENT: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const USER: u32 = 4;
}

const PAGE: u64 = 4096;

/// Linear memory without paging: bytes from 0 up, and page faults beyond them.
#[derive(Clone, Debug, Default)]
pub struct FlatMemory {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Ranges where every access is a page fault (not present).
    pub holes: Vec<Range<u64>>,
    /// Ranges where every write is a page fault (protection).
    pub read_only: Vec<Range<u64>>,
    /// Ranges from which instructions count as decoded: stores give [`Stop::CodeWrite`].
    pub decoded: Vec<Range<u64>>,
    /// Writes of another CPU, each done just before one [`Memory::compare_exchange`]: address and byte.
    pub rival: Vec<(u64, u8)>,
    /// How many compare-exchanges were done.
    pub exchanges: u32,
    /// How many elements [`Memory::copy_forward`] and [`Memory::fill_forward`] did.
    pub bulk: u64,
    /// Times that [`Memory::permissions_changed`] was called.
    pub permission_changes: u32,
    /// Calls of [`Memory::flush`] (its argument) and [`Memory::flush_page`] (the page).
    pub flushes: Vec<Flush>,
    /// Engine-owned model-specific registers; others do not exist.
    pub msrs: BTreeMap<u32, u64>,
    /// The time-stamp counter.
    pub time_stamp: u64,
    /// CR8.
    pub task_priority: u8,
    /// What CPUID answers, by leaf and subleaf; zeroes for others.
    pub cpuid: BTreeMap<(u32, u32), [u32; 4]>,
}

/// A flush of translations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All.
    All,
    /// All but the global ones.
    KeepGlobal,
    /// Those of the page of this address.
    Page(u64),
}

fn meets(ranges: &[Range<u64>], start: u64, length: u64) -> bool {
    ranges.iter().any(|range| start < range.end && range.start < start.wrapping_add(length))
}

impl FlatMemory {
    /// Memory of `length` zero bytes.
    pub fn new(length: usize) -> FlatMemory {
        FlatMemory { bytes: vec![0; length], ..FlatMemory::default() }
    }

    /// Writes bytes, past all checks.
    ///
    /// # Panics
    /// Beyond the end of memory.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = address as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads a value, past all checks.
    ///
    /// # Panics
    /// Beyond the end of memory.
    pub fn get<T: Word>(&self, address: u64) -> T {
        let start = address as usize;
        T::from_bytes(&self.bytes[start..start + T::BYTES as usize])
    }

    /// Writes a value, past all checks.
    ///
    /// # Panics
    /// Beyond the end of memory.
    pub fn set<T: Word>(&mut self, address: u64, value: T) {
        self.put(address, &value.u64().to_le_bytes()[..T::BYTES as usize]);
    }

    /// The address and error code (user bit apart) of the fault that an access raises, if any.
    fn fault(&self, start: u64, length: u64, intent: Intent) -> Option<(u64, u32)> {
        let write = if intent == Intent::Write { error::WRITE } else { 0 };
        (start..start.saturating_add(length)).find_map(|address| {
            if address >= self.bytes.len() as u64 || meets(&self.holes, address, 1) {
                Some((address, write))
            } else if write != 0 && meets(&self.read_only, address, 1) {
                Some((address, write | error::PRESENT))
            } else {
                None
            }
        })
    }
}

/// Checks an access as user code or as supervisor.
fn check(
    core: &mut Core<'_, FlatMemory>,
    start: u64,
    length: u64,
    (intent, user): (Intent, bool),
) -> Outcome {
    if let Some((address, code)) = core.mem.fault(start, length, intent) {
        let user = if user { error::USER } else { 0 };
        return Err(core.raise_page_fault(address, code | user));
    }
    if intent == Intent::Write && meets(&core.mem.decoded, start, length) {
        return Err(Stop::CodeWrite);
    }
    Ok(())
}

fn own(core: &Core<'_, FlatMemory>, intent: Intent) -> (Intent, bool) {
    (intent, core.cpu.cpl == 3)
}

impl Platform for FlatMemory {
    fn read_msr(core: &mut Core<'_, Self>, index: u32) -> Option<Result<u64, ()>> {
        core.mem.msrs.get(&index).map(|value| Ok(*value))
    }

    fn write_msr(core: &mut Core<'_, Self>, index: u32, value: u64) -> Option<Result<(), ()>> {
        let register = core.mem.msrs.get_mut(&index)?;
        *register = value;
        Some(Ok(()))
    }

    fn time_stamp(core: &mut Core<'_, Self>) -> u64 {
        core.mem.time_stamp
    }

    fn task_priority(core: &mut Core<'_, Self>) -> u8 {
        core.mem.task_priority
    }

    fn set_task_priority(core: &mut Core<'_, Self>, priority: u8) {
        core.mem.task_priority = priority;
    }

    fn pause(_core: &mut Core<'_, Self>) {}

    fn cpuid(core: &mut Core<'_, Self>, leaf: u32, subleaf: u32) -> [u32; 4] {
        core.mem.cpuid.get(&(leaf, subleaf)).copied().unwrap_or_default()
    }
}

impl Memory for FlatMemory {
    fn load_physical(core: &mut Core<'_, Self>, physical: u64) -> u64 {
        let bytes = usize::try_from(physical).ok().and_then(|start| core.mem.bytes.get(start..));
        bytes.and_then(|bytes| bytes.get(..8)).map_or(u64::MAX, u64::from_bytes)
    }

    fn load<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        let access = own(core, Intent::Read);
        check(core, linear, T::BYTES, access)?;
        Ok(core.mem.get(linear))
    }

    fn load_for_write<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        let access = own(core, Intent::Write);
        check(core, linear, T::BYTES, access)?;
        Ok(core.mem.get(linear))
    }

    fn store<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Outcome {
        let access = own(core, Intent::Write);
        check(core, linear, T::BYTES, access)?;
        core.mem.set(linear, value);
        Ok(())
    }

    fn compare_exchange<T: Word>(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: T,
        new: T,
    ) -> Result<T, Stop> {
        let access = own(core, Intent::Write);
        check(core, linear, T::BYTES, access)?;
        core.mem.exchanges += 1;
        if let Some((address, byte)) = core.mem.rival.pop() {
            core.mem.put(address, &[byte]);
        }
        let found = core.mem.get::<T>(linear);
        if found == old {
            core.mem.set(linear, new);
        }
        Ok(found)
    }

    fn compare_exchange_16(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop> {
        let access = own(core, Intent::Write);
        check(core, linear, 16, access)?;
        core.mem.exchanges += 1;
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&core.mem.bytes[linear as usize..][..16]);
        let found = u128::from_le_bytes(bytes);
        if found == old {
            core.mem.put(linear, &new.to_le_bytes());
        }
        Ok(found)
    }

    fn load_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &mut [u8]) -> Outcome {
        let access = own(core, Intent::Read);
        check(core, linear, bytes.len() as u64, access)?;
        bytes.copy_from_slice(&core.mem.bytes[linear as usize..][..bytes.len()]);
        Ok(())
    }

    fn store_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &[u8]) -> Outcome {
        let access = own(core, Intent::Write);
        check(core, linear, bytes.len() as u64, access)?;
        core.mem.put(linear, bytes);
        Ok(())
    }

    fn probe(core: &mut Core<'_, Self>, linear: u64, length: u64, intent: Intent) -> Outcome {
        let access = own(core, intent);
        check(core, linear, length, access)
    }

    fn load_system<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        check(core, linear, T::BYTES, (Intent::Read, false))?;
        Ok(core.mem.get(linear))
    }

    fn store_system<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Outcome {
        check(core, linear, T::BYTES, (Intent::Write, false))?;
        core.mem.set(linear, value);
        Ok(())
    }

    fn store_system_bytes(core: &mut Core<'_, Self>, linear: u64, bytes: &[u8]) -> Outcome {
        check(core, linear, bytes.len() as u64, (Intent::Write, false))?;
        core.mem.put(linear, bytes);
        Ok(())
    }

    fn copy_forward(
        core: &mut Core<'_, Self>,
        destination: u64,
        source: u64,
        count: u64,
        size: u64,
    ) -> u64 {
        let room = (PAGE - destination % PAGE).min(PAGE - source % PAGE) / size;
        let count = count.min(room);
        let length = count * size;
        let overlaps = destination > source && destination - source < length;
        if overlaps
            || core.mem.fault(source, length, Intent::Read).is_some()
            || core.mem.fault(destination, length, Intent::Write).is_some()
            || meets(&core.mem.decoded, destination, length)
        {
            return 0;
        }
        let from = source as usize;
        core.mem.bytes.copy_within(from..from + length as usize, destination as usize);
        core.mem.bulk += count;
        count
    }

    fn fill_forward(
        core: &mut Core<'_, Self>,
        destination: u64,
        value: u64,
        count: u64,
        size: u64,
    ) -> u64 {
        let count = count.min((PAGE - destination % PAGE) / size);
        let length = count * size;
        if core.mem.fault(destination, length, Intent::Write).is_some()
            || meets(&core.mem.decoded, destination, length)
        {
            return 0;
        }
        let element = &value.to_le_bytes()[..size as usize];
        for at in (destination..destination + length).step_by(size as usize) {
            core.mem.put(at, element);
        }
        core.mem.bulk += count;
        count
    }

    fn permissions_changed(core: &mut Core<'_, Self>) {
        core.mem.permission_changes += 1;
    }

    fn flush(core: &mut Core<'_, Self>, keep_global: bool) {
        let flush = if keep_global { Flush::KeepGlobal } else { Flush::All };
        core.mem.flushes.push(flush);
    }

    fn flush_page(core: &mut Core<'_, Self>, linear: u64) {
        core.mem.flushes.push(Flush::Page(linear & !(PAGE - 1)));
    }
}
