//! Guest memory as the loaders fill it: what is RAM, what is taken, what goes where.

use crate::image::Target;
use crate::spec::low;
use crate::{Image, KernelError, MemoryEntry, MemoryKind};
use kezhan_device::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

const PAGE: u64 = 4096;

/// An initial RAM disk in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub address: u64,
    pub length: u64,
}

/// Guest memory, its map, and how high the kernel reaches.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    memory: &'a GuestMemory,
    map: &'a [MemoryEntry],
    kernel_end: u64,
}

impl<'a> Placement<'a> {
    pub(crate) fn new(memory: &'a GuestMemory, map: &'a [MemoryEntry]) -> Placement<'a> {
        Placement { memory, map, kernel_end: low::HIGH }
    }

    pub(crate) fn map(&self) -> &'a [MemoryEntry] {
        self.map
    }

    /// Where the RAM that begins at or below 1 MiB and goes on above it ends.
    pub(crate) fn low_ram_end(&self) -> u64 {
        self.map
            .iter()
            .find(|entry| entry.is_ram_around(low::HIGH, low::HIGH + PAGE))
            .map_or(0, MemoryEntry::end)
    }

    /// Takes `length` bytes at `address` for the kernel.
    pub(crate) fn take(&mut self, address: u64, length: u64) -> Result<(), KernelError> {
        let end = address.saturating_add(length);
        if address < low::END && end > low::START {
            return Err(overlap(address, end, "the boot information"));
        }
        if !self.map.iter().any(|entry| entry.is_ram_around(address, end)) {
            let has = self.low_ram_end();
            if end > has {
                return Err(KernelError::MemoryTooSmall { needs: end, has });
            }
            return Err(overlap(address, end, "no RAM"));
        }
        self.kernel_end = self.kernel_end.max(end);
        Ok(())
    }

    /// Copies a part of the kernel file to memory that was taken.
    pub(crate) fn copy(
        &self,
        kernel: &dyn Image,
        offset: u64,
        address: u64,
        length: u64,
    ) -> Result<(), KernelError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let target = Target { memory: self.memory, address };
        kernel.copy_to(offset, target, length).map_err(KernelError::ReadKernel)
    }

    /// Makes memory zero, without touching pages that are.
    pub(crate) fn zero(&self, address: u64, length: u64) -> Result<(), KernelError> {
        let mut page = [0; PAGE as usize];
        let end = address.saturating_add(length);
        let mut at = address;
        while at < end {
            let count = (PAGE - at % PAGE).min(end - at);
            let part = &mut page[..count as usize];
            self.memory
                .read_slice(part, GuestAddress(at))
                .map_err(|_absent| KernelError::GuestMemory(at))?;
            if part.iter().any(|byte| *byte != 0) {
                part.fill(0);
                self.write(at, part)?;
            }
            at += count;
        }
        Ok(())
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), KernelError> {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .map_err(|_absent| KernelError::GuestMemory(address))
    }

    pub(crate) fn write_words(&self, address: u64, words: &[u64]) -> Result<(), KernelError> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes)
    }

    /// Writes the command line, of which the kernel takes `most` bytes.
    pub(crate) fn write_cmdline(&self, cmdline: &str, most: usize) -> Result<(), KernelError> {
        let most = most.min(low::CMDLINE_LENGTH - 1);
        if cmdline.len() > most {
            return Err(KernelError::CommandLineTooLong { length: cmdline.len(), most });
        }
        let mut bytes = cmdline.as_bytes().to_vec();
        bytes.push(0);
        self.write(low::CMDLINE, &bytes)
    }

    /// Loads the initial RAM disk on whole pages, its last byte at or below `last`, above the kernel.
    pub(crate) fn load_initrd(
        &self,
        initrd: Option<&dyn Image>,
        last: u64,
    ) -> Result<Option<Loaded>, KernelError> {
        let Some(initrd) = initrd else { return Ok(None) };
        let size = initrd.length().map_err(KernelError::ReadInitrd)?;
        let top = self.low_ram_end().min(last.saturating_add(1));
        let floor = self.kernel_end.next_multiple_of(PAGE);
        let room = top.saturating_sub(floor) / PAGE * PAGE;
        let address = top.saturating_sub(size) / PAGE * PAGE;
        if size > room || address < floor {
            return Err(KernelError::InitrdTooLarge { size, room });
        }
        let target = Target { memory: self.memory, address };
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        initrd.copy_to(0, target, length).map_err(KernelError::ReadInitrd)?;
        Ok(Some(Loaded { address, length: size }))
    }

    /// The ranges that are RAM.
    pub(crate) fn ram(&self) -> impl Iterator<Item = &'a MemoryEntry> {
        self.map.iter().filter(|entry| entry.kind == MemoryKind::Ram)
    }
}

fn overlap(address: u64, end: u64, what: &'static str) -> KernelError {
    KernelError::Overlap { address, end: end.saturating_sub(1), what }
}

/// A structure under construction: little-endian fields at offsets.
#[derive(Debug)]
pub(crate) struct Structure(Vec<u8>);

impl Structure {
    pub(crate) fn new(length: usize) -> Structure {
        Structure(vec![0; length])
    }

    /// Puts bytes at an offset; those that do not fit are a fault of the caller and are left out.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    pub(crate) fn put_u32(&mut self, at: usize, value: u64) {
        self.put(at, &(value as u32).to_le_bytes());
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
