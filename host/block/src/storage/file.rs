//! Files and block devices.

use super::changes::Changes;
use super::options::{CacheMode, FileOptions};
use super::{Extent, Storage, lock};
use crate::units::HostOffset;
use crate::{BlockError, Result};
use kezhan_calls::vectored;
use kezhan_ports::{Buffer, LentMemory};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A file or a block device.
#[derive(Debug)]
pub struct FileStorage {
    name: String,
    path: PathBuf,
    file: Arc<File>,
    device: bool,
    cache: CacheMode,
    /// Bytes last found to hold no hole. On some file systems each question takes time in proportion to the
    /// answer, and whoever reads a file from end to end asks for every piece of it. That somebody else
    /// has since made a hole there does no harm: it reads as zeroes.
    data: Mutex<Range<u64>>,
    /// The file system cannot be asked whether a read would wait.
    waits: AtomicBool,
    changes: Changes,
    /// What was before this is to be there: that somebody else has made the file shorter is an error.
    length: AtomicU64,
}

/// Alignment that direct I/O is content with, in bytes: of places, lengths and memory.
const ALIGN: usize = 4096;

impl FileStorage {
    /// Opens, or makes, a file.
    ///
    /// # Errors
    /// The host's, and [`BlockError::InUse`].
    pub fn open(path: &Path, options: FileOptions) -> Result<FileStorage> {
        let name = path.display().to_string();
        let direct = if options.cache.direct() { nix::libc::O_DIRECT } else { 0 };
        let file = File::options()
            .read(true)
            .write(options.writable)
            .create(options.create)
            .custom_flags(direct)
            .open(path)
            .map_err(BlockError::io(&name, "open"))?;
        let kind = file.metadata().map_err(BlockError::io(&name, "examine"))?.file_type();
        if kind.is_dir() {
            return Err(BlockError::unsupported(&name, "is a directory; name a file in it"));
        }
        if options.lock {
            lock::lock(&file, &name, options.writable)?;
        }
        let device = kind.is_block_device();
        if options.create && !device {
            file.set_len(0).map_err(BlockError::io(&name, "empty"))?;
        }
        let path = path.to_owned();
        let (cache, data, waits) = (options.cache, Mutex::default(), AtomicBool::new(false));
        let (changes, length) = (Changes::new(), AtomicU64::new(0));
        let storage = FileStorage {
            name,
            path,
            file: Arc::new(file),
            device,
            cache,
            data,
            waits,
            changes,
            length,
        };
        storage.length.store(storage.size()?, Ordering::Relaxed);
        Ok(storage)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Device and inode number: the same for two names of one file.
    ///
    /// # Errors
    /// The host's.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let meta = self.file.metadata().map_err(BlockError::io(&self.name, "examine"))?;
        Ok((meta.dev(), meta.ino()))
    }

    fn read_cached(&self, mut offset: u64, mut data: &mut [u8]) -> Result<()> {
        while !data.is_empty() {
            match self.file.read_at(data, offset) {
                Ok(0) => {
                    self.check_length(offset)?;
                    data.fill(0);
                    return Ok(());
                }
                Ok(count) => {
                    offset += count as u64;
                    data = &mut data[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BlockError::io(&self.name, "read")(error)),
            }
        }
        Ok(())
    }

    /// Nothing is at `offset`: an error when something was.
    fn check_length(&self, offset: u64) -> Result<()> {
        let length = self.length.load(Ordering::Relaxed);
        if offset >= length {
            return Ok(());
        }
        let what = format!("the file has ended at {offset}, it had {length} bytes");
        Err(BlockError::io(&self.name, "read")(io::Error::new(io::ErrorKind::UnexpectedEof, what)))
    }

    /// Without the page cache: whole pages at page boundaries, to and from aligned memory (open(2), `O_DIRECT`).
    fn read_direct(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        if is_direct(offset, data) {
            return self.read_cached(offset, data);
        }
        let (start, mut bounce) = around(offset, data.len());
        let skip = (offset - start) as usize;
        self.read_cached(start, &mut bounce)?;
        data.copy_from_slice(&bounce[skip..skip + data.len()]);
        Ok(())
    }

    fn write_direct(&self, offset: u64, data: &[u8]) -> Result<()> {
        let write = |at, bytes: &[u8]| {
            self.file.write_all_at(bytes, at).map_err(BlockError::io(&self.name, "write"))
        };
        if is_direct(offset, data) {
            return write(offset, data);
        }
        let (start, mut bounce) = around(offset, data.len());
        let skip = (offset - start) as usize;
        if skip + data.len() != bounce.len() || skip != 0 {
            self.read_cached(start, &mut bounce)?;
        }
        bounce[skip..skip + data.len()].copy_from_slice(data);
        let old_size = if self.device { u64::MAX } else { self.size()? };
        let end = offset + data.len() as u64;
        write(start, &bounce)?;
        if old_size < end && self.size()? > end {
            self.set_size(end)?;
        }
        Ok(())
    }

    fn zero_by_writing(&self, offset: HostOffset, length: u64) -> Result<()> {
        let block = vec![0; length.min(1 << 20) as usize];
        let mut done = 0;
        while done < length {
            let count = (length - done).min(block.len() as u64) as usize;
            self.write_at(offset.plus(done), &block[..count])?;
            done += count as u64;
        }
        Ok(())
    }

    fn known_data(&self) -> Range<u64> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_known_data(&self, data: Range<u64>) {
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = data;
    }

    /// Whether every read may wait, as far as is known.
    fn waits(&self) -> bool {
        self.cache.direct() || self.waits.load(Ordering::Relaxed)
    }

    /// Whether a read that was not to wait has read all of `whole` bytes.
    fn whole_now(&self, read: io::Result<usize>, whole: usize) -> Result<bool> {
        let error = match read {
            Ok(count) => return Ok(count == whole),
            Err(error) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::INTR) => Ok(false),
            Some(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.waits.store(true, Ordering::Relaxed);
                Ok(false)
            }
            _ => Err(BlockError::io(&self.name, "read")(error)),
        }
    }

    fn after_write(&self) -> Result<()> {
        self.changes.count();
        if self.cache.through() { self.flush() } else { Ok(()) }
    }
}

/// Whether the bytes start at a page.
fn is_aligned(data: &[u8]) -> bool {
    data.as_ptr().align_offset(ALIGN) == 0
}

fn is_direct(offset: u64, data: &[u8]) -> bool {
    offset.is_multiple_of(ALIGN as u64) && data.len().is_multiple_of(ALIGN) && is_aligned(data)
}

/// The whole pages around a range: where they start, and memory for them.
fn around(offset: u64, length: usize) -> (u64, Buffer) {
    let start = offset - offset % ALIGN as u64;
    let whole = ((offset - start) as usize + length).next_multiple_of(ALIGN);
    (start, Buffer::new(whole))
}

impl Storage for FileStorage {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> Result<u64> {
        if self.device {
            return rustix::fs::seek(&self.file, SeekFrom::End(0))
                .map_err(|errno| BlockError::io(&self.name, "find the size of")(errno.into()));
        }
        Ok(self.file.metadata().map_err(BlockError::io(&self.name, "examine"))?.len())
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        if self.cache.direct() {
            return self.read_direct(offset.get(), data);
        }
        self.read_cached(offset.get(), data)
    }

    /// From the page cache (preadv2(2), RWF_NOWAIT), which not every file system can be asked for.
    fn read_now(&self, offset: HostOffset, data: &mut [u8]) -> Result<bool> {
        if self.waits() {
            return Ok(false);
        }
        let whole = data.len();
        let buffers = &mut [IoSliceMut::new(data)];
        let read = preadv2(&self.file, buffers, offset.get(), ReadWriteFlags::NOWAIT);
        self.whole_now(read.map_err(io::Error::from), whole)
    }

    fn read_lent_now(&self, offset: HostOffset, into: &LentMemory<'_>) -> Result<bool> {
        if self.waits() {
            return Ok(false);
        }
        self.whole_now(vectored::read_now(&self.file, offset.get(), into), into.len())
    }

    fn write_lent(&self, offset: HostOffset, from: &LentMemory<'_>) -> Result<()> {
        if self.cache.direct() {
            return self.write_at(offset, &vectored::copy(from));
        }
        let written = vectored::write_all(&self.file, offset.get(), from);
        self.after_write()?;
        written.map_err(BlockError::io(&self.name, "write"))
    }

    fn writes_promptly(&self) -> bool {
        matches!(self.cache, CacheMode::WriteBack | CacheMode::Unsafe)
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        let written = if self.cache.direct() {
            self.write_direct(offset.get(), data)
        } else {
            let written = self.file.write_all_at(data, offset.get());
            written.map_err(BlockError::io(&self.name, "write"))
        };
        self.after_write()?;
        written
    }

    fn plain_file(&self, offset: HostOffset, data: &[u8]) -> Option<Arc<File>> {
        let aligned = !self.cache.direct() || is_direct(offset.get(), data);
        (aligned && !self.cache.through()).then(|| self.file.clone())
    }

    fn written(&self) {
        self.changes.count();
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, unmap: bool) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        self.set_known_data(0..0);
        let end = offset.plus(length).get();
        if unmap && !self.device && self.size()? < end {
            // A hole past the end: longer first, so that punching covers all of it.
            self.set_size(end)?;
        }
        let how = if unmap {
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE
        } else {
            FallocateFlags::ZERO_RANGE
        };
        let done = rustix::fs::fallocate(&self.file, how, offset.get(), length);
        self.changes.count();
        match done {
            Ok(()) => self.after_write(),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV | Errno::NOSYS) => {
                self.zero_by_writing(offset, length)
            }
            Err(errno) => Err(BlockError::io(&self.name, "zero a range of")(errno.into())),
        }
    }

    fn flush(&self) -> Result<()> {
        if self.cache == CacheMode::Unsafe {
            return Ok(());
        }
        let Some(pending) = self.changes.pending() else { return Ok(()) };
        self.file.sync_data().map_err(BlockError::io(&self.name, "flush"))?;
        self.changes.settle(pending);
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.set_known_data(0..0);
        if self.device {
            if size <= self.size()? {
                return Ok(());
            }
            return Err(BlockError::unsupported(
                &self.name,
                "a block device cannot grow; make the device larger first",
            ));
        }
        self.length.fetch_min(size, Ordering::Relaxed);
        let resized = self.file.set_len(size).map_err(BlockError::io(&self.name, "resize"));
        self.changes.count();
        resized
    }

    fn extent(&self, offset: HostOffset, length: u64) -> Result<Extent> {
        let all_data = Extent { hole: false, length };
        if self.device {
            return Ok(all_data);
        }
        let known = self.known_data();
        if known.contains(&offset.get()) {
            return Ok(Extent { hole: false, length: length.min(known.end - offset.get()) });
        }
        let seek = |from| rustix::fs::seek(&self.file, from);
        let data = match seek(SeekFrom::Data(offset.get())) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(Extent { hole: true, length }),
            Err(_) => return Ok(all_data),
        };
        if data > offset.get() {
            return Ok(Extent { hole: true, length: length.min(data - offset.get()) });
        }
        match seek(SeekFrom::Hole(offset.get())) {
            Ok(hole) if hole > offset.get() => {
                self.set_known_data(offset.get()..hole);
                Ok(Extent { hole: false, length: length.min(hole - offset.get()) })
            }
            _ => Ok(all_data),
        }
    }

    fn reserve(&self, offset: HostOffset, length: u64) -> Result<()> {
        if length == 0 || self.device {
            return Ok(());
        }
        let reserved =
            rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset.get(), length);
        self.changes.count();
        reserved.map_err(|errno| BlockError::io(&self.name, "reserve space for")(errno.into()))
    }

    fn occupied(&self) -> Result<u64> {
        let meta = self.file.metadata().map_err(BlockError::io(&self.name, "examine"))?;
        Ok(meta.blocks() * 512)
    }

    fn grows_with_zeroes(&self) -> bool {
        !self.device
    }
}
