//! A storage in memory.

use super::{Extent, Storage};
use crate::units::HostOffset;
use crate::{BlockError, Result};
use std::io;
use std::sync::{PoisonError, RwLock};

/// Largest size: a guard against hostile sizes in tests and fuzzing.
const LIMIT: u64 = 256 << 20;

/// Bytes in memory, at most 256 MiB.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    name: String,
    bytes: RwLock<Vec<u8>>,
}

impl MemoryStorage {
    /// A storage with this content.
    pub fn new(name: &str, bytes: Vec<u8>) -> MemoryStorage {
        MemoryStorage { name: name.to_owned(), bytes: RwLock::new(bytes) }
    }

    /// A copy of its content.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, end: u64, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        if end > LIMIT {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(BlockError::io(&self.name, "grow beyond 256 MiB in memory")(full));
        }
        let mut bytes = self.bytes.write().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        change(&mut bytes);
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Result<u64> {
        Ok(self.bytes.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let start = offset.get().min(bytes.len() as u64) as usize;
        let have = data.len().min(bytes.len() - start);
        data[..have].copy_from_slice(&bytes[start..start + have]);
        data[have..].fill(0);
        Ok(())
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        let end = offset.plus(data.len() as u64).get();
        self.change(end, |bytes| {
            bytes[end as usize - data.len()..end as usize].copy_from_slice(data);
        })
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, _unmap: bool) -> Result<()> {
        let end = offset.plus(length).get();
        self.change(end, |bytes| bytes[(end - length) as usize..end as usize].fill(0))
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.change(size, |bytes| bytes.truncate(size as usize))
    }

    fn extent(&self, offset: HostOffset, length: u64) -> Result<Extent> {
        let size = self.size()?;
        if offset.get() >= size {
            return Ok(Extent { hole: true, length });
        }
        Ok(Extent { hole: false, length: length.min(size - offset.get()) })
    }
}
