//! Zeroes and discards: by entries alone ("all zeroes" flag, subcluster bitmaps).

use crate::entry::{Cluster, Entry, Unit};
use crate::image::Qcow2;
use crate::state::State;
use kezhan_block::{GuestOffset, HostOffset, Result, Span};
use std::sync::{MutexGuard, PoisonError};

impl Qcow2 {
    /// [`kezhan_block::Format::zero`]: whole clusters, and with subclusters whole units.
    pub(crate) fn zero_clusters(&self, range: Span, unmap: bool) -> Result<Span> {
        let nothing = Span { start: range.start, length: 0 };
        let backed = self.state().header.backing_file.is_some();
        if !self.layout.v3 && (backed || !unmap) {
            return Ok(nothing);
        }
        let inner = self.inner(range, self.layout.cluster());
        let (mut state, inner) = if self.layout.extended {
            let units = self.inner(range, self.layout.unit());
            let mut state = self.settle(units);
            let fits = self.edges_take_bits(&mut state, units)?;
            (state, if fits { units } else { inner })
        } else {
            (self.settle(inner), inner)
        };
        if inner.length == 0 {
            return Ok(nothing);
        }
        self.zero_each(&mut state, inner, unmap)?;
        Ok(inner)
    }

    /// [`kezhan_block::Format::discard`]: whole clusters only, the rest stays.
    pub(crate) fn discard_clusters(&self, range: Span) -> Result<()> {
        let backed = self.state().header.backing_file.is_some();
        let inner = self.inner(range, self.layout.cluster());
        if inner.length == 0 || (!self.layout.v3 && backed) {
            return Ok(());
        }
        let mut state = self.settle(inner);
        self.zero_each(&mut state, inner, true)
    }

    /// The whole units within a range; the disk's last one counts as whole when the range ends there.
    fn inner(&self, range: Span, unit: u64) -> Span {
        let at_end = range.end().get() >= self.size_now();
        let start = range.start.get().next_multiple_of(unit);
        let end = range.end().get();
        let end = if at_end { end.next_multiple_of(unit) } else { end - end % unit };
        Span::between(GuestOffset(start), GuestOffset(end))
    }

    /// The state, once nobody is allocating in the range.
    fn settle(&self, range: Span) -> MutexGuard<'_, State> {
        let around = self.clusters_around(range);
        let mut state = self.state();
        while state.is_in_flight(around) {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Whether the clusters at both ends of a range have bitmaps (compressed ones have none).
    fn edges_take_bits(&self, state: &mut State, units: Span) -> Result<bool> {
        if units.length == 0 {
            return Ok(false);
        }
        for at in [units.start.get(), units.end().get() - 1] {
            let slot = state.slot(&*self.file, &self.layout, at)?;
            if matches!(slot.entry.cluster(&self.layout), Cluster::Compressed { .. }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn zero_each(&self, state: &mut State, inner: Span, unmap: bool) -> Result<()> {
        let backed = state.header.backing_file.is_some();
        let (cluster, span) = (self.layout.cluster(), self.layout.l2_span());
        let mut at = inner.start;
        while at < inner.end() {
            let slot = state.slot(&*self.file, &self.layout, at.get())?;
            if slot.table == 0 && !backed {
                at = at.align_down(span).plus(span);
                continue;
            }
            let end = at.align_down(cluster).plus(cluster).min(inner.end());
            let piece = Span::between(at, end);
            self.check_entry(slot.entry, at.get())?;
            let entry = self.zeroed(slot.entry, piece, backed, unmap);
            if entry != slot.entry {
                let table = state.own_l2(&*self.file, &self.layout, at.get())?;
                state.set_entry(&*self.file, &self.layout, (table, slot.index), entry)?;
                self.let_go(state, slot.entry, entry, unmap)?;
            }
            at = end;
        }
        Ok(())
    }

    /// The entry when a piece of its cluster reads as zeroes.
    fn zeroed(&self, entry: Entry, piece: Span, backed: bool, unmap: bool) -> Entry {
        let (layout, unit) = (&self.layout, self.layout.unit());
        let reads_zero = |index| match entry.unit(layout, index) {
            Unit::Zero => true,
            Unit::Unallocated => !backed,
            Unit::Data | Unit::Compressed => false,
        };
        let first = piece.start.within(layout.cluster()) / unit;
        let end = first + piece.length.div_ceil(unit);
        let whole = piece.length == layout.cluster();
        let held = matches!(entry.cluster(layout), Cluster::Held { .. });
        if (first..end).all(reads_zero) && !(whole && unmap && held) {
            return entry;
        }
        if !whole {
            let mask = (first..end).fold(0, |mask, index| mask | 1u64 << index);
            return Entry { word: entry.word, bitmap: entry.bitmap & !mask | mask << 32 };
        }
        if !layout.v3 {
            return Entry::default();
        }
        let zero = Entry::zero(layout);
        match entry.cluster(layout) {
            Cluster::Held { copied: true, .. } if !unmap && !layout.external => {
                Entry { word: entry.word | zero.word, bitmap: zero.bitmap }
            }
            _ => zero,
        }
    }

    /// What the old entry held and the new one does not.
    fn let_go(&self, state: &mut State, old: Entry, new: Entry, unmap: bool) -> Result<()> {
        let host = |entry: Entry| match entry.cluster(&self.layout) {
            Cluster::Held { host, .. } => Some(host),
            _ => None,
        };
        if let (Some(host), true) = (host(old), self.layout.external) {
            // The data file may be read by itself as a raw image.
            let length = self.layout.cluster().min(self.size_now().saturating_sub(host));
            self.data.write_zeroes(HostOffset(host), length, unmap)?;
        }
        if host(new).is_none() {
            state.drop_clusters(&self.layout, old);
        }
        Ok(())
    }
}
