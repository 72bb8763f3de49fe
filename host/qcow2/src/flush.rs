//! What is written in which order; see the crate's page on power loss.
//!
//! A flush takes copies of what is dirty under the lock and writes them without it, so that requests go on.
//! What they make dirty meanwhile belongs to the next flush. When a step fails, all of the batch is dirty
//! again, and nothing that was freed comes back into use.

use crate::bytes::bytes;
use crate::image::Qcow2;
use crate::refcount::Run;
use crate::state::State;
use kezhan_block::{HostOffset, Result, Storage};
use std::sync::PoisonError;

/// L1 and refcount table entries are written by sectors of so many.
const ENTRIES_PER_SECTOR: usize = 64;

/// Tables by host offset.
type Batch = Vec<(u64, Vec<u8>)>;

/// What one flush writes.
#[derive(Debug, Default)]
struct Dirty {
    blocks: Batch,
    table: Batch,
    table_entries: Vec<usize>,
    header: Option<Vec<u8>>,
    old_table: Option<Run>,
    l2: Batch,
    l1: Batch,
    l1_entries: Vec<usize>,
    garbage: Vec<u64>,
}

impl Qcow2 {
    /// [`kezhan_block::Format::flush`].
    pub(crate) fn flush_everything(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.flush_metadata()
    }

    /// The same, also before the image is open for requests.
    pub(crate) fn flush_metadata(&self) -> Result<()> {
        let _order = self.flush_order.lock().unwrap_or_else(PoisonError::into_inner);
        let dirty = self.take_dirty(&mut self.state())?;
        if !std::sync::Arc::ptr_eq(&self.file, &self.data) {
            self.data.flush()?;
        }
        let outcome = self.write_dirty(&dirty);
        self.settle_dirty(&mut self.state(), dirty, outcome.is_ok());
        outcome
    }

    fn take_dirty(&self, state: &mut State) -> Result<Dirty> {
        let counts = &mut state.refcounts;
        let mut dirty = Dirty { garbage: std::mem::take(&mut state.garbage), ..Dirty::default() };
        dirty.blocks = counts.blocks.take_dirty();
        dirty.table_entries = std::mem::take(&mut counts.table_dirty).into_iter().collect();
        let table_at = counts.table_at.first * self.layout.cluster();
        if let Some(moved) = counts.moved.take() {
            dirty.table = vec![(table_at, bytes(&counts.table))];
            dirty.old_table = Some(moved.old);
            state.header.reftable_offset = table_at;
            state.header.reftable_clusters = counts.table_at.count as u32;
            state.header_dirty = true;
        } else {
            dirty.table = sectors(&counts.table, table_at, &dirty.table_entries);
        }
        if std::mem::take(&mut state.header_dirty) {
            dirty.header = Some(state.header.encode(self.name())?);
        }
        dirty.l2 = state.l2.take_dirty();
        dirty.l1_entries = std::mem::take(&mut state.l1_dirty).into_iter().collect();
        dirty.l1 = sectors(&state.l1, state.header.l1_offset, &dirty.l1_entries);
        Ok(dirty)
    }

    fn write_dirty(&self, dirty: &Dirty) -> Result<()> {
        let file = &*self.file;
        write_batch(file, &dirty.blocks)?;
        if !dirty.table.is_empty() {
            barrier(file, !dirty.blocks.is_empty())?;
            write_batch(file, &dirty.table)?;
        }
        file.flush()?;
        if let Some(header) = &dirty.header {
            file.write_at(HostOffset(0), header)?;
            file.flush()?;
        }
        if !dirty.l2.is_empty() {
            write_batch(file, &dirty.l2)?;
            file.flush()?;
        }
        if !dirty.l1.is_empty() {
            write_batch(file, &dirty.l1)?;
            file.flush()?;
        }
        Ok(())
    }

    fn settle_dirty(&self, state: &mut State, dirty: Dirty, ok: bool) {
        state.refcounts.blocks.written(&dirty.blocks, ok);
        state.l2.written(&dirty.l2, ok);
        if ok {
            if let Some(old) = dirty.old_table {
                state.refcounts.unreserve(old);
                state.recyclable.extend(old.first..old.first + old.count);
            }
            state.recyclable.extend(dirty.garbage);
            return;
        }
        state.refcounts.table_dirty.extend(dirty.table_entries);
        state.l1_dirty.extend(dirty.l1_entries);
        state.garbage.extend(dirty.garbage);
        state.header_dirty |= dirty.header.is_some();
        if let Some(old) = dirty.old_table {
            state.refcounts.moved = Some(crate::refcount::Moved { old });
        }
    }

    /// [`kezhan_block::Format::recycle`]: what the file refers to no more may be used again.
    pub(crate) fn recycle_clusters(&self) -> Result<()> {
        let _order = self.flush_order.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_unpacked();
        let mut state = self.state();
        let mut freed = std::mem::take(&mut state.recyclable);
        freed.sort_unstable();
        let mut empty: Vec<Run> = Vec::new();
        for cluster in freed {
            if state.refcounts.decrement(&*self.file, cluster)? > 0 {
                continue;
            }
            let host = cluster * self.layout.cluster();
            state.l2.forget(host);
            if state.compressed_end / self.layout.cluster() == cluster {
                state.compressed_end = 0;
            }
            match empty.last_mut() {
                Some(run) if run.first + run.count == cluster => run.count += 1,
                _ => empty.push(Run { first: cluster, count: 1 }),
            }
        }
        drop(state);
        self.punch(&empty)
    }

    /// Gives the space of free clusters back to the host.
    fn punch(&self, runs: &[Run]) -> Result<()> {
        let size = self.layout.cluster();
        let end = self.file.size()?;
        for run in runs {
            let (from, to) = (run.first * size, ((run.first + run.count) * size).min(end));
            if from < to {
                self.file.write_zeroes(HostOffset(from), to - from, true)?;
            }
        }
        Ok(())
    }
}

fn barrier(file: &dyn Storage, needed: bool) -> Result<()> {
    if needed { file.flush() } else { Ok(()) }
}

fn write_batch(file: &dyn Storage, batch: &Batch) -> Result<()> {
    batch.iter().try_for_each(|(host, bytes)| file.write_at(HostOffset(*host), bytes))
}

/// The sectors of a table at `at` that hold the entries `changed` (sorted).
fn sectors(table: &[u64], at: u64, changed: &[usize]) -> Batch {
    let mut batch = Batch::new();
    let mut done = None;
    for sector in changed.iter().map(|index| index / ENTRIES_PER_SECTOR) {
        if done == Some(sector) {
            continue;
        }
        done = Some(sector);
        let first = sector * ENTRIES_PER_SECTOR;
        let end = (first + ENTRIES_PER_SECTOR).min(table.len());
        if let Some(entries) = table.get(first..end) {
            batch.push((at + first as u64 * 8, bytes(entries)));
        }
    }
    batch
}
