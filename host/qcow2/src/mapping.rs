//! Where is it (qcow2 specification, "Cluster mapping"), and the rest of the format contract.

use crate::entry::{Cluster, Entry, Unit};
use crate::image::Qcow2;
use crate::state::{State, read_entry};
use kezhan_block::{
    BlockError, CompressedCluster, Format, FormatInfo, GuestOffset, HostOffset, Mapping,
    MappingKind, Result, Span, Ticket, WritePlan,
};
use std::any::Any;

/// A place, before it is tied to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unallocated(Option<u64>),
    Zero(Option<u64>),
    Data(u64),
    Compressed(u64),
}

impl Place {
    /// Whether `next`, `distance` bytes further on, goes on where this place is.
    fn continues(self, next: Place, distance: u64) -> bool {
        match (self, next) {
            (Place::Unallocated(None), Place::Unallocated(None))
            | (Place::Zero(None), Place::Zero(None)) => true,
            (Place::Data(a), Place::Data(b))
            | (Place::Unallocated(Some(a)), Place::Unallocated(Some(b)))
            | (Place::Zero(Some(a)), Place::Zero(Some(b))) => a + distance == b,
            (Place::Compressed(a), Place::Compressed(b)) => a == b,
            _ => false,
        }
    }
}

impl Qcow2 {
    /// The place of a unit, given the entry of its cluster. `offset` is the unit's guest offset.
    fn place(&self, entry: Entry, offset: u64) -> Place {
        let within = offset % self.layout.cluster();
        let host = match entry.cluster(&self.layout) {
            Cluster::Held { host, .. } => Some(host + within),
            Cluster::Compressed { host, .. } => return Place::Compressed(host),
            Cluster::Unallocated | Cluster::Zero => None,
        };
        match (entry.unit(&self.layout, within / self.layout.unit()), host) {
            (Unit::Data, Some(host)) => Place::Data(host),
            (Unit::Zero, host) => Place::Zero(host),
            (_, host) => Place::Unallocated(host),
        }
    }

    /// The place of the range at `offset`, and how far it goes on within one L2 table.
    fn find(&self, state: &mut State, offset: u64, length: u64) -> Result<(Place, u64)> {
        let layout = &self.layout;
        let slot = state.slot(&*self.file, layout, offset)?;
        let in_table = layout.l2_span() - offset % layout.l2_span();
        let length = length.min(in_table);
        if slot.table == 0 {
            return Ok((Place::Unallocated(None), length));
        }
        self.check_entry(slot.entry, offset)?;
        let unit = layout.unit();
        let start = offset - offset % unit;
        let first = self.place(slot.entry, start);
        let bytes = state.l2.get(&*self.file, slot.table)?;
        let mut end = start + unit;
        while end < offset + length {
            let entry = read_entry(bytes, layout, layout.indices(end).1);
            if entry.fault(layout).is_some()
                || !first.continues(self.place(entry, end), end - start)
            {
                break;
            }
            end += unit;
        }
        let place = match first {
            Place::Data(host) => Place::Data(host + offset % unit),
            Place::Zero(Some(host)) => Place::Zero(Some(host + offset % unit)),
            Place::Unallocated(Some(host)) => Place::Unallocated(Some(host + offset % unit)),
            other => other,
        };
        Ok((place, (end - offset).min(length)))
    }

    pub(crate) fn check_entry(&self, entry: Entry, offset: u64) -> Result<()> {
        match entry.fault(&self.layout) {
            None => Ok(()),
            Some(fault) => Err(BlockError::corrupt(
                self.name(),
                format!("L2 entry {:#x} for guest offset {offset:#x} {fault}", entry.word),
            )),
        }
    }
}

impl Format for Qcow2 {
    fn format_name(&self) -> &'static str {
        "qcow2"
    }

    fn size(&self) -> u64 {
        self.size_now()
    }

    fn info(&self) -> FormatInfo {
        let header = self.header();
        FormatInfo {
            cluster_size: Some(self.layout.cluster()),
            subcluster_size: self.layout.extended.then(|| self.layout.unit()),
            dirty: header.incompatible & crate::spec::DIRTY != 0,
            compresses: !self.layout.external && !self.is_encrypted(),
            encrypted: header.crypt_method != crate::spec::CRYPT_NONE,
        }
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        let (place, length) = self.find(&mut self.state(), offset.get(), length)?;
        let kind = match place {
            Place::Unallocated(host) => MappingKind::Unallocated { reserved: host.map(HostOffset) },
            Place::Zero(host) => MappingKind::Zero { reserved: host.map(HostOffset) },
            Place::Data(host) => {
                MappingKind::Data { storage: &*self.data, offset: HostOffset(host) }
            }
            Place::Compressed(_) => MappingKind::Special,
        };
        Ok(Mapping { kind, length })
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        self.check_writable()?;
        self.note_change(Span { start: offset, length })?;
        self.plan_write(offset, length)
    }

    fn commit_write(&self, ticket: Ticket) -> Result<()> {
        self.commit_ticket(ticket)
    }

    fn abort_write(&self, ticket: Ticket) {
        self.abort_ticket(&ticket);
    }

    fn zero(&self, range: Span, unmap: bool) -> Result<Span> {
        self.check_writable()?;
        self.note_change(range)?;
        self.zero_clusters(range, unmap)
    }

    fn discard(&self, range: Span) -> Result<()> {
        self.check_writable()?;
        self.note_change(range)?;
        self.discard_clusters(range)
    }

    fn flush(&self) -> Result<()> {
        self.flush_everything()
    }

    fn close(&self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.store_tracking()?;
        self.flush_metadata()?;
        self.recycle_clusters()?;
        self.flush_metadata()
    }

    fn has_garbage(&self) -> bool {
        !self.state().recyclable.is_empty()
    }

    fn recycle(&self) -> Result<()> {
        self.recycle_clusters()
    }

    fn wants_flush(&self) -> bool {
        let state = self.state();
        state.l2.crowded() || state.refcounts.blocks.crowded()
    }

    fn read_special(&self, offset: GuestOffset, data: &mut [u8]) -> Result<()> {
        self.read_compressed(offset, data)
    }

    fn compress(&self, cluster: &[u8]) -> Option<CompressedCluster> {
        if self.layout.external || self.is_encrypted() {
            return None;
        }
        crate::compressed::compress(&self.layout, cluster)
    }

    fn write_compressed(&self, offset: GuestOffset, cluster: CompressedCluster) -> Result<()> {
        self.check_writable()?;
        self.note_change(Span { start: offset, length: self.layout.cluster() })?;
        self.store_compressed(offset, &cluster.bytes)
    }

    fn resize(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        self.change_size(size)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
