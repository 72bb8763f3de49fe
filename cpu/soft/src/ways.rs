//! Ways: which slots and jumps of translated code lead somewhere, by the page that they lead to.
//!
//! A way may be gone as long as its target's linear page is where it was. So those into a page go with the
//! page. When the address space changes, everything in the lower half of linear memory may be elsewhere, and often is
//! not: a child has its parent's code, and a shell runs one program again and again. So each page is looked up in the
//! new page tables, and its ways stay when it leads where it did:
//!
//! ```text
//!   MOV CR3 ─► for each page with ways: walk ─┬─ same physical page, executable, accessed before ─► stay
//!                                             └─ else ─► void, asleep
//!   the first way into a page ─► those that sleep there, and led to the same physical page, are as they were
//! ```
//!
//! A program that is started once more finds its ways so, page by page, as it comes there. Ways sleep until the
//! superblocks of their physical page are dropped, or there are too many of them.
//!
//! The walk marks nothing; a page that has not been accessed in the new address space is not taken for the same, so
//! that the guest sees its accessed bits set as on a processor.
//!
//! Rejected: voiding all of them (several hundred exits each time a process is switched to); a check of the page in each
//! branch to another (it costs flags, and every branch pays).

use crate::blocks::Spread;
use crate::code::Shared;
use crate::ram::PAGE;
use kezhan_jit::translate::Translator;
use kezhan_x86::block::LONGEST_INSTRUCTION;
use kezhan_x86::memory::Intent;
use kezhan_x86::paging::{Paging, PhysicalMemory, Privilege, Translation};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// Ways after which all are forgotten, so that the lists end.
const MOST_WAYS: usize = 1 << 17;
/// Pages after which none is looked up any more when the address space changes.
const MOST_PAGES: usize = 256;
/// Ways that sleep, at most.
const MOST_ASLEEP: usize = 1 << 15;
/// The view of CPL 3.
const USER: u8 = 0;

/// A slot or jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The slot with a number.
    Slot(u32),
    /// The jump to a RIP.
    Jump,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    way: Way,
    view: u8,
    rip: u64,
    leads: kezhan_jit::translate::Entry,
}

impl Entry {
    fn open(self, translator: &mut Translator) {
        match self.way {
            Way::Slot(slot) => translator.set_slot(slot, Some(self.leads)),
            Way::Jump => translator.set_jump(self.view, self.rip, self.leads),
        }
    }

    fn void(self, translator: &mut Translator) {
        match self.way {
            Way::Slot(slot) => translator.set_slot(slot, None),
            Way::Jump => translator.area().clear_jump(self.view, self.rip),
        }
    }

    /// Whether its instruction may lie in the page.
    fn reaches(self, page: u64) -> bool {
        let last = self.rip.wrapping_add(LONGEST_INSTRUCTION as u64 - 1);
        self.rip & !(PAGE - 1) == page || last & !(PAGE - 1) == page
    }

    /// Whether its instruction may lie over the end of its page.
    fn may_cross(self) -> bool {
        self.rip & (PAGE - 1) > PAGE - LONGEST_INSTRUCTION as u64
    }
}

/// Those into one page.
#[derive(Debug)]
struct Group {
    /// The physical page, by number.
    physical: u64,
    entries: Vec<Entry>,
}

/// Those that sleep into one linear page.
#[derive(Debug)]
struct Asleep {
    page: u64,
    entries: Vec<Entry>,
}

/// Those into one half of linear memory.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    groups: HashMap<u64, Group, BuildHasherDefault<Spread>>,
    /// Those to instructions that may lie in two pages.
    crossing: Vec<Entry>,
    count: usize,
    /// Those that sleep, by physical page (its number).
    asleep: HashMap<u64, Vec<Asleep>, BuildHasherDefault<Spread>>,
    asleep_count: usize,
    recent: Recent,
}

/// Jumps that were noted, by RIP.
#[derive(Debug)]
struct Recent {
    jumps: Box<[(u64, u8, u64); RECENT]>,
    /// Counts the times that some were made void: those from before do not count.
    age: u64,
}

const RECENT: usize = 1024;

impl Default for Recent {
    fn default() -> Recent {
        Recent { jumps: Box::new([(0, 0, 0); RECENT]), age: 1 }
    }
}

impl Recent {
    fn place(rip: u64) -> usize {
        (rip ^ rip >> 10) as usize % RECENT
    }

    fn knows(&self, jump: &Entry) -> bool {
        self.jumps[Recent::place(jump.rip)] == (jump.rip, jump.view, self.age)
    }

    fn note(&mut self, entry: &Entry) {
        if entry.way == Way::Jump {
            self.jumps[Recent::place(entry.rip)] = (entry.rip, entry.view, self.age);
        }
    }
}

/// A superblock as ways know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub view: u8,
    pub rip: u64,
    /// The physical page, by number.
    pub physical: u64,
    pub entry: kezhan_jit::translate::Entry,
}

impl Ways {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are so many that all should be forgotten.
    pub fn is_crowded(&self) -> bool {
        self.count > MOST_WAYS
    }

    /// Opens the jump to a superblock once more, if it was opened before and has not been made void since. Those whose
    /// places in the jump cache are the same come again and again.
    pub fn open_again(
        &self,
        view: u8,
        rip: u64,
        entry: kezhan_jit::translate::Entry,
        translator: &mut Translator,
    ) -> bool {
        let jump = Entry { way: Way::Jump, view, rip, leads: entry };
        let known = self.recent.knows(&jump);
        if known {
            jump.open(translator);
        }
        known
    }

    /// Opens one that leads to a superblock, which the page tables in use now have where the target says.
    pub fn open(&mut self, way: Way, target: Target, translator: &mut Translator) {
        let Target { view, rip, physical, entry } = target;
        let entry = Entry { way, view, rip, leads: entry };
        entry.open(translator);
        self.recent.note(&entry);
        if entry.may_cross() {
            self.count += 1;
            return self.crossing.push(entry);
        }
        let page = rip & !(PAGE - 1);
        match self.groups.get_mut(&page) {
            Some(group) => {
                self.count += 1;
                group.entries.push(entry);
            }
            None => {
                let mut entries = self.wake(physical, page);
                entries.iter().for_each(|entry| entry.open(translator));
                entries.push(entry);
                self.count += entries.len();
                self.groups.insert(page, Group { physical, entries });
            }
        }
    }

    /// Takes those that sleep into a page.
    fn wake(&mut self, physical: u64, page: u64) -> Vec<Entry> {
        let Some(pages) = self.asleep.get_mut(&physical) else { return Vec::new() };
        let Some(at) = pages.iter().position(|asleep| asleep.page == page) else {
            return Vec::new();
        };
        let Asleep { entries, .. } = pages.swap_remove(at);
        self.asleep_count -= entries.len();
        entries
    }

    /// Makes a group void; it sleeps if programs alone have used it.
    fn put_to_sleep(&mut self, translator: &mut Translator, page: u64, mut group: Group) {
        self.recent.age += 1;
        self.count -= group.entries.len();
        group.entries.iter().for_each(|entry| entry.void(translator));
        if group.entries.iter().any(|entry| entry.view != USER) {
            return;
        }
        if self.asleep_count > MOST_ASLEEP {
            self.forget_asleep();
        }
        group.entries.sort_unstable_by_key(|entry| (entry.rip, entry.way));
        group.entries.dedup_by_key(|entry| (entry.rip, entry.way));
        self.asleep_count += group.entries.len();
        self.asleep
            .entry(group.physical)
            .or_default()
            .push(Asleep { page, entries: group.entries });
    }

    /// The superblocks of a linear page are no more.
    pub fn forget_page(&mut self, translator: &mut Translator, page: u64) {
        self.recent.age += 1;
        if let Some(group) = self.groups.remove(&page) {
            self.count -= group.entries.len();
            group.entries.iter().for_each(|entry| entry.void(translator));
        }
    }

    /// The superblocks of a physical page are no more: none of those that sleep leads there.
    pub fn drop_page(&mut self, physical: u64) {
        let pages = self.asleep.remove(&physical).unwrap_or_default();
        self.asleep_count -= pages.iter().map(|asleep| asleep.entries.len()).sum::<usize>();
    }

    /// None sleeps any more.
    fn forget_asleep(&mut self) {
        self.asleep.clear();
        self.asleep_count = 0;
    }

    /// Makes all void.
    pub fn void_all(&mut self, translator: &mut Translator) {
        for (page, group) in std::mem::take(&mut self.groups) {
            self.put_to_sleep(translator, page, group);
        }
        self.void_crossing(translator, |_| true);
    }

    /// Makes all void for good.
    pub fn forget_all(&mut self, translator: &mut Translator) {
        self.recent.age += 1;
        let grouped = self.groups.drain().flat_map(|(_, group)| group.entries);
        for entry in grouped.chain(self.crossing.drain(..)) {
            entry.void(translator);
        }
        self.count = 0;
        self.forget_asleep();
    }

    fn void_crossing(&mut self, translator: &mut Translator, which: impl Fn(&Entry) -> bool) {
        for entry in self.crossing.extract_if(.., |entry| which(entry)) {
            self.recent.age += 1;
            self.count -= 1;
            entry.void(translator);
        }
    }

    /// Makes those into a linear page void.
    pub fn void_page(&mut self, translator: &mut Translator, page: u64) {
        if let Some(group) = self.groups.remove(&page) {
            self.put_to_sleep(translator, page, group);
        }
        self.void_crossing(translator, |entry| entry.reaches(page));
    }

    /// Makes those void that lead elsewhere by the page tables that are in use now; how many.
    pub fn look_again(&mut self, translator: &mut Translator, tables: &Tables<'_>) -> usize {
        let before = self.count;
        if self.groups.len() > MOST_PAGES {
            self.void_all(translator);
            return before;
        }
        let gone: Vec<(u64, Group)> =
            self.groups.extract_if(|page, group| !group.stays(*page, tables)).collect();
        for (page, group) in gone {
            self.put_to_sleep(translator, page, group);
        }
        self.void_crossing(translator, |_| true);
        before - self.count
    }
}

impl Group {
    fn stays(&self, page: u64, tables: &Tables<'_>) -> bool {
        self.entries.iter().all(|entry| entry.view == USER)
            && tables.leads_to(page) == Some(self.physical)
    }
}

/// The page tables, looked at without a mark.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    paging: Paging,
    shared: &'a Shared,
    marked: Cell<bool>,
}

impl<'a> Tables<'a> {
    pub fn new(paging: Paging, shared: &'a Shared) -> Tables<'a> {
        Tables { paging, shared, marked: Cell::new(false) }
    }

    /// The physical page (its number) of a linear page that programs may execute and have accessed.
    fn leads_to(&self, page: u64) -> Option<u64> {
        let found = self.peek(page, Intent::Execute, Privilege::User)?;
        Some(found.physical / PAGE)
    }

    /// Where an access would go for which nothing has to be marked.
    pub fn peek(&self, linear: u64, intent: Intent, by: Privilege) -> Option<Translation> {
        self.marked.set(false);
        let found = self.paging.walk(self, linear, intent, by).ok()?;
        (!self.marked.get()).then_some(found)
    }
}

impl PhysicalMemory for Tables<'_> {
    fn read_entry(&self, address: u64) -> Option<u64> {
        self.shared.read_entry(address)
    }

    fn read_short_entry(&self, address: u64) -> Option<u32> {
        self.shared.read_short_entry(address)
    }

    fn set_entry_bits(&self, _address: u64, _old: u64, _bits: u64) -> bool {
        self.marked.set(true);
        true
    }

    fn set_short_entry_bits(&self, _address: u64, _old: u32, _bits: u32) -> bool {
        self.marked.set(true);
        true
    }
}
