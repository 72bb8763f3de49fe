//! The format contract: "where is this range?".
//!
//! # Reading
//! [`Format::locate`] answers for the start of a range and says how far the answer holds. The engine reads
//! the place itself; only for [`MappingKind::Special`] it asks [`Format::read_special`].
//!
//! # Writing
//! ```text
//!   prepare_write ──► InPlace   ──► engine writes ──► done
//!                └──► Allocate  ──► engine fills the rest of the region, writes ──► commit_write
//!                                                                          └─ on error: abort_write
//! ```
//! Between `prepare_write` and `commit_write` the region belongs to that writer: other writers to it wait
//! inside `prepare_write`, readers go on seeing what was there before. A ticket is used exactly once.
//!
//! # Durability
//! [`Format::flush`] makes all guest data written before, and the metadata that finds it, durable, in an
//! order such that power loss at any point leaves every byte of the *previous* flush readable and at worst
//! clusters that nobody refers to. Clusters that are freed may still be referred to by metadata on the
//! disk, or be read by a slow reader; they come back into use only in [`Format::recycle`], which the
//! engine calls after a flush, with no request running.

use crate::storage::Storage;
use crate::units::{GuestOffset, HostOffset, Span};
use crate::{BlockError, CreateRequest, Gate, Reference, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a range is.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// What it is.
    pub kind: MappingKind<'a>,
    /// How many bytes the answer holds for; not 0.
    pub length: u64,
}

/// The kinds of place.
#[derive(Clone, Copy, Debug)]
pub enum MappingKind<'a> {
    /// As it is, in a storage.
    Data {
        /// The storage.
        storage: &'a dyn Storage,
        /// Where the range starts in it.
        offset: HostOffset,
    },
    /// Zeroes.
    Zero {
        /// Where clusters are held ready for it, if they are.
        reserved: Option<HostOffset>,
    },
    /// Not in this image: the backing image has it, or else it is zeroes.
    Unallocated {
        /// Where part of a cluster is held ready for it, if it is.
        reserved: Option<HostOffset>,
    },
    /// Compressed: only [`Format::read_special`] can read it.
    Special,
}

/// A promise to finish an allocation: hand it to `commit_write` or `abort_write`.
#[derive(Debug)]
#[must_use = "a ticket that is dropped blocks its region for ever"]
pub struct Ticket {
    /// The region that is being allocated.
    pub region: Span,
    /// Meaningful to the format alone.
    pub token: u64,
}

/// What to do to write a range.
#[derive(Debug)]
pub enum WritePlan<'a> {
    /// Write `length` bytes at this place.
    InPlace {
        /// The storage.
        storage: &'a dyn Storage,
        /// Where the range starts in it.
        offset: HostOffset,
        /// How many bytes fit; not 0.
        length: u64,
    },
    /// New space for a region that starts at or before the range.
    Allocate {
        /// The storage.
        storage: &'a dyn Storage,
        /// Where the *region* starts in it.
        offset: HostOffset,
        /// The parts of the region outside the range whose present content must be copied there.
        fill: Vec<Span>,
        /// The space was never used and reads as zeroes.
        fresh: bool,
        /// For `commit_write`.
        ticket: Ticket,
    },
}

/// What a format says of an image.
#[derive(Clone, Debug, Default)]
pub struct FormatInfo {
    /// The unit of allocation in bytes; `None` when there is none.
    pub cluster_size: Option<u64>,
    /// The unit of copy-on-write in bytes, when smaller than the cluster.
    pub subcluster_size: Option<u64>,
    /// The image was not closed properly.
    pub dirty: bool,
    /// Whether clusters may be written compressed.
    pub compresses: bool,
    /// Whether guest data is encrypted in the storage.
    pub encrypted: bool,
}

/// A cluster that is compressed and wants a place.
#[derive(Debug)]
pub struct CompressedCluster {
    /// The compressed bytes.
    pub bytes: Vec<u8>,
}

/// An image of some format. See the module for the contract.
pub trait Format: Send + Sync + std::fmt::Debug {
    /// The format's name: `"qcow2"`.
    fn format_name(&self) -> &'static str;

    /// Size of the guest's disk in bytes.
    fn size(&self) -> u64;

    /// What it is.
    fn info(&self) -> FormatInfo;

    /// Where the range at `offset` is; the answer is at most `length` (not 0) long.
    ///
    /// # Errors
    /// The storage's, and [`BlockError::Corrupt`].
    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>>;

    /// Makes a plan for writing at `offset`, for at most `length` (not 0) bytes.
    ///
    /// # Errors
    /// [`BlockError::ReadOnly`] for a format or an image that cannot be written; no space.
    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>>;

    /// The region's content is written: the image refers to it from now on.
    ///
    /// # Errors
    /// The storage's; the ticket is then aborted.
    fn commit_write(&self, ticket: Ticket) -> Result<()>;

    /// The region could not be written: its new space is given back.
    fn abort_write(&self, ticket: Ticket);

    /// Makes a range read as zeroes by metadata alone. Returns the part of the range that was done; the
    /// engine writes zeroes for what lies outside it. An empty part: nothing was done.
    ///
    /// # Errors
    /// As `prepare_write`.
    fn zero(&self, range: Span, unmap: bool) -> Result<Span> {
        let _ = unmap;
        Ok(Span { start: range.start, length: 0 })
    }

    /// The content of a range is no longer wanted. What is given back reads as zeroes.
    ///
    /// # Errors
    /// As `prepare_write`.
    fn discard(&self, range: Span) -> Result<()>;

    /// See the module.
    ///
    /// # Errors
    /// The storage's.
    fn flush(&self) -> Result<()>;

    /// The image will not be used any more: everything is made durable, and what the format keeps only
    /// while an image is open is put away. No request is running.
    ///
    /// # Errors
    /// The storage's.
    fn close(&self) -> Result<()> {
        self.flush()
    }

    /// Whether [`Format::recycle`] has something to do after a flush.
    fn has_garbage(&self) -> bool {
        false
    }

    /// Brings freed space back into use. No request is running.
    ///
    /// # Errors
    /// The storage's.
    fn recycle(&self) -> Result<()> {
        Ok(())
    }

    /// Whether so much metadata waits in memory that a flush is wanted.
    fn wants_flush(&self) -> bool {
        false
    }

    /// Reads from a [`MappingKind::Special`] range.
    ///
    /// # Errors
    /// As `locate`.
    fn read_special(&self, offset: GuestOffset, data: &mut [u8]) -> Result<()> {
        let _ = data;
        Err(BlockError::unsupported(
            self.format_name(),
            format!("nothing special to read at {offset}"),
        ))
    }

    /// Compresses one cluster; `None` when it does not get smaller. Pure: call it from any thread.
    fn compress(&self, cluster: &[u8]) -> Option<CompressedCluster> {
        let _ = cluster;
        None
    }

    /// Stores a compressed cluster at a cluster's offset where nothing is allocated.
    ///
    /// # Errors
    /// As `prepare_write`.
    fn write_compressed(&self, offset: GuestOffset, cluster: CompressedCluster) -> Result<()> {
        let _ = (offset, cluster);
        Err(BlockError::unsupported(self.format_name(), "does not store compressed clusters"))
    }

    /// Changes the size of the guest's disk. Only with no request running.
    ///
    /// # Errors
    /// Unsupported sizes and formats.
    fn resize(&self, size: u64) -> Result<()> {
        let _ = size;
        Err(BlockError::unsupported(
            self.format_name(),
            "images of this format cannot be resized; convert to another size",
        ))
    }

    /// A closer look, for formats that offer more than the contract.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// What a driver may use to open an image.
#[derive(Clone, Copy)]
pub struct OpenContext<'a> {
    /// Open for writing.
    pub writable: bool,
    /// Opens files that the image names.
    pub gate: &'a dyn Gate,
    /// The passphrase of an encrypted image.
    pub passphrase: Option<&'a [u8]>,
    /// Open even what is marked corrupt or dirty, and repair nothing: for check and repair.
    pub for_check: bool,
}

impl std::fmt::Debug for OpenContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenContext(writable: {}, for_check: {})", self.writable, self.for_check)
    }
}

/// An opened image and what it stands on.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub format: Box<dyn Format>,
    /// The backing image that it names, not opened.
    pub backing: Option<Reference>,
}

/// One kind of image: opens, recognises and makes them.
pub trait FormatDriver: Sync + std::fmt::Debug {
    /// The name: `"qcow2"`.
    fn name(&self) -> &'static str;

    /// How sure it is, from the first bytes and the length of a file: 0 not at all, 100 wholly. For the
    /// image tool only: a guest can write these bytes into a raw disk.
    fn probe(&self, head: &[u8], length: u64) -> u8;

    /// Opens an image.
    ///
    /// # Errors
    /// [`BlockError::WrongFormat`] and whatever the image is guilty of.
    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened>;

    /// Writes a new, empty image into an empty storage.
    ///
    /// # Errors
    /// [`BlockError::Option`] for options it does not take; the storage's.
    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        let _ = (file, request);
        Err(BlockError::unsupported(self.name(), "images of this format are read only; make qcow2"))
    }
}

/// The directory that relative names in an image are relative to.
pub(crate) fn directory_of(name: &str) -> PathBuf {
    PathBuf::from(name).parent().map(PathBuf::from).unwrap_or_default()
}
