//! The software TLB.
//!
//! Direct-mapped, by linear page. There is a read half and a write half for each of three *views*: user,
//! supervisor, and supervisor with RFLAGS.AC set (which may touch user pages under SMAP). A change of
//! privilege changes the view, and costs nothing else.
//!
//! An entry's tag is a page address; an empty entry's is a page that belongs to another set. An access of `n`
//! bytes at `a` is checked with `(a + n - 1) & !0xfff == tag` in the set of `a`'s page: an access that crosses
//! into the next page compares that page with a set it cannot be in, and misses.
//!
//! Sets that are not empty are listed, so that a flush costs what the TLB holds and not what it could.

use crate::ram::HostPointer;
use kezhan_x86::paging::Translation;
use std::collections::HashSet;

/// Sets in each half of a view.
const SETS: u64 = kezhan_jit::area::TLB_SETS;
const HALVES: u64 = 8;

/// A translation: the page, and how far the host's memory of it is from there.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    tag: u64,
    delta: u64,
}

/// Which accesses an entry serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View(u64);

impl View {
    /// 0, 1 or 2.
    #[inline(always)]
    pub fn number(self) -> u8 {
        (self.0 / 2) as u8
    }

    /// CPL 3.
    pub const USER: View = View(0);
    /// CPL 0 to 2.
    pub const SUPERVISOR: View = View(2);
    /// CPL 0 to 2 with RFLAGS.AC set.
    pub const SUPERVISOR_AC: View = View(4);
}

/// The TLB of one vCPU.
#[derive(Debug)]
pub struct Tlb {
    entries: Box<[Entry]>,
    /// Slots that are not empty, and perhaps some that are or that are listed twice: for the lower and for the upper
    /// half of linear memory, for reading and for writing.
    used: [[Vec<u16>; 2]; 2],
    /// 2 MiB pieces of linear memory in which larger pages than 4 KiB were found: their entries are parts of
    /// one, and go together (Intel SDM vol. 3A §4.10.2.3).
    parts: HashSet<u64>,
    /// A translation in the upper half is not global: a change of CR3 takes everything with it.
    upper_is_local: bool,
    /// What was forgotten since translated code was last told.
    forgotten: Forgotten,
}

/// What whoever keeps copies of TLB entries must forget as well.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// Everything.
    pub all: bool,
    /// Everything in the lower half of linear memory.
    pub lower: bool,
    /// What may be written.
    pub writes: bool,
    /// What may write to single pages of host memory.
    pub written: Vec<u64>,
    /// Single linear pages.
    pub pages: Vec<u64>,
}

impl Forgotten {
    /// Nothing at all.
    #[inline(always)]
    pub fn is_nothing(&self) -> bool {
        let some = self.all || self.lower || self.writes;
        !some && self.written.is_empty() && self.pages.is_empty()
    }
}

/// Slots in a list from which on it is freed of those that are listed twice, whenever their number has doubled.
const CROWDED: usize = 4096;

/// Log2 of the pieces in which parts of large pages are looked for.
const PART: u32 = 21;

/// Pages after which everything is forgotten rather than each one.
const MANY_PAGES: usize = 32;

impl Default for Tlb {
    fn default() -> Tlb {
        let entries = (0..(SETS * HALVES) as usize).map(Entry::empty).collect();
        let forgotten = Forgotten::default();
        let parts = HashSet::new();
        Tlb { entries, used: Default::default(), parts, upper_is_local: false, forgotten }
    }
}

/// In the half of linear memory where kernels keep their global pages.
#[inline(always)]
fn is_upper(linear: u64) -> bool {
    linear >> 63 == 1
}

#[inline(always)]
fn slot(view: View, write: bool, linear: u64) -> usize {
    let half = view.0 + u64::from(write);
    ((half * SETS + (linear >> 12 & (SETS - 1))) & (SETS * HALVES - 1)) as usize
}

impl Entry {
    /// The tag is a page of a set on the other side of the table.
    #[inline(always)]
    fn empty(slot: usize) -> Entry {
        Entry { tag: ((slot as u64 ^ (SETS / 2)) % SETS) << 12, delta: 0 }
    }

    /// The host address of its page.
    #[inline(always)]
    fn host(&self) -> u64 {
        self.tag.wrapping_add(self.delta)
    }
}

impl Tlb {
    /// The host pointer for an access of `length` bytes (1 to a page) in a view, if the TLB has it.
    #[inline(always)]
    pub fn find(&self, view: View, linear: u64, length: u64, write: bool) -> Option<HostPointer> {
        let entry = &self.entries[slot(view, write, linear)];
        let last_page = linear.wrapping_add(length - 1) & !0xfff;
        (entry.tag == last_page).then(|| HostPointer::within(entry.host(), linear))
    }

    /// Where the halves of the views are, for translated code. They stay there.
    pub fn halves(&self) -> [u64; kezhan_jit::area::TLB_HALVES] {
        let first = self.entries.as_ptr() as u64;
        std::array::from_fn(|half| first + half as u64 * SETS * size_of::<Entry>() as u64)
    }

    /// Puts a translation in for a view.
    pub fn insert(&mut self, view: View, linear: u64, host: HostPointer, write: bool) {
        if self.is_crowded() {
            self.flush();
        }
        let page = linear & !0xfff;
        let slot = slot(view, write, linear);
        let before = self.entries[slot].tag;
        let half = usize::from(is_upper(page));
        if before == Entry::empty(slot).tag || is_upper(before) != is_upper(page) {
            self.used[half][usize::from(write)].push(slot as u16);
        }
        let delta = host.address().wrapping_sub(page);
        self.entries[slot] = Entry { tag: page, delta };
    }

    /// Some cache has a translation now.
    #[inline]
    pub fn note(&mut self, linear: u64, found: &Translation) {
        self.upper_is_local |= is_upper(linear) && !found.global;
        if found.page_bits > 12 {
            self.parts.insert(linear >> PART);
        }
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        let Tlb { entries, used, .. } = self;
        for slot in used.iter_mut().flatten().flat_map(|list| list.drain(..)) {
            entries[usize::from(slot)] = Entry::empty(slot.into());
        }
        self.parts.clear();
        self.upper_is_local = false;
        self.forgotten.all = true;
    }

    /// Forgets what is not global; false when it took everything. The lower half is never taken for global.
    pub fn flush_local(&mut self) -> bool {
        if self.upper_is_local {
            self.flush();
            return false;
        }
        let Tlb { entries, used, .. } = self;
        for slot in used[0].iter_mut().flat_map(|list| list.drain(..)) {
            let entry = &mut entries[usize::from(slot)];
            if !is_upper(entry.tag) {
                *entry = Entry::empty(slot.into());
            }
        }
        self.parts.retain(|part| is_upper(part << PART));
        self.forgotten.lower = true;
        true
    }

    /// The lists are longer than they need to be.
    fn is_crowded(&self) -> bool {
        self.used.iter().flatten().any(|list| list.len() > self.entries.len())
    }

    /// Takes what was forgotten since the last call.
    #[inline(always)]
    pub fn take_forgotten(&mut self) -> Option<Forgotten> {
        if self.forgotten.is_nothing() { None } else { Some(std::mem::take(&mut self.forgotten)) }
    }

    /// Forgets one linear page, or everything when it may be part of a larger one (Intel SDM vol. 3A §4.10.4.1, INVLPG);
    /// whether it was one page.
    pub fn flush_page(&mut self, linear: u64) -> bool {
        if self.parts.contains(&(linear >> PART)) {
            self.flush();
            return false;
        }
        if self.forgotten.pages.len() < MANY_PAGES {
            self.forgotten.pages.push(linear & !0xfff);
        } else {
            self.forgotten.all = true;
        }
        for half in 0..6 {
            let slot = slot(View(half), false, linear);
            self.entries[slot] = Entry::empty(slot);
        }
        true
    }

    /// Forgets the write entries for the page at `host`.
    pub fn flush_writes_to(&mut self, host: HostPointer) {
        let address = host.address();
        let Tlb { entries, used, .. } = self;
        for list in used.iter_mut().map(|half| &mut half[1]) {
            list.retain(|slot| drop_entry_of(entries, *slot, address));
            if list.len() >= CROWDED && list.len().is_power_of_two() {
                // Others may have been emptied by themselves and filled again since.
                list.sort_unstable();
                list.dedup();
            }
        }
        self.note_written(host);
    }

    /// Has those who keep copies of write entries for the page at `host` forget them.
    pub fn note_written(&mut self, host: HostPointer) {
        if self.forgotten.written.len() < MANY_PAGES {
            self.forgotten.written.push(host.address());
        } else {
            self.forgotten.writes = true;
        }
    }

    /// Forgets all write entries.
    pub fn flush_writes(&mut self) {
        self.forgotten.writes = true;
        let Tlb { entries, used, .. } = self;
        for slot in used.iter_mut().flat_map(|half| half[1].drain(..)) {
            entries[usize::from(slot)] = Entry::empty(slot.into());
        }
    }
}

/// Empties the entry of a slot if it leads to the page at `host`; whether the slot is still in use.
fn drop_entry_of(entries: &mut [Entry], slot: u16, host: u64) -> bool {
    let empty = Entry::empty(slot.into());
    let entry = &mut entries[usize::from(slot)];
    if entry.host() == host {
        *entry = empty;
    }
    entry.tag != empty.tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;
    use kezhan_device::GuestMemory;
    use std::sync::Arc;
    use vm_memory::GuestAddress;

    #[test]
    fn an_entry_serves_its_page_its_view_and_its_half_only() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let ram = Ram::new(Arc::new(memory));
        let mut tlb = Tlb::default();
        tlb.insert(View::SUPERVISOR, 0xffff_8000_0000_1234, ram.page(0x2000).unwrap().host, false);
        let found = tlb.find(View::SUPERVISOR, 0xffff_8000_0000_1ff8, 8, false).unwrap();
        assert_eq!(found, ram.page(0x2000).unwrap().host.at(0xff8));
        assert!(
            tlb.find(View::SUPERVISOR, 0xffff_8000_0000_1ff9, 8, false).is_none(),
            "crosses the page"
        );
        assert!(tlb.find(View::SUPERVISOR, 0xffff_8000_0000_1000, 8, true).is_none(), "is a write");
        assert!(tlb.find(View::SUPERVISOR, 0x1000, 8, false).is_none(), "is another page");
        assert!(tlb.find(View::USER, 0xffff_8000_0000_1000, 8, false).is_none(), "is another view");
        tlb.flush_page(0xffff_8000_0000_1fff);
        assert!(
            tlb.find(View::SUPERVISOR, 0xffff_8000_0000_1000, 8, false).is_none(),
            "was flushed"
        );
    }
}
