//! Is the image consistent? Counts every reference and compares with the refcounts.
//!
//! Fragmentation is counted as QEMU's tool does: clusters of the active tables that do not follow the one
//! before, and every compressed one.

use crate::entry::{Cluster, Entry};
use crate::image::{Qcow2, l1_run, read_l1};
use crate::refcount::Run;
use crate::spec;
use crate::state::{State, clusters_of, read_entry};
use kezhan_block::{Result, Storage};
use std::collections::{HashMap, HashSet};

/// Counts are kept in pieces of so many clusters, so that a sparse image costs little.
const PIECE: u64 = 64;

/// Most messages that a report keeps.
const MESSAGES_MAX: usize = 100;

/// What to mend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Repair {
    /// Nothing.
    #[default]
    None,
    /// Clusters that nobody refers to.
    Leaks,
    /// Everything that can be.
    All,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Clusters in use that nobody refers to: space is lost, nothing else.
    pub leaks: u64,
    /// Contradictions: data is or may become lost.
    pub corruptions: u64,
    /// Places that could not be looked at.
    pub errors: u64,
    /// Leaks that were mended.
    pub leaks_fixed: u64,
    /// Contradictions that were mended.
    pub corruptions_fixed: u64,
    /// Clusters of the guest's disk.
    pub total_clusters: u64,
    /// Those that are allocated.
    pub allocated_clusters: u64,
    /// Those that do not follow the one before in the file.
    pub fragmented_clusters: u64,
    /// Those that are compressed.
    pub compressed_clusters: u64,
    /// End of the last cluster in use.
    pub image_end: u64,
    /// What was found, in words.
    pub messages: Vec<String>,
}

impl CheckReport {
    pub(crate) fn say(&mut self, message: String) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push(message);
        }
    }

    pub(crate) fn corruption(&mut self, message: String) {
        self.corruptions += 1;
        self.say(message);
    }
}

/// How often each cluster is referred to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pieces: HashMap<u64, [u32; PIECE as usize]>,
}

impl Counts {
    pub(crate) fn get(&self, cluster: u64) -> u64 {
        let piece = self.pieces.get(&(cluster / PIECE));
        piece.map_or(0, |piece| u64::from(piece[(cluster % PIECE) as usize]))
    }

    pub(crate) fn add(&mut self, cluster: u64) {
        let piece = self.pieces.entry(cluster / PIECE).or_insert([0; PIECE as usize]);
        let count = &mut piece[(cluster % PIECE) as usize];
        *count = count.saturating_add(1);
    }

    /// The clusters with references, in order.
    pub(crate) fn used(&self) -> Vec<u64> {
        let mut pieces: Vec<u64> = self.pieces.keys().copied().collect();
        pieces.sort_unstable();
        let clusters = pieces.into_iter().flat_map(|piece| piece * PIECE..(piece + 1) * PIECE);
        clusters.filter(|cluster| self.get(*cluster) > 0).collect()
    }
}

/// One walk over everything.
pub(crate) struct Walk<'a> {
    image: &'a Qcow2,
    /// The references found.
    pub(crate) counts: Counts,
    /// What was found.
    pub(crate) report: CheckReport,
    file_clusters: u64,
    next_host: u64,
}

impl Qcow2 {
    /// Whether clusters seem to have been allocated before they were written, so that many of them have no place on
    /// the host yet: more are in use than the host has space for, by a tenth and two.
    ///
    /// # Errors
    /// The storage's; a refcount block that is not valid.
    pub fn is_preallocated(&self) -> Result<bool> {
        let cluster = self.layout.cluster();
        let (clusters, real) = (self.file.size()? / cluster, self.file.occupied()? / cluster);
        let many = (real * 10 / 9).max(real + 2);
        let (mut state, mut used) = (self.state(), 0);
        for index in 0..clusters {
            used += u64::from(state.refcounts.get(&*self.file, index)? != 0);
            if used >= many {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks the image and mends what was asked for. No request may be running.
    ///
    /// # Errors
    /// The storage's; an image so broken that it cannot be walked.
    pub fn check(&self, repair: Repair) -> Result<CheckReport> {
        let walk = self.walk()?;
        if repair == Repair::None {
            return Ok(walk.report);
        }
        self.repair(walk, repair)
    }

    /// Counts all references and compares.
    pub(crate) fn walk(&self) -> Result<Walk<'_>> {
        let mut walk = Walk {
            image: self,
            counts: Counts::default(),
            report: CheckReport::default(),
            // A last cluster may be cut short; the file may end within it.
            file_clusters: self.layout.clusters(self.file.size()?),
            next_host: 0,
        };
        walk.report.total_clusters = self.layout.clusters(self.size_now());
        walk.run()?;
        Ok(walk)
    }
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        let header = self.image.header();
        let layout = self.image.layout;
        self.counts.add(0);
        let l1 = self.image.state().l1.clone();
        self.count_run("L1 table", l1_run(&layout, &header));
        self.tree(&l1, true)?;
        let (snapshots, table_bytes) =
            crate::snapshot::read_table(&*self.image.file, &layout, &header)?;
        for snapshot in &snapshots {
            let count = layout.clusters(u64::from(snapshot.l1_size) * 8);
            let first = snapshot.l1_offset / layout.cluster();
            self.count_run("snapshot's L1 table", Run { first, count });
            let l1 = read_l1(&*self.image.file, &layout, snapshot.l1_offset, snapshot.l1_size)?;
            self.tree(&l1, false)?;
        }
        let first = header.snapshots_offset / layout.cluster();
        self.count_run("snapshot table", Run { first, count: layout.clusters(table_bytes) });
        if let Some(run) = self.image.luks_run(&header) {
            self.count_run("encryption header", run);
        }
        for run in self.image.bitmap_clusters()? {
            self.count_run("bitmap", run);
        }
        self.blocks()?;
        self.compare()?;
        self.copied_flags(&l1)
    }

    fn count_run(&mut self, what: &str, run: Run) {
        if run.first + run.count > self.file_clusters {
            let end = (run.first + run.count) * self.image.layout.cluster();
            self.report.corruption(format!("{what} lies past the end of the file, up to {end:#x}"));
            return;
        }
        (run.first..run.first + run.count).for_each(|cluster| self.counts.add(cluster));
    }

    /// Everything that an L1 table reaches.
    fn tree(&mut self, l1: &[u64], active: bool) -> Result<()> {
        let layout = self.image.layout;
        let mut seen = HashSet::new();
        for (index, word) in l1.iter().enumerate() {
            let table = word & spec::OFFSET_MASK;
            if word & spec::L1_RESERVED != 0 || !table.is_multiple_of(layout.cluster()) {
                self.report.corruption(format!("L1 entry {index} ({word:#x}) is not valid"));
                continue;
            }
            if table == 0 {
                continue;
            }
            let before = self.report.corruptions;
            self.count_run("L2 table", Run { first: table / layout.cluster(), count: 1 });
            if !seen.insert(table) {
                self.report.corruption(format!("L1 entry {index} shares its L2 table {table:#x}"));
            }
            if self.report.corruptions > before {
                continue;
            }
            let l2 = self.image.state().l2.get(&*self.image.file, table)?.to_vec();
            for index in 0..layout.l2_entries() as usize {
                self.entry(read_entry(&l2, &layout, index), active);
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, active: bool) {
        let layout = &self.image.layout;
        if let Some(fault) = entry.fault(layout) {
            self.report.corruption(format!("L2 entry {:#x} {fault}", entry.word));
            return;
        }
        if active {
            self.fragments(entry);
        }
        for cluster in clusters_of(layout, entry) {
            // The last sectors of a compressed cluster may lie past the end: they are padding.
            let padding = matches!(entry.cluster(layout), Cluster::Compressed { .. })
                && cluster == self.file_clusters;
            if cluster >= self.file_clusters && !padding {
                let host = cluster * layout.cluster();
                self.report
                    .corruption(format!("data cluster {host:#x} is past the end of the file"));
                continue;
            }
            self.counts.add(cluster);
        }
    }

    fn fragments(&mut self, entry: Entry) {
        match entry.cluster(&self.image.layout) {
            Cluster::Held { host, .. } => {
                self.report.allocated_clusters += 1;
                if self.next_host != 0 && host != self.next_host {
                    self.report.fragmented_clusters += 1;
                }
                self.next_host = host + self.image.layout.cluster();
            }
            Cluster::Compressed { .. } => {
                self.report.allocated_clusters += 1;
                self.report.compressed_clusters += 1;
                self.report.fragmented_clusters += 1;
            }
            Cluster::Unallocated | Cluster::Zero => {}
        }
    }

    /// The refcount table and its blocks.
    fn blocks(&mut self) -> Result<()> {
        let (table, run) = {
            let state = self.image.state();
            (state.refcounts.table.clone(), state.refcounts.table_at)
        };
        self.count_run("refcount table", run);
        for (index, host) in table.iter().enumerate().filter(|(_, host)| **host != 0) {
            if !host.is_multiple_of(self.image.layout.cluster()) {
                self.report
                    .corruption(format!("refcount block {index} at {host:#x} is not aligned"));
                continue;
            }
            let first = host / self.image.layout.cluster();
            self.count_run("refcount block", Run { first, count: 1 });
            if self.counts.get(first) > 1 {
                self.report
                    .corruption(format!("refcount block {index} at {host:#x} is in use twice"));
            }
        }
        Ok(())
    }

    /// The counts that are stored against those that were found.
    fn compare(&mut self) -> Result<()> {
        let (image, entries) = (self.image, self.image.layout.block_entries());
        let mut state = image.state();
        let blocks = state.refcounts.table.len() as u64;
        let mut end = 0;
        for cluster in self.counts.used() {
            end = cluster + 1;
            if cluster / entries >= blocks
                || state.refcounts.table[(cluster / entries) as usize] == 0
            {
                self.report.corruption(format!("cluster {cluster} is in use but has refcount 0"));
            }
        }
        for index in 0..blocks {
            let host = state.refcounts.table[index as usize];
            let valid = host.is_multiple_of(image.layout.cluster())
                && host / image.layout.cluster() < self.file_clusters;
            if host == 0 || !valid {
                continue;
            }
            for cluster in index * entries..(index + 1) * entries {
                let stored = state.refcounts.get(&*image.file, cluster)?;
                self.compare_one(cluster, stored);
                if stored > 0 {
                    end = end.max(cluster + 1);
                }
            }
        }
        self.report.image_end = end * image.layout.cluster();
        Ok(())
    }

    fn compare_one(&mut self, cluster: u64, stored: u64) {
        let found = self.counts.get(cluster);
        if stored > found {
            self.report.leaks += 1;
            self.report
                .say(format!("leaked cluster {cluster}: refcount {stored}, references {found}"));
        } else if stored < found {
            self.report.corruption(format!(
                "cluster {cluster}: refcount {stored}, but references {found}"
            ));
        }
    }

    /// The "copied" flags of the active tables.
    fn copied_flags(&mut self, l1: &[u64]) -> Result<()> {
        let (image, layout) = (self.image, self.image.layout);
        let size = layout.cluster();
        let mut state = image.state();
        let mut seen = HashSet::new();
        for word in l1 {
            let table = word & spec::OFFSET_MASK;
            let valid = table.is_multiple_of(size) && table / size < self.file_clusters;
            if table == 0 || !valid || !seen.insert(table) {
                continue;
            }
            self.one_flag(&mut state, "L2 table", table, word & spec::COPIED != 0)?;
            let l2 = state.l2.get(&*image.file, table)?.to_vec();
            for index in 0..layout.l2_entries() as usize {
                let entry = read_entry(&l2, &layout, index);
                if let Cluster::Held { host, copied } = entry.cluster(&layout)
                    && !layout.external
                    && entry.fault(&layout).is_none()
                {
                    self.one_flag(&mut state, "data cluster", host, copied)?;
                }
            }
        }
        Ok(())
    }

    fn one_flag(&mut self, state: &mut State, what: &str, host: u64, copied: bool) -> Result<()> {
        let file: &dyn Storage = &*self.image.file;
        let count = state.refcounts.get(file, host / self.image.layout.cluster())?;
        if copied != (count == 1) {
            let flag = if copied { "marked" } else { "not marked" };
            let message = format!("{what} {host:#x} is {flag} as copied but has refcount {count}");
            self.report.corruption(message);
        }
        Ok(())
    }
}
