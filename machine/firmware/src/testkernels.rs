//! Small kernels of every format, made for tests.

use crate::spec::{elf, linux, multiboot, pvh};

/// A byte that marks loaded code.
pub(crate) const CODE: u8 = 0xf4;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage of protocol 2.15 with one setup sector and 64 KiB of code.
pub(crate) fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 1024];
    put(&mut file, linux::SETUP_SECTS, &[1]);
    put(&mut file, linux::BOOT_FLAG, &0xaa55_u16.to_le_bytes());
    put(&mut file, linux::HEADER_LENGTH, &[0x6a]);
    put(&mut file, linux::HEADER, b"HdrS");
    put(&mut file, linux::VERSION, &0x20f_u16.to_le_bytes());
    put(&mut file, linux::LOADFLAGS, &[linux::LOADED_HIGH]);
    put(&mut file, linux::INITRD_ADDR_MAX, &0x7fff_ffff_u32.to_le_bytes());
    put(&mut file, linux::KERNEL_ALIGNMENT, &0x20_0000_u32.to_le_bytes());
    put(&mut file, linux::RELOCATABLE_KERNEL, &[1]);
    put(&mut file, linux::XLOADFLAGS, &linux::XLF_KERNEL_64.to_le_bytes());
    put(&mut file, linux::CMDLINE_SIZE, &2047_u32.to_le_bytes());
    put(&mut file, linux::PREF_ADDRESS, &0x100_0000_u64.to_le_bytes());
    put(&mut file, linux::INIT_SIZE, &0x20_0000_u32.to_le_bytes());
    file.resize(1024 + 0x1_0000, CODE);
    file
}

/// One loaded segment: 256 bytes of code at file offset 0x1000, 4 KiB in memory.
pub(crate) const SEGMENT: u64 = 0x20_0000;
const SEGMENT_OFFSET: usize = 0x1000;

/// A 64-bit ELF file with a segment at [`SEGMENT`] (virtual address 0xffffffff81000000) and, if wanted, a
/// PVH note that names `SEGMENT + 0x10`.
pub(crate) fn elf64(note: bool) -> Vec<u8> {
    let mut file = vec![0; SEGMENT_OFFSET];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &2_u16.to_le_bytes());
    put(&mut file, elf::MACHINE, &elf::EM_X86_64.to_le_bytes());
    put(&mut file, elf::ENTRY, &0xffff_ffff_8100_0020_u64.to_le_bytes());
    put(&mut file, 32, &64_u64.to_le_bytes());
    put(&mut file, 54, &elf::PHENTSIZE_64.to_le_bytes());
    put(&mut file, 56, &2_u16.to_le_bytes());
    let words = |offset: u64, virt: u64, phys: u64, size: u64, memory: u64| {
        [offset, virt, phys, size, memory, 4].map(u64::to_le_bytes).concat()
    };
    put(&mut file, 64, &elf::PT_LOAD.to_le_bytes());
    let loaded = words(SEGMENT_OFFSET as u64, 0xffff_ffff_8100_0000, SEGMENT, 256, 4096);
    put(&mut file, 72, &loaded);
    put(&mut file, 120, &elf::PT_NOTE.to_le_bytes());
    put(&mut file, 128, &words(0x200, 0, 0, if note { 44 } else { 0 }, 0));
    put(&mut file, 0x200, &notes());
    file.resize(SEGMENT_OFFSET + 256, CODE);
    file
}

/// A note of another owner, then the PVH note.
fn notes() -> Vec<u8> {
    let note = |name: &[u8], kind: u32, descriptor: &[u8]| {
        let mut bytes = (name.len() as u32).to_le_bytes().to_vec();
        bytes.extend((descriptor.len() as u32).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(descriptor);
        bytes
    };
    let mut notes = note(b"GNU\0", 3, &[7; 4]);
    notes.extend(note(pvh::NOTE_NAME, pvh::PHYS32_ENTRY, &(SEGMENT + 0x10).to_le_bytes()));
    notes
}

/// A multiboot header without address fields.
fn multiboot_header(flags: u32) -> Vec<u8> {
    let sum = multiboot::HEADER_MAGIC.wrapping_add(flags).wrapping_neg();
    [multiboot::HEADER_MAGIC, flags, sum].map(u32::to_le_bytes).concat()
}

/// A 32-bit ELF file at [`SEGMENT`] with a multiboot header, as kvm-unit-tests are.
pub(crate) fn multiboot_elf32() -> Vec<u8> {
    let mut file = vec![0; SEGMENT_OFFSET];
    put(&mut file, 0, b"\x7fELF\x01\x01\x01");
    put(&mut file, elf::MACHINE, &elf::EM_386.to_le_bytes());
    put(&mut file, elf::ENTRY, &(SEGMENT as u32 + 12).to_le_bytes());
    put(&mut file, 28, &52_u32.to_le_bytes());
    put(&mut file, 42, &elf::PHENTSIZE_32.to_le_bytes());
    put(&mut file, 44, &1_u16.to_le_bytes());
    let address = SEGMENT as u32;
    let header = [elf::PT_LOAD, SEGMENT_OFFSET as u32, address, address, 256, 4096, 7, 4096];
    put(&mut file, 52, &header.map(u32::to_le_bytes).concat());
    file.extend(multiboot_header(0));
    file.resize(SEGMENT_OFFSET + 256, CODE);
    file
}

/// A 64-bit ELF file with a multiboot header and no PVH note.
pub(crate) fn multiboot_elf64() -> Vec<u8> {
    let mut file = elf64(false);
    put(&mut file, SEGMENT_OFFSET, &multiboot_header(0x3));
    file
}

/// A flat image: the header at offset 16 of the file, loaded at [`SEGMENT`], 4 KiB of memory.
pub(crate) fn multiboot_flat() -> Vec<u8> {
    let mut file = vec![CODE; 16];
    file.extend(multiboot_header(multiboot::ADDRESSES));
    let start = SEGMENT as u32;
    file.extend([start + 16, start, 0, start + 4096, start + 8].map(u32::to_le_bytes).concat());
    file.resize(512, CODE);
    file
}

/// All of them with their names.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("bzImage", bzimage()),
        ("PVH", elf64(true)),
        ("multiboot ELF32", multiboot_elf32()),
        ("multiboot ELF64", multiboot_elf64()),
        ("multiboot flat", multiboot_flat()),
    ]
}
