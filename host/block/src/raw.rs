//! Raw: the file is the disk.

use crate::create::Preallocation;
use crate::format::{
    Format, FormatDriver, FormatInfo, Mapping, MappingKind, OpenContext, Opened, Ticket, WritePlan,
};
use crate::storage::Storage;
use crate::units::{GuestOffset, HostOffset, Span};
use crate::{BlockError, CreateRequest, Result};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A raw image.
#[derive(Debug)]
pub struct Raw {
    file: Arc<dyn Storage>,
    size: AtomicU64,
    writable: bool,
}

impl Raw {
    /// The whole of a storage as a disk.
    ///
    /// # Errors
    /// The storage's.
    pub fn open(file: Arc<dyn Storage>, writable: bool) -> Result<Raw> {
        let size = AtomicU64::new(file.size()?);
        Ok(Raw { file, size, writable })
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(BlockError::ReadOnly { name: self.file.name().to_owned() })
    }
}

impl Format for Raw {
    fn format_name(&self) -> &'static str {
        "raw"
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn info(&self) -> FormatInfo {
        FormatInfo::default()
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        let kind = MappingKind::Data { storage: &*self.file, offset: HostOffset(offset.get()) };
        Ok(Mapping { kind, length })
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        self.check_writable()?;
        let offset = HostOffset(offset.get());
        Ok(WritePlan::InPlace { storage: &*self.file, offset, length })
    }

    fn commit_write(&self, _ticket: Ticket) -> Result<()> {
        Ok(())
    }

    fn abort_write(&self, _ticket: Ticket) {}

    fn zero(&self, range: Span, unmap: bool) -> Result<Span> {
        self.check_writable()?;
        self.file.write_zeroes(HostOffset(range.start.get()), range.length, unmap)?;
        Ok(range)
    }

    fn discard(&self, range: Span) -> Result<()> {
        self.zero(range, true).map(|_| ())
    }

    fn flush(&self) -> Result<()> {
        self.file.flush()
    }

    fn resize(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        self.file.set_size(size)?;
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The unit of a disk's size in bytes.
const SECTOR: u64 = 512;

/// Opens and makes raw images.
#[derive(Debug)]
pub struct RawDriver;

impl FormatDriver for RawDriver {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn probe(&self, _head: &[u8], _length: u64) -> u8 {
        1
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let raw = Raw::open(file, context.writable)?;
        // A disk has whole sectors; what the file lacks of the last one reads as zeroes.
        raw.size.store(raw.size().next_multiple_of(SECTOR), Ordering::Relaxed);
        Ok(Opened { format: Box::new(raw), backing: None })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        request.expect_only("raw", &["preallocation", "size"])?;
        if request.backing_file.is_some() {
            return Err(BlockError::option(
                "backing_file",
                "raw images have no backing file; use qcow2",
            ));
        }
        file.set_size(request.size)?;
        match request.preallocation()? {
            Preallocation::Off => Ok(()),
            Preallocation::Falloc => file.reserve(HostOffset(0), request.size),
            Preallocation::Full => file.write_zeroes(HostOffset(0), request.size, false),
            Preallocation::Metadata => Err(BlockError::option(
                "preallocation=metadata",
                "raw has no metadata; give off, falloc or full",
            )),
        }
    }
}
