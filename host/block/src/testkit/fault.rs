//! A storage whose host has trouble.

use crate::storage::{Extent, Storage};
use crate::units::HostOffset;
use crate::{BlockError, Result};
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Passes everything on until a countdown of changes ends; from then on every change fails.
#[derive(Debug)]
pub struct FaultStorage {
    inner: Arc<dyn Storage>,
    kind: ErrorKind,
    left: AtomicI64,
}

impl FaultStorage {
    /// Over `inner`, failing with `kind`; does not fail before [`FaultStorage::fail_after`].
    pub fn new(inner: Arc<dyn Storage>, kind: ErrorKind) -> FaultStorage {
        FaultStorage { inner, kind, left: AtomicI64::new(i64::MAX) }
    }

    /// Lets `changes` more writes, zeroings, size changes and flushes through.
    pub fn fail_after(&self, changes: i64) {
        self.left.store(changes, Ordering::SeqCst);
    }

    /// Works again.
    pub fn heal(&self) {
        self.fail_after(i64::MAX);
    }

    fn change(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(BlockError::io(self.inner.name(), "write")(Error::from(self.kind)))
    }
}

impl Storage for FaultStorage {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn size(&self) -> Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, data)
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        self.change()?;
        self.inner.write_at(offset, data)
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, unmap: bool) -> Result<()> {
        self.change()?;
        self.inner.write_zeroes(offset, length, unmap)
    }

    fn flush(&self) -> Result<()> {
        self.change()?;
        self.inner.flush()
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.change()?;
        self.inner.set_size(size)
    }

    fn extent(&self, offset: HostOffset, length: u64) -> Result<Extent> {
        self.inner.extent(offset, length)
    }
}
