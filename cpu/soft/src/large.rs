//! Large regions: what translated code may reach at once, as far as large pages lead.
//!
//! Kernels map all RAM with large pages, one behind the other, and heaps often. When a page walk ends at one, its
//! neighbours are looked up as well, and what leads to RAM in one piece is one region: all RAM, often. What is
//! remembered is never more than the TLB may hold for each page of it: pages whose entries have been accessed before
//! (Intel SDM vol. 3A §4.8), RAM without the local APIC's page and without data breakpoints anywhere; for writing, dirty
//! already, without decoded code, and not logged.
//!
//! ```text
//!   2 MiB pages  ├──────────────────┼──────────────────┼──────────────────┤
//!                      code              ▲ linear              code
//!   for reading  ├────────────────────────────────────────────────────────┤
//!   for writing         ├─────────────────────────────────────┤
//! ```
//!
//! A region for writing counts as a writer of all pages around it: those that get code later ask for it, and it falls
//! into two.
//!
//! Rejected: regions of one large page (a kernel hops about in RAM, and each hop is another region); all RAM for writing
//! with the host's page protection around code (a signal for each store there, and a mapping for each page).

use crate::memory::SoftMemory;
use crate::ram::{HostPointer, PAGE, Page};
use crate::tlb::View;
use crate::ways::Tables;
use kezhan_jit::translate::Region;
use kezhan_x86::memory::Intent;
use kezhan_x86::paging::{Paging, Privilege, Translation};
use std::sync::atomic::{AtomicU64, Ordering};

/// What regions are put together from.
const LARGE: u64 = 2 << 20;
const CHUNK_PAGES: usize = (LARGE / PAGE) as usize;
/// Bytes of a region on each side of the page it was found by, at most.
const REACH: u64 = 1 << 30;
const PLACES: usize = 32;
/// Chunks that each access earns which asks for a region, and the most that are saved up: a guest that changes its page
/// tables all the time has small regions, which are found soon.
const EARNED: u32 = 2;
const MOST_CREDIT: u32 = 2048;
/// What a chunk of small pages costs.
const SPLIT_COST: u32 = 64;
/// Chunks of small pages on each side that a region goes on over: where a kernel has split some, to protect parts of its own.
const MOST_SPLITS: u32 = 8;

#[derive(Clone, Copy, Debug)]
struct Known {
    region: Region,
    view: View,
    write: bool,
}

/// The regions that are remembered.
#[derive(Debug, Default)]
pub struct LargePages {
    known: [Option<Known>; PLACES],
    next: usize,
    /// How many chunks more may be looked at.
    credit: u32,
}

/// A walk that has ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked {
    pub paging: Paging,
    pub linear: u64,
    pub found: Translation,
    pub intent: Intent,
    pub privilege: Privilege,
}

fn contains(region: &Region, linear: u64) -> bool {
    linear.wrapping_sub(region.start) < region.length
}

impl Known {
    /// What is left of it when the page at `host` is taken out: below and above.
    fn without(self, host: u64) -> [Option<Known>; 2] {
        let offset = host.wrapping_sub(self.region.host);
        if !self.write || offset >= self.region.length {
            return [Some(self), None];
        }
        let part = |from: u64, to: u64| {
            let Region { start, host, .. } = self.region;
            let region = Region { start: start + from, length: to - from, host: host + from };
            (to > from).then_some(Known { region, ..self })
        };
        [part(0, offset), part(offset + PAGE, self.region.length)]
    }
}

impl LargePages {
    /// The region for an access.
    pub fn find(&self, view: View, linear: u64, write: bool) -> Option<Region> {
        let fits = |known: &&Known| {
            known.view == view && known.write == write && contains(&known.region, linear)
        };
        self.known.iter().flatten().find(fits).map(|known| known.region)
    }

    /// Some access was not where its site's region is.
    #[inline(always)]
    pub fn earn(&mut self) {
        self.credit = (self.credit + EARNED).min(MOST_CREDIT);
    }

    /// Whether some chunks more may be looked at; they are paid for.
    fn pay(&mut self, chunks: u32) -> bool {
        let left = self.credit.checked_sub(chunks);
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }

    fn remember(&mut self, known: Known) {
        self.known[self.next] = Some(known);
        self.next = (self.next + 1) % PLACES;
    }

    fn retain(&mut self, stays: impl Fn(&Known) -> bool) {
        for place in &mut self.known {
            *place = place.filter(|known| stays(known));
        }
    }

    /// Forgets all.
    pub fn flush(&mut self) {
        self.known = [None; PLACES];
    }

    /// Forgets those in the lower half of linear memory.
    pub fn flush_lower(&mut self) {
        self.retain(|known| known.region.start >> 63 == 1);
    }

    /// Forgets those with the page.
    pub fn flush_page(&mut self, linear: u64) {
        self.retain(|known| !contains(&known.region, linear));
    }

    /// Takes the page at `host` out of those for writing.
    pub fn flush_writes_to(&mut self, host: HostPointer) {
        for number in 0..PLACES {
            let Some(known) = self.known[number] else { continue };
            let [below, above] = known.without(host.address());
            self.known[number] = below.or(above);
            if let (Some(_), Some(above)) = (below, above) {
                self.remember(above);
            }
        }
    }

    /// Forgets those for writing.
    pub fn flush_writes(&mut self) {
        self.retain(|known| !known.write);
    }
}

impl SoftMemory {
    /// A walk for an access has ended: finds and remembers the region around it, if it is large. Whether there is one.
    pub(crate) fn note_large(&mut self, view: View, walked: &Walked) -> bool {
        let write = walked.intent == Intent::Write;
        if 1 << walked.found.page_bits < LARGE || !self.watch.is_idle() {
            return false;
        }
        if self.large.find(view, walked.linear, write).is_some() {
            return true;
        }
        let page = walked.linear & !(PAGE - 1);
        let Some(host) = self.usable_chunk(walked.found.physical, write) else { return false };
        let host = host.wrapping_add(page & (LARGE - 1));
        if write && self.free_run(walked.found.physical, 1) == 0 {
            return false;
        }
        let below = self.extent(walked, -1);
        let above = self.extent(walked, 1);
        let length = below + PAGE + above;
        let region = Region { start: page - below, length, host: host - below };
        self.large.remember(Known { region, view, write });
        true
    }

    /// Bytes of whole pages beside the walk's page that its region has on one side: -1 below, 1 above.
    fn extent(&mut self, walked: &Walked, side: i64) -> u64 {
        let shared = self.shared.clone();
        let tables = Tables::new(walked.paging, &shared);
        let write = walked.intent == Intent::Write;
        let page = walked.linear & !(PAGE - 1);
        let delta = walked.found.physical.wrapping_sub(walked.linear);
        let (mut length, mut chunk, mut splits) = (0, page & !(LARGE - 1), MOST_SPLITS);
        while length < REACH {
            let next = page.wrapping_add_signed(side * (length + PAGE) as i64);
            if next & !(LARGE - 1) != chunk {
                chunk = next & !(LARGE - 1);
                if !self.large.pay(1) {
                    break;
                }
                let found = self.chunk(&tables, walked, chunk, &mut splits);
                let goes_on = found.filter(|found| {
                    chunk >> 63 == page >> 63
                        && self.is_beside(found.physical, side)
                        && self.usable_chunk(found.physical, write).is_some()
                });
                let Some(found) = goes_on else { break };
                self.tlb.note(chunk, &found);
            }
            let left = PAGE + if side < 0 { next - chunk } else { chunk + LARGE - PAGE - next };
            let run = if write { self.free_run(next.wrapping_add(delta), side) } else { left };
            length += run;
            if run < left {
                break;
            }
        }
        length
    }

    /// Bytes of whole pages from a physical one on, to one side and to the end of its chunk at most, of which nothing has
    /// been decoded.
    fn free_run(&self, physical: u64, side: i64) -> u64 {
        let Some(page) = self.shared.ram.page(physical) else { return 0 };
        let at = (physical % LARGE / PAGE) as usize;
        let words = page.log.code_granules();
        let is_free = |word: &&AtomicU64| word.load(Ordering::SeqCst) == 0;
        let run = if side < 0 {
            let words = words.get(page.number - at..=page.number).unwrap_or_default();
            words.iter().rev().take_while(is_free).count()
        } else {
            let words = words.get(page.number..page.number + CHUNK_PAGES - at).unwrap_or_default();
            words.iter().take_while(is_free).count()
        };
        run as u64 * PAGE
    }

    /// The translation of a chunk, if all of it is where the walk's region would have it. Of those with small pages, `splits`
    /// more are looked at.
    fn chunk(
        &mut self,
        tables: &Tables<'_>,
        walked: &Walked,
        chunk: u64,
        splits: &mut u32,
    ) -> Option<Translation> {
        let delta = walked.found.physical.wrapping_sub(walked.linear);
        let write = walked.intent == Intent::Write;
        let peek = |linear: u64| {
            let found = tables.peek(linear, walked.intent, walked.privilege)?;
            let fits = found.physical == linear.wrapping_add(delta) && (found.writable || !write);
            fits.then_some(found)
        };
        let first = peek(chunk)?;
        if 1 << first.page_bits >= LARGE {
            return Some(first);
        }
        *splits = splits.checked_sub(1).filter(|_| self.large.pay(SPLIT_COST))?;
        let small = (chunk..chunk + LARGE).step_by(PAGE as usize).all(|page| peek(page).is_some());
        small.then_some(Translation { page_bits: LARGE.trailing_zeros(), ..first })
    }

    /// Whether a chunk's RAM is one piece with that of the chunk before it, coming from the other side.
    fn is_beside(&self, physical: u64, side: i64) -> bool {
        let before = physical.wrapping_add_signed(-side * LARGE as i64);
        self.shared.ram.span(physical.min(before), 2 * LARGE).is_some()
    }

    /// The host address of the 2 MiB of RAM around a physical address, if all of them can be in a region.
    fn usable_chunk(&self, physical: u64, write: bool) -> Option<u64> {
        let start = physical & !(LARGE - 1);
        let apic = self.apic.page();
        if apic.is_some_and(|page| page.wrapping_sub(start) < LARGE) {
            return None;
        }
        let first = self.shared.ram.span(start, LARGE)?;
        let may_write = |page: &Page<'_>| {
            page.writable
                && !page.log.is_logging()
                && self.shared.admit_chunk_writer(self.index, page)
        };
        (!write || may_write(&first)).then(|| first.host.address())
    }
}
