//! Large pages: regions of up to 2 MiB that translated code may reach at once.
//!
//! Kernels map all RAM with large pages, and heaps often. A few of them are remembered, found when a page walk
//! ends at one. What is remembered is never more than the TLB may hold for each page of it: RAM in one
//! piece, without the local APIC's page; for writing, dirty already, without decoded code, and not logged.
//!
//! ```text
//!   2 MiB page   ├──────────┬──┬───────────────────┬──┬────┤
//!                           code    ▲ linear       code
//!   for writing                 ├───────────────────┤
//! ```
//!
//! A region for writing counts as a writer of all pages around it: those that get code later ask for it.

use crate::memory::SoftMemory;
use crate::ram::{HostPointer, PAGE};
use crate::tlb::View;
use kezhan_jit::translate::Region;
use kezhan_x86::paging::Translation;

/// Bytes of a region at most.
const LARGE: u64 = 2 << 20;
const PLACES: usize = 16;

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
}

fn contains(region: &Region, linear: u64) -> bool {
    linear.wrapping_sub(region.start) < region.length
}

impl LargePages {
    /// The region for an access.
    pub fn find(&self, view: View, linear: u64, write: bool) -> Option<Region> {
        let fits = |known: &&Known| {
            known.view == view && known.write == write && contains(&known.region, linear)
        };
        self.known.iter().flatten().find(fits).map(|known| known.region)
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

    /// Forgets those for writing with the page at `host`.
    pub fn flush_writes_to(&mut self, host: HostPointer) {
        let inside = |region: &Region| host.address().wrapping_sub(region.host) < region.length;
        self.retain(|known| !known.write || !inside(&known.region));
    }

    /// Forgets those for writing.
    pub fn flush_writes(&mut self) {
        self.retain(|known| !known.write);
    }
}

impl SoftMemory {
    /// A walk for an access that is allowed has ended at `found`: remembers its region, if it is large.
    pub(crate) fn note_large(&mut self, view: View, linear: u64, found: &Translation, write: bool) {
        if (1 << found.page_bits) < LARGE || self.large.find(view, linear, write).is_some() {
            return;
        }
        let (start, physical) = (linear & !(LARGE - 1), found.physical & !(LARGE - 1));
        let apic = self.apic.page();
        if apic.is_some_and(|page| page.wrapping_sub(physical) < LARGE) {
            return;
        }
        let Some(first) = self.shared.ram.span(physical, LARGE) else { return };
        let here = ((linear - start) / PAGE) as usize;
        let pages = (LARGE / PAGE) as usize;
        let (from, to) = if write {
            let granules = first.log.code_granules();
            let free = |page: &usize| {
                let word = granules.get(first.number + page);
                word.is_some_and(|word| word.load(std::sync::atomic::Ordering::SeqCst) == 0)
            };
            let allowed = first.writable
                && found.writable
                && !first.log.is_logging()
                && self.shared.admit_chunk_writer(self.index, &first)
                && free(&here);
            if !allowed {
                return;
            }
            let from = (0..here).rev().take_while(free).last().unwrap_or(here);
            (from, (here..pages).take_while(free).last().unwrap_or(here) + 1)
        } else {
            (0, pages)
        };
        let region = Region {
            start: start + from as u64 * PAGE,
            length: (to - from) as u64 * PAGE,
            host: first.host.address() + from as u64 * PAGE,
        };
        self.large.remember(Known { region, view, write });
    }
}
