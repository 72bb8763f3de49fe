//! Fakes for testing instructions: a flat memory, and a bench that runs a few bytes of code.
//!
//! ```text
//!   bytes ──► Bench::run ──► decode, lower ──► handler ──► Bench::cpu, Bench::mem, Bench::io
//! ```
//!
//! The bench keeps nothing decoded: each step decodes at RIP, so that every instruction is a block of its
//! own, and what a step leaves behind is exactly what an engine sees between two blocks. Everything that
//! an oracle on real silicon cannot show is set up by hand here: holes and read-only ranges (page
//! faults), bytes from which instructions were decoded ([`Stop::CodeWrite`]), a rival CPU that writes
//! just before an atomic access.

use crate::core::{Core, Machine, Outcome};
use crate::fault::{Stop, vector};
use crate::lower;
use crate::memory::{Intent, Memory, Platform};
use crate::state::{BLOCK, CS, CpuState, cr0, efer};
use crate::word::Word;
use kezhan_hypervisor::Segment;
use kezhan_hypervisor::testkit::RecordingIo;
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

    fn cpuid(core: &mut Core<'_, Self>, leaf: u32, subleaf: u32) -> [u32; 4] {
        core.mem.cpuid.get(&(leaf, subleaf)).copied().unwrap_or_default()
    }
}

impl Memory for FlatMemory {
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

/// Where [`Bench::run`] puts code, as an offset in the code segment.
pub const CODE: u64 = 0x1000;
/// Where the stack pointer starts.
pub const STACK_TOP: u64 = 0x8000;
/// Bytes of a bench's memory: what real mode reaches, the high memory area included.
const MEMORY: usize = 0x11_0000;
/// Steps after which [`Bench::run`] gives up, so that a wrong jump ends a test.
const STEPS: u32 = 10_000;

/// A CPU, its memory and a machine that records.
#[derive(Debug, Default)]
pub struct Bench {
    /// The CPU between two steps.
    pub cpu: CpuState,
    /// Its memory.
    pub mem: FlatMemory,
    /// The machine.
    pub io: RecordingIo,
}

impl Bench {
    /// 64-bit mode at CPL 0, flat segments, a stack below [`STACK_TOP`].
    pub fn bits64() -> Bench {
        let mut bench = Bench::protected(true);
        bench.cpu.efer = efer::LME | efer::LMA;
        bench.cpu.segments[CS].l = true;
        bench.cpu.segments[CS].db = false;
        bench.cpu.derive();
        bench
    }

    /// 32-bit protected mode at CPL 0, flat segments.
    pub fn bits32() -> Bench {
        Bench::protected(true)
    }

    /// 16-bit protected mode at CPL 0: segments of base 0 and 64 KiB.
    pub fn bits16() -> Bench {
        Bench::protected(false)
    }

    /// Real mode with all segments at 0.
    pub fn real_mode() -> Bench {
        let mut bench = Bench { mem: FlatMemory::new(MEMORY), ..Bench::default() };
        bench.cpu.segments[CS].selector = 0;
        bench.cpu.segments[CS].base = 0;
        bench.cpu.gpr[crate::state::RSP] = STACK_TOP;
        bench.cpu.derive();
        bench
    }

    fn protected(wide: bool) -> Bench {
        let mut bench = Bench::real_mode();
        let limit = if wide { 0xffff_ffff } else { 0xffff };
        let flat = |selector, kind| Segment {
            selector,
            limit,
            kind,
            s: true,
            present: true,
            db: wide,
            g: wide,
            ..Segment::default()
        };
        bench.cpu.cr0 |= cr0::PE;
        bench.cpu.segments = [flat(0x10, 3); 6];
        bench.cpu.segments[CS] = flat(8, 0xb);
        bench.cpu.derive();
        bench
    }

    /// Moves to privilege level 3, with the given RFLAGS.IOPL.
    pub fn at_ring_3(mut self, iopl: u64) -> Bench {
        for segment in &mut self.cpu.segments {
            segment.dpl = 3;
            segment.selector |= 3;
        }
        self.cpu.rflags = self.cpu.rflags & !crate::flags::IOPL | iopl << 12;
        self.cpu.derive();
        self
    }

    /// Sets a general register by its number.
    pub fn with(mut self, register: usize, value: u64) -> Bench {
        self.cpu.gpr[register] = value;
        self
    }

    /// Puts `code` at [`CODE`] of the code segment and runs until RIP is behind it (or outside it).
    ///
    /// # Errors
    /// What the first handler that failed gave; RIP is then still at that instruction.
    pub fn run(&mut self, code: &[u8]) -> Outcome {
        let base = self.cpu.seg_base[CS];
        self.mem.put(base + CODE, code);
        self.cpu.rip = CODE;
        let end = CODE + code.len() as u64;
        for _ in 0..STEPS {
            if !(CODE..end).contains(&self.cpu.rip) {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Runs one instruction at RIP.
    ///
    /// # Errors
    /// What the handler gave; RIP is then unchanged.
    pub fn step(&mut self) -> Outcome {
        let Bench { cpu, mem, io } = self;
        let rip = cpu.rip;
        let start = (cpu.seg_base[CS].wrapping_add(rip) as usize).min(mem.bytes.len());
        let bytes = mem.bytes[start..].iter().take(15).copied().collect::<Vec<_>>();
        let instruction = lower::decoder(cpu.code_bits, &bytes, 0).decode();
        let op = lower::lower::<FlatMemory>(&instruction, 0, cpu.code_bits);
        let mut core =
            Core { cpu: std::mem::take(cpu), mem: std::mem::take(mem), io: Machine(&*io) };
        core.cpu.gpr[BLOCK] = rip;
        core.cpu.interrupt_shadow = false;
        let outcome = (op.run)(&mut core, &op);
        if outcome.is_err() {
            core.cpu.rip = rip;
        } else if !lower::ends_block(&instruction) {
            core.advance(&op);
        }
        (*cpu, *mem) = (core.cpu, core.mem);
        outcome
    }

    /// Runs `code`, which must fault, and gives vector and error code.
    ///
    /// # Panics
    /// When it does not fault.
    pub fn fault(&mut self, code: &[u8]) -> (u8, Option<u32>) {
        assert_eq!(self.run(code), Err(Stop::Exception), "{code:02x?} should fault");
        (self.cpu.exception.vector, self.cpu.exception.error)
    }

    /// The address of the page fault that [`Bench::fault`] met.
    pub fn fault_address(&self) -> Option<u64> {
        (self.cpu.exception.vector == vector::PF).then_some(self.cpu.exception.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{RAX, RCX};

    #[test]
    fn code_runs_in_each_mode() {
        for mut bench in [Bench::bits64(), Bench::bits32(), Bench::bits16(), Bench::real_mode()] {
            bench.cpu.gpr[RCX] = 3;
            bench.run(&[0x00, 0xc8]).unwrap();
            assert_eq!(bench.cpu.gpr[RAX] & 0xff, 3);
            assert_eq!(bench.cpu.rip, CODE + 2);
        }
    }

    #[test]
    fn a_hole_a_read_only_range_and_decoded_bytes_stop_a_store() {
        let store = [0x00, 0x08];
        let mut bench = Bench::bits64().with(RAX, 0x2000);
        bench.mem.holes.push(0x2000..0x3000);
        assert_eq!(bench.fault(&store), (vector::PF, Some(2)));
        assert_eq!(bench.fault_address(), Some(0x2000));
        bench.mem.holes.clear();
        bench.mem.read_only.push(0x2000..0x3000);
        assert_eq!(bench.fault(&store), (vector::PF, Some(3)));
        bench.mem.read_only.clear();
        bench.mem.decoded.push(0x2000..0x2001);
        assert_eq!(bench.run(&store), Err(Stop::CodeWrite));
        assert_eq!(bench.cpu.rip, CODE);
    }
}
