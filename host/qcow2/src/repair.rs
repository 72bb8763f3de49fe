//! Makes an image consistent again: refcounts are made what the references say.
//!
//! References are believed, counts are not. Where blocks of counts are themselves out of place, all counts
//! are written anew, to the end of the file. Entries that point nowhere read as zeroes afterwards.

use crate::check::{CheckReport, Repair, Walk};
use crate::entry::Entry;
use crate::image::Qcow2;
use crate::refcount::{Moved, Run};
use crate::spec;
use crate::state::{clusters_of, read_entry};
use crate::tables::Tables;
use kezhan_block::{BlockError, Result};
use std::collections::HashSet;

impl Qcow2 {
    /// Mends what a walk found, and walks again.
    pub(crate) fn repair<'a>(&'a self, mut found: Walk<'a>, repair: Repair) -> Result<CheckReport> {
        let (leaks, corruptions) = (found.report.leaks, found.report.corruptions);
        if leaks == 0 && corruptions == 0 {
            return Ok(found.report);
        }
        if !self.writable {
            return Err(BlockError::ReadOnly { name: self.name().to_owned() });
        }
        if repair == Repair::All && corruptions > 0 {
            if self.drop_bad_entries()? > 0 {
                found = self.walk()?;
            }
            if self.counts_misplaced()? {
                self.rebuild_counts(&found)?;
                found = self.walk()?;
            }
        }
        self.correct_counts(&found, repair)?;
        if repair == Repair::All {
            self.refresh_copied()?;
            self.state().header.incompatible &= !(spec::DIRTY | spec::CORRUPT);
            self.state().header_dirty = true;
        }
        self.flush_metadata()?;
        let messages = std::mem::take(&mut found.report.messages);
        let mut after = self.walk()?.report;
        after.leaks_fixed = leaks.saturating_sub(after.leaks);
        after.corruptions_fixed = corruptions.saturating_sub(after.corruptions);
        after.messages = messages;
        Ok(after)
    }

    /// Sets each count that differs from the references found.
    fn correct_counts(&self, found: &Walk<'_>, repair: Repair) -> Result<()> {
        let mut state = self.state();
        for cluster in found.counts.used() {
            let references = found.counts.get(cluster);
            if state.refcounts.get(&*self.file, cluster)? < references && repair == Repair::All {
                state.refcounts.set(&*self.file, cluster, references)?;
            }
        }
        let entries = self.layout.block_entries();
        for index in 0..state.refcounts.table.len() as u64 {
            if state.refcounts.table[index as usize] == 0 {
                continue;
            }
            for cluster in index * entries..(index + 1) * entries {
                let references = found.counts.get(cluster);
                if state.refcounts.get(&*self.file, cluster)? > references {
                    state.refcounts.set(&*self.file, cluster, references)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a refcount block lies where none can be: past the end, unaligned, or on something else.
    fn counts_misplaced(&self) -> Result<bool> {
        let end = self.layout.clusters(self.file.size()?);
        let mut state = self.state();
        let table = state.refcounts.table.clone();
        let mut seen = HashSet::new();
        let size = self.layout.cluster();
        let bad = |host: &u64| {
            !host.is_multiple_of(size)
                || host / size >= end
                || state.refcounts.is_reserved(host / size).is_some()
                || !seen.insert(*host)
        };
        if table.iter().filter(|host| **host != 0).any(bad) {
            return Ok(true);
        }
        // A block on a table or on data is in use twice.
        let l1 = std::mem::take(&mut state.l1);
        let on_table = l1.iter().any(|word| seen.contains(&(word & spec::OFFSET_MASK)));
        state.l1 = l1;
        drop(state);
        Ok(on_table || self.data_on(&seen)?)
    }

    fn data_on(&self, blocks: &HashSet<u64>) -> Result<bool> {
        let mut hit = false;
        self.each_entry(|entry| {
            let size = self.layout.cluster();
            hit |=
                clusters_of(&self.layout, entry).any(|cluster| blocks.contains(&(cluster * size)));
            None
        })?;
        Ok(hit)
    }

    /// New refcount blocks and a new table, past everything that is in use.
    fn rebuild_counts(&self, found: &Walk<'_>) -> Result<()> {
        let mut state = self.state();
        let end = found.counts.used().last().map_or(1, |last| last + 1);
        let old = state.refcounts.table_at;
        state.refcounts.table.fill(0);
        state.refcounts.blocks = Tables::new(self.layout.cluster(), 16 << 20);
        state.refcounts.start_at(end.max(self.layout.clusters(self.file.size()?)));
        // Nothing may be put on what is in use before its count is set.
        let used: Vec<u64> = found.counts.used();
        let runs = runs(&used);
        state.refcounts.set_occupied(&runs);
        for cluster in used {
            state.refcounts.set(&*self.file, cluster, found.counts.get(cluster).max(1))?;
        }
        let clusters = self.layout.clusters(state.refcounts.table.len() as u64 * 8);
        let run = state.refcounts.allocate_exactly(&*self.file, clusters)?;
        if state.refcounts.moved.is_none() {
            let padded = (clusters * self.layout.cluster() / 8) as usize;
            state.refcounts.table.resize(padded, 0);
            state.refcounts.table_at = run;
            state.refcounts.moved = Some(Moved { old });
        }
        state.refcounts.set_occupied(&[]);
        drop(state);
        self.flush_metadata()?;
        // The old tables are not freed one by one: the comparison that follows finds them leaked.
        self.state().recyclable.clear();
        Ok(())
    }

    /// Entries that are not valid or point past the end of the file read as zeroes from now on.
    fn drop_bad_entries(&self) -> Result<u64> {
        let end = self.layout.clusters(self.file.size()?);
        let size = self.layout.cluster();
        let mut dropped = 0;
        {
            let mut state = self.state();
            for index in 0..state.l1.len() {
                let word = state.l1[index];
                let table = word & spec::OFFSET_MASK;
                if word & spec::L1_RESERVED != 0
                    || !table.is_multiple_of(size)
                    || table / size >= end
                {
                    state.l1[index] = 0;
                    state.l1_dirty.insert(index);
                    dropped += 1;
                }
            }
        }
        let zero = if self.layout.v3 { Entry::zero(&self.layout) } else { Entry::default() };
        self.each_entry(|entry| {
            let past = clusters_of(&self.layout, entry).any(|cluster| cluster > end)
                || (clusters_of(&self.layout, entry).start >= end
                    && !clusters_of(&self.layout, entry).is_empty());
            (entry.fault(&self.layout).is_some() || past).then(|| {
                dropped += 1;
                zero
            })
        })?;
        Ok(dropped)
    }

    /// Shows each entry of the active tables and stores what comes back.
    fn each_entry(&self, mut change: impl FnMut(Entry) -> Option<Entry>) -> Result<()> {
        let mut state = self.state();
        let mut seen = HashSet::new();
        for index in 0..state.l1.len() {
            let table = state.l1[index] & spec::OFFSET_MASK;
            if table == 0 || !table.is_multiple_of(self.layout.cluster()) || !seen.insert(table) {
                continue;
            }
            let l2 = state.l2.get(&*self.file, table)?.to_vec();
            for index in 0..self.layout.l2_entries() as usize {
                let old = read_entry(&l2, &self.layout, index);
                if let Some(new) = change(old) {
                    state.set_entry(&*self.file, &self.layout, (table, index), new)?;
                }
            }
        }
        Ok(())
    }
}

fn runs(clusters: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for cluster in clusters {
        match runs.last_mut() {
            Some(run) if run.first + run.count == *cluster => run.count += 1,
            _ => runs.push(Run { first: *cluster, count: 1 }),
        }
    }
    runs
}
