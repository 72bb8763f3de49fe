//! Files as the loaders read them.

use crate::KernelError;
use kezhan_device::GuestMemory;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a kernel that are looked at to know its format: where a multiboot header may be.
const HEAD: u64 = 8192;

/// A kernel or initial RAM disk: bytes at offsets.
pub trait Image {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the host said.
    fn length(&self) -> io::Result<u64>;

    /// Fills `data` from `offset` on.
    ///
    /// # Errors
    /// What the host said, and `UnexpectedEof` when it ends before.
    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()>;

    /// Copies `length` bytes from `offset` to guest memory at `address`, all of which is RAM.
    ///
    /// # Errors
    /// As [`Image::read_at`].
    fn copy_to(&self, offset: u64, target: Target<'_>, length: usize) -> io::Result<()>;
}

/// A place in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Guest memory.
    pub memory: &'a GuestMemory,
    /// Guest-physical address.
    pub address: u64,
}

impl Image for File {
    fn length(&self) -> io::Result<u64> {
        let metadata = self.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(metadata.len())
    }

    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(data, offset)
    }

    /// Straight from the page cache into guest memory; the file's position moves.
    fn copy_to(&self, offset: u64, target: Target<'_>, length: usize) -> io::Result<()> {
        let mut file = self;
        file.seek(SeekFrom::Start(offset))?;
        target
            .memory
            .read_exact_volatile_from(GuestAddress(target.address), &mut file, length)
            .map_err(io::Error::other)
    }
}

impl Image for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        data.copy_from_slice(part(self, offset, data.len())?);
        Ok(())
    }

    fn copy_to(&self, offset: u64, target: Target<'_>, length: usize) -> io::Result<()> {
        target
            .memory
            .write_slice(part(self, offset, length)?, GuestAddress(target.address))
            .map_err(io::Error::other)
    }
}

impl Image for Vec<u8> {
    fn length(&self) -> io::Result<u64> {
        self.as_slice().length()
    }

    fn read_at(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, data)
    }

    fn copy_to(&self, offset: u64, target: Target<'_>, length: usize) -> io::Result<()> {
        self.as_slice().copy_to(offset, target, length)
    }
}

fn part(bytes: &[u8], offset: u64, length: usize) -> io::Result<&[u8]> {
    usize::try_from(offset)
        .ok()
        .and_then(|start| bytes.get(start..start.checked_add(length)?))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// The first 8 KiB of a kernel, or all of a shorter one.
pub(crate) fn head(kernel: &dyn Image) -> Result<Vec<u8>, KernelError> {
    let length = kernel.length().map_err(KernelError::ReadKernel)?;
    read(kernel, "the header", 0, length.min(HEAD))
}

/// `length` bytes of a kernel at `offset`. The caller bounds `length`.
pub(crate) fn read(
    kernel: &dyn Image,
    part: &'static str,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, KernelError> {
    check_inside(kernel, part, offset, length)?;
    let mut data = vec![0; usize::try_from(length).unwrap_or_default()];
    kernel.read_at(offset, &mut data).map_err(KernelError::ReadKernel)?;
    Ok(data)
}

/// Whether the file has `length` bytes at `offset`.
pub(crate) fn check_inside(
    kernel: &dyn Image,
    part: &'static str,
    offset: u64,
    length: u64,
) -> Result<(), KernelError> {
    let has = kernel.length().map_err(KernelError::ReadKernel)?;
    let end = offset.saturating_add(length);
    if end > has {
        return Err(KernelError::Truncated { part, end, length: has });
    }
    Ok(())
}

/// Little-endian fields of a header; what lies beyond its end is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u8(self, at: usize) -> u8 {
        self.array::<1>(at)[0]
    }

    pub(crate) fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    pub(crate) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    pub(crate) fn u64(self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    pub(crate) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let bytes = at.checked_add(N).and_then(|end| self.0.get(at..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
}
