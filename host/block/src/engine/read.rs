//! Reading: down the chain until somebody has it.

use super::Image;
use crate::Result;
use crate::format::MappingKind;
use crate::units::GuestOffset;

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
                MappingKind::Unallocated => self.read_backing_now(at, now)?,
            };
            if !done {
                return Ok(false);
            }
            at = at.plus(mapping.length);
            data = later;
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
                MappingKind::Unallocated => self.read_backing(at, now)?,
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
