//! The linear memory of a vCPU.
//!
//! ```text
//!   load/store ─► TLB hit ─► one host instruction
//!        │ miss
//!        ▼
//!   canonical? ─► split at the page ─► page walk ─► RAM: access, and a TLB entry if the page allows it
//!                                               ├─► ROM: reads only
//!                                               ├─► local APIC page
//!                                               └─► the machine (CpuIo)
//! ```
//!
//! A page gets a write entry only when it is dirty, writable RAM, holds no decoded code ([`crate::code`]),
//! and has its mark in the dirty log if there is one.

use crate::apic::{Apic, Clock, Effect};
use crate::code::Shared;
use crate::debug::Watch;
use crate::large::{LargePages, Walked};
use crate::mailbox::Drops;
use crate::ram::{HostPointer, PAGE};
use crate::tlb::{Tlb, View};
use crate::traffic::Traffic;
use kezhan_hypervisor::CpuidTable;
use kezhan_jit::translate::Region;
use kezhan_x86::fault::vector;
use kezhan_x86::flags;
use kezhan_x86::memory::{Intent, Memory};
use kezhan_x86::paging::{Paging, PhysicalMemory, Privilege, Translation};
use kezhan_x86::state::cr4;
use kezhan_x86::word::Word;
use kezhan_x86::{Core, Stop};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory, local APIC and identity of one vCPU.
#[derive(Debug)]
pub struct SoftMemory {
    pub(crate) shared: Arc<Shared>,
    /// The vCPU's number.
    pub(crate) index: u32,
    pub(crate) tlb: Tlb,
    pub(crate) large: LargePages,
    /// Counts the times that a large page might have been found.
    pub(crate) looks: u32,
    /// The part of a page that holds code which the last access for writing found to be free of it.
    pub(crate) part: Option<Region>,
    /// Which accesses the running code makes.
    pub(crate) view: View,
    pub(crate) apic: Apic,
    pub(crate) clock: Arc<Clock>,
    pub(crate) cpuid: CpuidTable,
    /// Counts flushes of the lower and of the upper half: cached paths from linear RIP to blocks are as old
    /// as this.
    pub(crate) generation: [u64; 2],
    /// Linear pages that such paths lead to.
    pub(crate) fetched: HashSet<u64>,
    /// Stores to decoded bytes go through: the run loop is executing one instruction by itself.
    pub(crate) code_writes_pass: bool,
    /// IA32_TSC_ADJUST: what the TSC is ahead of the clock's.
    pub(crate) tsc_adjust: u64,
    /// PAUSEs since the host was last given a chance to run somebody else.
    pub(crate) pauses: u32,
    /// Data breakpoints.
    pub(crate) watch: Watch,
    pub(crate) traffic: Traffic,
}

/// Where a physical address leads.
enum Place {
    Ram { host: HostPointer, physical: u64 },
    Elsewhere(u64),
}

impl PhysicalMemory for Shared {
    fn read_entry(&self, address: u64) -> Option<u64> {
        self.ram.page(address).map(|page| page.host.at(address).load::<u64>())
    }

    fn read_short_entry(&self, address: u64) -> Option<u32> {
        self.ram.page(address).map(|page| page.host.at(address).load::<u32>())
    }

    fn set_entry_bits(&self, address: u64, old: u64, bits: u64) -> bool {
        self.ram.page(address).is_none_or(|page| {
            let same = page.host.at(address).compare_exchange(old, old | bits) == old;
            self.written(&page, address, 8);
            same
        })
    }

    fn set_short_entry_bits(&self, address: u64, old: u32, bits: u32) -> bool {
        self.ram.page(address).is_none_or(|page| {
            let same = page.host.at(address).compare_exchange(old, old | bits) == old;
            self.written(&page, address, 4);
            same
        })
    }
}

type SoftCore<'r> = Core<'r, SoftMemory>;

fn privilege(core: &SoftCore<'_>) -> Privilege {
    if core.cpu.cpl == 3 { Privilege::User } else { Privilege::Supervisor }
}

pub(crate) fn canonical(linear: u64) -> bool {
    ((linear << 16) as i64 >> 16) as u64 == linear
}

/// Whether an access goes over the end of its page.
fn crosses(linear: u64, length: u64) -> bool {
    linear & (PAGE - 1) > PAGE - length
}

/// Translates for an access that is about to be made.
pub(crate) fn translate(
    core: &mut SoftCore<'_>,
    linear: u64,
    intent: Intent,
    privilege: Privilege,
) -> Result<Translation, Stop> {
    if !canonical(linear) {
        // The address marks this #GP as one that is #SS on stack accesses.
        let stop = core.raise_code(vector::GP, 0);
        core.cpu.exception.address = linear;
        return Err(stop);
    }
    let walked = Paging::of(&core.cpu).walk(&*core.mem.shared, linear, intent, privilege);
    walked.map_err(|code| core.raise_page_fault(linear, code))
}

/// Translates within one page, makes the TLB entry that the access and the page allow, and says where
/// the bytes are.
fn place(
    core: &mut SoftCore<'_>,
    access: (u64, u64),
    intent: Intent,
    privilege: Privilege,
) -> Result<Place, Stop> {
    place_in(core, access, intent, (privilege, false))
}

/// The same; with `large`, a large region is looked for first, and the page needs no TLB entry if it lies in one.
fn place_in(
    core: &mut SoftCore<'_>,
    (linear, length): (u64, u64),
    intent: Intent,
    (privilege, large): (Privilege, bool),
) -> Result<Place, Stop> {
    let found = translate(core, linear, intent, privilege)?;
    let physical = found.physical;
    core.mem.tlb.note(linear, &found);
    let view = if privilege == Privilege::Implicit { View::SUPERVISOR } else { core.mem.view };
    let memory = &mut core.mem;
    let watched = memory.watch.see(linear, length, intent == Intent::Write);
    let page = match memory.shared.ram.page(physical) {
        Some(page) if memory.apic.page() != Some(physical & !(PAGE - 1)) => page,
        _ => return Ok(Place::Elsewhere(physical)),
    };
    let (host, write) = (page.host, intent == Intent::Write);
    let here = Place::Ram { host: host.at(physical), physical };
    if write && !page.writable {
        return Ok(Place::Elsewhere(physical));
    }
    if write && !memory.code_writes_pass && memory.shared.is_code(&page, physical, length) {
        return Err(Stop::CodeWrite);
    }
    let cacheable = !watched && (found.writable || !write);
    let walked = Walked { paging: Paging::of(&core.cpu), linear, found, intent, privilege };
    if !cacheable || large && memory.note_large(view, &walked) {
        return Ok(here);
    }
    if write {
        memory.admit_write(view, linear, physical);
    } else {
        memory.tlb.insert(view, linear, host, false);
    }
    Ok(here)
}

/// How often, in accesses to pages in the TLB, a walk looks for a large page.
const LOOK: u32 = 16;

/// The region of guest memory around an access of the running code that may be reached without a look each time:
/// RAM, a page or more, or a part of one. The access itself is not made. `None` is for the interpreter to find out
/// about.
///
/// # Errors
/// The page walk's fault.
pub(crate) fn reach(
    core: &mut SoftCore<'_>,
    linear: u64,
    length: u64,
    write: bool,
) -> Result<Option<Region>, Stop> {
    let (start, view) = (linear & !(PAGE - 1), core.mem.view);
    core.mem.large.earn();
    if let Some(region) = core.mem.large.find(view, linear, write) {
        return Ok(Some(region));
    }
    core.mem.looks = core.mem.looks.wrapping_add(1);
    let known = core.mem.tlb.find(view, start, 1, write);
    if let (Some(host), true) = (known, !core.mem.looks.is_multiple_of(LOOK)) {
        return Ok(Some(Region { start, length: PAGE, host: host.address() }));
    }
    if crosses(linear, length) {
        return Ok(None);
    }
    let intent = if write { Intent::Write } else { Intent::Read };
    let privilege = privilege(core);
    core.mem.part = None;
    place_in(core, (linear, length), intent, (privilege, true))?;
    if let Some(region) = core.mem.large.find(view, linear, write).or(core.mem.part.take()) {
        return Ok(Some(region));
    }
    let host = core.mem.tlb.find(view, start, 1, write);
    Ok(host.map(|host| Region { start, length: PAGE, host: host.address() }))
}

impl SoftMemory {
    /// Forgets what may be written without a look: all, or some pages.
    pub(crate) fn flush_writes(&mut self, drops: &Drops) {
        if drops.all {
            self.tlb.flush_writes();
            self.large.flush_writes();
        }
        for page in &drops.pages {
            if let Some(page) = self.shared.ram.page(*page) {
                self.tlb.flush_writes_to(page.host);
                self.large.flush_writes_to(page.host);
            }
        }
    }

    /// Forgets regions for writing with the page at `host`, for which the TLB has no entry for writing.
    pub(crate) fn flush_write_regions(&mut self, host: HostPointer) {
        self.large.flush_writes_to(host);
        self.tlb.note_written(host);
    }

    /// A writable page is about to be written to at `physical`: makes its TLB entry, or finds the part of it that has one's
    /// worth.
    fn admit_write(&mut self, view: View, linear: u64, physical: u64) {
        let Some(page) = self.shared.ram.page(physical) else { return };
        if self.shared.admit_writer(self.index, &page) {
            if page.log.is_logging() {
                page.log.mark_page(page.number);
            }
            self.tlb.insert(view, linear, page.host, true);
        } else if !page.log.is_logging() {
            let part = self.shared.admit_part_writer(self.index, &page, physical);
            self.part = part.map(|(from, to)| Region {
                start: (linear & !(PAGE - 1)) + from,
                length: to - from,
                host: page.host.address() + from,
            });
        }
    }

    /// Paths from linear RIP to blocks count no more.
    pub(crate) fn forget_fetches(&mut self) {
        for generation in &mut self.generation {
            *generation += 1;
        }
        self.fetched.clear();
    }

    /// After a store to RAM that did not go through a TLB entry.
    fn stored(&self, physical: u64, length: u64) {
        if let Some(page) = self.shared.ram.page(physical) {
            self.shared.written(&page, physical, length);
        }
    }
}

/// Reads where there is no RAM: the local APIC's page or the machine, up to 8 bytes at a time.
fn read_elsewhere(core: &mut SoftCore<'_>, physical: u64, bytes: &mut [u8]) {
    let apic_page = core.mem.apic.page();
    for (at, chunk) in (physical..).step_by(8).zip(bytes.chunks_mut(8)) {
        if apic_page == Some(at & !(PAGE - 1)) {
            let now = core.mem.clock.now();
            let value = core.mem.apic.read((at & 0xff0) as u32, now).to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(value.iter().skip((at & 3) as usize)) {
                *to = *from;
            }
        } else {
            core.io.read_memory(at, chunk);
        }
    }
}

/// Writes where there is no RAM.
fn write_elsewhere(core: &mut SoftCore<'_>, physical: u64, bytes: &[u8]) {
    let apic_page = core.mem.apic.page();
    for (at, chunk) in (physical..).step_by(8).zip(bytes.chunks(8)) {
        if apic_page == Some(at & !(PAGE - 1)) {
            if chunk.len() >= 4 && at & 15 == 0 {
                let now = core.mem.clock.now();
                let effect = core.mem.apic.write((at & 0xff0) as u32, u32::from_bytes(chunk), now);
                apply(core, effect);
            }
        } else {
            core.io.write_memory(at, chunk);
        }
    }
}

/// Sees a local APIC write's consequence through.
pub(crate) fn apply(core: &mut SoftCore<'_>, effect: Effect) {
    match effect {
        Effect::None => {}
        Effect::End(vector) => core.io.end_of_interrupt(vector),
        Effect::Send(icr) => {
            core.mem.traffic.sent += 1;
            core.mem.shared.send(core.mem.index, icr);
        }
    }
    core.mem.tell_deadline();
    core.mem.apic.publish(&core.mem.shared.identities[core.mem.index as usize]);
}

/// Loads bytes with a given privilege, page by page.
fn load_bytes_as(
    core: &mut SoftCore<'_>,
    linear: u64,
    bytes: &mut [u8],
    privilege: Privilege,
) -> Result<(), Stop> {
    let first = (PAGE - (linear & (PAGE - 1))).min(bytes.len() as u64);
    let (head, tail) = bytes.split_at_mut(first as usize);
    for (at, part) in [(linear, head), (linear.wrapping_add(first), tail)] {
        if part.is_empty() {
            continue;
        }
        match place(core, (at, part.len() as u64), Intent::Read, privilege)? {
            Place::Ram { host, .. } => host.copy_to(part),
            Place::Elsewhere(physical) => read_elsewhere(core, physical, part),
        }
    }
    Ok(())
}

/// Stores bytes with a given privilege: all pages are checked before the first byte is written.
fn store_bytes_as(
    core: &mut SoftCore<'_>,
    linear: u64,
    bytes: &[u8],
    privilege: Privilege,
) -> Result<(), Stop> {
    let first = (PAGE - (linear & (PAGE - 1))).min(bytes.len() as u64);
    let (head, tail) = bytes.split_at(first as usize);
    let near = place(core, (linear, first), Intent::Write, privilege)?;
    let far = if tail.is_empty() {
        None
    } else {
        let at = linear.wrapping_add(first);
        Some(place(core, (at, tail.len() as u64), Intent::Write, privilege)?)
    };
    put(core, near, head);
    if let Some(far) = far {
        put(core, far, tail);
    }
    Ok(())
}

fn put(core: &mut SoftCore<'_>, place: Place, bytes: &[u8]) {
    match place {
        Place::Ram { host, physical } => {
            match *bytes {
                [a] => host.store(a),
                [a, b] => host.store(u16::from_le_bytes([a, b])),
                [a, b, c, d] => host.store(u32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => {
                    host.store(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
                }
                _ => host.copy_from(bytes),
            }
            core.mem.stored(physical, bytes.len() as u64);
        }
        Place::Elsewhere(physical) => write_elsewhere(core, physical, bytes),
    }
}

#[cold]
#[inline(never)]
fn load_slowly<T: Word>(
    core: &mut SoftCore<'_>,
    linear: u64,
    privilege: Privilege,
) -> Result<T, Stop> {
    if !crosses(linear, T::BYTES)
        && let Place::Ram { host, .. } = place(core, (linear, T::BYTES), Intent::Read, privilege)?
    {
        return Ok(host.load());
    }
    let mut bytes = [0; 8];
    let bytes = &mut bytes[..T::BYTES as usize];
    load_bytes_as(core, linear, bytes, privilege)?;
    Ok(T::from_bytes(bytes))
}

#[cold]
#[inline(never)]
fn store_slowly<T: Word>(
    core: &mut SoftCore<'_>,
    linear: u64,
    value: T,
    privilege: Privilege,
) -> Result<(), Stop> {
    store_bytes_as(core, linear, &value.u64().to_le_bytes()[..T::BYTES as usize], privilege)
}

/// The load half of a read-modify-write: both pages must be writable, and may be registers.
#[cold]
#[inline(never)]
fn load_for_write_slowly<T: Word>(core: &mut SoftCore<'_>, linear: u64) -> Result<T, Stop> {
    let privilege = privilege(core);
    SoftMemory::probe(core, linear, T::BYTES, Intent::Write)?;
    load_slowly(core, linear, privilege)
}

/// A locked access that crosses a page, or is to registers: atomic against its own kind only.
static SPLIT_LOCK: Mutex<()> = Mutex::new(());

#[cold]
#[inline(never)]
fn compare_exchange_slowly<T: Word>(
    core: &mut SoftCore<'_>,
    linear: u64,
    old: T,
    new: T,
) -> Result<T, Stop> {
    let privilege = privilege(core);
    if !crosses(linear, T::BYTES)
        && let Place::Ram { host, physical } =
            place(core, (linear, T::BYTES), Intent::Write, privilege)?
    {
        let found = host.compare_exchange(old, new);
        core.mem.stored(physical, T::BYTES);
        return Ok(found);
    }
    let _alone = SPLIT_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let found = load_for_write_slowly::<T>(core, linear)?;
    if found == old {
        store_slowly(core, linear, new, privilege)?;
    }
    Ok(found)
}

impl Memory for SoftMemory {
    #[inline(always)]
    fn load<T: Word>(core: &mut SoftCore<'_>, linear: u64) -> Result<T, Stop> {
        match core.mem.tlb.find(core.mem.view, linear, T::BYTES, false) {
            Some(host) => Ok(host.load()),
            None => {
                let privilege = privilege(core);
                load_slowly(core, linear, privilege)
            }
        }
    }

    #[inline(always)]
    fn load_for_write<T: Word>(core: &mut SoftCore<'_>, linear: u64) -> Result<T, Stop> {
        match core.mem.tlb.find(core.mem.view, linear, T::BYTES, true) {
            Some(host) => Ok(host.load()),
            None => load_for_write_slowly(core, linear),
        }
    }

    #[inline(always)]
    fn store<T: Word>(core: &mut SoftCore<'_>, linear: u64, value: T) -> Result<(), Stop> {
        match core.mem.tlb.find(core.mem.view, linear, T::BYTES, true) {
            Some(host) => {
                host.store(value);
                Ok(())
            }
            None => {
                let privilege = privilege(core);
                store_slowly(core, linear, value, privilege)
            }
        }
    }

    #[inline(always)]
    fn compare_exchange<T: Word>(
        core: &mut SoftCore<'_>,
        linear: u64,
        old: T,
        new: T,
    ) -> Result<T, Stop> {
        match core.mem.tlb.find(core.mem.view, linear, T::BYTES, true) {
            Some(host) => Ok(host.compare_exchange(old, new)),
            None => compare_exchange_slowly(core, linear, old, new),
        }
    }

    fn compare_exchange_16(
        core: &mut SoftCore<'_>,
        linear: u64,
        old: u128,
        new: u128,
    ) -> Result<u128, Stop> {
        let privilege = privilege(core);
        match place(core, (linear, 16), Intent::Write, privilege)? {
            Place::Ram { host, physical } => {
                let found = host.compare_exchange_16(old, new);
                core.mem.stored(physical, 16);
                Ok(found)
            }
            Place::Elsewhere(physical) => {
                let mut bytes = [0; 16];
                read_elsewhere(core, physical, &mut bytes);
                let found = u128::from_le_bytes(bytes);
                if found == old {
                    write_elsewhere(core, physical, &new.to_le_bytes());
                }
                Ok(found)
            }
        }
    }

    #[inline]
    fn load_bytes(core: &mut SoftCore<'_>, linear: u64, bytes: &mut [u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(host) = core.mem.tlb.find(core.mem.view, linear, bytes.len() as u64, false) {
            copy_out(host, bytes);
            return Ok(());
        }
        let privilege = privilege(core);
        load_bytes_as(core, linear, bytes, privilege)
    }

    #[inline]
    fn store_bytes(core: &mut SoftCore<'_>, linear: u64, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(host) = core.mem.tlb.find(core.mem.view, linear, bytes.len() as u64, true) {
            copy_in(host, bytes);
            return Ok(());
        }
        let privilege = privilege(core);
        store_bytes_as(core, linear, bytes, privilege)
    }

    fn probe(
        core: &mut SoftCore<'_>,
        linear: u64,
        length: u64,
        intent: Intent,
    ) -> Result<(), Stop> {
        if length == 0 {
            return Ok(());
        }
        let privilege = privilege(core);
        let first = (PAGE - (linear & (PAGE - 1))).min(length);
        place(core, (linear, first), intent, privilege)?;
        if first < length {
            place(core, (linear.wrapping_add(first), length - first), intent, privilege)?;
        }
        Ok(())
    }

    #[inline]
    fn load_system<T: Word>(core: &mut SoftCore<'_>, linear: u64) -> Result<T, Stop> {
        match core.mem.tlb.find(View::SUPERVISOR, linear, T::BYTES, false) {
            Some(host) => Ok(host.load()),
            None => load_slowly(core, linear, Privilege::Implicit),
        }
    }

    fn store_system<T: Word>(core: &mut SoftCore<'_>, linear: u64, value: T) -> Result<(), Stop> {
        match core.mem.tlb.find(View::SUPERVISOR, linear, T::BYTES, true) {
            Some(host) => {
                host.store(value);
                Ok(())
            }
            None => store_slowly(core, linear, value, Privilege::Implicit),
        }
    }

    fn store_system_bytes(core: &mut SoftCore<'_>, linear: u64, bytes: &[u8]) -> Result<(), Stop> {
        match core.mem.tlb.find(View::SUPERVISOR, linear, bytes.len() as u64, true) {
            Some(host) => {
                copy_in(host, bytes);
                Ok(())
            }
            None => store_bytes_as(core, linear, bytes, Privilege::Implicit),
        }
    }

    fn load_physical(core: &mut SoftCore<'_>, physical: u64) -> u64 {
        core.mem.shared.read_entry(physical).unwrap_or(u64::MAX)
    }

    fn copy_forward(
        core: &mut SoftCore<'_>,
        destination: u64,
        source: u64,
        count: u64,
        size: u64,
    ) -> u64 {
        let room = (PAGE - (destination & (PAGE - 1))).min(PAGE - (source & (PAGE - 1)));
        let count = count.min(room / size);
        let length = count * size;
        if count == 0 {
            return 0;
        }
        let (tlb, view) = (&core.mem.tlb, core.mem.view);
        match (tlb.find(view, destination, length, true), tlb.find(view, source, length, false)) {
            (Some(to), Some(from)) if !to.overlaps_above(from, length as usize) => {
                to.copy_up(from, length as usize);
                count
            }
            _ => 0,
        }
    }

    fn fill_forward(
        core: &mut SoftCore<'_>,
        destination: u64,
        value: u64,
        count: u64,
        size: u64,
    ) -> u64 {
        let count = count.min((PAGE - (destination & (PAGE - 1))) / size);
        if count == 0 {
            return 0;
        }
        match core.mem.tlb.find(core.mem.view, destination, count * size, true) {
            Some(to) => {
                to.fill_up(value, count as usize, size);
                count
            }
            None => 0,
        }
    }

    fn permissions_changed(core: &mut SoftCore<'_>) {
        let guarded = core.cpu.cr4 & cr4::SMAP != 0 && core.cpu.rflags & flags::AC != 0;
        core.mem.view = match (core.cpu.cpl, guarded) {
            (3, _) => View::USER,
            (_, true) => View::SUPERVISOR_AC,
            (_, false) => View::SUPERVISOR,
        };
    }

    fn flush(core: &mut SoftCore<'_>, keep_global: bool) {
        if keep_global && core.mem.tlb.flush_local() {
            core.mem.large.flush_lower();
            core.mem.generation[0] += 1;
        } else {
            core.mem.tlb.flush();
            core.mem.large.flush();
            core.mem.forget_fetches();
        }
    }

    fn flush_page(core: &mut SoftCore<'_>, linear: u64) {
        if !core.mem.tlb.flush_page(linear) {
            core.mem.large.flush();
            return core.mem.forget_fetches();
        }
        core.mem.large.flush_page(linear);
        if core.mem.fetched.contains(&(linear & !(PAGE - 1))) {
            core.mem.forget_fetches();
        }
    }
}

fn copy_out(host: HostPointer, bytes: &mut [u8]) {
    if let Ok(bytes) = <&mut [u8; 16]>::try_from(&mut *bytes) {
        let (low, high) = (host.load::<u64>(), host.at_plus(8).load::<u64>());
        *bytes = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
        return;
    }
    host.copy_to(bytes);
}

fn copy_in(host: HostPointer, bytes: &[u8]) {
    if let Ok(bytes) = <&[u8; 16]>::try_from(bytes) {
        let value = u128::from_le_bytes(*bytes);
        host.store(value as u64);
        host.at_plus(8).store((value >> 64) as u64);
        return;
    }
    host.copy_from(bytes);
}
