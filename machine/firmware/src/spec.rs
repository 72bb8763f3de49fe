//! Where the loader puts what is its own, and the processor state that it makes.

/// The block of low memory that holds the loader's structures.
pub mod low {
    /// Its first byte.
    pub const START: u64 = 0x9_0000;
    /// Global descriptor table.
    pub const GDT: u64 = 0x9_0000;
    /// PML4 of the identity map; the PDPT and four page directories follow, a page each.
    pub const PML4: u64 = 0x9_1000;
    /// Linux zero page, PVH start info or multiboot information: one page.
    pub const INFO: u64 = 0x9_7000;
    /// Memory map and module list of PVH and multiboot: one page.
    pub const LISTS: u64 = 0x9_8000;
    /// Command line.
    pub const CMDLINE: u64 = 0x9_9000;
    /// Bytes for the command line, its NUL counted.
    pub const CMDLINE_LENGTH: usize = 0x4000;
    /// The byte after the block.
    pub const END: u64 = 0x9_d000;
    /// One mebibyte: where memory for kernels begins.
    pub const HIGH: u64 = 0x10_0000;
}

/// Segment descriptors (Intel SDM vol. 3A §3.4.5, figure 3-8).
pub mod gdt {
    /// 64-bit code, DPL 0, present, accessed.
    pub const CODE64: u64 = 0x00af_9b00_0000_ffff;
    /// 32-bit code, base 0, limit 4 GiB.
    pub const CODE32: u64 = 0x00cf_9b00_0000_ffff;
    /// Data, base 0, limit 4 GiB.
    pub const DATA: u64 = 0x00cf_9300_0000_ffff;
    /// Selector of the code segment: Linux's `__BOOT_CS` (x86 boot protocol, "64-bit Boot Protocol").
    pub const CODE_SELECTOR: u16 = 0x10;
    /// Selector of the data segment: Linux's `__BOOT_DS`.
    pub const DATA_SELECTOR: u16 = 0x18;
    /// Bytes of the table: null, unused, code, data.
    pub const LENGTH: u16 = 32;
}

/// Segment types (Intel SDM vol. 3A §3.4.5.1, §3.5).
pub mod segment {
    /// Code: execute, read, accessed.
    pub const CODE: u8 = 0xb;
    /// Data: read, write, accessed.
    pub const DATA: u8 = 0x3;
    /// Busy TSS: 32-bit in protected mode, 64-bit in long mode.
    pub const TSS_BUSY: u8 = 0xb;
    /// LDT.
    pub const LDT: u8 = 0x2;
}

/// Local APIC (Intel SDM vol. 3A §11.4.1, table 11-1).
pub mod apic {
    /// Offsets and values of virtual wire mode, in which firmware hands over (MultiProcessor Specification 1.4
    /// §3.6.2.2): spurious vector FFH and enabled; LINT0 is the PIC's output; LINT1 is NMI.
    pub const VIRTUAL_WIRE: [(usize, u32); 3] = [(0xf0, 0x1ff), (0x350, 0x700), (0x360, 0x400)];
}

/// Control registers (Intel SDM vol. 3A §2.5) and IA32_EFER (§2.2.1).
pub mod control {
    /// CR0: protection enabled.
    pub const CR0_PE: u64 = 1;
    /// CR0: extension type, always 1.
    pub const CR0_ET: u64 = 1 << 4;
    /// CR0: paging.
    pub const CR0_PG: u64 = 1 << 31;
    /// CR4: physical address extension.
    pub const CR4_PAE: u64 = 1 << 5;
    /// EFER: long mode enabled.
    pub const EFER_LME: u64 = 1 << 8;
    /// EFER: long mode active.
    pub const EFER_LMA: u64 = 1 << 10;
    /// RFLAGS: the bit that is always 1.
    pub const RFLAGS_ONE: u64 = 2;
}

/// Page-table entries (Intel SDM vol. 3A §4.5.4).
pub mod paging {
    /// Present and writable.
    pub const TABLE: u64 = 0x3;
    /// Present, writable, 2 MiB.
    pub const LARGE: u64 = 0x83;
    /// Page directories of the identity map: 4 GiB.
    pub const DIRECTORIES: u64 = 4;
}

/// The Linux/x86 boot protocol (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header", and
/// zero-page.rst for the offsets in `boot_params`).
pub mod linux {
    /// Zero page: address of the ACPI RSDP.
    pub const ACPI_RSDP_ADDR: usize = 0x070;
    /// Zero page: number of e820 entries.
    pub const E820_ENTRIES: usize = 0x1e8;
    /// First byte of the setup header, and the number of setup sectors.
    pub const SETUP_SECTS: usize = 0x1f1;
    /// Video mode.
    pub const VID_MODE: usize = 0x1fa;
    /// 0xaa55.
    pub const BOOT_FLAG: usize = 0x1fe;
    /// The header ends this many bytes after [`HEADER`].
    pub const HEADER_LENGTH: usize = 0x201;
    /// `HdrS`.
    pub const HEADER: usize = 0x202;
    /// Protocol version, major in the upper byte.
    pub const VERSION: usize = 0x206;
    /// The most of a version string that is read; the manual gives no limit.
    pub const LONGEST_VERSION: u64 = 128;
    /// Where the version string is, less 0x200; 0 when there is none (protocol 2.00).
    pub const KERNEL_VERSION: usize = 0x20e;
    /// Boot loader identifier.
    pub const TYPE_OF_LOADER: usize = 0x210;
    /// Load flags.
    pub const LOADFLAGS: usize = 0x211;
    /// Load address.
    pub const CODE32_START: usize = 0x214;
    /// Address of the initial RAM disk.
    pub const RAMDISK_IMAGE: usize = 0x218;
    /// Size of the initial RAM disk.
    pub const RAMDISK_SIZE: usize = 0x21c;
    /// Address of the command line.
    pub const CMD_LINE_PTR: usize = 0x228;
    /// Highest address of the initial RAM disk's last byte (protocol 2.03).
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    /// Alignment of a relocatable kernel (2.05).
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    /// Whether it is relocatable (2.05).
    pub const RELOCATABLE_KERNEL: usize = 0x234;
    /// Extended load flags (2.12).
    pub const XLOADFLAGS: usize = 0x236;
    /// Longest command line without its NUL (2.06).
    pub const CMDLINE_SIZE: usize = 0x238;
    /// Preferred load address (2.10).
    pub const PREF_ADDRESS: usize = 0x258;
    /// Linear memory needed from the load address on (2.10).
    pub const INIT_SIZE: usize = 0x260;
    /// The byte after the longest setup header: the zero page has other things from here on.
    pub const HEADER_END: usize = 0x290;
    /// e820 table, 20 bytes an entry.
    pub const E820_TABLE: usize = 0x2d0;
    /// Most e820 entries.
    pub const E820_MOST: usize = 128;
    /// Bytes of the zero page.
    pub const ZERO_PAGE: usize = 4096;

    /// [`LOADFLAGS`]: loaded at 1 MiB or above.
    pub const LOADED_HIGH: u8 = 1;
    /// [`XLOADFLAGS`]: has the 64-bit entry point.
    pub const XLF_KERNEL_64: u16 = 1;
    /// Distance of the 64-bit entry point from the load address.
    pub const ENTRY_64: u64 = 0x200;
    /// An unknown boot loader.
    pub const LOADER_UNDEFINED: u8 = 0xff;
    /// Video mode "normal".
    pub const VID_NORMAL: u16 = 0xffff;
    /// Oldest protocol taken: the first that says how long a command line may be.
    pub const OLDEST: u16 = 0x206;
    /// The protocol with a preferred address.
    pub const WITH_PREF_ADDRESS: u16 = 0x20a;
    /// The protocol with extended load flags.
    pub const WITH_XLOADFLAGS: u16 = 0x20c;
    /// Setup sectors when the field is 0.
    pub const DEFAULT_SETUP_SECTS: u64 = 4;
}

/// ELF (System V gABI, "ELF Header", "Program Header", "Note Section"; x86-64 psABI §4.1).
pub mod elf {
    /// `\x7fELF`.
    pub const MAGIC: [u8; 4] = *b"\x7fELF";
    /// Bytes of the header of a 64-bit file; a 32-bit kernel has as many, since headers follow.
    pub const HEADER: u64 = 64;
    /// Offset of the class.
    pub const CLASS: usize = 4;
    /// 32-bit.
    pub const CLASS_32: u8 = 1;
    /// 64-bit.
    pub const CLASS_64: u8 = 2;
    /// Offset of the byte order.
    pub const DATA: usize = 5;
    /// Little-endian.
    pub const DATA_LSB: u8 = 1;
    /// Offset of the machine.
    pub const MACHINE: usize = 18;
    /// Intel 80386.
    pub const EM_386: u16 = 3;
    /// x86-64.
    pub const EM_X86_64: u16 = 62;
    /// Offset of the entry point.
    pub const ENTRY: usize = 24;
    /// Bytes of a program header of a 32-bit file.
    pub const PHENTSIZE_32: u16 = 32;
    /// Bytes of a program header of a 64-bit file.
    pub const PHENTSIZE_64: u16 = 56;
    /// Most program headers taken; a kernel has about five.
    pub const PHNUM_MOST: u16 = 128;
    /// Loaded segment.
    pub const PT_LOAD: u32 = 1;
    /// Notes.
    pub const PT_NOTE: u32 = 4;
    /// Bytes of a note's header: sizes of name and descriptor, type.
    pub const NOTE_HEADER: usize = 12;
    /// Most bytes of one note segment that are read.
    pub const NOTES_MOST: u64 = 0x1_0000;
}

/// The PVH boot ABI (Xen, docs/misc/pvh.pandoc; include/public/arch-x86/hvm/start_info.h and elfnote.h).
pub mod pvh {
    /// Owner of the note, its NUL counted.
    pub const NOTE_NAME: &[u8] = b"Xen\0";
    /// XEN_ELFNOTE_PHYS32_ENTRY.
    pub const PHYS32_ENTRY: u32 = 18;
    /// `xEn3` with the 0x80 bit of the E set.
    pub const MAGIC: u32 = 0x336e_c578;
    /// The version that has a memory map.
    pub const VERSION: u32 = 1;
    /// Bytes of `hvm_start_info`.
    pub const START_INFO: usize = 56;
    /// Bytes of `hvm_modlist_entry`, which opens the list page.
    pub const MODULE: u64 = 32;
}

/// Multiboot Specification 0.6.96, §3.1 (header), §3.2 (machine state), §3.3 (boot information).
pub mod multiboot {
    /// Header magic.
    pub const HEADER_MAGIC: u32 = 0x1bad_b002;
    /// EAX at entry.
    pub const BOOTLOADER_MAGIC: u64 = 0x2bad_b002;
    /// Header flags that a loader must know, bits 0 to 15.
    pub const REQUIRED: u32 = 0xffff;
    /// Those that are known: page-aligned modules, memory information, video mode (a wish).
    pub const KNOWN: u32 = 0x7;
    /// The address fields of the header are valid.
    pub const ADDRESSES: u32 = 1 << 16;
    /// Information: `mem_lower` and `mem_upper`.
    pub const INFO_MEMORY: u32 = 1;
    /// Information: command line.
    pub const INFO_CMDLINE: u32 = 1 << 2;
    /// Information: modules.
    pub const INFO_MODULES: u32 = 1 << 3;
    /// Information: memory map.
    pub const INFO_MMAP: u32 = 1 << 6;
    /// Information: boot loader's name.
    pub const INFO_LOADER: u32 = 1 << 9;
    /// Bytes of the information structure up to and with the VBE fields.
    pub const INFO_LENGTH: usize = 88;
    /// Offset of the boot loader's name from the information structure.
    pub const NAME: u64 = 0x80;
    /// Bytes of a module's entry, which opens the list page.
    pub const MODULE: u64 = 16;
}
