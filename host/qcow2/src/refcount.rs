//! Reference counts (qcow2 specification, "Reference counts"): which clusters of the file are in use.
//!
//! ```text
//!   refcount table (contiguous clusters, in memory as `table`)
//!      └─ refcount block, one cluster: a count for each of `block_entries` clusters of the file
//! ```
//!
//! A missing block means that none of its clusters is in use. A block that is needed is put into the first
//! cluster that it describes, so it counts itself. A table that is too small is moved: it grows in memory
//! at once, gets new clusters, and the flush writes it there before the header points to it.

use crate::bytes::{put, u16_at, u32_at, u64_at};
use crate::layout::Layout;
use crate::spec;
use crate::tables::Tables;
use kezhan_block::{BlockError, HostOffset, Result, Storage};
use std::collections::{BTreeMap, BTreeSet};

/// Memory for refcount blocks before clean ones are dropped.
const CACHE_BYTES: usize = 16 << 20;

/// A run of clusters of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Number of the first cluster.
    pub first: u64,
    /// How many; not 0.
    pub count: u64,
}

/// Where the table was before it moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The clusters that are free once the header points to the new place.
    pub old: Run,
}

/// The reference counts of an image.
#[derive(Debug)]
pub struct Refcounts {
    name: String,
    layout: Layout,
    /// Host offsets of the blocks; 0 is none.
    pub table: Vec<u64>,
    /// Where the table is, or will be after the next flush.
    pub table_at: Run,
    /// Set until the header points to `table_at`.
    pub moved: Option<Moved>,
    /// Entries that differ from the file.
    pub table_dirty: BTreeSet<usize>,
    /// The blocks.
    pub blocks: Tables,
    /// No cluster below it is free, as far as known.
    hint: u64,
    /// From here on the file was never written.
    fresh_from: u64,
    /// Clusters that must never be handed out, whatever the counts say.
    reserved: Vec<Run>,
    /// Likewise while counts are written anew: first cluster and length of runs that do not overlap.
    occupied: BTreeMap<u64, u64>,
}

impl Refcounts {
    /// Reads the table.
    ///
    /// # Errors
    /// The storage's; a table that is not valid.
    pub fn open(file: &dyn Storage, layout: Layout, at: u64, clusters: u32) -> Result<Refcounts> {
        let name = file.name();
        let bytes = u64::from(clusters) * layout.cluster();
        if !at.is_multiple_of(layout.cluster()) || bytes > spec::REFTABLE_BYTES_MAX {
            let what = format!("refcount table of {bytes} bytes at {at:#x} is not valid");
            return Err(BlockError::corrupt(name, what));
        }
        let mut table = vec![0; bytes as usize];
        file.read_at(HostOffset(at), &mut table)?;
        let table_at = Run { first: at / layout.cluster(), count: u64::from(clusters) };
        Ok(Refcounts {
            name: name.to_owned(),
            layout,
            table: crate::bytes::words(&table),
            table_at,
            moved: None,
            table_dirty: BTreeSet::new(),
            blocks: Tables::new(layout.cluster(), CACHE_BYTES),
            hint: 0,
            fresh_from: layout.clusters(file.size()?),
            reserved: vec![Run { first: 0, count: 1 }, table_at],
            occupied: BTreeMap::new(),
        })
    }

    /// Never hands out these clusters.
    pub fn reserve(&mut self, run: Run) {
        self.reserved.push(run);
    }

    /// These clusters may be handed out again.
    pub fn unreserve(&mut self, run: Run) {
        self.reserved.retain(|r| *r != run);
    }

    /// While counts are written anew: what is in use, in runs that do not overlap.
    pub fn set_occupied(&mut self, runs: &[Run]) {
        self.occupied = runs.iter().map(|run| (run.first, run.count)).collect();
    }

    /// From here on the file was never written, and nothing below is to be handed out next.
    pub fn start_at(&mut self, cluster: u64) {
        self.hint = cluster;
        self.fresh_from = cluster;
    }

    /// The count of a cluster.
    ///
    /// # Errors
    /// The storage's; a block that is not valid.
    pub fn get(&mut self, file: &dyn Storage, cluster: u64) -> Result<u64> {
        let entries = self.layout.block_entries();
        match self.block(cluster / entries)? {
            None => Ok(0),
            Some(host) => {
                let bytes = self.blocks.get(file, host)?;
                Ok(count_at(bytes, self.layout.refcount_order, cluster % entries))
            }
        }
    }

    /// Changes the count of a cluster; makes its block if need be.
    ///
    /// # Errors
    /// The storage's; a count that is too large for the image.
    pub fn set(&mut self, file: &dyn Storage, cluster: u64, count: u64) -> Result<()> {
        if count > self.layout.refcount_max() {
            let what = format!(
                "cluster {cluster} would need refcount {count}, above its limit of {}; delete snapshots or convert with refcount_bits=64",
                self.layout.refcount_max()
            );
            return Err(BlockError::unsupported(&self.name, what));
        }
        let entries = self.layout.block_entries();
        let host = match self.block(cluster / entries)? {
            Some(host) => host,
            None if count == 0 => return Ok(()),
            None => self.make_block(file, cluster / entries)?,
        };
        let order = self.layout.refcount_order;
        set_count(self.blocks.change(file, host)?, order, cluster % entries, count);
        if count == 0 {
            self.hint = self.hint.min(cluster);
        }
        Ok(())
    }

    /// One more reference to a cluster.
    ///
    /// # Errors
    /// As [`Refcounts::set`].
    pub fn increment(&mut self, file: &dyn Storage, cluster: u64) -> Result<u64> {
        let count = self.get(file, cluster)?.saturating_add(1);
        self.set(file, cluster, count)?;
        Ok(count)
    }

    /// One reference less.
    ///
    /// # Errors
    /// As [`Refcounts::set`]; a count that is 0 already.
    pub fn decrement(&mut self, file: &dyn Storage, cluster: u64) -> Result<u64> {
        let count = self.get(file, cluster)?;
        let Some(less) = count.checked_sub(1) else {
            let what = format!("cluster {cluster} is in use but has refcount 0");
            return Err(BlockError::corrupt(&self.name, what));
        };
        self.set(file, cluster, less)?;
        Ok(less)
    }

    /// Takes 1 to `wanted` free neighbouring clusters. The flag says that they were never used.
    ///
    /// # Errors
    /// The storage's; an image that is full.
    pub fn allocate(&mut self, file: &dyn Storage, wanted: u64) -> Result<(Run, bool)> {
        let run = self.find(file, self.hint, wanted, 1)?;
        self.hint = run.first + run.count;
        self.take(file, run)
    }

    /// Takes exactly `count` neighbouring clusters, for a table.
    ///
    /// # Errors
    /// As [`Refcounts::allocate`].
    pub fn allocate_exactly(&mut self, file: &dyn Storage, count: u64) -> Result<Run> {
        let run = self.find(file, self.hint, count, count)?;
        Ok(self.take(file, run)?.0)
    }

    /// Whether a cluster is free, for growing into it.
    ///
    /// # Errors
    /// The storage's.
    pub fn take_if_free(&mut self, file: &dyn Storage, cluster: u64) -> Result<bool> {
        if self.get(file, cluster)? != 0 || self.is_reserved(cluster).is_some() {
            return Ok(false);
        }
        if self.block(cluster / self.layout.block_entries())?.is_none() {
            return Ok(false);
        }
        self.take(file, Run { first: cluster, count: 1 })?;
        Ok(true)
    }

    fn take(&mut self, file: &dyn Storage, run: Run) -> Result<(Run, bool)> {
        for cluster in run.first..run.first + run.count {
            self.set(file, cluster, 1)?;
        }
        let fresh = run.first >= self.fresh_from && file.grows_with_zeroes();
        self.fresh_from = self.fresh_from.max(run.first + run.count);
        Ok((run, fresh))
    }

    /// The first run of at least `least` and at most `most` free clusters at or above `from`.
    fn find(&mut self, file: &dyn Storage, from: u64, most: u64, least: u64) -> Result<Run> {
        let mut run = Run { first: from, count: 0 };
        loop {
            let next = run.first + run.count;
            if run.count == most {
                return Ok(run);
            }
            let free = self.is_free_with_block(file, next)?;
            if free {
                run.count += 1;
            } else if run.count >= least {
                return Ok(run);
            } else {
                run = Run { first: self.skip_used(file, next)?, count: 0 };
            }
        }
    }

    /// Whether a cluster is free, its block made first so that the block itself is not what is found.
    fn is_free_with_block(&mut self, file: &dyn Storage, cluster: u64) -> Result<bool> {
        let entries = self.layout.block_entries();
        if self.block(cluster / entries)?.is_none() {
            self.make_block(file, cluster / entries)?;
        }
        Ok(self.get(file, cluster)? == 0 && self.is_reserved(cluster).is_none())
    }

    /// The next cluster that is worth a look after one that is used.
    fn skip_used(&mut self, file: &dyn Storage, used: u64) -> Result<u64> {
        if let Some(run) = self.is_reserved(used) {
            return Ok(run.first + run.count);
        }
        let entries = self.layout.block_entries();
        let order = self.layout.refcount_order;
        let Some(host) = self.block(used / entries)? else { return Ok(used) };
        let bytes = self.blocks.get(file, host)?;
        let base = used - used % entries;
        let free = (used % entries..entries).find(|i| count_at(bytes, order, *i) == 0);
        Ok(base + free.unwrap_or(entries))
    }

    /// The reserved run that a cluster is in, if any.
    pub fn is_reserved(&self, cluster: u64) -> Option<Run> {
        let within = |run: &&Run| (run.first..run.first + run.count).contains(&cluster);
        let occupied = || {
            let (first, count) = self.occupied.range(..=cluster).next_back()?;
            Some(Run { first: *first, count: *count }).filter(|run| within(&run))
        };
        self.reserved.iter().find(within).copied().or_else(occupied)
    }

    /// The host offset of a block, checked.
    fn block(&self, index: u64) -> Result<Option<u64>> {
        let entry = self.table.get(index as usize).copied().unwrap_or(0);
        let host = entry & spec::REFTABLE_OFFSET_MASK;
        if !host.is_multiple_of(self.layout.cluster()) || entry != host {
            let what = format!("refcount table entry {index} ({entry:#x}) is not valid");
            return Err(BlockError::corrupt(&self.name, what));
        }
        Ok((host != 0).then_some(host))
    }

    /// Makes a block in the first cluster that it describes.
    fn make_block(&mut self, file: &dyn Storage, index: u64) -> Result<u64> {
        if index >= self.table.len() as u64 {
            self.grow_table(file, index)?;
            // The table's own clusters may have brought the block into being.
            if let Some(host) = self.block(index)? {
                return Ok(host);
            }
        }
        let mut cluster = index * self.layout.block_entries();
        while let Some(run) = self.is_reserved(cluster) {
            cluster = run.first + run.count;
        }
        if cluster / self.layout.block_entries() != index {
            let what = "its tables leave no room for refcounts";
            return Err(BlockError::corrupt(&self.name, what));
        }
        let host = cluster * self.layout.cluster();
        let mut bytes = vec![0; self.layout.cluster() as usize];
        let within = cluster % self.layout.block_entries();
        set_count(&mut bytes, self.layout.refcount_order, within, 1);
        self.blocks.put(host, bytes);
        self.table[index as usize] = host;
        self.table_dirty.insert(index as usize);
        self.fresh_from = self.fresh_from.max(cluster + 1);
        Ok(host)
    }

    /// Gives the table half as much again, at least to `index`, at a new place.
    fn grow_table(&mut self, file: &dyn Storage, index: u64) -> Result<()> {
        let per_cluster = self.layout.cluster() / 8;
        let entries = (index + 1).max(self.table.len() as u64 * 3 / 2);
        let clusters = entries.div_ceil(per_cluster) + 1;
        if clusters * self.layout.cluster() > spec::REFTABLE_BYTES_MAX {
            let what = "has reached the largest size that its cluster size allows; convert it to larger clusters";
            return Err(BlockError::unsupported(&self.name, what));
        }
        self.table.resize((clusters * per_cluster) as usize, 0);
        // Above everything in use, so that the clusters are surely free and neighbours.
        let first = (index * self.layout.block_entries()).max(self.fresh_from);
        let run = self.find(file, first, clusters, clusters)?;
        self.take(file, run)?;
        let old = self.moved.map_or(self.table_at, |moved| moved.old);
        self.unreserve(self.table_at);
        if self.moved.is_some() {
            // Moved twice before a flush: nothing ever pointed to the place in between.
            for cluster in self.table_at.first..self.table_at.first + self.table_at.count {
                self.set(file, cluster, 0)?;
            }
        }
        self.reserved.push(old);
        self.reserved.push(run);
        self.table_at = run;
        self.moved = Some(Moved { old });
        Ok(())
    }
}

/// Count number `index` of a block (qcow2 specification, "Reference count block": bits of counts smaller than a byte start at
/// the least significant).
pub fn count_at(bytes: &[u8], order: u32, index: u64) -> u64 {
    let at = index as usize;
    match order {
        0..=2 => {
            let (per_byte, bits) = (8 >> order, 1 << order);
            let byte = bytes.get(at / per_byte).copied().unwrap_or(0);
            u64::from(byte >> (at % per_byte * bits) & ((1u16 << bits) - 1) as u8)
        }
        3 => u64::from(bytes.get(at).copied().unwrap_or(0)),
        4 => u64::from(u16_at(bytes, at * 2)),
        5 => u64::from(u32_at(bytes, at * 4)),
        _ => u64_at(bytes, at * 8),
    }
}

/// Sets count number `index` of a block; the caller has checked that it fits.
pub fn set_count(bytes: &mut [u8], order: u32, index: u64, count: u64) {
    let at = index as usize;
    match order {
        0..=2 => {
            let (per_byte, bits) = (8 >> order, 1 << order);
            let shift = at % per_byte * bits;
            if let Some(byte) = bytes.get_mut(at / per_byte) {
                let mask = (((1u16 << bits) - 1) as u8) << shift;
                *byte = *byte & !mask | (count as u8) << shift;
            }
        }
        3 => put(bytes, at, &[count as u8]),
        4 => put(bytes, at * 2, &(count as u16).to_be_bytes()),
        5 => put(bytes, at * 4, &(count as u32).to_be_bytes()),
        _ => put(bytes, at * 8, &count.to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_do_not_disturb_their_neighbours() {
        for order in 0..=6 {
            let mut bytes = vec![0; 512];
            let largest = if order == 6 { u64::MAX } else { (1 << (1 << order)) - 1 };
            set_count(&mut bytes, order, 9, largest);
            let counts: Vec<u64> = (8..11).map(|index| count_at(&bytes, order, index)).collect();
            assert_eq!(counts, [0, largest, 0], "order {order}");
            set_count(&mut bytes, order, 9, 0);
            assert_eq!(bytes, vec![0; 512]);
        }
    }
}
