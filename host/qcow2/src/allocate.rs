//! Room for writes: the first half of copy-on-write.
//!
//! A region is what becomes data at once: whole clusters, or with subclusters only those units that the
//! write touches. Regions never cross an L2 table. While one is in flight its clusters belong to its
//! writer; see the format contract.

use crate::entry::{Cluster, Entry, Unit};
use crate::image::Qcow2;
use crate::spec;
use crate::state::{InFlight, Slot, State, read_entry};
use kezhan_block::{BlockError, GuestOffset, HostOffset, Result, Span, Ticket, WritePlan};
use std::sync::PoisonError;

/// Largest region: bounds the memory and the time that one writer holds clusters.
const REGION_MAX: u64 = 4 << 20;

/// How a cluster can take a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The units are data in a cluster of our own.
    InPlace,
    /// The cluster is our own, its units are not yet data.
    Own,
    /// A new cluster; what is outside the write stays as it is.
    NewUnits,
    /// A new cluster; all of the old content must be copied.
    NewCluster,
}

impl Qcow2 {
    /// [`kezhan_block::Format::prepare_write`].
    pub(crate) fn plan_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        let first_cluster = self.clusters_around(Span { start: offset, length: 1 });
        let mut state = self.state();
        while state.is_in_flight(first_cluster) {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let table = state.own_l2(&*self.file, &self.layout, offset.get())?;
        let slot = state.slot(&*self.file, &self.layout, offset.get())?;
        self.check_entry(slot.entry, offset.get())?;
        let in_table = self.layout.l2_span() - offset.within(self.layout.l2_span());
        let range = Span { start: offset, length: length.min(in_table).min(REGION_MAX) };
        let range = self.same_room(&mut state, table, range)?;
        let room = self.room(slot.entry, range);
        match room {
            Room::InPlace => self.in_place(&mut state, slot, range),
            Room::Own => self.own_cluster(&mut state, slot, range),
            Room::NewUnits | Room::NewCluster => self.new_clusters(&mut state, slot, range, room),
        }
    }

    /// What the cluster at the start of `range` can do for it.
    fn room(&self, entry: Entry, range: Span) -> Room {
        let (cluster, unit) = (self.layout.cluster(), self.layout.unit());
        let first = range.start.within(cluster) / unit;
        let end = (range.start.within(cluster) + range.length).min(cluster);
        let data = |index| entry.unit(&self.layout, index) == Unit::Data;
        match entry.cluster(&self.layout) {
            Cluster::Held { copied: true, .. } => {
                if (first..end.div_ceil(unit)).all(data) {
                    Room::InPlace
                } else {
                    Room::Own
                }
            }
            Cluster::Held { .. } | Cluster::Compressed { .. } => Room::NewCluster,
            Cluster::Unallocated | Cluster::Zero => Room::NewUnits,
        }
    }

    /// Cuts `range` down to clusters that can be treated alike.
    fn same_room(&self, state: &mut State, table: u64, range: Span) -> Result<Span> {
        let cluster = self.layout.cluster();
        let in_flight: Vec<Span> = state.in_flight.iter().map(|flight| flight.clusters).collect();
        let bytes = state.l2.get(&*self.file, table)?;
        let entry_at = |at: u64| read_entry(bytes, &self.layout, self.layout.indices(at).1);
        let piece = |at: u64| {
            let end = (at - at % cluster + cluster).min(range.end().get());
            Span::between(GuestOffset(at), GuestOffset(end))
        };
        let start = range.start.get();
        let first = self.room(entry_at(start), piece(start));
        let mut at = piece(start).end().get();
        while at < range.end().get() && first != Room::Own {
            let (next, entry) = (piece(at), entry_at(at));
            let goes_on = match (first, entry.cluster(&self.layout)) {
                (Room::InPlace, Cluster::Held { host, .. }) => {
                    self.host_of(entry_at(start)) + (at - at % cluster) - (start - start % cluster)
                        == host
                }
                _ => first != Room::InPlace,
            };
            let free = !in_flight.iter().any(|flight| flight.overlaps(next));
            if !goes_on
                || !free
                || entry.fault(&self.layout).is_some()
                || self.room(entry, next) != first
            {
                break;
            }
            at = next.end().get();
        }
        Ok(Span::between(range.start, GuestOffset(at)))
    }

    fn host_of(&self, entry: Entry) -> u64 {
        match entry.cluster(&self.layout) {
            Cluster::Held { host, .. } => host,
            _ => 0,
        }
    }

    fn in_place(&self, state: &mut State, slot: Slot, range: Span) -> Result<WritePlan<'_>> {
        let host = self.host_of(slot.entry);
        self.check_not_metadata(state, host)?;
        let offset = HostOffset(host + range.start.within(self.layout.cluster()));
        Ok(WritePlan::InPlace { storage: &*self.data, offset, length: range.length })
    }

    /// A guest cluster that lies on the header or a table would let the guest write there.
    fn check_not_metadata(&self, state: &mut State, host: u64) -> Result<()> {
        if self.layout.external {
            return Ok(());
        }
        let cluster = host / self.layout.cluster();
        if state.refcounts.is_reserved(cluster).is_some()
            || state.refcounts.get(&*self.file, cluster)? == 0
        {
            let what = format!("guest data at {host:#x} overlaps metadata or has refcount 0");
            return Err(BlockError::corrupt(self.name(), what));
        }
        Ok(())
    }

    /// Units become data in the cluster that they have already.
    fn own_cluster(&self, state: &mut State, slot: Slot, range: Span) -> Result<WritePlan<'_>> {
        let host = self.host_of(slot.entry);
        self.check_not_metadata(state, host)?;
        let mut region = self.units_around(range);
        if !self.layout.extended {
            region = self.clusters_around(range);
        }
        let keep = |at: GuestOffset| self.unit_is_data(slot.entry, at);
        let fill = self.fill(region, range, keep);
        let clusters = self.clusters_around(range);
        Ok(self.take_off(
            state,
            InFlight { token: 0, region, clusters, host, new: false },
            fill,
            false,
        ))
    }

    fn new_clusters(
        &self,
        state: &mut State,
        slot: Slot,
        range: Span,
        room: Room,
    ) -> Result<WritePlan<'_>> {
        let _ = slot;
        let cluster = self.layout.cluster();
        let wanted = self.clusters_around(range).length / cluster;
        let (host, got, fresh) = if self.layout.external {
            (range.start.align_down(cluster).get(), wanted, false)
        } else {
            let (run, fresh) = state.refcounts.allocate(&*self.file, wanted)?;
            (run.first * cluster, run.count, fresh && self.data.grows_with_zeroes())
        };
        let end = range.start.align_down(cluster).plus(got * cluster).min(range.end());
        let range = Span::between(range.start, end);
        let clusters = self.clusters_around(range);
        let whole = room == Room::NewCluster || !self.layout.extended;
        let region = if whole { clusters } else { self.units_around(range) };
        let fill = self.fill(region, range, |_| false);
        Ok(self.take_off(
            state,
            InFlight { token: 0, region, clusters, host, new: true },
            fill,
            fresh,
        ))
    }

    /// Notes a region as in flight and makes the plan for it.
    fn take_off(
        &self,
        state: &mut State,
        flight: InFlight,
        fill: Vec<Span>,
        fresh: bool,
    ) -> WritePlan<'_> {
        state.token += 1;
        let flight = InFlight { token: state.token, ..flight };
        state.in_flight.push(flight);
        let skip = flight.region.start.get() - flight.clusters.start.get();
        WritePlan::Allocate {
            storage: &*self.data,
            offset: HostOffset(flight.host + skip),
            fill,
            fresh,
            ticket: Ticket { region: flight.region, token: flight.token },
        }
    }

    /// What of a region is neither written nor to be kept.
    fn fill(&self, region: Span, range: Span, keep: impl Fn(GuestOffset) -> bool) -> Vec<Span> {
        // Past the disk's end an external data file has nothing, and would only grow.
        let last = if self.layout.external { self.size_now() } else { u64::MAX };
        let end = region.end().min(GuestOffset(last));
        let parts = [Span::between(region.start, range.start), Span::between(range.end(), end)];
        let mut fill = Vec::new();
        for part in parts.into_iter().filter(|part| part.length > 0) {
            if !keep(part.start) {
                fill.push(part);
            }
        }
        fill
    }

    fn unit_is_data(&self, entry: Entry, at: GuestOffset) -> bool {
        let index = at.within(self.layout.cluster()) / self.layout.unit();
        entry.unit(&self.layout, index) == Unit::Data
    }

    /// The clusters that a range touches.
    pub(crate) fn clusters_around(&self, range: Span) -> Span {
        around(range, self.layout.cluster())
    }

    fn units_around(&self, range: Span) -> Span {
        around(range, self.layout.unit())
    }

    /// [`kezhan_block::Format::commit_write`].
    pub(crate) fn commit_ticket(&self, ticket: Ticket) -> Result<()> {
        let mut state = self.state();
        let Some(flight) = land(&mut state, ticket.token) else { return Ok(()) };
        let linked = self.link(&mut state, flight);
        drop(state);
        self.settled.notify_all();
        linked
    }

    /// [`kezhan_block::Format::abort_write`].
    pub(crate) fn abort_ticket(&self, ticket: &Ticket) {
        let mut state = self.state();
        if let Some(flight) = land(&mut state, ticket.token)
            && flight.new
            && !self.layout.external
        {
            // Nothing ever referred to them; a failure here leaks them, which is the lesser evil.
            let first = flight.host / self.layout.cluster();
            for cluster in first..first + flight.clusters.length / self.layout.cluster() {
                let _ = state.refcounts.decrement(&*self.file, cluster);
            }
        }
        drop(state);
        self.settled.notify_all();
    }

    /// Lets the L2 table refer to a region.
    fn link(&self, state: &mut State, flight: InFlight) -> Result<()> {
        let cluster = self.layout.cluster();
        let table = state.own_l2(&*self.file, &self.layout, flight.clusters.start.get())?;
        let mut at = flight.clusters.start;
        while at < flight.clusters.end() {
            let slot = state.slot(&*self.file, &self.layout, at.get())?;
            let host = flight.host + (at.get() - flight.clusters.start.get());
            let entry = self.linked(slot.entry, host, flight, at);
            state.set_entry(&*self.file, &self.layout, (table, slot.index), entry)?;
            if flight.new {
                state.drop_clusters(&self.layout, slot.entry);
            }
            at = at.plus(cluster);
        }
        Ok(())
    }

    /// The entry of the cluster at `at` when the region is data.
    fn linked(&self, old: Entry, host: u64, flight: InFlight, at: GuestOffset) -> Entry {
        let all = Entry::data(&self.layout, host);
        if !self.layout.extended {
            return all;
        }
        let unit = self.layout.unit();
        let first = flight.region.start.get().saturating_sub(at.get()) / unit;
        let end = (flight.region.end().get() - at.get()).min(self.layout.cluster()) / unit;
        let mask = (first..end).fold(0, |mask, index| mask | 1u64 << index);
        let old_bits = if old.word & spec::COMPRESSED != 0 { 0 } else { old.bitmap };
        Entry { word: all.word, bitmap: (old_bits | mask) & !(mask << 32) }
    }
}

fn around(range: Span, unit: u64) -> Span {
    let end = GuestOffset(range.end().get().next_multiple_of(unit));
    Span::between(range.start.align_down(unit), end)
}

fn land(state: &mut State, token: u64) -> Option<InFlight> {
    let position = state.in_flight.iter().position(|flight| flight.token == token)?;
    Some(state.in_flight.swap_remove(position))
}
