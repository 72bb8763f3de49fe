//! Faults on request: a disk that fails as hardware does, for whoever wants to see what a guest makes of it.
//!
//! What is refused here looks like an error of the host in every way: it is reported to the guest or holds the
//! machine, as the disk was told ([`OnError`](crate::OnError)). No image is harmed: a request that fails has not
//! reached it.

use crate::{BlockError, Result};
use kezhan_ports::DiskOperation;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which requests fail with EIO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Those that read.
    pub reads: bool,
    /// Those that change the image: writes, zero-writes, discards, flushes.
    pub writes: bool,
}

/// What fails now. Requests look without a lock; one under way may still miss a change.
#[derive(Debug, Default)]
pub(super) struct Failing {
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Failing {
    pub(super) fn set(&self, faults: Faults) {
        self.reads.store(faults.reads, Ordering::Relaxed);
        self.writes.store(faults.writes, Ordering::Relaxed);
    }

    /// Whether anything is to fail.
    pub(super) fn any(&self) -> bool {
        self.reads.load(Ordering::Relaxed) || self.writes.load(Ordering::Relaxed)
    }

    /// Fails what is to fail.
    pub(super) fn strike(&self, name: &str, operation: &DiskOperation) -> Result<()> {
        let (failing, action) = match operation {
            DiskOperation::Read { .. } => (&self.reads, "read"),
            _ => (&self.writes, "write"),
        };
        if failing.load(Ordering::Relaxed) {
            // EIO, as a disk that is broken gives it. (errno(3))
            return Err(BlockError::io(name, action)(io::Error::from_raw_os_error(5)));
        }
        Ok(())
    }
}
