//! Which bytes of guest RAM have been decoded, and what follows when they change.
//!
//! Each 64-byte granule of RAM has a bit in its region's [`PageLog`](kezhan_device::PageLog). The rules:
//!
//! 1. A vCPU sets the bits of a block **before** it reads the block's bytes.
//! 2. A page with any bit set has no entry in the write half of any TLB: stores to it go the slow way,
//!    which looks at the bits **after** storing. Either the store sees the bit, or the decoder sees the
//!    store.
//!    Translated code may have a region for writing of the part of such a page that has no bits, and is a writer of the
//!    page then.
//! 3. So when a page gets its first bit, or more bits while it has a writer, every vCPU that may have a write entry for it must drop it before
//!    the bytes are read: [`Shared::mark_code`] asks them and [`Shared::is_settled`] tells when they have. A vCPU outside guest code need
//!    not be waited for: it reads its notes before it enters. Whoever marks more of the page meanwhile waits too.
//! 4. A store that hits a set bit clears the page's bits and leaves every vCPU that has decoded the page a note to
//!    drop its blocks. A device's store does the same through [`kezhan_device::CodeWatch`].
//!
//! ```text
//!   who          decoder                      who writes with an entry     who stores without
//!   first        is a reader of the page      is a writer of the page      stores
//!   then         sets bits                    looks at the bits            looks at the bits
//!   and if       first? asks writers, waits   set? makes no entry          set? clears, tells readers
//!   at last      reads bytes
//! ```
//!
//! Which vCPUs may write to a page, and which have decoded it, is one bit each for eight groups of vCPUs
//! ([`Page::users`]). Regions of translated code for writing that are larger than a page count for the 2 MiB that
//! they lie in ([`Page::chunk_writers`]), for ever.
//!
//! # Locks
//! `telling` is held while readers are told, which takes the locks of their mailboxes one by one.

use crate::apic::{Identity, Message, deliveries, spec};
use crate::mailbox::Mailbox;
use crate::ram::{PAGE, Page, Ram};
use crate::ticker::Ticker;
use crate::tier::Counters;
use kezhan_device::CodeWatch;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What all vCPUs of a partition share.
#[derive(Debug)]
pub struct Shared {
    /// RAM and ROM.
    pub ram: Ram,
    /// One mailbox for each vCPU.
    pub mailboxes: Vec<Mailbox>,
    /// What senders need to know of each local APIC.
    pub identities: Vec<Identity>,
    /// What each vCPU has counted, as of its last return from `run`.
    pub counters: Mutex<Vec<Counters>>,
    /// Makes vCPUs in translated code look at the clock.
    pub ticker: Ticker,
    /// Pages whose readers are being told.
    dropping: AtomicU32,
    telling: Mutex<()>,
}

fn mask(first: u64, length: u64) -> u64 {
    let from = (first & (PAGE - 1)) / 64;
    let to = ((first & (PAGE - 1)) + length.max(1) - 1).min(PAGE - 1) / 64;
    (u64::MAX << from) & (u64::MAX >> (63 - to))
}

/// Bits of [`Page::users`]: the groups of vCPUs that write, and those that have decoded.
const WRITERS: u32 = 0xff;
const READERS: u32 = 0xff00;
/// Above them: how many are marking the page, and may have to wait for writers.
const MARKING: u32 = 1 << 16;

/// A mark that others may still have to be waited for.
#[derive(Debug, Default)]
pub struct Marking {
    /// The first of what somebody may write to: the vCPU's own write entries must go as well.
    pub is_first: bool,
    /// The vCPU may have TLB entries for writing to the page, not only regions of its translated code.
    pub has_entries: bool,
    /// vCPUs that were asked, with their tickets.
    waiting: Vec<(u32, u32)>,
}

fn group(cpu: u32) -> u8 {
    1 << (cpu % 8)
}

fn writer(cpu: u32) -> u32 {
    group(cpu).into()
}

fn reader(cpu: u32) -> u32 {
    writer(cpu) << 8
}

impl Shared {
    /// For so many vCPUs.
    pub fn new(ram: Ram, cpus: u32) -> Shared {
        Shared {
            ram,
            mailboxes: (0..cpus).map(|_| Mailbox::default()).collect(),
            identities: (0..cpus).map(|_| Identity::default()).collect(),
            counters: Mutex::new(vec![Counters::default(); cpus as usize]),
            ticker: Ticker::default(),
            dropping: AtomicU32::new(0),
            telling: Mutex::new(()),
        }
    }

    /// Whether any of `length` bytes at `physical` (within one page) have been decoded.
    pub fn is_code(&self, page: &Page<'_>, physical: u64, length: u64) -> bool {
        granules(page) & mask(physical, length) != 0
    }

    /// vCPU `cpu` is about to make a write entry for the page: false when it must not.
    pub fn admit_writer(&self, cpu: u32, page: &Page<'_>) -> bool {
        if page.users.load(Ordering::SeqCst) & writer(cpu) == 0 {
            page.users.fetch_or(writer(cpu), Ordering::SeqCst);
        }
        granules(page) == 0 && self.dropping.load(Ordering::SeqCst) == 0
    }

    /// vCPU `cpu` is about to make a write region of the part of the page around `physical` of which nothing has been
    /// decoded: its first offset in the page and the one behind it, multiples of 64. `None` when it must not.
    pub fn admit_part_writer(
        &self,
        cpu: u32,
        page: &Page<'_>,
        physical: u64,
    ) -> Option<(u64, u64)> {
        page.users.fetch_or(writer(cpu), Ordering::SeqCst);
        let bits = granules(page);
        let here = (physical & (PAGE - 1)) / 64;
        if bits >> here & 1 != 0 || self.dropping.load(Ordering::SeqCst) != 0 {
            return None;
        }
        let below = bits & !(u64::MAX << here);
        let above = bits & (u64::MAX << here);
        Some((64 * u64::from(64 - below.leading_zeros()), 64 * u64::from(above.trailing_zeros())))
    }

    /// vCPU `cpu` is about to make a write region within the 2 MiB around the page; it looks at the bits of each
    /// page afterwards. False when it must not.
    pub fn admit_chunk_writer(&self, cpu: u32, page: &Page<'_>) -> bool {
        if self.mailboxes.len() > 1 {
            page.chunk_writers.fetch_or(group(cpu), Ordering::SeqCst);
        }
        self.dropping.load(Ordering::SeqCst) == 0
    }

    /// Marks `length` bytes at `physical` (within one page) as decoded by vCPU `cpu`. The bytes are not to be read
    /// before [`Shared::is_settled`] says so; until then the vCPU answers what others ask.
    pub fn mark_code(&self, cpu: u32, page: &Page<'_>, physical: u64, length: u64) -> Marking {
        let Some(word) = page.log.code_granules().get(page.number) else {
            return Marking::default();
        };
        page.users.fetch_or(reader(cpu), Ordering::SeqCst);
        page.users.fetch_add(MARKING, Ordering::SeqCst);
        let new = mask(physical, length);
        let before = word.fetch_or(new, Ordering::SeqCst);
        // Others may write to parts of a page that holds code already.
        let nobody =
            before & new == new || before != 0 && page.users.load(Ordering::SeqCst) & WRITERS == 0;
        if nobody {
            page.users.fetch_sub(MARKING, Ordering::SeqCst);
            return Marking::default();
        }
        let writers = page.users.fetch_and(!WRITERS, Ordering::SeqCst) & WRITERS;
        let waiting = self.exclude_writers(cpu, writers, page, physical);
        Marking { is_first: true, has_entries: writers & writer(cpu) != 0, waiting }
    }

    /// Asks those who write, but `cpu`, to drop their write entries for the page.
    fn exclude_writers(
        &self,
        cpu: u32,
        writers: u32,
        page: &Page<'_>,
        physical: u64,
    ) -> Vec<(u32, u32)> {
        let groups = writers as u8 | page.chunk_writers.load(Ordering::SeqCst);
        let mut waiting = Vec::new();
        for (other, mailbox) in (0_u32..).zip(&self.mailboxes) {
            if other != cpu && groups & group(other) != 0 {
                waiting.push((other, mailbox.ask_drop_writes(Some(physical))));
            }
        }
        waiting
    }

    /// Whether nobody has a write entry for the marked page any more. Called until it is true; the page is the one
    /// that was marked.
    pub fn is_settled(&self, page: &Page<'_>, marking: &mut Marking) -> bool {
        if !marking.is_first {
            return page.users.load(Ordering::SeqCst) < MARKING;
        }
        marking.waiting.retain(|(cpu, ticket)| {
            let mailbox = self.mailboxes.get(*cpu as usize);
            mailbox.is_some_and(|mailbox| !mailbox.has_dropped(*ticket))
        });
        let settled = marking.waiting.is_empty();
        if settled {
            marking.is_first = false;
            page.users.fetch_sub(MARKING, Ordering::SeqCst);
        }
        settled
    }

    /// Bytes of the page were stored to. Where they had been decoded, every vCPU that has done so drops the page's
    /// blocks.
    pub fn written(&self, page: &Page<'_>, physical: u64, length: u64) {
        if page.log.is_logging() {
            page.log.mark_page(page.number);
        }
        // Who finds the bits just cleared waits until the readers have been told.
        if granules(page) & mask(physical, length) != 0 || self.dropping.load(Ordering::SeqCst) != 0
        {
            self.drop_page(page, physical, mask(physical, length));
        }
    }

    /// Drops the page's blocks if one of the granules is marked.
    fn drop_page(&self, page: &Page<'_>, physical: u64, granules_written: u64) {
        let Some(word) = page.log.code_granules().get(page.number) else { return };
        let _one_at_a_time = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        if word.load(Ordering::SeqCst) & granules_written == 0 {
            return;
        }
        self.dropping.fetch_add(1, Ordering::SeqCst);
        word.store(0, Ordering::SeqCst);
        let readers = (page.users.fetch_and(!READERS, Ordering::SeqCst) >> 8) as u8;
        for (cpu, mailbox) in (0_u32..).zip(&self.mailboxes) {
            if readers & group(cpu) != 0 {
                mailbox.post(|notes| notes.stale.push(physical / PAGE));
            }
        }
        self.dropping.fetch_sub(1, Ordering::SeqCst);
    }

    /// Sends an inter-processor interrupt of vCPU `from`.
    pub fn send(&self, from: u32, icr: u64) {
        if !Message::is_deassert(icr) {
            self.deliver(Message::of_icr(icr), from as usize);
        }
    }

    /// Delivers a message; false when nobody took it.
    pub fn deliver(&self, message: Message, from: usize) -> bool {
        let mut taken = false;
        for number in deliveries(message, from, &self.identities) {
            taken = true;
            self.mailboxes[number].post(|notes| match message.mode {
                spec::MODE_FIXED | spec::MODE_LOWEST => {
                    notes.interrupts.push((message.vector, message.level));
                }
                spec::MODE_NMI => notes.nmis = notes.nmis.saturating_add(1),
                spec::MODE_INIT => notes.init = true,
                spec::MODE_STARTUP => notes.sipi = Some(message.vector),
                _ => {}
            });
        }
        taken
    }

    /// Has stores by devices reported to this partition.
    pub fn watch_devices(self: &Arc<Shared>) {
        for (start, log) in self.ram.logs() {
            log.watch_code(Arc::new(DeviceWatch { shared: Arc::downgrade(self), start }));
        }
    }
}

fn granules(page: &Page<'_>) -> u64 {
    page.log.code_granules().get(page.number).map_or(0, |word| word.load(Ordering::SeqCst))
}

/// Stores by devices to one region.
struct DeviceWatch {
    shared: std::sync::Weak<Shared>,
    start: u64,
}

impl CodeWatch for DeviceWatch {
    fn code_written(&self, offset: usize, length: usize) {
        let Some(shared) = self.shared.upgrade() else { return };
        let first = self.start + offset as u64;
        let mut at = first & !(PAGE - 1);
        while at < first + length as u64 {
            if let Some(page) = shared.ram.page(at) {
                shared.drop_page(&page, at, u64::MAX);
            }
            at += PAGE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kezhan_device::GuestMemory;
    use vm_memory::GuestAddress;

    const AT: u64 = 0x3000;

    fn two() -> Shared {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        let shared = Shared::new(Ram::new(Arc::new(memory)), 2);
        for mailbox in &shared.mailboxes {
            mailbox.set_running(true);
        }
        shared
    }

    fn settled(shared: &Shared, marking: &mut Marking) -> bool {
        shared.is_settled(&shared.ram.page(AT).unwrap(), marking)
    }

    #[test]
    fn first_code_waits_for_those_who_may_write_and_so_does_more_code() {
        let shared = two();
        let page = shared.ram.page(AT).unwrap();
        assert!(shared.admit_writer(1, &page));
        let mut first = shared.mark_code(0, &page, AT, 16);
        let mut more = shared.mark_code(1, &page, AT + 64, 16);
        assert!(first.is_first && !more.is_first);
        assert!(!settled(&shared, &mut first) && !settled(&shared, &mut more));
        assert!(!shared.admit_writer(1, &page), "holds code");
        let drops = shared.mailboxes[1].take_drops().unwrap();
        assert_eq!(drops.pages, [AT]);
        shared.mailboxes[1].acknowledge(drops.ticket);
        assert!(settled(&shared, &mut first) && settled(&shared, &mut more));
    }

    #[test]
    fn nobody_waits_for_a_page_without_writers_or_for_a_vcpu_outside_guest_code() {
        let shared = two();
        let page = shared.ram.page(AT).unwrap();
        assert!(settled(&shared, &mut shared.mark_code(0, &page, AT, 16)));
        let other = shared.ram.page(AT + PAGE).unwrap();
        shared.admit_writer(1, &other);
        shared.mailboxes[1].set_running(false);
        let mut marking = shared.mark_code(0, &other, AT + PAGE, 16);
        assert!(shared.is_settled(&other, &mut marking));
        let drops = shared.mailboxes[1].take_drops().unwrap();
        assert_eq!(drops.pages, [AT + PAGE], "the note is there when it enters");
    }

    #[test]
    fn a_region_for_writing_counts_for_every_page_around_it() {
        let shared = two();
        let page = shared.ram.page(AT).unwrap();
        assert!(shared.admit_chunk_writer(1, &shared.ram.page(0).unwrap()));
        assert!(!settled(&shared, &mut shared.mark_code(0, &page, AT, 16)));
    }

    #[test]
    fn parts_of_a_page_are_taken_from_those_who_write_to_them_when_more_of_it_is_decoded() {
        let shared = two();
        let page = shared.ram.page(AT).unwrap();
        assert!(settled(&shared, &mut shared.mark_code(0, &page, AT + 128, 64)));
        assert_eq!(shared.admit_part_writer(1, &page, AT + 130), None, "is code");
        assert_eq!(shared.admit_part_writer(1, &page, AT + 72), Some((0, 128)));
        assert_eq!(shared.admit_part_writer(1, &page, AT + 0x800), Some((192, PAGE)));
        let mut known = shared.mark_code(0, &page, AT + 128, 16);
        assert!(!known.is_first && settled(&shared, &mut known), "was decoded before");
        let mut more = shared.mark_code(0, &page, AT + 0x800, 16);
        assert!(more.is_first && !settled(&shared, &mut more));
        let drops = shared.mailboxes[1].take_drops().unwrap();
        shared.mailboxes[1].acknowledge(drops.ticket);
        assert!(settled(&shared, &mut more));
    }

    #[test]
    fn a_store_to_code_is_told_to_those_who_have_decoded_the_page() {
        let shared = two();
        let page = shared.ram.page(AT).unwrap();
        shared.mark_code(1, &page, AT, 16);
        shared.written(&page, AT + 128, 8);
        assert!(shared.mailboxes[1].take().stale.is_empty(), "other bytes");
        shared.written(&page, AT + 8, 8);
        assert_eq!(shared.mailboxes[1].take().stale, [AT / PAGE]);
        assert!(shared.mailboxes[0].take().stale.is_empty(), "has decoded nothing");
        assert!(!shared.is_code(&page, AT, 64));
    }
}
