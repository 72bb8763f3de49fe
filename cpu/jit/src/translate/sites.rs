//! Which sites reach which page, so that a page can be taken from them.
//!
//! Sites are found by the linear page that their region begins at, those that write also by its host page; those whose
//! region is more than a page by that region.
//!
//! ```text
//!   look-up ──► journal ──► waiting ──► lists by hash
//!                            lower half │ void when the address space changes, listed when a page of it goes
//!                            upper half │ listed when a page of it goes
//! ```
//!
//! Regions change in look-ups of translated code, which note sites in a journal ([`crate::area`]). Most of them need no
//! list ever: those of programs are void at the next switch of address spaces, those of the kernel are seldom asked for.
//! So sites wait by the half of linear memory that they reach, and are listed when a page is looked for there. A site that
//! has moved on since stays in its list until somebody looks there.

use crate::area::{Area, Site};
use std::collections::HashMap;

const BUCKETS: usize = 1024;
/// Entries of a bucket from which on those that have moved on are removed whenever their number has doubled.
const CROWDED: usize = 64;

/// Lists of sites by the hash of a page.
#[derive(Debug)]
struct Lists {
    buckets: Vec<Vec<u32>>,
    /// Buckets that are not empty, and perhaps some that are.
    touched: Vec<u16>,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists { buckets: vec![Vec::new(); BUCKETS], touched: Vec::new() }
    }
}

/// How a page is named: linear or host.
type Key = fn(&Site) -> u64;

fn linear(site: &Site) -> u64 {
    site.lo & !(PAGE - 1)
}

fn host(site: &Site) -> u64 {
    linear(site).wrapping_add(site.delta)
}

fn bucket_of(page: u64) -> usize {
    let page = page >> 12;
    (page ^ page >> 10) as usize & (BUCKETS - 1)
}

fn is_void(site: &Site) -> bool {
    site.limit == 0 && site.host == 0
}

impl Lists {
    fn add(&mut self, area: &mut Area, number: u32, key: Key) {
        let index = bucket_of(key(area.site(number)));
        let bucket = &mut self.buckets[index];
        if bucket.iter().rev().take(4).any(|other| *other == number) {
            return;
        }
        if bucket.is_empty() {
            self.touched.push(index as u16);
        }
        bucket.push(number);
        if bucket.len() >= CROWDED && bucket.len().is_power_of_two() {
            bucket.sort_unstable();
            bucket.dedup();
            bucket.retain(|number| {
                let site = area.site(*number);
                !is_void(site) && bucket_of(key(site)) == index
            });
        }
    }

    /// Voids those of one page.
    fn empty(&mut self, area: &mut Area, page: u64, key: Key) {
        let index = bucket_of(page);
        self.buckets[index].retain(|number| {
            let site = area.site(*number);
            if key(site) == page {
                site.make_void();
            }
            !is_void(site) && bucket_of(key(site)) == index
        });
    }

    /// Voids all; how many.
    fn empty_all(&mut self, area: &mut Area) -> usize {
        let mut count = 0;
        for index in self.touched.drain(..) {
            let bucket = &mut self.buckets[usize::from(index)];
            count += bucket.len();
            for number in bucket.drain(..) {
                area.site(number).make_void();
            }
        }
        count
    }
}

/// All lists of a vCPU.
#[derive(Debug, Default)]
pub(super) struct SiteLists {
    /// By linear page, for each half of linear memory.
    linear: [Lists; 2],
    /// Those that write, by host page.
    writers: Lists,
    /// Those whose region is more than a page, and perhaps some that were, by their region, for each half: a page of a
    /// program is not looked for among the kernel's.
    large: [HashMap<Large, Vec<u32>>; 2],
    /// Those that wait to be listed, each once, by the half of linear memory in which they were then.
    unlisted: [Vec<u32>; 2],
}

/// What says in [`Site::journaled`] that a site waits so.
fn waits(half: usize) -> u8 {
    2 << half
}

const PAGE: u64 = 4096;
/// Sites of a large region after which the list is gone through, whenever their number has doubled.
const MANY: usize = 1024;

/// A region of more than a page, for reading or for writing: its linear and its host address, and what sites say of its
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Large {
    write: bool,
    linear: u64,
    host: u64,
    limit: u64,
}

impl Large {
    fn of(site: &Site, write: bool) -> Large {
        Large { write, linear: linear(site), host: host(site), limit: site.limits[0] }
    }

    /// Whether a page may be in it that is so far from its start.
    fn reaches(self, distance: u64) -> bool {
        distance < self.limit + PAGE
    }
}

/// Whether the region is more than a page.
fn is_large(site: &Site) -> bool {
    site.limit > PAGE
}

impl SiteLists {
    /// Has the sites whose region has changed wait to be listed.
    fn take_journal(&mut self, area: &mut Area) {
        for n in 0..area.take_journal() {
            let number = area.journaled(n);
            let site = area.site(number);
            let half = (site.lo >> 63) as usize;
            if !is_void(site) && site.journaled & waits(half) == 0 {
                site.journaled |= waits(half);
                self.unlisted[half].push(number);
            }
        }
    }

    /// Lists the sites that wait in a half of linear memory. Every look for a page there begins with this.
    fn catch_up(&mut self, area: &mut Area, writes: &[bool], half: usize) {
        self.take_journal(area);
        for number in std::mem::take(&mut self.unlisted[half]) {
            let site = area.site(number);
            site.journaled &= !waits(half);
            if !is_void(site) {
                let write = writes.get(number as usize).copied().unwrap_or(true);
                self.add(area, number, write);
            }
        }
    }

    fn add(&mut self, area: &mut Area, number: u32, write: bool) {
        if is_large(area.site(number)) {
            return self.add_large(area, number, write);
        }
        let half = (area.site(number).lo >> 63) as usize;
        self.linear[half].add(area, number, linear);
        if write {
            self.writers.add(area, number, host);
        }
    }

    fn add_large(&mut self, area: &mut Area, number: u32, write: bool) {
        let region = Large::of(area.site(number), write);
        let list = self.large[(region.linear >> 63) as usize].entry(region).or_default();
        if list.iter().rev().take(4).any(|other| *other == number) {
            return;
        }
        list.push(number);
        if list.len() >= MANY && list.len().is_power_of_two() {
            list.sort_unstable();
            list.dedup();
            list.retain(|number| Large::of(area.site(*number), write) == region);
        }
    }

    /// Voids those of some large regions in a half; how many.
    fn empty_large(
        &mut self,
        area: &mut Area,
        half: usize,
        which: impl Fn(&Large) -> bool,
    ) -> usize {
        let mut count = 0;
        for (region, list) in self.large[half].extract_if(|region, _| which(region)) {
            for number in list {
                let site = area.site(number);
                if Large::of(site, region.write) == region {
                    site.make_void();
                    count += 1;
                }
            }
        }
        count
    }

    /// Nothing reaches the linear page from now on.
    pub fn empty_page(&mut self, area: &mut Area, writes: &[bool], page: u64) {
        let half = (page >> 63) as usize;
        self.catch_up(area, writes, half);
        self.empty_large(area, half, |it| it.reaches(page.wrapping_sub(it.linear)));
        self.linear[half].empty(area, page, linear);
    }

    /// Nothing writes to the host page from now on.
    pub fn empty_writers(&mut self, area: &mut Area, writes: &[bool], page: u64) {
        self.catch_up(area, writes, 0);
        self.catch_up(area, writes, 1);
        for half in 0..2 {
            self.empty_large(area, half, |it| it.write && it.reaches(page.wrapping_sub(it.host)));
        }
        self.writers.empty(area, page, host);
    }

    /// Nothing writes from now on.
    pub fn empty_all_writers(&mut self, area: &mut Area, writes: &[bool]) {
        self.catch_up(area, writes, 0);
        self.catch_up(area, writes, 1);
        for half in 0..2 {
            self.empty_large(area, half, |it| it.write);
        }
        self.writers.empty_all(area);
    }

    /// Nothing reaches a half of linear memory from now on; how many sites did. Those that write stay in their lists
    /// until somebody looks there.
    pub fn empty_half(&mut self, area: &mut Area, half: usize) -> usize {
        let half = half & 1;
        self.take_journal(area);
        let mut count = 0;
        for number in self.unlisted[half].drain(..) {
            let site = area.site(number);
            site.journaled &= !waits(half);
            // Where it has another region since, it waits for that.
            if (site.lo >> 63) as usize == half && !is_void(site) {
                site.make_void();
                count += 1;
            }
        }
        count += self.empty_large(area, half, |_| true);
        count + self.linear[half].empty_all(area)
    }
}
