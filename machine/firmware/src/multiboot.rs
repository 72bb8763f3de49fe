//! Multiboot 1: a header in the first 8 KiB, and a list of facts in EBX.
//!
//! The kernel is an ELF file of either class, or, when the header's address fields are valid, a flat
//! image. It starts in 32-bit protected mode. The initial RAM disk becomes the one module.

use crate::elf::Elf;
use crate::image::{self, Fields};
use crate::placement::{Loaded, Placement, Structure};
use crate::processor::{Entry, Mode, check_low_block, write_tables};
use crate::spec::{low, multiboot};
use crate::{Guest, KernelError};

/// A multiboot header and where it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    offset: u64,
    flags: u32,
    header_address: u32,
    load_address: u32,
    load_end: u32,
    bss_end: u32,
    entry: u32,
}

/// The header, if there is one (Multiboot §3.1: 4-byte aligned, its first three words sum to 0).
pub(crate) fn find_header(head: &[u8]) -> Option<Header> {
    let fields = Fields(head);
    let sum = |at: usize| {
        fields.u32(at).wrapping_add(fields.u32(at + 4)).wrapping_add(fields.u32(at + 8))
    };
    let at = (0..head.len())
        .step_by(4)
        .find(|at| fields.u32(*at) == multiboot::HEADER_MAGIC && sum(*at) == 0)?;
    Some(Header {
        offset: at as u64,
        flags: fields.u32(at + 4),
        header_address: fields.u32(at + 12),
        load_address: fields.u32(at + 16),
        load_end: fields.u32(at + 20),
        bss_end: fields.u32(at + 24),
        entry: fields.u32(at + 28),
    })
}

pub(crate) fn load(
    mut placement: Placement<'_>,
    guest: &Guest<'_>,
    elf: Option<&Elf>,
    header: &Header,
) -> Result<Entry, KernelError> {
    check_low_block(&placement)?;
    if header.flags & multiboot::REQUIRED & !multiboot::KNOWN != 0 {
        return Err(KernelError::Unsupported("multiboot features that are not known"));
    }
    let entry = match elf {
        _ if header.flags & multiboot::ADDRESSES != 0 => load_flat(&mut placement, guest, header)?,
        Some(elf) => {
            elf.load(&mut placement, guest.kernel)?;
            elf.physical_entry()
        }
        None => return Err(KernelError::NoEntry),
    };
    placement.write_cmdline(guest.cmdline, usize::MAX)?;
    let module = placement.load_initrd(guest.initrd, u64::from(u32::MAX))?;
    write_information(&placement, module)?;
    write_tables(&placement, Mode::Protected)?;
    let rip = entry & u64::from(u32::MAX);
    Ok(Entry {
        mode: Mode::Protected,
        rip,
        rax: multiboot::BOOTLOADER_MAGIC,
        rbx: low::INFO,
        rsi: 0,
    })
}

/// Loads a flat image as the header's address fields say (Multiboot §3.1.3).
fn load_flat(
    placement: &mut Placement<'_>,
    guest: &Guest<'_>,
    header: &Header,
) -> Result<u64, KernelError> {
    let damaged =
        |field, value: u32, rule| KernelError::Damaged { field, value: value.into(), rule };
    let before = header
        .header_address
        .checked_sub(header.load_address)
        .filter(|before| u64::from(*before) <= header.offset)
        .ok_or_else(|| {
            damaged("load_addr", header.load_address, "the file begins at or before it")
        })?;
    let start = header.offset - u64::from(before);
    let length = match header.load_end {
        0 => guest.kernel.length().map_err(KernelError::ReadKernel)? - start,
        end => end
            .checked_sub(header.load_address)
            .ok_or_else(|| damaged("load_end_addr", end, "it lies after load_addr"))?
            .into(),
    };
    image::check_inside(guest.kernel, "the image", start, length)?;
    let address = u64::from(header.load_address);
    let loaded_end = address + length;
    let bss = u64::from(header.bss_end).saturating_sub(loaded_end);
    placement.take(address, length + bss)?;
    placement.copy(guest.kernel, start, address, length)?;
    placement.zero(loaded_end, bss)?;
    Ok(header.entry.into())
}

/// The information structure, the module and the memory map (Multiboot §3.3).
fn write_information(placement: &Placement<'_>, module: Option<Loaded>) -> Result<(), KernelError> {
    let map_address = low::LISTS + multiboot::MODULE;
    let map = memory_map(placement);
    let mut flags = multiboot::INFO_MEMORY
        | multiboot::INFO_CMDLINE
        | multiboot::INFO_MMAP
        | multiboot::INFO_LOADER;
    let mut info = Structure::new(multiboot::INFO_LENGTH);
    let lower = placement.ram().next().map_or(0, |e| e.end().min(0xa_0000));
    info.put_u32(4, lower >> 10);
    info.put_u32(8, placement.low_ram_end().saturating_sub(low::HIGH) >> 10);
    info.put_u32(16, low::CMDLINE);
    if let Some(module) = module {
        flags |= multiboot::INFO_MODULES;
        info.put_u32(20, 1);
        info.put_u32(24, low::LISTS);
        let mut entry = Structure::new(multiboot::MODULE as usize);
        entry.put_u32(0, module.address);
        entry.put_u32(4, module.address + module.length);
        entry.put_u32(8, low::CMDLINE + low::CMDLINE_LENGTH as u64 - 1);
        placement.write(low::LISTS, entry.bytes())?;
    }
    info.put_u32(44, map.len() as u64);
    info.put_u32(48, map_address);
    info.put_u32(64, low::INFO + multiboot::NAME);
    info.put_u32(0, flags.into());
    placement.write(low::INFO, info.bytes())?;
    placement.write(low::INFO + multiboot::NAME, b"kezhan\0")?;
    placement.write(low::CMDLINE + low::CMDLINE_LENGTH as u64 - 1, &[0])?;
    placement.write(map_address, &map)
}

/// Entries of 20 bytes, each with its size in front.
fn memory_map(placement: &Placement<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in placement.map() {
        bytes.extend(20_u32.to_le_bytes());
        bytes.extend(entry.address.to_le_bytes());
        bytes.extend(entry.length.to_le_bytes());
        bytes.extend(entry.kind.number().to_le_bytes());
    }
    bytes
}
