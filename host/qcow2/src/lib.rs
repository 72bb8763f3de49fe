//! The qcow2 image format, versions 2 and 3: our own implementation of QEMU's document "The QCOW2 image
//! format" (docs/interop/qcow2).
//!
//! ```text
//!   header ─► L1 table ─► L2 tables ─► guest clusters: data, zeroes, compressed, or "ask the backing file"
//!      ├────► refcount table ─► refcount blocks: how often each cluster of the file is used
//!      ├────► snapshot table ─► an L1 table for each snapshot
//!      └────► bitmap directory ─► bitmap tables ─► bits
//! ```
//!
//! # Files by verb
//! | file | does |
//! |---|---|
//! | `spec` `layout` `header` `entry` `bytes` | numbers, sizes, the header, L2 entries |
//! | `tables` `refcount` | tables in memory, which clusters are used |
//! | `image` `state` | the image, what the lock protects |
//! | `mapping` `allocate` `zero` `compressed` | where is it; make room; zeroes and discards; compression |
//! | `flush` | what is written in which order |
//! | `create` `resize` `snapshot` `bitmap` `track` | as named; bitmaps that record writes |
//! | `encrypt` | LUKS over guest data |
//! | `check` `repair` | is it consistent; make it so |
//!
//! # Power loss
//! No table of the file is changed between flushes (but for tables that are written early because
//! memory is full, by the same procedure). A flush writes in this order, with a barrier of the storage at
//! each bar:
//!
//! ```text
//!   refcount blocks │ refcount table │ (header, when the table moved) │ L2 tables │ L1 entries │
//! ```
//!
//! Guest data was written before the first bar. So at any point of a power loss: a cluster that a table
//! refers to has a refcount and its content; what was freed is at worst leaked. Freed clusters return to
//! use only after the flush that made their last reference vanish.
//!
//! Snapshots change the counts and the "copied" flags of many tables, which no order makes safe at each
//! moment; for them the dirty bit is set (version 3), and who opens the image next repairs it.
//!
//! # Locks
//! `flush order` (one flush at a time) → `state` (everything in memory). `state` is held for looking at
//! tables and for reading those that are not in memory, never while guest data moves or the storage
//! flushes.

mod allocate;
mod bitmap;
mod bytes;
mod check;
mod compressed;
mod create;
mod driver;
mod encrypt;
mod entry;
mod flush;
mod header;
mod image;
mod layout;
mod mapping;
mod refcount;
mod repair;
mod resize;
mod snapshot;
pub mod spec;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod track;
mod zero;

pub use bitmap::{Bitmap, BitmapInfo};
pub use check::{CheckReport, Repair};
pub use create::CreatePlan;
pub use driver::Qcow2Driver;
pub use header::Header;
pub use image::Qcow2;
pub use layout::{Compression, Layout};
pub use snapshot::{Snapshot, SnapshotTime};
