//! Reading: down the chain until somebody has it.

use super::Image;
use crate::Result;
use crate::format::MappingKind;
use crate::units::GuestOffset;
use kezhan_calls::vectored::fill_with_zeroes;
use kezhan_ports::LentMemory;

impl Image {
    /// Fills `data` from `offset`.
    ///
    /// # Errors
    /// A range outside the disk; the storage's; a corrupt image.
    pub fn read(&self, offset: GuestOffset, data: &mut [u8]) -> Result<()> {
        self.check_range(offset, data.len() as u64)?;
        let _busy = self.busy();
        self.read_busy(offset, data)
    }

    /// As [`Image::read`] when that waits for no device of the host (but perhaps for a little metadata) and no other
    /// request; false when it would, and `data` is in any state.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub fn read_now(&self, mut at: GuestOffset, mut data: &mut [u8]) -> Result<bool> {
        self.check_range(at, data.len() as u64)?;
        let Ok(_busy) = self.activity.try_read() else { return Ok(false) };
        while !data.is_empty() {
            let mapping = self.format.locate(at, data.len() as u64)?;
            let (now, later) = data.split_at_mut(mapping.length as usize);
            let done = match mapping.kind {
                MappingKind::Data { storage, offset } => storage.read_now(offset, now)?,
                MappingKind::Zero { .. } => {
                    now.fill(0);
                    true
                }
                MappingKind::Special => false,
                MappingKind::Unallocated { .. } => self.read_backing_now(at, now)?,
            };
            if !done {
                return Ok(false);
            }
            at = at.plus(mapping.length);
            data = later;
        }
        Ok(true)
    }

    /// As [`Image::read_now`], into memory of the guest.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub fn read_lent_now(&self, offset: GuestOffset, into: &LentMemory<'_>) -> Result<bool> {
        self.check_range(offset, into.len() as u64)?;
        let Ok(_busy) = self.activity.try_read() else { return Ok(false) };
        let mut done = 0;
        while done < into.len() {
            let left = (into.len() - done) as u64;
            let mapping = self.format.locate(offset.plus(done as u64), left)?;
            let count = mapping.length as usize;
            let whole = done == 0 && count == into.len();
            let part = if whole { None } else { Some(into.part(done, count)) };
            let now = part.as_ref().unwrap_or(into);
            match mapping.kind {
                MappingKind::Data { storage, offset } if storage.read_lent_now(offset, now)? => {}
                MappingKind::Zero { .. } => fill_with_zeroes(now),
                MappingKind::Unallocated { .. } if self.backing.is_none() => fill_with_zeroes(now),
                _ => return Ok(false),
            }
            done += count;
        }
        Ok(true)
    }

    fn read_backing_now(&self, at: GuestOffset, data: &mut [u8]) -> Result<bool> {
        let Some(backing) = &self.backing else {
            data.fill(0);
            return Ok(true);
        };
        let have = backing.size().saturating_sub(at.get()).min(data.len() as u64) as usize;
        let (below, past) = data.split_at_mut(have);
        past.fill(0);
        if below.is_empty() { Ok(true) } else { backing.read_now(at, below) }
    }

    /// Reads with the activity lock already held by the caller.
    pub(super) fn read_busy(&self, mut at: GuestOffset, mut data: &mut [u8]) -> Result<()> {
        while !data.is_empty() {
            let mapping = self.format.locate(at, data.len() as u64)?;
            let (now, later) = data.split_at_mut(mapping.length as usize);
            match mapping.kind {
                MappingKind::Data { storage, offset } => storage.read_at(offset, now)?,
                MappingKind::Zero { .. } => now.fill(0),
                MappingKind::Special => self.format.read_special(at, now)?,
                MappingKind::Unallocated { .. } => self.read_backing(at, now)?,
            }
            at = at.plus(mapping.length);
            data = later;
        }
        Ok(())
    }

    /// Reads what this image does not have; past the end of the backing image there are zeroes.
    pub(super) fn read_backing(&self, at: GuestOffset, data: &mut [u8]) -> Result<()> {
        let Some(backing) = &self.backing else {
            data.fill(0);
            return Ok(());
        };
        let have = backing.size().saturating_sub(at.get()).min(data.len() as u64) as usize;
        let (below, past) = data.split_at_mut(have);
        past.fill(0);
        if below.is_empty() { Ok(()) } else { backing.read(at, below) }
    }
}
