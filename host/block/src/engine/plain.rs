//! Requests that are nothing but a read or a write of one file.

use super::Image;
use crate::Result;
use crate::format::{MappingKind, WritePlan};
use crate::storage::Storage;
use crate::units::{GuestOffset, HostOffset};
use std::fs::File;
use std::sync::{Arc, RwLockReadGuard};

/// Where such a request goes. While it lives nothing else moves there.
pub(crate) struct Plain<'a> {
    /// The storage, which is told when the kernel has written.
    pub storage: &'a dyn Storage,
    /// Its file.
    pub file: Arc<File>,
    /// First byte in the file.
    pub offset: HostOffset,
    _busy: RwLockReadGuard<'a, ()>,
}

impl Image {
    /// The one place of all of `data`; `None` when it has several or none, or more is to be done there.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub(crate) fn plain_read(&self, at: GuestOffset, data: &[u8]) -> Result<Option<Plain<'_>>> {
        self.check_range(at, data.len() as u64)?;
        let Ok(busy) = self.activity.try_read() else { return Ok(None) };
        let mapping = self.format.locate(at, data.len() as u64)?;
        match mapping.kind {
            MappingKind::Data { storage, offset } if mapping.length == data.len() as u64 => {
                let file = storage.plain_file(offset, data);
                Ok(file.map(|file| Plain { storage, file, offset, _busy: busy }))
            }
            _ => Ok(None),
        }
    }

    /// The same for writing: `None` also when space is to be allocated.
    ///
    /// # Errors
    /// As [`Image::write`].
    pub(crate) fn plain_write(&self, at: GuestOffset, data: &[u8]) -> Result<Option<Plain<'_>>> {
        self.check_writable()?;
        // What is not there yet has no place in a file, and that is no reason to allocate it here.
        if self.plain_read(at, data)?.is_none() {
            return Ok(None);
        }
        let Ok(busy) = self.activity.try_read() else { return Ok(None) };
        match self.format.prepare_write(at, data.len() as u64)? {
            WritePlan::InPlace { storage, offset, length } if length == data.len() as u64 => {
                let file = storage.plain_file(offset, data);
                Ok(file.map(|file| Plain { storage, file, offset, _busy: busy }))
            }
            WritePlan::InPlace { .. } => Ok(None),
            WritePlan::Allocate { ticket, .. } => {
                self.format.abort_write(ticket);
                Ok(None)
            }
        }
    }
}
