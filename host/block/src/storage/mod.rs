//! Storage: where bytes live.
//!
//! A storage is a flat array of bytes. Reading past its end gives zeroes, writing past its end makes it
//! longer (a block device refuses), and what was never written reads as zeroes.
//!
//! | storage | for |
//! |---|---|
//! | [`FileStorage`] | files and block devices |
//! | [`NbdStorage`] | exports of NBD servers |
//! | [`MemoryStorage`] | tests, and metadata that is prepared before it is written |
//! | [`crate::testkit::CrashStorage`] | power loss: loses, reorders and tears what was not flushed |
//! | [`crate::testkit::FaultStorage`] | errors of the host, on demand |

mod changes;
mod file;
mod lock;
mod memory;
mod nbd;
mod options;

pub use file::FileStorage;
pub use memory::MemoryStorage;
pub use nbd::{NbdAddress, NbdServer, NbdStorage};
pub use options::{CacheMode, FileOptions};

use crate::Result;
use crate::units::HostOffset;
use kezhan_calls::vectored::copy;
use kezhan_ports::LentMemory;
use std::fs::File;
use std::sync::Arc;

/// A run of bytes that are all data or all hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether the storage holds no data there, so that it reads as zeroes.
    pub hole: bool,
    /// Its length in bytes; not 0.
    pub length: u64,
}

/// Where bytes live. See the module for the contract.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// The name to show to people: the path, or the address.
    fn name(&self) -> &str;

    /// Its length in bytes.
    ///
    /// # Errors
    /// The host's.
    fn size(&self) -> Result<u64>;

    /// Fills `data` from `offset`; what lies past the end reads as zeroes.
    ///
    /// # Errors
    /// The host's.
    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()>;

    /// Writes `data` at `offset`.
    ///
    /// # Errors
    /// The host's.
    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()>;

    /// As [`Storage::read_at`] when no device of the host must be waited for; false when it must, and `data` is in
    /// any state.
    ///
    /// # Errors
    /// The host's.
    fn read_now(&self, offset: HostOffset, data: &mut [u8]) -> Result<bool> {
        let _ = (offset, data);
        Ok(false)
    }

    /// Whether [`Storage::write_at`] only hands data to the host's memory.
    fn writes_promptly(&self) -> bool {
        false
    }

    /// As [`Storage::read_now`], into memory of the guest.
    ///
    /// # Errors
    /// The host's.
    fn read_lent_now(&self, offset: HostOffset, into: &LentMemory<'_>) -> Result<bool> {
        let _ = (offset, into);
        Ok(false)
    }

    /// As [`Storage::write_at`], out of memory of the guest.
    ///
    /// # Errors
    /// The host's.
    fn write_lent(&self, offset: HostOffset, from: &LentMemory<'_>) -> Result<()> {
        self.write_at(offset, &copy(from))
    }

    /// The file in which `data` at `offset` is read and written by that alone, so that the kernel may do it without us
    /// (io_uring(7)); `None` when more is to be done. What was written is told to [`Storage::written`].
    fn plain_file(&self, offset: HostOffset, data: &[u8]) -> Option<Arc<File>> {
        let _ = (offset, data);
        None
    }

    /// The kernel has written to the file that [`Storage::plain_file`] gave, or has tried to.
    fn written(&self) {}

    /// Makes a range read as zeroes, giving space back when `unmap` and the host can.
    ///
    /// # Errors
    /// The host's.
    fn write_zeroes(&self, offset: HostOffset, length: u64, unmap: bool) -> Result<()>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// The host's; after one, nothing is known of what became durable.
    fn flush(&self) -> Result<()>;

    /// Makes it exactly `size` bytes long.
    ///
    /// # Errors
    /// The host's; a block device cannot change.
    fn set_size(&self, size: u64) -> Result<()>;

    /// The data or hole that starts at `offset`, at most `length` (not 0) long. Saying "data" of a hole is
    /// allowed; saying "hole" of data is not.
    ///
    /// # Errors
    /// The host's.
    fn extent(&self, offset: HostOffset, length: u64) -> Result<Extent> {
        let _ = offset;
        Ok(Extent { hole: false, length })
    }

    /// Reserves space for a range without changing what it reads as.
    ///
    /// # Errors
    /// The host's, above all no space.
    fn reserve(&self, offset: HostOffset, length: u64) -> Result<()> {
        let _ = (offset, length);
        Ok(())
    }

    /// Bytes that it occupies on the host.
    ///
    /// # Errors
    /// The host's.
    fn occupied(&self) -> Result<u64> {
        self.size()
    }

    /// Whether space past the old end reads as zeroes after it grew. False only for block devices.
    fn grows_with_zeroes(&self) -> bool {
        true
    }
}
