//! The log of a VHDX image that was not closed properly: changes of tables that may not have reached their places.
//!
//! ```text
//!   log, a ring:   … │ entry 7 │ entry 8 │ entry 9 │ stale …
//!                      └ tail of the last entry      └ head
//!   entry:         header, descriptors (zeroes here, data there) │ data sectors
//! ```
//! Entries whose sequence numbers follow each other are a run; the last one's tail says with which entry of the run the
//! changes begin that are still needed. The run with the highest sequence number counts. Its changes are written
//! to the file when the image is opened for writing; a reader sees them laid over the file, which stays as it is.
//!
//! # Bounds
//! A log may have 64 MiB. Entries that are none cost the reading of all that they claim to be; an image that claims
//! more than [`EFFORT`] times its log is refused.
//!
//! Source: [MS-VHDX] revision 8, §2.3.

use super::checksum;
use crate::little::{u32_at, u64_at};
use kezhan_block::{BlockError, Extent, HostOffset, Result, Storage};
use std::sync::Arc;

const SECTOR: u64 = 4096;
/// §2.3.1.1, Entry Header.
const ENTRY_SIGNATURE: &[u8] = b"loge";
const ENTRY_HEADER: usize = 64;
/// §2.3.1.2 and §2.3.1.3, descriptors.
const ZERO_SIGNATURE: &[u8] = b"zero";
const DATA_SIGNATURE: &[u8] = b"desc";
const DESCRIPTOR: usize = 32;
/// §2.3.1.4, Data Sector.
const SECTOR_SIGNATURE: &[u8] = b"data";
/// The longest log that is read, in bytes.
const LONGEST: u64 = 64 << 20;
/// Bytes that are looked at for entries, in lengths of the log.
const EFFORT: u64 = 4;

/// Where the log is, and whose entries count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub id: [u8; 16],
    pub at: u64,
    pub length: u64,
}

/// A change: at a place, bytes, or zeroes of a length.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Data(u64, Vec<u8>),
    Zero(u64, u64),
}

/// What the log wants done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    changes: Vec<Change>,
    /// The file has at least so many bytes.
    length: u64,
}

/// A sound entry.
#[derive(Debug)]
struct Entry {
    at: u64,
    tail: u64,
    sequence: u64,
    flushed: u64,
    last: u64,
    changes: Vec<Change>,
}

impl Log {
    /// Reads what has to be done.
    ///
    /// # Errors
    /// [`BlockError::Corrupt`] when no run of entries is whole, or the file lacks what was in it when the last one was
    /// written.
    pub(super) fn changes(&self, file: &dyn Storage) -> Result<Changes> {
        let bad = |what: String| BlockError::corrupt(file.name(), what);
        if self.length == 0 || !self.length.is_multiple_of(SECTOR) || self.length > LONGEST {
            return Err(bad(format!("its log of {} bytes is none", self.length)));
        }
        let mut ring = vec![0; self.length as usize];
        file.read_at(HostOffset(self.at), &mut ring)?;
        let run = self.newest_run(&ring).map_err(bad)?;
        let Some(newest) = run.last() else {
            return Err(bad("was not closed properly, and its log has no whole entry".to_owned()));
        };
        if file.size()? < newest.flushed {
            let what = format!("has lost its end: its log knows of {} bytes", newest.flushed);
            return Err(bad(what));
        }
        let length = newest.last;
        let changes = run.into_iter().flat_map(|entry| entry.changes).collect();
        Ok(Changes { changes, length })
    }

    /// The entries that count, in order.
    fn newest_run(&self, ring: &[u8]) -> std::result::Result<Vec<Entry>, String> {
        let mut effort = EFFORT * self.length;
        let (mut best, mut start): (Vec<Entry>, u64) = (Vec::new(), 0);
        while start < self.length {
            let run = self.run(ring, start, &mut effort)?;
            // One that goes over the ring's end has seen all that is behind it.
            let next = run.last().map_or(start + SECTOR, |last| last.at.max(start) + SECTOR);
            let newest = |run: &[Entry]| run.last().map_or(0, |entry| entry.sequence);
            if newest(&run) > newest(&best) {
                best = run;
            }
            start = next;
        }
        Ok(best)
    }

    /// The run whose first entry is at `start`, from the entry on that its last one's tail names; nothing when none is.
    fn run(
        &self,
        ring: &[u8],
        start: u64,
        effort: &mut u64,
    ) -> std::result::Result<Vec<Entry>, String> {
        let (mut run, mut at, mut seen): (Vec<Entry>, u64, u64) = (Vec::new(), start, 0);
        while let Some((entry, length)) = self.entry(ring, at, effort)? {
            seen += length;
            let follows = run.last().is_none_or(|last| entry.sequence == last.sequence + 1);
            if !follows || seen > self.length {
                break;
            }
            run.push(entry);
            at = (at + length) % self.length;
        }
        let tail = run.last().map(|last| last.tail);
        let first = run.iter().position(|entry| Some(entry.at) == tail);
        Ok(first.map_or_else(Vec::new, |first| run.split_off(first)))
    }

    /// The entry at a place of the ring and its length, if a sound one is there (§2.3.1.1).
    fn entry(
        &self,
        ring: &[u8],
        at: u64,
        effort: &mut u64,
    ) -> std::result::Result<Option<(Entry, u64)>, String> {
        let head = around(ring, at, ENTRY_HEADER as u64);
        let length = u64::from(u32_at(&head, 8));
        let is_one = head.starts_with(ENTRY_SIGNATURE)
            && head.get(32..48) == Some(&self.id)
            && (SECTOR..=self.length).contains(&length)
            && length.is_multiple_of(SECTOR);
        if !is_one {
            return Ok(None);
        }
        *effort = effort
            .checked_sub(length)
            .ok_or("its log is made of entries that lie in each other".to_owned())?;
        let bytes = around(ring, at, length);
        if u32_at(&bytes, 4) != checksum(&bytes) {
            return Ok(None);
        }
        let sequence = u64_at(&bytes, 16);
        let Some(changes) = changes(&bytes, sequence) else { return Ok(None) };
        let tail = u64::from(u32_at(&bytes, 12));
        let (flushed, last) = (u64_at(&bytes, 48), u64_at(&bytes, 56));
        Ok(Some((Entry { at, tail, sequence, flushed, last, changes }, length)))
    }
}

/// So many bytes from a place on, over the end of the ring to its start.
fn around(ring: &[u8], at: u64, length: u64) -> Vec<u8> {
    let (before, after) = ring.split_at(ring.len().min(at as usize));
    let here = after.len().min(length as usize);
    let rest = before.len().min(length as usize - here);
    [after.split_at(here).0, before.split_at(rest).0].concat()
}

/// The changes of an entry; nothing when it is not sound (§2.3.1.2 to §2.3.1.4).
fn changes(entry: &[u8], sequence: u64) -> Option<Vec<Change>> {
    let count = u32_at(entry, 24) as usize;
    let end = count.checked_mul(DESCRIPTOR)?.checked_add(ENTRY_HEADER)?;
    let descriptors = entry.get(ENTRY_HEADER..end)?.chunks_exact(DESCRIPTOR);
    let mut sectors = entry.get(end.next_multiple_of(SECTOR as usize)..)?.chunks_exact(4096);
    let mut all = Vec::with_capacity(count);
    for descriptor in descriptors {
        let place = u64_at(descriptor, 16);
        if u64_at(descriptor, 24) != sequence || !place.is_multiple_of(SECTOR) {
            return None;
        }
        if descriptor.starts_with(ZERO_SIGNATURE) {
            let length = u64_at(descriptor, 8);
            place.checked_add(length).filter(|_| length.is_multiple_of(SECTOR))?;
            all.push(Change::Zero(place, length));
        } else if descriptor.starts_with(DATA_SIGNATURE) {
            place.checked_add(SECTOR)?;
            all.push(Change::Data(place, data(descriptor, sectors.next()?, sequence)?));
        } else {
            return None;
        }
    }
    Some(all)
}

/// The bytes that a data descriptor and its sector make together.
fn data(descriptor: &[u8], sector: &[u8], sequence: u64) -> Option<Vec<u8>> {
    let whole = u64::from(u32_at(sector, 4)) << 32 | u64::from(u32_at(sector, 4092));
    if !sector.starts_with(SECTOR_SIGNATURE) || whole != sequence {
        return None;
    }
    Some([descriptor.get(8..16)?, sector.get(8..4092)?, descriptor.get(4..8)?].concat())
}

impl Changes {
    /// Writes them, durably. Doing so again changes nothing.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn write(&self, file: &dyn Storage) -> Result<()> {
        if file.size()? < self.length {
            file.set_size(self.length)?;
        }
        for change in &self.changes {
            match change {
                Change::Data(at, bytes) => file.write_at(HostOffset(*at), bytes)?,
                Change::Zero(at, length) => file.write_zeroes(HostOffset(*at), *length, true)?,
            }
        }
        file.flush()
    }

    /// The file as it would be after [`Changes::write`], to read.
    pub(super) fn laid_over(self, file: Arc<dyn Storage>) -> Arc<dyn Storage> {
        Arc::new(LaidOver { file, changes: self })
    }
}

impl Change {
    fn range(&self) -> (u64, u64) {
        match self {
            Change::Data(at, bytes) => (*at, *at + bytes.len() as u64),
            Change::Zero(at, length) => (*at, *at + *length),
        }
    }

    fn meets(&self, start: u64, end: u64) -> bool {
        let (from, to) = self.range();
        from < end && start < to
    }

    /// Changes what was read from `start` on.
    fn apply(&self, start: u64, data: &mut [u8]) {
        let (from, to) = self.range();
        let first = from.saturating_sub(start) as usize;
        let last = (to.saturating_sub(start) as usize).min(data.len());
        let Some(part) = data.get_mut(first..last) else { return };
        match self {
            Change::Zero(..) => part.fill(0),
            Change::Data(_, bytes) => {
                let skipped = bytes.iter().skip(start.saturating_sub(from) as usize);
                part.iter_mut().zip(skipped).for_each(|(byte, value)| *byte = *value);
            }
        }
    }
}

/// A file with changes that are not in it.
#[derive(Debug)]
struct LaidOver {
    file: Arc<dyn Storage>,
    changes: Changes,
}

impl LaidOver {
    fn refuse<T>(&self) -> Result<T> {
        Err(BlockError::ReadOnly { name: self.file.name().to_owned() })
    }
}

impl Storage for LaidOver {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn size(&self) -> Result<u64> {
        Ok(self.file.size()?.max(self.changes.length))
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, data)?;
        let end = offset.0.saturating_add(data.len() as u64);
        let changes = self.changes.changes.iter();
        changes.filter(|change| change.meets(offset.0, end)).for_each(|c| c.apply(offset.0, data));
        Ok(())
    }

    fn write_at(&self, _offset: HostOffset, _data: &[u8]) -> Result<()> {
        self.refuse()
    }

    fn write_zeroes(&self, _offset: HostOffset, _length: u64, _unmap: bool) -> Result<()> {
        self.refuse()
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn set_size(&self, _size: u64) -> Result<()> {
        self.refuse()
    }

    fn extent(&self, offset: HostOffset, length: u64) -> Result<Extent> {
        let end = offset.0.saturating_add(length);
        if self.changes.changes.iter().any(|change| change.meets(offset.0, end)) {
            return Ok(Extent { hole: false, length });
        }
        self.file.extent(offset, length)
    }

    fn occupied(&self) -> Result<u64> {
        self.file.occupied()
    }
}

#[cfg(test)]
mod tests;
