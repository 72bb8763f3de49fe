//! Memory for tests: a few pages at one linear address, each readable or not, writable or not.

use kezhan_hypervisor::CpuIo;
use kezhan_x86::memory::Platform;
use kezhan_x86::word::Word;
use kezhan_x86::{Core, Intent, Memory, Stop};

/// Linear address of the first page.
pub const BASE: u64 = 0x10_0000;
const PAGE: u64 = 4096;
const PAGES: u64 = 3;

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: not present.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// The memory.
#[derive(Clone, Debug)]
pub struct Flat {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// By page.
    pub access: [Access; PAGES as usize],
}

impl Default for Flat {
    fn default() -> Flat {
        Flat { bytes: vec![0; (PAGE * PAGES) as usize], access: [Access::Write; PAGES as usize] }
    }
}

/// A machine in which there is nothing.
#[derive(Debug)]
pub struct Nowhere;

impl CpuIo for Nowhere {
    fn read_port(&self, _port: u16, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_port(&self, _port: u16, _data: &[u8]) {}

    fn read_memory(&self, _address: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_memory(&self, _address: u64, _data: &[u8]) {}

    fn acknowledge_interrupt(&self) -> u8 {
        0xff
    }

    fn end_of_interrupt(&self, _vector: u8) {}
}

const NOT_PRESENT: u32 = 0;
const PRESENT: u32 = 1;
const WRITE: u32 = 2;

impl Flat {
    fn range(linear: u64, length: u64) -> Option<std::ops::Range<usize>> {
        let start = linear.checked_sub(BASE)?;
        let end = start.checked_add(length).filter(|end| *end <= PAGE * PAGES)?;
        Some(start as usize..end as usize)
    }
}

/// The bytes of an access, or its page fault.
fn bytes<'m>(
    core: &'m mut Core<'_, Flat>,
    linear: u64,
    length: u64,
    intent: Intent,
) -> Result<&'m mut [u8], Stop> {
    let write = if intent == Intent::Write { WRITE } else { 0 };
    let Some(range) = Flat::range(linear, length) else {
        return Err(core.raise_page_fault(linear, NOT_PRESENT | write));
    };
    let mut page = range.start / PAGE as usize;
    while page * (PAGE as usize) < range.end {
        let fault = match (core.mem.access[page], intent) {
            (Access::None, _) => Some(NOT_PRESENT | write),
            (Access::Read, Intent::Write) => Some(PRESENT | write),
            _ => None,
        };
        if let Some(error) = fault {
            let first = linear.max(BASE + page as u64 * PAGE);
            return Err(core.raise_page_fault(first, error));
        }
        page += 1;
    }
    Ok(&mut core.mem.bytes[range])
}

fn load<T: Word>(core: &mut Core<'_, Flat>, linear: u64, intent: Intent) -> Result<T, Stop> {
    Ok(T::from_bytes(bytes(core, linear, T::BYTES, intent)?))
}

fn store<T: Word>(core: &mut Core<'_, Flat>, linear: u64, value: T) -> Result<(), Stop> {
    let value = value.u64().to_le_bytes();
    bytes(core, linear, T::BYTES, Intent::Write)?.copy_from_slice(&value[..T::BYTES as usize]);
    Ok(())
}

impl Platform for Flat {
    fn read_msr(_core: &mut Core<'_, Self>, _index: u32) -> Option<Result<u64, ()>> {
        None
    }

    fn write_msr(_core: &mut Core<'_, Self>, _index: u32, _value: u64) -> Option<Result<(), ()>> {
        None
    }

    fn time_stamp(_core: &mut Core<'_, Self>) -> u64 {
        0
    }

    fn task_priority(_core: &mut Core<'_, Self>) -> u8 {
        0
    }

    fn set_task_priority(_core: &mut Core<'_, Self>, _priority: u8) {}

    fn pause(_core: &mut Core<'_, Self>) {}

    /// Leaf 0DH: x87, SSE and AVX state.
    fn cpuid(_core: &mut Core<'_, Self>, leaf: u32, _subleaf: u32) -> [u32; 4] {
        if leaf == 0xd { [7, 832, 832, 0] } else { [0; 4] }
    }
}

impl Memory for Flat {
    fn load<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        load(core, linear, Intent::Read)
    }

    fn load_for_write<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        load(core, linear, Intent::Write)
    }

    fn store<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Result<(), Stop> {
        store(core, linear, value)
    }

    fn compare_exchange<T: Word>(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: T,
        new: T,
    ) -> Result<T, Stop> {
        let found = load(core, linear, Intent::Write)?;
        if found == old {
            store(core, linear, new)?;
        }
        Ok(found)
    }

    fn compare_exchange_16(
        core: &mut Core<'_, Self>,
        linear: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop> {
        let place = bytes(core, linear, 16, Intent::Write)?;
        let found = place.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
        if found == old {
            place.copy_from_slice(&new.to_le_bytes());
        }
        Ok(found)
    }

    fn load_bytes(core: &mut Core<'_, Self>, linear: u64, into: &mut [u8]) -> Result<(), Stop> {
        into.copy_from_slice(bytes(core, linear, into.len() as u64, Intent::Read)?);
        Ok(())
    }

    fn store_bytes(core: &mut Core<'_, Self>, linear: u64, from: &[u8]) -> Result<(), Stop> {
        bytes(core, linear, from.len() as u64, Intent::Write)?.copy_from_slice(from);
        Ok(())
    }

    fn probe(
        core: &mut Core<'_, Self>,
        linear: u64,
        length: u64,
        intent: Intent,
    ) -> Result<(), Stop> {
        bytes(core, linear, length, intent).map(|_| ())
    }

    fn load_system<T: Word>(core: &mut Core<'_, Self>, linear: u64) -> Result<T, Stop> {
        load(core, linear, Intent::Read)
    }

    fn store_system<T: Word>(core: &mut Core<'_, Self>, linear: u64, value: T) -> Result<(), Stop> {
        store(core, linear, value)
    }

    fn store_system_bytes(core: &mut Core<'_, Self>, linear: u64, from: &[u8]) -> Result<(), Stop> {
        Self::store_bytes(core, linear, from)
    }

    fn load_physical(_core: &mut Core<'_, Self>, _physical: u64) -> u64 {
        !0
    }

    fn copy_forward(_: &mut Core<'_, Self>, _: u64, _: u64, _: u64, _: u64) -> u64 {
        0
    }

    fn fill_forward(_: &mut Core<'_, Self>, _: u64, _: u64, _: u64, _: u64) -> u64 {
        0
    }

    fn permissions_changed(_core: &mut Core<'_, Self>) {}

    fn flush(_core: &mut Core<'_, Self>, _keep_global: bool) {}

    fn flush_page(_core: &mut Core<'_, Self>, _linear: u64) {}
}
