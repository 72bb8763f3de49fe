//! Encryption of guest data (qcow2 specification, "Header", crypt method 2; "Full disk encryption header pointer").
//!
//! The LUKS header lies in clusters of the image. Guest clusters are encrypted where they lie: the tweak is
//! the sector's number in the *file*. Tables stay in the clear, so an image can be checked without its
//! passphrase.

use crate::bytes::{put, u64_at};
use crate::header::Header;
use crate::image::Qcow2;
use crate::refcount::Run;
use crate::spec;
use kezhan_block::{BlockError, OpenContext, Result, Storage};
use kezhan_luks::{CryptStorage, LuksHeader, LuksOptions};
use std::sync::Arc;

/// Guest data of an image, in the clear. For a check without a passphrase it stays as it is.
pub(crate) fn open_encrypted(
    file: &Arc<dyn Storage>,
    header: &Header,
    context: &OpenContext<'_>,
) -> Result<Arc<dyn Storage>> {
    let what = match header.crypt_method {
        spec::CRYPT_LUKS if header.layout().external => "encrypts an external data file",
        spec::CRYPT_LUKS => "",
        _ => "uses the obsolete AES encryption; decrypt it with the tool that made it",
    };
    if !what.is_empty() {
        return Err(BlockError::unsupported(file.name(), what));
    }
    if context.for_check && context.passphrase.is_none() {
        return Ok(file.clone());
    }
    let Some(pointer) = header.extension(spec::EXT_LUKS) else {
        return Err(BlockError::corrupt(file.name(), "is encrypted but has no encryption header"));
    };
    let luks = LuksHeader::read(&**file, u64_at(pointer, 0))?;
    let key = luks.unlock(&**file, context.passphrase)?;
    Ok(Arc::new(CryptStorage::new(file.clone(), key, 0)))
}

impl Qcow2 {
    /// The clusters of the encryption header.
    pub(crate) fn luks_run(&self, header: &Header) -> Option<Run> {
        let pointer = header.extension(spec::EXT_LUKS)?;
        let count = self.layout.clusters(u64_at(pointer, 8));
        Some(Run { first: u64_at(pointer, 0) / self.layout.cluster(), count })
    }

    /// Gives a new, empty image an encryption header.
    pub(crate) fn make_encrypted(&self, passphrase: &[u8], options: &LuksOptions) -> Result<()> {
        let clusters = self.layout.clusters(LuksHeader::new_length(options));
        let run = self.state().refcounts.allocate_exactly(&*self.file, clusters)?;
        let at = run.first * self.layout.cluster();
        let end = at + clusters * self.layout.cluster();
        if self.file.size()? < end {
            self.file.set_size(end)?;
        }
        let (luks, _) = LuksHeader::create(&*self.file, at, passphrase, options)?;
        let mut pointer = vec![0; 16];
        put(&mut pointer, 0, &at.to_be_bytes());
        put(&mut pointer, 8, &luks.payload().to_be_bytes());
        {
            let mut state = self.state();
            state.header.crypt_method = spec::CRYPT_LUKS;
            state.header.set_extension(spec::EXT_LUKS, Some(pointer));
            state.header_dirty = true;
        }
        self.flush_metadata()
    }

    /// Whether guest data is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        !Arc::ptr_eq(&self.file, &self.data) && !self.layout.external
    }
}
