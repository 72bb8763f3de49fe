//! Linear memory and the CPU's surroundings for the interpreter: a page walk for each access, no cache.
//!
//! What belongs to KVM (the local APIC, MSRs, CPUID) is refused: the access gives some value, the refusal
//! is noted, and whoever runs the interpreter throws the instruction's effects on registers away. Refused
//! instructions have no effect on memory.

use super::physical::{self, Physical, Place};
use crate::call;
use crate::partition::Shared;
use kezhan_x86::fault::vector;
use kezhan_x86::memory::Platform;
use kezhan_x86::paging::{Paging, PhysicalMemory, Privilege};
use kezhan_x86::word::Word;
use kezhan_x86::{Core, CpuState, Intent, Memory, Stop};
use std::cell::Cell;
use std::sync::Arc;
use vm_memory::Bytes;

type C<'r> = Core<'r, Linear>;

/// The interpreter's memory.
#[derive(Debug)]
pub(super) struct Linear {
    physical: Physical,
    /// Page of the APIC's registers, in xAPIC mode.
    apic: Option<u64>,
    /// Guest TSC minus host TSC.
    tsc_offset: u64,
    refused: Cell<Option<&'static str>>,
    flushed: bool,
}

/// A part of an access that lies in one page.
struct Span {
    physical: u64,
    from: usize,
    to: usize,
}

impl Linear {
    /// Over the machine's memory; `apic_base` is IA32_APIC_BASE (Intel SDM vol. 3A §11.4.4).
    pub(super) fn new(shared: Arc<Shared>, apic_base: u64, tsc_offset: u64) -> Linear {
        let in_memory = apic_base & 0xc00 == 0x800;
        Linear {
            physical: Physical(shared),
            apic: in_memory.then_some(apic_base & !0xfff),
            tsc_offset,
            refused: Cell::new(None),
            flushed: false,
        }
    }

    /// Loads the pointers of PAE paging, which KVM keeps to itself.
    pub(super) fn load_pdptrs(&self, cpu: &mut CpuState) {
        if super::uses_pdptrs(cpu) {
            let table = cpu.cr3 & 0xffff_ffe0;
            for (n, pointer) in (0..).zip(&mut cpu.pdptr) {
                *pointer = self.physical.read_entry(table + 8 * n).unwrap_or(0);
            }
        }
    }

    /// Why the last instruction is none for us, if so.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.take().map(str::to_owned)
    }

    /// Whether the guest asked to forget translations.
    pub(super) fn flushed(&self) -> bool {
        self.flushed
    }

    /// Reads instruction bytes.
    pub(super) fn fetch(core: &mut C<'_>, linear: u64, bytes: &mut [u8]) -> Result<(), Stop> {
        read(core, linear, bytes, Intent::Execute, own(core))
    }

    fn read_physical(core: &C<'_>, address: u64, bytes: &mut [u8]) {
        if core.mem.is_apic(address) || core.mem.physical.read(address, bytes) {
            return;
        }
        for (address, part) in (address..).step_by(8).zip(bytes.chunks_mut(8)) {
            core.io.read_memory(address, part);
        }
    }

    fn write_physical(core: &C<'_>, address: u64, bytes: &[u8]) {
        if core.mem.is_apic(address) {
            return;
        }
        if let Place::Ram(slice) = core.mem.physical.at(address, bytes.len()) {
            // The slice has exactly this length.
            let _ = slice.write_slice(bytes, 0);
            return;
        }
        for (address, part) in (address..).step_by(8).zip(bytes.chunks(8)) {
            core.io.write_memory(address, part);
        }
    }

    fn is_apic(&self, address: u64) -> bool {
        let apic = self.apic == Some(address & !0xfff);
        if apic {
            self.refused.set(Some("the local APIC's registers are KVM's"));
        }
        apic
    }
}

/// The privilege of the running code.
fn own(core: &C<'_>) -> Privilege {
    if core.cpu.cpl == 3 { Privilege::User } else { Privilege::Supervisor }
}

/// The parts of an access, all of them allowed.
fn spans(
    core: &mut C<'_>,
    linear: u64,
    length: usize,
    intent: Intent,
    privilege: Privilege,
) -> Result<Vec<Span>, Stop> {
    let long = core.cpu.long_mode();
    let mut spans = Vec::with_capacity(2);
    let mut from = 0;
    while from < length {
        let address = linear.wrapping_add(from as u64);
        let address = if long { address } else { address & 0xffff_ffff };
        if long && (address as i64) << 16 >> 16 != address as i64 {
            return Err(core.raise_code(vector::GP, 0));
        }
        let walk = Paging::of(&core.cpu).walk(&core.mem.physical, address, intent, privilege);
        let physical = match walk {
            Ok(translation) => translation.physical,
            Err(code) => return Err(core.raise_page_fault(address, code)),
        };
        let to = length.min(from + (0x1000 - (address & 0xfff) as usize));
        spans.push(Span { physical, from, to });
        from = to;
    }
    Ok(spans)
}

fn read(
    core: &mut C<'_>,
    linear: u64,
    bytes: &mut [u8],
    intent: Intent,
    privilege: Privilege,
) -> Result<(), Stop> {
    for span in spans(core, linear, bytes.len(), intent, privilege)? {
        if let Some(part) = bytes.get_mut(span.from..span.to) {
            Linear::read_physical(core, span.physical, part);
        }
    }
    Ok(())
}

fn write(core: &mut C<'_>, linear: u64, bytes: &[u8], privilege: Privilege) -> Result<(), Stop> {
    for span in spans(core, linear, bytes.len(), Intent::Write, privilege)? {
        if let Some(part) = bytes.get(span.from..span.to) {
            Linear::write_physical(core, span.physical, part);
        }
    }
    Ok(())
}

fn read_word<T: Word>(
    core: &mut C<'_>,
    linear: u64,
    intent: Intent,
    privilege: Privilege,
) -> Result<T, Stop> {
    let mut bytes = [0; 8];
    let (bytes, _) = bytes.split_at_mut(T::BYTES as usize);
    read(core, linear, bytes, intent, privilege)?;
    Ok(T::from_bytes(bytes))
}

fn write_word<T: Word>(
    core: &mut C<'_>,
    linear: u64,
    value: T,
    privilege: Privilege,
) -> Result<(), Stop> {
    let bytes = value.u64().to_le_bytes();
    write(core, linear, bytes.split_at(T::BYTES as usize).0, privilege)
}

impl Platform for Linear {
    /// Hardware takes TZCNT and LZCNT for what they are whatever CPUID says; on a host that lacks them the
    /// native thunk ignores their prefix as the guest would.
    const COUNTS_ZEROS: bool = true;

    fn read_msr(core: &mut C<'_>, _: u32) -> Option<Result<u64, ()>> {
        core.mem.refused.set(Some("MSRs are KVM's"));
        Some(Ok(0))
    }

    fn write_msr(core: &mut C<'_>, _: u32, _: u64) -> Option<Result<(), ()>> {
        core.mem.refused.set(Some("MSRs are KVM's"));
        Some(Ok(()))
    }

    fn time_stamp(core: &mut C<'_>) -> u64 {
        call::host_tsc().wrapping_add(core.mem.tsc_offset)
    }

    fn task_priority(core: &mut C<'_>) -> u8 {
        core.mem.refused.set(Some("CR8 is KVM's"));
        0
    }

    fn set_task_priority(core: &mut C<'_>, _: u8) {
        core.mem.refused.set(Some("CR8 is KVM's"));
    }

    fn cpuid(core: &mut C<'_>, _: u32, _: u32) -> [u32; 4] {
        core.mem.refused.set(Some("CPUID is KVM's"));
        [0; 4]
    }

    fn pause(_: &mut C<'_>) {}
}

impl Memory for Linear {
    fn load<T: Word>(core: &mut C<'_>, linear: u64) -> Result<T, Stop> {
        let privilege = own(core);
        read_word(core, linear, Intent::Read, privilege)
    }

    fn load_for_write<T: Word>(core: &mut C<'_>, linear: u64) -> Result<T, Stop> {
        let privilege = own(core);
        read_word(core, linear, Intent::Write, privilege)
    }

    fn store<T: Word>(core: &mut C<'_>, linear: u64, value: T) -> Result<(), Stop> {
        let privilege = own(core);
        write_word(core, linear, value, privilege)
    }

    fn compare_exchange<T: Word>(core: &mut C<'_>, linear: u64, old: T, new: T) -> Result<T, Stop> {
        let privilege = own(core);
        let spans = spans(core, linear, T::BYTES as usize, Intent::Write, privilege)?;
        if let [span] = spans.as_slice()
            && let Place::Ram(slice) = core.mem.physical.at(span.physical, T::BYTES as usize)
            && let Some(found) = physical::compare_exchange(&slice, old.u64(), new.u64(), T::BYTES)
        {
            return Ok(T::low(found));
        }
        let found: T = read_word(core, linear, Intent::Write, privilege)?;
        if found == old {
            write_word(core, linear, new, privilege)?;
        }
        Ok(found)
    }

    fn compare_exchange_16(
        core: &mut C<'_>,
        linear: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop> {
        let privilege = own(core);
        let spans = spans(core, linear, 16, Intent::Write, privilege)?;
        if let [span] = spans.as_slice()
            && let Place::Ram(slice) = core.mem.physical.at(span.physical, 16)
            && let Some(found) = physical::compare_exchange_16(&slice, old, new)
        {
            return Ok(found);
        }
        let mut bytes = [0; 16];
        read(core, linear, &mut bytes, Intent::Write, privilege)?;
        let found = u128::from_le_bytes(bytes);
        if found == old {
            write(core, linear, &new.to_le_bytes(), privilege)?;
        }
        Ok(found)
    }

    fn load_bytes(core: &mut C<'_>, linear: u64, bytes: &mut [u8]) -> Result<(), Stop> {
        let privilege = own(core);
        read(core, linear, bytes, Intent::Read, privilege)
    }

    fn store_bytes(core: &mut C<'_>, linear: u64, bytes: &[u8]) -> Result<(), Stop> {
        let privilege = own(core);
        write(core, linear, bytes, privilege)
    }

    fn probe(core: &mut C<'_>, linear: u64, length: u64, intent: Intent) -> Result<(), Stop> {
        let privilege = own(core);
        spans(core, linear, length as usize, intent, privilege).map(|_| ())
    }

    fn load_system<T: Word>(core: &mut C<'_>, linear: u64) -> Result<T, Stop> {
        read_word(core, linear, Intent::Read, Privilege::Implicit)
    }

    fn store_system<T: Word>(core: &mut C<'_>, linear: u64, value: T) -> Result<(), Stop> {
        write_word(core, linear, value, Privilege::Implicit)
    }

    fn store_system_bytes(core: &mut C<'_>, linear: u64, bytes: &[u8]) -> Result<(), Stop> {
        write(core, linear, bytes, Privilege::Implicit)
    }

    fn load_physical(core: &mut C<'_>, physical: u64) -> u64 {
        core.mem.physical.read_entry(physical).unwrap_or(u64::MAX)
    }

    fn copy_forward(_: &mut C<'_>, _: u64, _: u64, _: u64, _: u64) -> u64 {
        0
    }

    fn fill_forward(_: &mut C<'_>, _: u64, _: u64, _: u64, _: u64) -> u64 {
        0
    }

    fn permissions_changed(_: &mut C<'_>) {}

    fn flush(core: &mut C<'_>, _: bool) {
        core.mem.flushed = true;
    }

    fn flush_page(core: &mut C<'_>, _: u64) {
        core.mem.flushed = true;
    }
}
