//! Another size for the guest's disk.

use crate::bytes::bytes;
use crate::image::{Qcow2, l1_run};
use crate::spec;
use kezhan_block::{BlockError, GuestOffset, HostOffset, Result, Span};
use std::sync::atomic::Ordering;

impl Qcow2 {
    /// [`kezhan_block::Format::resize`]. Growing keeps what is there and adds what the backing file has or
    /// zeroes; shrinking gives the clusters past the new end back.
    pub(crate) fn change_size(&self, size: u64) -> Result<()> {
        let old = self.size_now();
        let entries = self.layout.l1_entries(size);
        if entries * 8 > spec::L1_BYTES_MAX {
            let what =
                format!("{size} bytes are too many for clusters of {}", self.layout.cluster());
            return Err(BlockError::unsupported(self.name(), what));
        }
        let header = self.header();
        if header.snapshots > 0 && !self.layout.v3 {
            let what =
                "has snapshots that do not record their size; delete them or convert to compat=1.1";
            return Err(BlockError::unsupported(self.name(), what));
        }
        let bitmaps = self.resized_bitmaps(size)?;
        if size < old {
            let past = Span::between(GuestOffset(size), GuestOffset(old));
            self.discard_clusters(past)?;
            self.flush_metadata()?;
        }
        if entries > u64::from(header.l1_size) {
            self.grow_l1(entries)?;
        }
        {
            let mut state = self.state();
            state.header.size = size;
            state.header_dirty = true;
        }
        if self.layout.external && self.data.size()? < size {
            self.data.set_size(size)?;
        }
        self.flush_metadata()?;
        self.size.store(size, Ordering::Release);
        if bitmaps.is_empty() { Ok(()) } else { self.store_bitmaps(&bitmaps) }
    }

    /// A longer L1 table at a new place. The header points to it only when it is durable.
    fn grow_l1(&self, entries: u64) -> Result<()> {
        let mut state = self.state();
        let clusters = self.layout.clusters(entries * 8);
        let run = state.refcounts.allocate_exactly(&*self.file, clusters)?;
        drop(state);
        // Nothing may be dirty in the old table when the new one takes over.
        self.flush_metadata()?;
        let mut state = self.state();
        state.l1.resize(entries as usize, 0);
        let mut table = bytes(&state.l1);
        table.resize((clusters * self.layout.cluster()) as usize, 0);
        let at = run.first * self.layout.cluster();
        self.file.write_at(HostOffset(at), &table)?;
        let old = l1_run(&self.layout, &state.header);
        state.refcounts.unreserve(old);
        state.refcounts.reserve(run);
        state.free_run(old);
        state.header.l1_offset = at;
        state.header.l1_size = entries as u32;
        state.header_dirty = true;
        Ok(())
    }
}
