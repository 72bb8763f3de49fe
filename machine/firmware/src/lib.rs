//! From a kernel file to the first instruction.
//!
//! [`load`] puts a kernel, its initial RAM disk, its command line and what its boot protocol wants to
//! read into guest memory, and gives the [`Entry`]: how the first vCPU starts. It is what a boot loader
//! does, done from outside, so no firmware runs before the guest's own code.
//!
//! ```text
//!   file ──identify──► bzImage ──► Linux 64-bit (or 32-bit) boot protocol ──┐
//!                 ├──► ELF with a PVH note ──► hvm_start_info ──────────────┼──► Entry ──► vCPU 0
//!                 └──► multiboot header (ELF or flat) ──► boot information ─┘
//! ```
//!
//! A format is known by its own marks: `HdrS` at 0x202, the ELF magic, a multiboot header in the first
//! 8 KiB. An ELF file that has both a PVH note and a multiboot header starts through PVH, the newer.
//!
//! # Where things lie
//! ```text
//!   0x90000  GDT, identity page tables, boot information, command line   ([`spec`])
//!   0xe0000  ACPI tables (written by the board)
//!   1 MiB …  the kernel, where it says
//!   … top    initial RAM disk, as high as the protocol and RAM below the PCI hole allow
//! ```
//! The block at 0x90000 lies below the usual EBDA and above what real-mode test programs and SMP
//! trampolines use.
//!
//! # Trust
//! A kernel file may be hostile. Lengths, addresses and counts from it are checked against the file
//! and against RAM before use; nothing is allocated by a length that the file claims. Whatever the
//! bytes, the answer is an [`Entry`] or a [`KernelError`], which the caller prefixes with the file's name.
//!
//! # What was rejected
//! The linux-loader crate: it knows no multiboot, leaves zero page, page tables and initrd to its caller,
//! and so would replace only the small part of this crate. Parsing ELF section tables: everything needed
//! is in the program headers.

mod bzimage;
mod elf;
mod error;
mod image;
mod memory_map;
mod multiboot;
mod placement;
mod processor;
mod pvh;
pub mod spec;

pub use error::KernelError;
pub use image::Image;
pub use memory_map::{MemoryEntry, MemoryKind};
pub use processor::{Entry, Mode};

use kezhan_device::GuestMemory;
use placement::Placement;

/// The version of the operating system that a kernel file is a release of, if it says so: a bzImage does.
pub fn system_version(kernel: &dyn Image) -> Option<String> {
    bzimage::version(kernel, &image::head(kernel).ok()?)
}

/// What is to be started, and what it will be told of the machine.
#[derive(Clone, Copy)]
pub struct Guest<'a> {
    /// The kernel.
    pub kernel: &'a dyn Image,
    /// The initial RAM disk; for multiboot, the one module.
    pub initrd: Option<&'a dyn Image>,
    /// The command line.
    pub cmdline: &'a str,
    /// Guest-physical address of the ACPI RSDP, 0 when there is none.
    pub rsdp: u64,
    /// The memory map in ascending order, without overlap.
    pub memory_map: &'a [MemoryEntry],
}

impl std::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest")
            .field("initrd", &self.initrd.is_some())
            .field("cmdline", &self.cmdline)
            .field("rsdp", &self.rsdp)
            .field("memory_map", &self.memory_map)
            .finish_non_exhaustive()
    }
}

/// Loads `guest` into `memory` and says how the first vCPU starts.
///
/// # Errors
/// [`KernelError`] when a file cannot be read, is none of the formats known, is damaged, or does not fit.
pub fn load(memory: &GuestMemory, guest: &Guest<'_>) -> Result<Entry, KernelError> {
    let placement = Placement::new(memory, guest.memory_map);
    let head = image::head(guest.kernel)?;
    if bzimage::is_bzimage(&head) {
        return bzimage::load(placement, guest, &head);
    }
    let elf = elf::Elf::parse(guest.kernel, &head)?;
    if let Some(elf) = &elf
        && let Some(entry) = pvh::entry_note(guest.kernel, elf)?
    {
        return pvh::load(placement, guest, elf, entry);
    }
    match multiboot::find_header(&head) {
        Some(header) => multiboot::load(placement, guest, elf.as_ref(), &header),
        None if elf.is_some() => Err(KernelError::NoEntry),
        None => Err(KernelError::UnknownFormat),
    }
}

#[cfg(test)]
mod testkernels;
#[cfg(test)]
mod tests;
