//! Writing: allocate, copy what is needed, write, and only then let the format refer to it.

use super::Image;
use crate::Result;
use crate::format::{CompressedCluster, Ticket, WritePlan};
use crate::storage::Storage;
use crate::units::{GuestOffset, HostOffset, Span, is_zero};
use kezhan_calls::vectored::copy;
use kezhan_ports::LentMemory;

/// Regions up to this size are put together in memory and written at once.
const GATHER_LIMIT: u64 = 256 << 10;

/// Zeroes are written in pieces of this size where a format has no better way.
const ZERO_PIECE: usize = 256 << 10;

/// New space for a region, as a plan gave it.
struct Allocation<'a> {
    storage: &'a dyn Storage,
    offset: HostOffset,
    fill: Vec<Span>,
    fresh: bool,
    region: Span,
}

impl Allocation<'_> {
    fn host(&self, at: GuestOffset) -> HostOffset {
        self.offset.plus(at.get() - self.region.start.get())
    }
}

impl Image {
    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// A range outside the disk, a read-only image, the storage's, a corrupt image.
    pub fn write(&self, offset: GuestOffset, data: &[u8]) -> Result<()> {
        self.check_writable()?;
        self.check_range(offset, data.len() as u64)?;
        {
            let _busy = self.busy();
            self.write_busy(offset, data)?;
        }
        self.flush_if_wanted()
    }

    /// As [`Image::write`] when that waits for no device of the host; false when it would, or when more is to be
    /// done: then it is to be written again.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write_now(&self, offset: GuestOffset, data: &[u8]) -> Result<bool> {
        self.check_writable()?;
        self.check_range(offset, data.len() as u64)?;
        if !self.file.writes_promptly() {
            return Ok(false);
        }
        let Ok(_busy) = self.activity.try_read() else { return Ok(false) };
        self.write_busy(offset, data)?;
        Ok(!self.format.wants_flush())
    }

    /// As [`Image::write_now`], out of memory of the guest.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write_lent_now(&self, offset: GuestOffset, from: &LentMemory<'_>) -> Result<bool> {
        self.check_writable()?;
        self.check_range(offset, from.len() as u64)?;
        if !self.file.writes_promptly() {
            return Ok(false);
        }
        let Ok(_busy) = self.activity.try_read() else { return Ok(false) };
        let mut done = 0;
        while done < from.len() {
            let at = offset.plus(done as u64);
            let left = from.len() - done;
            done += match self.format.prepare_write(at, left as u64)? {
                WritePlan::InPlace { storage, offset, length } => {
                    storage.write_lent(offset, &from.part(done, length as usize))?;
                    length as usize
                }
                WritePlan::Allocate { storage, offset, fill, fresh, ticket } => {
                    let new = Allocation { storage, offset, fill, fresh, region: ticket.region };
                    let count = (new.region.end().get() - at.get()).min(left as u64) as usize;
                    self.write_allocated(at, &copy(&from.part(done, count)), new, ticket)?
                }
            };
        }
        Ok(!self.format.wants_flush())
    }

    /// Makes a range read as zeroes; gives its space back when `unmap`.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write_zeroes(&self, range: Span, unmap: bool) -> Result<()> {
        self.check_writable()?;
        self.check_range(range.start, range.length)?;
        if range.length == 0 {
            return Ok(());
        }
        {
            let _busy = self.busy();
            let done = self.format.zero(range, unmap)?;
            if done.length == 0 {
                self.zero_by_writing(range)?;
            } else {
                self.zero_by_writing(Span::between(range.start, done.start))?;
                self.zero_by_writing(Span::between(done.end(), range.end()))?;
            }
        }
        self.flush_if_wanted()
    }

    /// Gives a range's space back; what is given back reads as zeroes.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn discard(&self, range: Span) -> Result<()> {
        self.check_writable()?;
        self.check_range(range.start, range.length)?;
        if range.length == 0 {
            return Ok(());
        }
        {
            let _busy = self.busy();
            self.format.discard(range)?;
        }
        self.flush_if_wanted()
    }

    /// Stores a cluster that [`crate::Format::compress`] made; nothing may be allocated there yet.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub fn write_compressed(&self, offset: GuestOffset, cluster: CompressedCluster) -> Result<()> {
        self.check_writable()?;
        {
            let _busy = self.busy();
            self.format.write_compressed(offset, cluster)?;
        }
        self.flush_if_wanted()
    }

    fn flush_if_wanted(&self) -> Result<()> {
        if self.format.wants_flush() { self.flush() } else { Ok(()) }
    }

    fn write_busy(&self, mut at: GuestOffset, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let count = match self.format.prepare_write(at, data.len() as u64)? {
                WritePlan::InPlace { storage, offset, length } => {
                    storage.write_at(offset, &data[..length as usize])?;
                    length as usize
                }
                WritePlan::Allocate { storage, offset, fill, fresh, ticket } => {
                    let new = Allocation { storage, offset, fill, fresh, region: ticket.region };
                    self.write_allocated(at, data, new, ticket)?
                }
            };
            at = at.plus(count as u64);
            data = &data[count..];
        }
        Ok(())
    }

    /// Writes the part of `data` that lies in the region, and what else the region needs.
    fn write_allocated(
        &self,
        at: GuestOffset,
        data: &[u8],
        new: Allocation<'_>,
        ticket: Ticket,
    ) -> Result<usize> {
        let count = (new.region.end().get() - at.get()).min(data.len() as u64) as usize;
        let written = if new.region.length <= GATHER_LIMIT && !new.fill.is_empty() && !new.fresh {
            self.write_gathered(at, &data[..count], &new)
        } else {
            self.write_in_parts(at, &data[..count], &new)
        };
        match written {
            Ok(()) => self.format.commit_write(ticket)?,
            Err(error) => {
                self.format.abort_write(ticket);
                return Err(error);
            }
        }
        Ok(count)
    }

    /// One write from the first to the last byte that the region needs.
    fn write_gathered(&self, at: GuestOffset, data: &[u8], new: &Allocation<'_>) -> Result<()> {
        let end = at.plus(data.len() as u64);
        let first = new.fill.iter().map(|span| span.start).min().map_or(at, |start| start.min(at));
        let last = new.fill.iter().map(|span| span.end()).max().map_or(end, |stop| stop.max(end));
        let covered: u64 = new.fill.iter().map(|span| span.length).sum();
        if covered + data.len() as u64 != last.get() - first.get() {
            return self.write_in_parts(at, data, new);
        }
        let mut gathered = vec![0; (last.get() - first.get()) as usize];
        let place = |at: GuestOffset| (at.get() - first.get()) as usize;
        for span in &new.fill {
            let into = &mut gathered[place(span.start)..place(span.end())];
            self.read_for_fill(span.start, into)?;
        }
        gathered[place(at)..place(end)].copy_from_slice(data);
        new.storage.write_at(new.host(first), &gathered)
    }

    fn write_in_parts(&self, at: GuestOffset, data: &[u8], new: &Allocation<'_>) -> Result<()> {
        for span in &new.fill {
            let mut copy = vec![0; span.length as usize];
            self.read_for_fill(span.start, &mut copy)?;
            if !(new.fresh && is_zero(&copy)) {
                new.storage.write_at(new.host(span.start), &copy)?;
            }
        }
        new.storage.write_at(new.host(at), data)
    }

    /// A region ends at a cluster's end, which may lie past the disk's: there are zeroes.
    fn read_for_fill(&self, at: GuestOffset, data: &mut [u8]) -> Result<()> {
        let have = self.size().saturating_sub(at.get()).min(data.len() as u64) as usize;
        let (inside, past) = data.split_at_mut(have);
        past.fill(0);
        self.read_busy(at, inside)
    }

    fn zero_by_writing(&self, range: Span) -> Result<()> {
        let zeroes = vec![0; range.length.min(ZERO_PIECE as u64) as usize];
        let mut done = 0;
        while done < range.length {
            let at = range.start.plus(done);
            let entry = self.map_busy(at, range.length - done)?;
            if entry.zero {
                done += entry.length;
                continue;
            }
            let count = entry.length.min(zeroes.len() as u64);
            self.write_busy(at, &zeroes[..count as usize])?;
            done += count;
        }
        Ok(())
    }
}
