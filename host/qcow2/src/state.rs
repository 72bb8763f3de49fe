//! What the lock of an image protects.

use crate::bytes::{put, u64_at};
use crate::entry::{Cluster, Entry};
use crate::header::Header;
use crate::layout::Layout;
use crate::refcount::{Refcounts, Run};
use crate::spec;
use crate::tables::Tables;
use kezhan_block::{BlockError, Result, Span, Storage};
use std::collections::BTreeSet;

/// A region that is being allocated.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// The ticket's token.
    pub token: u64,
    /// The units that become data.
    pub region: Span,
    /// The clusters that nobody else may change, whole.
    pub clusters: Span,
    /// Where the first of these clusters is, or will be.
    pub host: u64,
    /// Whether the clusters are new (or were the image's already).
    pub new: bool,
}

/// Everything in memory.
#[derive(Debug)]
pub struct State {
    /// As in the file after the next flush.
    pub header: Header,
    /// The header differs from the file.
    pub header_dirty: bool,
    /// The active L1 table.
    pub l1: Vec<u64>,
    /// L1 entries that differ from the file.
    pub l1_dirty: BTreeSet<usize>,
    /// L2 tables by host offset.
    pub l2: Tables,
    /// Reference counts.
    pub refcounts: Refcounts,
    /// Regions being allocated.
    pub in_flight: Vec<InFlight>,
    /// The last token given out.
    pub token: u64,
    /// Freed; the file may still refer to them.
    pub garbage: Vec<u64>,
    /// Freed; after the last flush the file refers to them no more.
    pub recyclable: Vec<u64>,
    /// Where the next compressed cluster may start, if the cluster has room.
    pub compressed_end: u64,
}

/// A cluster's entry and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Host offset of the L2 table; 0 when there is none.
    pub table: u64,
    /// Index in the table.
    pub index: usize,
    /// The entry.
    pub entry: Entry,
}

impl State {
    /// The entry for a guest offset.
    ///
    /// # Errors
    /// The storage's; an L1 entry that is not valid.
    pub fn slot(&mut self, file: &dyn Storage, layout: &Layout, offset: u64) -> Result<Slot> {
        let (l1_index, index) = layout.indices(offset);
        let table = self.l2_at(file.name(), layout, l1_index)?;
        if table == 0 {
            return Ok(Slot { table, index, entry: Entry::default() });
        }
        let entry = read_entry(self.l2.get(file, table)?, layout, index);
        Ok(Slot { table, index, entry })
    }

    /// Host offset of the L2 table of an L1 entry, checked; 0 when there is none.
    pub fn l2_at(&self, name: &str, layout: &Layout, l1_index: usize) -> Result<u64> {
        let word = self.l1.get(l1_index).copied().unwrap_or(0);
        let host = word & spec::OFFSET_MASK;
        if !host.is_multiple_of(layout.cluster()) {
            let what = format!("L1 entry {l1_index} ({word:#x}) is not aligned to clusters");
            return Err(BlockError::corrupt(name, what));
        }
        Ok(host)
    }

    /// Makes the L2 table for a guest offset one that may be changed in place: new, or a copy of one that
    /// snapshots share.
    ///
    /// # Errors
    /// As [`State::slot`], and no space.
    pub fn own_l2(&mut self, file: &dyn Storage, layout: &Layout, offset: u64) -> Result<u64> {
        let (l1_index, _) = layout.indices(offset);
        let old = self.l2_at(file.name(), layout, l1_index)?;
        let word = self.l1.get(l1_index).copied().unwrap_or(0);
        if old != 0 && word & spec::COPIED != 0 {
            if self.refcounts.get(file, old / layout.cluster())? == 0 {
                let what = format!("L2 table at {old:#x} has refcount 0");
                return Err(BlockError::corrupt(file.name(), what));
            }
            return Ok(old);
        }
        if l1_index >= self.l1.len() {
            return Err(BlockError::corrupt(file.name(), "the L1 table is too short for the disk"));
        }
        let content = if old == 0 { Vec::new() } else { self.l2.get(file, old)?.to_vec() };
        let (run, _) = self.refcounts.allocate(file, 1)?;
        let new = run.first * layout.cluster();
        self.l2.put(new, content);
        self.l1[l1_index] = new | spec::COPIED;
        self.l1_dirty.insert(l1_index);
        if old != 0 {
            self.garbage.push(old / layout.cluster());
        }
        Ok(new)
    }

    /// Stores an entry in a table that [`State::own_l2`] gave.
    ///
    /// # Errors
    /// The storage's.
    pub fn set_entry(
        &mut self,
        file: &dyn Storage,
        layout: &Layout,
        (table, index): (u64, usize),
        entry: Entry,
    ) -> Result<()> {
        let bytes = self.l2.change(file, table)?;
        write_entry(bytes, layout, index, entry);
        Ok(())
    }

    /// What an entry referred to is no longer referred to by it.
    pub fn drop_clusters(&mut self, layout: &Layout, entry: Entry) {
        self.garbage.extend(clusters_of(layout, entry));
    }

    /// Whether a range touches a cluster that somebody is allocating.
    pub fn is_in_flight(&self, range: Span) -> bool {
        self.in_flight.iter().any(|flight| flight.clusters.overlaps(range))
    }

    /// Takes one reference away from each cluster of a run, after the next flush.
    pub fn free_run(&mut self, run: Run) {
        self.garbage.extend(run.first..run.first + run.count);
    }
}

/// The clusters of the image file that an entry refers to: none when the data is in another file.
pub fn clusters_of(layout: &Layout, entry: Entry) -> std::ops::Range<u64> {
    match entry.cluster(layout) {
        Cluster::Held { .. } if layout.external => 0..0,
        Cluster::Held { host, .. } => host / layout.cluster()..host / layout.cluster() + 1,
        Cluster::Compressed { host, length } => {
            host / layout.cluster()..(host + length - 1) / layout.cluster() + 1
        }
        Cluster::Unallocated | Cluster::Zero => 0..0,
    }
}

/// Entry number `index` of an L2 table.
pub fn read_entry(bytes: &[u8], layout: &Layout, index: usize) -> Entry {
    let at = index * layout.entry() as usize;
    let bitmap = if layout.extended { u64_at(bytes, at + 8) } else { 0 };
    Entry { word: u64_at(bytes, at), bitmap }
}

/// Sets entry number `index` of an L2 table.
pub fn write_entry(bytes: &mut [u8], layout: &Layout, index: usize, entry: Entry) {
    let at = index * layout.entry() as usize;
    put(bytes, at, &entry.word.to_be_bytes());
    if layout.extended {
        put(bytes, at + 8, &entry.bitmap.to_be_bytes());
    }
}
