//! LUKS disks without another format: raw, encrypted.

use crate::crypt::{CryptStorage, MasterKey};
use crate::header::LuksHeader;
use crate::options::LuksOptions;
use kezhan_block::storage::Storage;
use kezhan_block::{
    BlockError, CreateRequest, Format, FormatDriver, FormatInfo, GuestOffset, Mapping, OpenContext,
    Opened, Raw, Result, Span, Ticket, WritePlan,
};
use std::any::Any;
use std::sync::Arc;

/// A raw disk in an encrypted storage.
#[derive(Debug)]
struct Luks(Raw);

impl Format for Luks {
    fn format_name(&self) -> &'static str {
        "luks"
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn info(&self) -> FormatInfo {
        FormatInfo { encrypted: true, ..FormatInfo::default() }
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        self.0.locate(offset, length)
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        self.0.prepare_write(offset, length)
    }

    fn commit_write(&self, ticket: Ticket) -> Result<()> {
        self.0.commit_write(ticket)
    }

    fn abort_write(&self, ticket: Ticket) {
        self.0.abort_write(ticket);
    }

    /// Giving space back would show where the disk is empty.
    fn discard(&self, _range: Span) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn resize(&self, size: u64) -> Result<()> {
        self.0.resize(size)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens and makes LUKS disks.
#[derive(Debug)]
pub struct LuksDriver;

impl FormatDriver for LuksDriver {
    fn name(&self) -> &'static str {
        "luks"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        if LuksHeader::is_magic(head) { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let header = LuksHeader::read(&*file, 0)?;
        let key = match context.passphrase {
            // Whoever only looks at the metadata reads noise.
            None if context.for_check => MasterKey::new(&[0; 64]),
            passphrase => Some(header.unlock(&*file, passphrase)?),
        };
        let Some(key) = key else {
            return Err(BlockError::corrupt(file.name(), "the master key is too short"));
        };
        let payload = Arc::new(CryptStorage::new(file, key, header.payload()));
        let format = Box::new(Luks(Raw::open(payload, context.writable)?));
        Ok(Opened { format, backing: None })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        request
            .expect_only("luks", &[&["size", "key-secret"], &LuksOptions::NAMES[..]].concat())?;
        let Some(passphrase) = &request.passphrase else {
            return Err(BlockError::option("key-secret", "give --object secret,id=NAME,file=FILE"));
        };
        let (header, _) =
            LuksHeader::create(&*file, 0, passphrase, &LuksOptions::read(request, "")?)?;
        file.set_size(header.payload() + request.size.next_multiple_of(512))?;
        file.flush()
    }
}
