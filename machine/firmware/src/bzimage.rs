//! Linux bzImage through the 64-bit boot protocol, or the 32-bit one where the kernel has no other.
//!
//! ```text
//!   file:  boot sector | setup code (setup_sects × 512) | protected-mode kernel …
//!                 └── setup header 0x1f1 … ──► zero page      └──► load address
//! ```
//! The load address is the kernel's preferred one when RAM allows; a relocatable kernel else goes to the
//! lowest aligned address above 1 MiB. From there on `init_size` bytes are its own until it has moved
//! itself, so nothing else is put there.

use crate::image::{self, Fields};
use crate::placement::{Loaded, Placement, Structure};
use crate::processor::{Entry, Mode, check_low_block, write_tables};
use crate::spec::{linux, low};
use crate::{Guest, Image, KernelError};

/// Whether a file is a bzImage by its marks.
pub(crate) fn is_bzimage(head: &[u8]) -> bool {
    let fields = Fields(head);
    fields.u16(linux::BOOT_FLAG) == 0xaa55 && fields.array(linux::HEADER) == *b"HdrS"
}

/// The version string of a released kernel, as far as it is printable: `6.1.0-56-amd64 (…) #1 SMP …`.
pub(crate) fn version(kernel: &dyn Image, head: &[u8]) -> Option<String> {
    let pointer = Fields(head).u16(linux::KERNEL_VERSION);
    if !is_bzimage(head) || pointer == 0 {
        return None;
    }
    let at = u64::from(pointer) + 0x200;
    let length = kernel.length().ok()?.checked_sub(at)?.min(linux::LONGEST_VERSION);
    let text = image::read(kernel, "the version", at, length).ok()?;
    let end = text.iter().position(|byte| !(0x20..0x7f).contains(byte)).unwrap_or(text.len());
    (end > 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
}

/// What the setup header says, checked.
#[derive(Debug)]
struct Setup {
    payload: u64,
    payload_length: u64,
    preferred: u64,
    init_size: u64,
    alignment: u64,
    relocatable: bool,
    long: bool,
    initrd_last: u64,
    cmdline_most: usize,
}

pub(crate) fn load(
    mut placement: Placement<'_>,
    guest: &Guest<'_>,
    head: &[u8],
) -> Result<Entry, KernelError> {
    check_low_block(&placement)?;
    let setup = Setup::read(guest, head)?;
    let address = setup.choose_address(placement.low_ram_end())?;
    placement.take(address, setup.span())?;
    placement.copy(guest.kernel, setup.payload, address, setup.payload_length)?;
    placement.write_cmdline(guest.cmdline, setup.cmdline_most)?;
    let initrd = placement.load_initrd(guest.initrd, setup.initrd_last)?;
    let page = zero_page(guest, head, address, initrd);
    placement.write(low::INFO, page.bytes())?;
    let (mode, rip) = match setup.long {
        true => (Mode::Long, address + linux::ENTRY_64),
        false => (Mode::Protected, address),
    };
    write_tables(&placement, mode)?;
    Ok(Entry { mode, rip, rax: 0, rbx: 0, rsi: low::INFO })
}

impl Setup {
    fn read(guest: &Guest<'_>, head: &[u8]) -> Result<Setup, KernelError> {
        let fields = Fields(head);
        let version = fields.u16(linux::VERSION);
        if version < linux::OLDEST {
            return Err(KernelError::Unsupported("a Linux boot protocol older than 2.06"));
        }
        if fields.u8(linux::LOADFLAGS) & linux::LOADED_HIGH == 0 {
            return Err(KernelError::Unsupported("to be loaded low (a zImage)"));
        }
        let sectors = match u64::from(fields.u8(linux::SETUP_SECTS)) {
            0 => linux::DEFAULT_SETUP_SECTS,
            sectors => sectors,
        };
        let payload = (sectors + 1) * 512;
        image::check_inside(guest.kernel, "the kernel after its setup code", payload, 1)?;
        let length = guest.kernel.length().map_err(KernelError::ReadKernel)?;
        let modern = version >= linux::WITH_PREF_ADDRESS;
        Ok(Setup {
            payload,
            payload_length: length - payload,
            preferred: if modern { fields.u64(linux::PREF_ADDRESS) } else { low::HIGH },
            init_size: if modern { fields.u32(linux::INIT_SIZE).into() } else { 0 },
            alignment: fields.u32(linux::KERNEL_ALIGNMENT).into(),
            relocatable: fields.u8(linux::RELOCATABLE_KERNEL) != 0,
            long: version >= linux::WITH_XLOADFLAGS
                && fields.u16(linux::XLOADFLAGS) & linux::XLF_KERNEL_64 != 0,
            initrd_last: fields.u32(linux::INITRD_ADDR_MAX).into(),
            cmdline_most: fields.u32(linux::CMDLINE_SIZE) as usize,
        })
    }

    /// Bytes from the load address on that are the kernel's.
    fn span(&self) -> u64 {
        self.init_size.max(self.payload_length)
    }

    fn choose_address(&self, ram_end: u64) -> Result<u64, KernelError> {
        let end = |address: u64| address.saturating_add(self.span());
        let fits = |address: u64| address >= low::HIGH && end(address) <= ram_end;
        if fits(self.preferred) {
            return Ok(self.preferred);
        }
        if !self.relocatable {
            return Err(KernelError::MemoryTooSmall { needs: end(self.preferred), has: ram_end });
        }
        if !self.alignment.is_power_of_two() {
            return Err(KernelError::Damaged {
                field: "kernel_alignment",
                value: self.alignment,
                rule: "an alignment is a power of two",
            });
        }
        let lowest = low::HIGH.next_multiple_of(self.alignment);
        if !fits(lowest) {
            return Err(KernelError::MemoryTooSmall { needs: end(lowest), has: ram_end });
        }
        Ok(lowest)
    }
}

/// `boot_params`: the kernel's own header, and what a boot loader fills in.
fn zero_page(guest: &Guest<'_>, head: &[u8], address: u64, initrd: Option<Loaded>) -> Structure {
    let mut page = Structure::new(linux::ZERO_PAGE);
    let length = linux::HEADER + usize::from(Fields(head).u8(linux::HEADER_LENGTH));
    let end = length.min(linux::HEADER_END).min(head.len());
    page.put(linux::SETUP_SECTS, head.get(linux::SETUP_SECTS..end).unwrap_or_default());
    page.put(linux::VID_MODE, &linux::VID_NORMAL.to_le_bytes());
    page.put(linux::TYPE_OF_LOADER, &[linux::LOADER_UNDEFINED]);
    page.put_u32(linux::CODE32_START, address);
    page.put_u32(linux::CMD_LINE_PTR, low::CMDLINE);
    let initrd = initrd.unwrap_or(Loaded { address: 0, length: 0 });
    page.put_u32(linux::RAMDISK_IMAGE, initrd.address);
    page.put_u32(linux::RAMDISK_SIZE, initrd.length);
    page.put(linux::ACPI_RSDP_ADDR, &guest.rsdp.to_le_bytes());
    let entries = guest.memory_map.iter().take(linux::E820_MOST);
    for (slot, entry) in entries.enumerate() {
        let at = linux::E820_TABLE + 20 * slot;
        page.put(at, &entry.address.to_le_bytes());
        page.put(at + 8, &entry.length.to_le_bytes());
        page.put(at + 16, &entry.kind.number().to_le_bytes());
    }
    page.put(linux::E820_ENTRIES, &[guest.memory_map.len().min(linux::E820_MOST) as u8]);
    page
}
