//! Which bytes of guest RAM have been decoded, and what follows when they change.
//!
//! Each 64-byte granule of RAM has a bit in its region's [`PageLog`]. The rules:
//!
//! 1. A vCPU sets the bits of a block **before** it reads the block's bytes.
//! 2. A page with any bit set has no entry in the write half of any TLB: stores to it go the slow way,
//!    which looks at the bits **after** storing. Either the store sees the bit, or the decoder sees the
//!    store.
//! 3. So when a page gets its first bit, every vCPU that may have a write entry for it must drop it before
//!    the bytes are read: [`Shared::exclude_writers`] asks them and waits. A vCPU outside guest code need
//!    not be waited for: it reads its notes before it enters.
//! 4. A store that hits a set bit clears the page's bits and leaves every vCPU a note to drop the page's
//!    blocks. A device's store does the same through [`kezhan_device::CodeWatch`].
//!
//! Which vCPUs may have a write entry for a page is kept as one bit for each of eight groups of vCPUs.

use crate::apic::{Identity, Message, deliveries, spec};
use crate::mailbox::Mailbox;
use crate::ram::{PAGE, Page, Ram};
use crate::ticker::Ticker;
use crate::tier::Counters;
use kezhan_device::CodeWatch;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
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
    /// The writers of pages: physical page to groups of vCPUs.
    writers: Mutex<HashMap<u64, u8>>,
}

fn mask(first: u64, length: u64) -> u64 {
    let from = (first & (PAGE - 1)) / 64;
    let to = ((first & (PAGE - 1)) + length.max(1) - 1).min(PAGE - 1) / 64;
    (u64::MAX << from) & (u64::MAX >> (63 - to))
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
            writers: Mutex::new(HashMap::new()),
        }
    }

    fn writers(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u8>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether any of `length` bytes at `physical` (within one page) have been decoded.
    pub fn is_code(&self, page: &Page<'_>, physical: u64, length: u64) -> bool {
        granules(page) & mask(physical, length) != 0
    }

    /// Whether any byte of the page has been decoded.
    pub fn has_code(&self, page: &Page<'_>) -> bool {
        granules(page) != 0
    }

    /// vCPU `cpu` is about to make a write entry for the page: false when it must not.
    pub fn admit_writer(&self, cpu: u32, page: &Page<'_>, physical: u64) -> bool {
        if self.mailboxes.len() > 1 {
            let group = 1 << (cpu % 8);
            *self.writers().entry(physical / PAGE).or_insert(0) |= group;
        }
        granules(page) == 0
    }

    /// Marks `length` bytes at `physical` (within one page) as decoded by vCPU `cpu`, before they are read.
    /// True when this is the page's first code: the vCPU's own write entries must go.
    pub fn mark_code(&self, page: &Page<'_>, physical: u64, length: u64) -> bool {
        let Some(word) = page.log.code_granules().get(page.number) else { return false };
        word.fetch_or(mask(physical, length), Ordering::SeqCst) == 0
    }

    /// Makes all vCPUs but `cpu` drop their write entries for the page, and waits until they have.
    /// Meanwhile `serve` is called, so that two vCPUs that wait for each other go on.
    pub fn exclude_writers(&self, cpu: u32, physical: u64, mut serve: impl FnMut()) {
        let groups = self.writers().remove(&(physical / PAGE)).unwrap_or(0);
        let mut waiting: Vec<(&Mailbox, u32)> = (0_u32..)
            .zip(&self.mailboxes)
            .filter(|(other, _)| *other != cpu && groups >> (other % 8) & 1 == 1)
            .map(|(_, mailbox)| (mailbox, mailbox.ask_drop_writes()))
            .collect();
        let mut turns = 0_u32;
        while !waiting.is_empty() {
            waiting.retain(|(mailbox, ticket)| !mailbox.has_dropped(*ticket));
            serve();
            turns += 1;
            if turns > 200 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Bytes of the page were stored to. Where they had been decoded, every vCPU drops the page's blocks.
    pub fn written(&self, page: &Page<'_>, physical: u64, length: u64) {
        if page.log.is_logging() {
            page.log.mark_page(page.number);
        }
        if granules(page) & mask(physical, length) != 0 {
            self.drop_page(page, physical);
        }
    }

    fn drop_page(&self, page: &Page<'_>, physical: u64) {
        if let Some(word) = page.log.code_granules().get(page.number) {
            word.store(0, Ordering::SeqCst);
        }
        for mailbox in &self.mailboxes {
            mailbox.post(|notes| notes.stale.push(physical / PAGE));
        }
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
                shared.drop_page(&page, at);
            }
            at += PAGE;
        }
    }
}
