//! Internal snapshots (qcow2 specification, "Snapshots").
//!
//! A snapshot is a copy of the L1 table. Every L2 table and data cluster that a copy reaches counts one
//! reference more for it, and what has more than one reference is not "copied" in the active tables, so
//! that writing allocates anew. The "copied" flags are right in the active tables only.

use crate::bytes::{bytes, put, u16_at, u32_at, u64_at};
use crate::entry::{Cluster, Entry};
use crate::image::{Qcow2, read_l1};
use crate::layout::Layout;
use crate::refcount::Run;
use crate::spec;
use crate::state::{State, clusters_of, read_entry};
use kezhan_block::{BlockError, HostOffset, Result, Storage};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// When a snapshot was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTime {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: u32,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// An entry of the snapshot table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its L1 table.
    pub l1_offset: u64,
    /// Entries of it.
    pub l1_size: u32,
    /// Unique, usually a number.
    pub id: String,
    /// What a person called it.
    pub name: String,
    /// When it was made.
    pub time: SnapshotTime,
    /// The guest's clock in nanoseconds.
    pub vm_clock: u64,
    /// Bytes of machine state that are stored with it.
    pub vm_state_size: u64,
    /// Size of the disk when it was made.
    pub disk_size: u64,
    /// Instructions run, when the machine counted them.
    pub icount: Option<u64>,
    /// Extra data that we do not know.
    pub unknown: Vec<u8>,
}

impl Snapshot {
    fn parse(layout: &Layout, table: &[u8], fallback_size: u64) -> Option<(Snapshot, usize)> {
        let extra = u32_at(table, 36) as usize;
        let (id_length, name_length) = (u16_at(table, 12) as usize, u16_at(table, 14) as usize);
        let id_at = spec::SNAPSHOT_FIXED.checked_add(extra)?;
        let extra_data = table.get(spec::SNAPSHOT_FIXED..id_at)?;
        let id = table.get(id_at..id_at + id_length)?;
        let name = table.get(id_at + id_length..id_at + id_length + name_length)?;
        let has = |bytes| extra >= bytes;
        let large = if has(8) { u64_at(extra_data, 0) } else { 0 };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let snapshot = Snapshot {
            l1_offset: u64_at(table, 0),
            l1_size: u32_at(table, 8),
            id: text(id),
            name: text(name),
            time: SnapshotTime { seconds: u32_at(table, 16), nanoseconds: u32_at(table, 20) },
            vm_clock: u64_at(table, 24),
            vm_state_size: if large != 0 { large } else { u64::from(u32_at(table, 32)) },
            disk_size: if has(16) { u64_at(extra_data, 8) } else { fallback_size },
            icount: Some(u64_at(extra_data, 16))
                .filter(|count| has(24) && *count != spec::ICOUNT_NONE),
            unknown: extra_data.get(24..).unwrap_or(&[]).to_vec(),
        };
        let fits = u64::from(snapshot.l1_size) * 8 <= spec::L1_BYTES_MAX
            && snapshot.l1_offset.is_multiple_of(layout.cluster());
        let length = (id_at + id_length + name_length).next_multiple_of(8);
        fits.then_some((snapshot, length))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; spec::SNAPSHOT_FIXED + spec::SNAPSHOT_EXTRA];
        put(&mut out, 0, &self.l1_offset.to_be_bytes());
        put(&mut out, 8, &self.l1_size.to_be_bytes());
        put(&mut out, 12, &(self.id.len() as u16).to_be_bytes());
        put(&mut out, 14, &(self.name.len() as u16).to_be_bytes());
        put(&mut out, 16, &self.time.seconds.to_be_bytes());
        put(&mut out, 20, &self.time.nanoseconds.to_be_bytes());
        put(&mut out, 24, &self.vm_clock.to_be_bytes());
        let small = u32::try_from(self.vm_state_size).unwrap_or(0);
        put(&mut out, 32, &small.to_be_bytes());
        let extra = spec::SNAPSHOT_EXTRA + self.unknown.len();
        put(&mut out, 36, &(extra as u32).to_be_bytes());
        put(&mut out, 40, &self.vm_state_size.to_be_bytes());
        put(&mut out, 48, &self.disk_size.to_be_bytes());
        put(&mut out, 56, &self.icount.unwrap_or(spec::ICOUNT_NONE).to_be_bytes());
        out.extend(&self.unknown);
        out.extend(self.id.as_bytes());
        out.extend(self.name.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
        out
    }
}

/// The snapshot table of an image and the bytes that it takes.
pub(crate) fn read_table(
    file: &dyn Storage,
    layout: &Layout,
    header: &crate::Header,
) -> Result<(Vec<Snapshot>, u64)> {
    let bad = |what: String| BlockError::corrupt(file.name(), what);
    if header.snapshots > spec::SNAPSHOTS_MAX {
        return Err(bad(format!("{} snapshots are more than 65536", header.snapshots)));
    }
    if header.snapshots == 0 {
        return Ok((Vec::new(), 0));
    }
    let left = file.size()?.saturating_sub(header.snapshots_offset);
    let mut table = vec![0; left.min(spec::SNAPSHOT_TABLE_MAX) as usize];
    file.read_at(HostOffset(header.snapshots_offset), &mut table)?;
    let (mut all, mut at) = (Vec::new(), 0);
    for index in 0..header.snapshots {
        let entry = table.get(at..).filter(|rest| rest.len() >= spec::SNAPSHOT_FIXED);
        let Some((snapshot, length)) =
            entry.and_then(|rest| Snapshot::parse(layout, rest, header.size))
        else {
            return Err(bad(format!("snapshot table entry {index} is not valid")));
        };
        all.push(snapshot);
        at += length;
    }
    Ok((all, at as u64))
}

impl Qcow2 {
    /// The internal snapshots, in the order of the table.
    ///
    /// # Errors
    /// The storage's; a table that is not valid.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        Ok(read_table(&*self.file, &self.layout, &self.header())?.0)
    }

    /// The snapshot with this id or, failing that, this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find_snapshot(&self, id_or_name: &str) -> Result<Snapshot> {
        let all = self.snapshots()?;
        let found = all.iter().find(|s| s.id == id_or_name);
        found.or_else(|| all.iter().find(|s| s.name == id_or_name)).cloned().ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
            let what = format!("has no snapshot '{id_or_name}'; it has: {}", names.join(", "));
            BlockError::unsupported(self.name(), what)
        })
    }

    /// Makes a snapshot of the disk as it is. Run it within [`kezhan_block::Image::alone`].
    ///
    /// # Errors
    /// A read-only image; too many snapshots; no space.
    pub fn create_snapshot(&self, name: &str, time: SnapshotTime) -> Result<Snapshot> {
        self.check_writable()?;
        let mut all = self.snapshots()?;
        if all.len() >= spec::SNAPSHOTS_MAX as usize || name.len() > usize::from(u16::MAX) {
            return Err(BlockError::unsupported(self.name(), "no more snapshots fit; delete some"));
        }
        let id = all.iter().filter_map(|s| s.id.parse::<u64>().ok()).max().unwrap_or(0) + 1;
        self.guarded(|| {
            let (l1_offset, l1) = self.copy_active_l1()?;
            self.count_tree(&l1, Change::Add)?;
            self.refresh_copied()?;
            let snapshot = Snapshot {
                l1_offset,
                l1_size: l1.len() as u32,
                id: id.to_string(),
                name: name.to_owned(),
                time,
                vm_clock: 0,
                vm_state_size: 0,
                disk_size: self.size_now(),
                icount: None,
                unknown: Vec::new(),
            };
            all.push(snapshot.clone());
            self.write_table(&all)?;
            Ok(snapshot)
        })
    }

    /// Makes the disk what it was at a snapshot. Run it within [`kezhan_block::Image::alone`].
    ///
    /// # Errors
    /// As [`Qcow2::create_snapshot`].
    pub fn apply_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        self.check_writable()?;
        if snapshot.disk_size != self.size_now() {
            self.change_size(snapshot.disk_size)?;
        }
        self.note_change(self.whole())?;
        let there = read_l1(&*self.file, &self.layout, snapshot.l1_offset, snapshot.l1_size)?;
        self.guarded(|| {
            self.count_tree(&there, Change::Add)?;
            let old = {
                let mut state = self.state();
                let mut new: Vec<u64> = there.iter().map(|word| word & !spec::COPIED).collect();
                new.resize(state.l1.len(), 0);
                state.l1_dirty = (0..new.len()).collect();
                std::mem::replace(&mut state.l1, new)
            };
            self.count_tree(&old, Change::Remove)?;
            self.flush_metadata()?;
            self.recycle_clusters()?;
            self.refresh_copied()
        })
    }

    /// Deletes a snapshot. Run it within [`kezhan_block::Image::alone`].
    ///
    /// # Errors
    /// As [`Qcow2::create_snapshot`].
    pub fn delete_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        self.check_writable()?;
        let l1 = read_l1(&*self.file, &self.layout, snapshot.l1_offset, snapshot.l1_size)?;
        let mut all = self.snapshots()?;
        all.retain(|other| other.id != snapshot.id);
        self.guarded(|| {
            self.write_table(&all)?;
            self.count_tree(&l1, Change::Remove)?;
            let count = self.layout.clusters(u64::from(snapshot.l1_size) * 8);
            let first = snapshot.l1_offset / self.layout.cluster();
            self.state().free_run(Run { first, count });
            self.flush_metadata()?;
            self.recycle_clusters()?;
            self.refresh_copied()
        })
    }

    /// Runs a change during which refcounts may be wrong on the disk.
    fn guarded<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.flush_metadata()?;
        self.recycle_clusters()?;
        self.mark_dirty(true)?;
        let done = change()?;
        self.flush_metadata()?;
        self.recycle_clusters()?;
        self.flush_metadata()?;
        self.mark_dirty(false)?;
        Ok(done)
    }

    fn copy_active_l1(&self) -> Result<(u64, Vec<u64>)> {
        let mut state = self.state();
        let l1 = state.l1.clone();
        let clusters = self.layout.clusters(l1.len() as u64 * 8).max(1);
        let run = state.refcounts.allocate_exactly(&*self.file, clusters)?;
        let at = run.first * self.layout.cluster();
        let mut table = bytes(&l1);
        table.resize((clusters * self.layout.cluster()) as usize, 0);
        self.file.write_at(HostOffset(at), &table)?;
        Ok((at, l1))
    }

    /// One reference less for everything that an L1 table reaches.
    pub(crate) fn release_tree(&self, l1: &[u64]) -> Result<()> {
        self.count_tree(l1, Change::Remove)
    }

    /// One reference more, or less, for everything that an L1 table reaches.
    fn count_tree(&self, l1: &[u64], change: Change) -> Result<()> {
        let mut state = self.state();
        let mut seen = HashSet::new();
        for word in l1 {
            let table = word & spec::OFFSET_MASK;
            if table == 0 {
                continue;
            }
            if !seen.insert(table) {
                let what = format!("two L1 entries share the L2 table at {table:#x}");
                return Err(BlockError::corrupt(self.name(), what));
            }
            let l2 = state.l2.get(&*self.file, table)?.to_vec();
            for index in 0..self.layout.l2_entries() as usize {
                let entry = read_entry(&l2, &self.layout, index);
                for cluster in clusters_of(&self.layout, entry) {
                    self.count(&mut state, cluster, change)?;
                }
            }
            self.count(&mut state, table / self.layout.cluster(), change)?;
        }
        Ok(())
    }

    fn count(&self, state: &mut State, cluster: u64, change: Change) -> Result<()> {
        match change {
            Change::Add => state.refcounts.increment(&*self.file, cluster).map(|_| ()),
            Change::Remove => {
                state.garbage.push(cluster);
                Ok(())
            }
        }
    }

    /// Sets the "copied" flags of the active tables after refcounts have changed.
    pub(crate) fn refresh_copied(&self) -> Result<()> {
        let mut state = self.state();
        let mut seen = HashSet::new();
        for l1_index in 0..state.l1.len() {
            let word = state.l1[l1_index];
            let table = word & spec::OFFSET_MASK;
            if table == 0 || !seen.insert(table) {
                continue;
            }
            let alone = state.refcounts.get(&*self.file, table / self.layout.cluster())? == 1;
            let new = table | if alone { spec::COPIED } else { 0 };
            if new != word {
                state.l1[l1_index] = new;
                state.l1_dirty.insert(l1_index);
            }
            self.refresh_l2(&mut state, table)?;
        }
        Ok(())
    }

    fn refresh_l2(&self, state: &mut State, table: u64) -> Result<()> {
        let l2 = state.l2.get(&*self.file, table)?.to_vec();
        for index in 0..self.layout.l2_entries() as usize {
            let entry = read_entry(&l2, &self.layout, index);
            let Cluster::Held { host, copied } = entry.cluster(&self.layout) else { continue };
            if self.layout.external {
                continue;
            }
            let count = state.refcounts.get(&*self.file, host / self.layout.cluster())?;
            if copied != (count == 1) {
                let entry = Entry { word: entry.word ^ spec::COPIED, ..entry };
                state.set_entry(&*self.file, &self.layout, (table, index), entry)?;
            }
        }
        Ok(())
    }

    /// Writes the snapshot table to a new place and lets the header point to it.
    fn write_table(&self, all: &[Snapshot]) -> Result<()> {
        let table: Vec<u8> = all.iter().flat_map(Snapshot::encode).collect();
        let (_, old_bytes) = read_table(&*self.file, &self.layout, &self.header())?;
        let mut state = self.state();
        let old = Run {
            first: state.header.snapshots_offset / self.layout.cluster(),
            count: self.layout.clusters(old_bytes),
        };
        let at = if table.is_empty() {
            0
        } else {
            let clusters = self.layout.clusters(table.len() as u64);
            state.refcounts.allocate_exactly(&*self.file, clusters)?.first * self.layout.cluster()
        };
        if !table.is_empty() {
            let mut padded = table;
            let whole = padded.len().next_multiple_of(self.layout.cluster() as usize);
            padded.resize(whole, 0);
            self.file.write_at(HostOffset(at), &padded)?;
        }
        state.header.snapshots_offset = at;
        state.header.snapshots = all.len() as u32;
        state.header_dirty = true;
        state.free_run(old);
        Ok(())
    }

    /// The disk as it was at a snapshot, for reading.
    ///
    /// # Errors
    /// The storage's; an L1 table that is not valid.
    pub fn at_snapshot(&self, snapshot: &Snapshot) -> Result<Qcow2> {
        let mut header = self.header();
        header.l1_offset = snapshot.l1_offset;
        header.l1_size = snapshot.l1_size;
        header.size = snapshot.disk_size;
        let image = Qcow2::open(self.file.clone(), self.data.clone(), header, false)?;
        image.size.store(snapshot.disk_size, Ordering::Release);
        Ok(image)
    }
}

/// Which way a reference count goes.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add,
    Remove,
}
