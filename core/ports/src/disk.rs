//! Disks: a flat array of bytes with requests in flight.
//!
//! ```text
//!   device ── submit(request) ──►  back-end  ── worker threads, kernel, network
//!      ▲                              │
//!      │ poll() ◄── chassis ◄── wake ─┘
//!      └── complete() ─► completion (the same request, with its buffer and a result)
//! ```
//!
//! # Life
//! 1. `vmm/` opens the image, makes the back-end and hands it to the device's constructor.
//! 2. [`Disk::set_waker`] is called once. From then on the back-end wakes the device when a
//!    completion can be taken, when a full queue has room again, and when the capacity changed.
//! 3. The device submits; requests run side by side and finish in any order. One may be finished when `submit`
//!    returns; no wake follows for it, so the device looks for completions after it has submitted.
//! 4. The chassis answers a wake by calling the device's `poll`, which takes every completion.
//! 5. Before reset, save and unplug the device calls [`Disk::drain`]; after it no request is in flight
//!    and every completion waits to be taken. This is the only call that blocks.
//!
//! # At once
//! What the back-end can do without a wait it does before [`Disk::read_at_once`] and [`Disk::write_at_once`] return,
//! straight into guest memory and out of it. A device tries them first and submits a request when they did nothing.
//!
//! # Buffers
//! A request **owns** its buffer from `submit` until its completion hands it back, so that a guest that
//! resets its device or frees its memory cannot reach it. A read's buffer comes back filled, or in an
//! unspecified state when the read failed.
//!
//! # Order and durability
//! Requests that overlap and are in flight together have no order. A write is *done* at its completion
//! and *durable* once a [`DiskOperation::Flush`] submitted after that completion has completed well. A
//! flush says nothing of writes still in flight.
//!
//! # Errors
//! An error is the result of one request ([`DiskError`]); the disk goes on. When the machine was told to
//! pause on errors, the back-end keeps the request back and tells the machine by its own means; the
//! device sees nothing until the retry has an outcome.

use crate::{Buffer, LentMemory};
use std::sync::Arc;

/// What a disk is. May change only in [`DiskInfo::capacity`] while the machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Bytes, a multiple of [`DiskInfo::logical_block`].
    pub capacity: u64,
    /// The unit of addressing in bytes: requests are aligned to it. 512 or 4096.
    pub logical_block: u32,
    /// The unit below which a write costs a read, in bytes; at least the logical block.
    pub physical_block: u32,
    /// Writes, discards and zero-writes fail with [`DiskError::ReadOnly`].
    pub read_only: bool,
    /// Granularity of discards in bytes; `None` when discards do nothing.
    pub discard_granularity: Option<u32>,
    /// Whether completed writes may be lost at power failure unless flushed.
    pub write_cache: bool,
}

/// One operation. Offsets and lengths are bytes, multiples of the logical block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// Fills `data` from `offset`.
    Read {
        /// First byte on the disk.
        offset: u64,
        /// The buffer to fill; its length is the length of the read.
        data: Buffer,
    },
    /// Writes `data` at `offset`.
    Write {
        /// First byte on the disk.
        offset: u64,
        /// What to write.
        data: Buffer,
    },
    /// Makes every completed write durable.
    Flush,
    /// The range's content is no longer wanted: it reads as anything, later.
    Discard {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// The range reads as zeroes.
    WriteZeroes {
        /// First byte on the disk.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Whether space may be given back.
        may_unmap: bool,
    },
}

/// A request in flight. The tag is the device's own; it comes back unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRequest {
    /// The device's name for the request.
    pub tag: u64,
    /// What to do.
    pub operation: DiskOperation,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCompletion {
    /// The request, its buffer within.
    pub request: DiskRequest,
    /// What became of it.
    pub result: Result<(), DiskError>,
}

/// Why a request failed, as far as a guest can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DiskError {
    /// The host could not read or write.
    #[error("disk: the host reported an input/output error; see the machine's log")]
    Io,
    /// The host has no room for the data.
    #[error("disk: no space is left on the host; make room and try again")]
    NoSpace,
    /// A write to a read-only disk.
    #[error("disk: it is read-only; attach it without 'readonly'")]
    ReadOnly,
    /// Beyond the capacity, or not a multiple of the logical block.
    #[error("disk: the request lies outside the disk or is not aligned to its blocks")]
    OutOfRange,
}

/// A disk. See the module for the contract.
pub trait Disk: Send {
    /// What it is now.
    fn info(&self) -> DiskInfo;

    /// Starts a request.
    ///
    /// # Errors
    /// Gives the request back when the queue is full; a wake follows when there is room.
    fn submit(&mut self, request: DiskRequest) -> Result<(), DiskRequest>;

    /// Reads from `offset` into lent memory when that waits for nothing. `None` when it would: submit a request then,
    /// and take the memory's content for undefined.
    fn read_at_once(
        &mut self,
        offset: u64,
        into: &LentMemory<'_>,
    ) -> Option<Result<(), DiskError>> {
        let _ = (offset, into);
        None
    }

    /// Writes lent memory to `offset` when that waits for nothing. `None` when it would: submit a request then.
    fn write_at_once(
        &mut self,
        offset: u64,
        from: &LentMemory<'_>,
    ) -> Option<Result<(), DiskError>> {
        let _ = (offset, from);
        None
    }

    /// Takes a finished request, if there is one.
    fn complete(&mut self) -> Option<DiskCompletion>;

    /// Whom to wake; called once, before the machine runs.
    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>);

    /// Blocks until nothing is in flight. Completions stay to be taken.
    fn drain(&mut self);
}
