//! The translator: superblocks of 64-bit guest code become host code.
//!
//! Guest and host have the same instructions, so most of them run as themselves: in the registers that they
//! name, on the host's own flags. What must be written anew is what reaches memory or goes elsewhere.
//!
//! ```text
//!   steps ──► homes ──► liveness ──► emit ──► code memory
//!               │          │          │         │ hot side: what runs
//!               │          │          │         │ cold side: ways out
//!               ▼          ▼          ▼
//!         who lends to   flags to   records: why and where code leaves
//!         R10 and R11    save       sites, slots: numbers of places in the area
//! ```
//!
//! * [`step`](Step): what there is to know of an instruction. The instruction table gives each its [`Rule`].
//! * `homes`: which host register a guest register is in. `flags`: which flags somebody may still read.
//! * `groups`: which accesses one check is enough for.
//! * `emit`: the code. `emit::access`: the check before accesses to guest memory. `emit::ways`: branches.
//! * `record`: what the engine finds when code has left. [`Translator::run`] goes through the gate.
//!
//! # Life
//! Code is only ever added; when code memory, records, sites or slots run out, all of it is dropped at once
//! ([`Translator::clear`]). A superblock whose bytes changed is merely not entered any more. Everything
//! belongs to one vCPU and its thread: nothing here is shared or locked, at the price of translating
//! what two vCPUs run twice.
//!
//! # Trust
//! Host addresses come into the area by [`Translator::fill`] and from the engine's TLB ([`crate::probe`]), both from the
//! engine's one constructor of pointers into guest RAM. The guest chooses what is compared with a region, never what the
//! region is.
//! Unlike a thunk, emitted code is not read back and proved: that every access follows its check rests on
//! `emit` alone, and on the tests that attack it.
//!
//! # What was rejected
//! * Cranelift, LLVM: 20 to 50 times slower to translate, and no way to say "these flags" (engine study, §3).
//! * A software TLB in each access: half a nanosecond more of latency each (§5). The TLB is behind the sites.
//! * Host page tables as the guest's: 3 µs a fault (§5).
#![expect(unsafe_code, reason = "runs the code that it has emitted")]

mod asm;
mod emit;
mod flags;
mod groups;
mod homes;
mod record;
mod shared;
mod sites;
mod slots;
mod step;

use crate::area::{Area, Registers, SITES, SLOTS, Site};
use crate::gate;
use crate::memory::{ExecutableMemory, ExecutableMemoryError, synchronise};
pub use emit::Request;
use emit::{Addresses, Books, Emitter};
pub use flags::{CodePage, PEEK};
pub use record::{Access, Kind, Record};
pub(crate) use shared::SHARED;
use sites::SiteLists;
use slots::Slots;
pub use step::{Operand, Rule, Segment, Step};

/// The most instructions in a superblock.
pub const LONGEST: usize = 48;
/// Bytes of code memory for each record, and for each site: tables are full when the memory is, or a little earlier.
const BYTES_PER_RECORD: usize = 128;
const BYTES_PER_SITE: usize = 256;
/// Code memory with which tables may lie in large pages of the host: where there are many vCPUs, those would be
/// touched here and there and cost more than the code.
const GENEROUS: usize = 16 << 20;
/// The most that one superblock takes of anything.
const RESERVE: usize = 8 * LONGEST;
/// The most bytes on either side of one superblock.
const RESERVE_BYTES: usize = 1 << 15;

/// The translator of one vCPU, with its code.
#[derive(Debug)]
pub struct Translator {
    memory: ExecutableMemory,
    area: Area,
    hot: usize,
    cold: usize,
    /// Where the cold side starts, and where it ends.
    bounds: (usize, usize),
    /// What was emitted last: addresses and lengths of its hot and its cold part.
    last: [(u64, usize); 2],
    records: Vec<Record>,
    sites: u32,
    /// For each site: whether it writes.
    writes: Vec<bool>,
    lists: SiteLists,
    slots: Slots,
}

/// Where a superblock can be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With the flags in the area: from the gate, by slots and by the jump cache.
    parked: u64,
    /// With the flags in RFLAGS: by links.
    raw: u64,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Something has run out: [`Translator::clear`], and ask again.
    Full,
    /// The first instruction is the interpreter's, or has no encoding.
    Untranslatable,
}

/// A region of guest memory that a site may reach, as the engine's TLB knows it.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Its first linear address, a multiple of 64.
    pub start: u64,
    /// Its length in bytes, a multiple of 64: a part of a page, or pages.
    pub length: u64,
    /// The host address of its first byte.
    pub host: u64,
}

impl Entry {
    /// In the middle of a superblock, which has its flags in the area there or wants none.
    fn behind_the_gate(code: u64) -> Entry {
        Entry { parked: code, raw: code }
    }
}

impl Translator {
    /// A translator with `bytes` of code memory, a multiple of 4096.
    ///
    /// # Errors
    /// The host refused memory.
    pub fn new(bytes: usize) -> Result<Translator, ExecutableMemoryError> {
        let hot = bytes / 2;
        let memory = ExecutableMemory::new(bytes)?;
        let mut area = Area::new(bytes >= GENEROUS)?;
        area.registers().code = memory.base();
        for site in 0..SHARED {
            *area.site(site) = Site::VOID;
        }
        let mut new = Translator {
            memory,
            area,
            hot: 0,
            cold: hot,
            bounds: (hot, bytes),
            last: [(0, 0); 2],
            records: Vec::new(),
            sites: SHARED,
            writes: shared::writers(),
            lists: SiteLists::default(),
            slots: Slots::default(),
        };
        new.begin();
        Ok(new)
    }

    /// Puts the landing of void returns at the beginning of code memory.
    fn begin(&mut self) {
        debug_assert!(self.hot == 0 && self.records.is_empty());
        self.records.push(Record { rip: 0, kind: Kind::Leave });
        let landing = emit::void_landing(self.memory.base());
        self.memory.write(0, &landing);
        self.hot = landing.len();
        synchronise();
    }

    /// The area.
    pub fn area(&mut self) -> &mut Area {
        &mut self.area
    }

    /// The registers as the guest left them.
    #[inline(always)]
    pub fn registers(&mut self) -> &mut Registers {
        self.area.registers()
    }

    /// Where the code of the last superblock is: addresses and lengths of its hot and its cold part.
    pub fn last(&self) -> [(u64, usize); 2] {
        self.last
    }

    /// Bytes of code, hot and cold.
    pub fn used(&self) -> usize {
        self.hot + (self.cold - self.bounds.0)
    }

    /// Makes this thread the one that runs this vCPU.
    pub fn bind(&mut self) {
        gate::bind(&self.area);
    }

    /// How many of the steps, from the first on, fit into one superblock.
    pub fn fitting(steps: &[Step]) -> usize {
        homes::fitting(steps)
    }

    /// Whether a translation would be refused for want of room.
    pub fn is_full(&self) -> bool {
        self.hot + RESERVE_BYTES > self.bounds.0
            || self.cold + RESERVE_BYTES > self.bounds.1
            || self.records.len() + RESERVE > self.bounds.1 / BYTES_PER_RECORD
            || self.sites as usize + RESERVE > SITES.min(self.bounds.1 / BYTES_PER_SITE)
            || self.slots.len() + RESERVE > SLOTS
    }

    /// Translates a superblock.
    ///
    /// # Errors
    /// [`Refusal`]
    pub fn translate(&mut self, request: Request<'_>) -> Result<Entry, Refusal> {
        if self.is_full() {
            return Err(Refusal::Full);
        }
        if request.steps.first().is_none_or(|step| step.rule == Rule::Interpret) {
            return Err(Refusal::Untranslatable);
        }
        let base = self.memory.base();
        let (hot, cold) = (base + self.hot as u64, base + self.cold as u64);
        let known = (self.records.len(), self.sites, self.slots.len() as u32);
        let books = Books {
            records: &mut self.records,
            sites: &mut self.sites,
            writes: &mut self.writes,
            slots: &mut self.slots,
        };
        let emitted =
            Emitter::new(request, books, Addresses { code: base, hot, cold }).run().ok().filter(
                |emitted| emitted.hot.len() < RESERVE_BYTES && emitted.cold.len() < RESERVE_BYTES,
            );
        let Some(emitted) = emitted else {
            self.records.truncate(known.0);
            self.sites = known.1;
            self.writes.truncate(known.1 as usize);
            return Err(Refusal::Untranslatable);
        };
        for site in known.1..self.sites {
            *self.area.site(site) = Site::VOID;
        }
        for slot in known.2..self.slots.len() as u32 {
            self.area.set_slot(slot, None);
        }
        self.last = [(hot, emitted.hot.len()), (cold, emitted.cold.len())];
        self.memory.write(self.hot, &emitted.hot);
        self.memory.write(self.cold, &emitted.cold);
        self.hot += emitted.hot.len();
        self.cold += emitted.cold.len();
        synchronise();
        Ok(Entry { parked: hot + emitted.parked as u64, raw: hot + emitted.raw as u64 })
    }

    /// Drops all code. The caller forgets every [`Entry`], and voids every jump that it has made.
    pub fn clear(&mut self) {
        (self.hot, self.cold) = (0, self.bounds.0);
        self.empty_sites();
        self.records.clear();
        self.sites = SHARED;
        self.writes.truncate(SHARED as usize);
        self.slots.clear();
        self.area.forget_all_returns();
        self.begin();
    }

    /// Runs until code leaves, and says why.
    #[inline(always)]
    pub fn run(&mut self, entry: Entry) -> Record {
        // SAFETY: an `Entry` is made by `translate` and `resume` only, for code of this translator; `clear`
        // obliges the caller to forget them. The area was bound to this thread by `bind`.
        unsafe { gate::enter(entry.parked, self.area.base()) };
        let number = self.area.registers().exit as usize;
        self.records.get(number).copied().unwrap_or(Record { rip: 0, kind: Kind::Leave })
    }

    /// Where code goes on that has left for a time stamp.
    pub fn behind(&self, record: &Record) -> Option<Entry> {
        match record.kind {
            Kind::TimeStamp { resume, .. } => Some(Entry::behind_the_gate(resume)),
            _ => None,
        }
    }

    /// Lets a site reach the part of a region that its access fits into; where to go on if the access at
    /// `linear` is within it now.
    #[inline(always)]
    pub fn fill(&mut self, access: &Access, linear: u64, region: Region) -> Option<Entry> {
        let operand = &access.operand;
        let limit = |size: u64| region.length.saturating_sub(size - 1);
        let (below, size) = (u64::from(access.span.0), u64::from(access.span.1));
        let aligned = linear & u64::from(operand.alignment - 1) == 0;
        let offset = linear.wrapping_sub(below).wrapping_sub(region.start);
        if offset >= limit(size) || !aligned {
            return None;
        }
        let delta = region.host.wrapping_sub(region.start);
        let host = if operand.is_constant() { linear.wrapping_add(delta) } else { region.host };
        let site = self.area.site(access.site);
        let (limit_of_size, limits) = (limit(size), Site::SIZES.map(limit));
        *site = Site { lo: region.start, limit: limit_of_size, limits, delta, host, ..*site };
        self.area.journal(access.site);
        // The check would not find it, and come here again.
        (offset < limit(access.room + 1)).then_some(Entry::behind_the_gate(access.resume))
    }

    /// Makes every site void, so that its next access leaves; how many were not.
    pub fn empty_sites(&mut self) -> usize {
        self.empty_half(0) + self.empty_half(1)
    }

    /// Makes those void whose region is in a half of linear memory: 0 the lower, 1 the upper.
    pub fn empty_half(&mut self, half: usize) -> usize {
        self.lists.empty_half(&mut self.area, half)
    }

    /// Makes those void whose region is the linear page.
    pub fn empty_page(&mut self, page: u64) {
        self.lists.empty_page(&mut self.area, &self.writes, page);
    }

    /// Makes those void that write to the page at a host address, or to any page.
    pub fn empty_writers(&mut self, page: Option<u64>) {
        match page {
            Some(page) => self.lists.empty_writers(&mut self.area, &self.writes, page),
            None => self.lists.empty_all_writers(&mut self.area, &self.writes),
        }
    }

    /// Leads a branch, whose flags are in the area if `parked`, to where its target is now.
    pub fn link(&mut self, hole: u64, parked: bool, target: Entry) {
        let target = if parked { target.parked } else { target.raw };
        let distance = target.wrapping_sub(hole).wrapping_sub(4) as i32;
        let offset = hole.wrapping_sub(self.memory.base()) as usize;
        self.memory.write(offset, &distance.to_le_bytes());
        synchronise();
    }

    /// Leads a slot to its target, or makes it void.
    pub fn set_slot(&mut self, slot: u32, target: Option<Entry>) {
        self.area.set_slot(slot, target.map(|entry| entry.parked));
    }

    /// The slot for a target, if some branch uses one.
    pub fn slot(&self, view: u8, target: u64) -> Option<u32> {
        self.slots.find(view, target)
    }

    /// Remembers where indirect branches to `rip` go.
    pub fn set_jump(&mut self, view: u8, rip: u64, target: Entry) {
        self.area.set_jump(view, rip, target.parked);
    }
}
