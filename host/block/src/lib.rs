//! Disk images: where bytes live, what they mean, and the one engine that moves them.
//!
//! ```text
//!   machine (kezhan-ports Disk)     kezhan image (convert, compare, commit …)
//!            │                                  │
//!       DiskBackend ─ worker threads            │
//!            └──────────────┬───────────────────┘
//!                        Image              engine: splits, copies, fills, walks the backing chain
//!                       ┌───┴────────────┐
//!                  Box<dyn Format>   backing: Option<Arc<Image>>
//!                       │  "where is this range?"
//!                 Arc<dyn Storage>     file, block device, memory, NBD
//! ```
//!
//! # Three parts, three questions
//! * **[`Storage`]: where do bytes live?** A flat array that grows: a file, a block device, memory, a
//!   network server. It knows nothing of images.
//! * **[`Format`]: where is this range?** Given a range of the guest's disk it answers with a place in a
//!   storage, "zeroes", "ask the backing image" or "only I can read that" (compressed). For writing it
//!   hands out a [`WritePlan`]. It never moves guest data, so a format is metadata and nothing else.
//! * **[`Image`]: the engine.** One implementation of reading, writing, copy-on-write, zeroing,
//!   discarding, flushing and mapping for every format and every chain of them.
//!
//! # Concurrency
//! Every call takes `&self` and may come from any thread: guest requests and parallel conversion are the
//! same thing. Nothing is asynchronous; threads wait for the kernel, and the kernel is good at that.
//! Writers to one unallocated cluster are put in a row by the format (see [`WritePlan::Allocate`]).
//! Lock order: image activity → format's flush order → format's state. No lock of a format is held
//! while guest data moves.
//!
//! # Durability
//! As of any disk: a write is durable after [`Image::flush`]. Between flushes power may fail at any point,
//! and then a format's metadata must still describe every flushed byte; at worst clusters are leaked.
//!
//! # Trust
//! Image files are hostile. Every number read from one is checked before it is used as an offset, a
//! length or a count; memory is bounded by limits named in the format's `spec`; a format is named by the
//! user, and probing exists only for the image tool, which says so. Files that an image names (backing
//! files, data files, extents) are opened only through the [`Gate`] that the caller passes.
//!
//! # What was rejected
//! Formats that do their own I/O (each then has its own copy-on-write and its own bugs); asynchronous
//! code (two worlds, no gain over threads for files); one trait for storage and format (a chain could not
//! say what it is).

mod backend;
mod create;
mod engine;
mod error;
mod format;
mod gate;
mod limit;
mod open;
mod raw;
pub mod storage;
pub mod testkit;
mod units;

pub use backend::{DiskBackend, DiskHandle, DiskOptions, Faults, OnError, Trouble, has_io_uring};
pub use create::{CreateRequest, Preallocation};
pub use engine::{Image, MapEntry};
pub use error::{BlockError, Result};
pub use format::{
    CompressedCluster, Format, FormatDriver, FormatInfo, Mapping, MappingKind, OpenContext, Opened,
    Ticket, WritePlan,
};
pub use gate::{DenyAll, FollowFiles, Gate, Reference, ReferenceKind};
pub use kezhan_ports::Buffer;
pub use limit::{Limits, Rate, Throttle};
pub use open::{OpenOptions, open_chain, probe};
pub use raw::{Raw, RawDriver};
pub use storage::{Extent, FileStorage, MemoryStorage, Storage};
pub use units::{GuestOffset, HostOffset, Span, is_zero};
