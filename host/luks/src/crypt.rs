//! Encrypted sectors over a storage.

use aes::cipher::KeyInit;
use aes::{Aes128, Aes256};
use kezhan_block::storage::Storage;
use kezhan_block::{BlockError, HostOffset, Result};
use std::sync::{Arc, Mutex, PoisonError};
use xts_mode::Xts128;

/// Bytes in an encrypted sector (LUKS §6, "all sector sizes are 512 bytes").
pub const SECTOR: usize = 512;

/// The key that the payload is encrypted with.
#[derive(Clone)]
pub struct MasterKey(Arc<Cipher>);

enum Cipher {
    Aes128(Box<Xts128<Aes128>>),
    Aes256(Box<Xts128<Aes256>>),
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// A key of 32 bytes (AES-128) or 64 bytes (AES-256): half for data, half for tweaks.
    pub fn new(key: &[u8]) -> Option<MasterKey> {
        let (data, tweak) = key.split_at_checked(key.len() / 2)?;
        let cipher = match key.len() {
            32 => {
                let make = |half: &[u8]| Aes128::new_from_slice(half).ok();
                Cipher::Aes128(Box::new(Xts128::new(make(data)?, make(tweak)?)))
            }
            64 => {
                let make = |half: &[u8]| Aes256::new_from_slice(half).ok();
                Cipher::Aes256(Box::new(Xts128::new(make(data)?, make(tweak)?)))
            }
            _ => return None,
        };
        Some(MasterKey(Arc::new(cipher)))
    }

    /// Decrypts whole sectors, the first of which is number `first`.
    pub fn decrypt(&self, data: &mut [u8], first: u64) {
        self.sectors(data, first, false);
    }

    /// Encrypts whole sectors, the first of which is number `first`.
    pub fn encrypt(&self, data: &mut [u8], first: u64) {
        self.sectors(data, first, true);
    }

    /// "plain64": the tweak is the sector's number, little-endian.
    fn sectors(&self, data: &mut [u8], first: u64, encrypt: bool) {
        for (sector, number) in data.chunks_exact_mut(SECTOR).zip(first..) {
            let tweak = u128::from(number).to_le_bytes();
            match (&*self.0, encrypt) {
                (Cipher::Aes128(xts), true) => xts.encrypt_sector(sector, tweak.into()),
                (Cipher::Aes128(xts), false) => xts.decrypt_sector(sector, tweak.into()),
                (Cipher::Aes256(xts), true) => xts.encrypt_sector(sector, tweak.into()),
                (Cipher::Aes256(xts), false) => xts.decrypt_sector(sector, tweak.into()),
            }
        }
    }
}

/// The payload of an encrypted storage, in the clear.
#[derive(Debug)]
pub struct CryptStorage {
    inner: Arc<dyn Storage>,
    key: MasterKey,
    start: u64,
    /// Writes of less than a sector read, change and write it: one at a time.
    partial: Mutex<()>,
}

impl CryptStorage {
    /// The payload that starts at `start` (whole sectors) in `inner`; there is sector number 0.
    pub fn new(inner: Arc<dyn Storage>, key: MasterKey, start: u64) -> CryptStorage {
        CryptStorage { inner, key, start, partial: Mutex::new(()) }
    }

    /// The sectors around a range, decrypted, and where the range starts in them.
    fn around(&self, offset: u64, length: usize) -> Result<(u64, Vec<u8>)> {
        let first = offset / SECTOR as u64;
        let end = (offset + length as u64).div_ceil(SECTOR as u64);
        let mut sectors = vec![0; ((end - first) as usize) * SECTOR];
        let at = HostOffset(self.start + first * SECTOR as u64);
        self.inner.read_at(at, &mut sectors)?;
        self.key.decrypt(&mut sectors, first);
        Ok((first, sectors))
    }

    fn check(&self, offset: HostOffset, length: u64) -> Result<()> {
        if offset.get().checked_add(length).is_some_and(|end| end < 1 << 62) {
            return Ok(());
        }
        let what = format!("offset {offset} is beyond what can be encrypted");
        Err(BlockError::corrupt(self.inner.name(), what))
    }
}

impl Storage for CryptStorage {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn size(&self) -> Result<u64> {
        Ok(self.inner.size()?.saturating_sub(self.start))
    }

    fn read_at(&self, offset: HostOffset, data: &mut [u8]) -> Result<()> {
        self.check(offset, data.len() as u64)?;
        if offset.within(SECTOR as u64) == 0 && data.len().is_multiple_of(SECTOR) {
            self.inner.read_at(offset.plus(self.start), data)?;
            self.key.decrypt(data, offset.get() / SECTOR as u64);
            return Ok(());
        }
        let (first, sectors) = self.around(offset.get(), data.len())?;
        let within = (offset.get() - first * SECTOR as u64) as usize;
        data.copy_from_slice(&sectors[within..within + data.len()]);
        Ok(())
    }

    fn write_at(&self, offset: HostOffset, data: &[u8]) -> Result<()> {
        self.check(offset, data.len() as u64)?;
        let whole = offset.within(SECTOR as u64) == 0 && data.len().is_multiple_of(SECTOR);
        let _one = (!whole).then(|| self.partial.lock().unwrap_or_else(PoisonError::into_inner));
        let (first, mut sectors) = if whole {
            (offset.get() / SECTOR as u64, data.to_vec())
        } else {
            let (first, mut sectors) = self.around(offset.get(), data.len())?;
            let within = (offset.get() - first * SECTOR as u64) as usize;
            sectors[within..within + data.len()].copy_from_slice(data);
            (first, sectors)
        };
        self.key.encrypt(&mut sectors, first);
        self.inner.write_at(HostOffset(self.start + first * SECTOR as u64), &sectors)
    }

    fn write_zeroes(&self, offset: HostOffset, length: u64, _unmap: bool) -> Result<()> {
        let zeroes = vec![0; length.min(1 << 20) as usize];
        let mut done = 0;
        while done < length {
            let count = (length - done).min(zeroes.len() as u64) as usize;
            self.write_at(offset.plus(done), &zeroes[..count])?;
            done += count as u64;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }

    fn set_size(&self, size: u64) -> Result<()> {
        self.inner.set_size(self.start.saturating_add(size))
    }

    fn occupied(&self) -> Result<u64> {
        self.inner.occupied()
    }

    /// A hole decrypts to noise.
    fn grows_with_zeroes(&self) -> bool {
        false
    }
}
