//! Every boot protocol from the guest's side, and hostile files.

use super::*;
use crate::image::Fields;
use crate::spec::{control, low, multiboot as mb};
use crate::testkernels::{self as kernels, CODE, SEGMENT};
use kezhan_hypervisor::VcpuState;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: u64 = 64 << 20;

fn map(size: u64) -> Vec<MemoryEntry> {
    let entry = |address, end: u64, kind| MemoryEntry { address, length: end - address, kind };
    vec![
        entry(0, 0x9_fc00, MemoryKind::Ram),
        entry(0x9_fc00, 0x10_0000, MemoryKind::Reserved),
        entry(0x10_0000, size, MemoryKind::Ram),
    ]
}

struct Machine {
    memory: GuestMemory,
    map: Vec<MemoryEntry>,
}

impl Machine {
    fn new(size: u64) -> Machine {
        let ranges = [(GuestAddress(0), size as usize)];
        Machine { memory: GuestMemory::from_ranges(&ranges).unwrap(), map: map(size) }
    }

    fn load(&self, kernel: &[u8], initrd: Option<&[u8]>) -> Result<Entry, KernelError> {
        self.load_with(kernel, initrd, "console=ttyS0")
    }

    fn load_with(
        &self,
        kernel: &[u8],
        initrd: Option<&[u8]>,
        cmdline: &str,
    ) -> Result<Entry, KernelError> {
        let (kernel, initrd) = (kernel.to_vec(), initrd.map(<[u8]>::to_vec));
        let initrd = initrd.as_ref().map(|initrd| initrd as &dyn Image);
        let guest =
            Guest { kernel: &kernel, initrd, cmdline, rsdp: 0xe_0000, memory_map: &self.map };
        load(&self.memory, &guest)
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn text(&self, address: u64) -> String {
        let bytes = self.bytes(address, 256);
        String::from_utf8(bytes.split(|b| *b == 0).next().unwrap().to_vec()).unwrap()
    }

    fn u64(&self, address: u64) -> u64 {
        Fields(&self.bytes(address, 8)).u64(0)
    }

    fn u32(&self, address: u64) -> u32 {
        Fields(&self.bytes(address, 4)).u32(0)
    }
}

#[test]
fn a_bzimage_starts_in_long_mode_at_its_preferred_address() {
    let machine = Machine::new(MEMORY);
    let entry = machine.load(&kernels::bzimage(), None).unwrap();
    assert_eq!((entry.mode, entry.rip, entry.rsi), (Mode::Long, 0x100_0200, low::INFO));
    assert_eq!(machine.bytes(entry.rip, 4), [CODE; 4]);
    let page = machine.bytes(low::INFO, 4096);
    let fields = Fields(&page);
    assert_eq!(fields.array(spec::linux::HEADER), *b"HdrS");
    assert_eq!(fields.u8(spec::linux::TYPE_OF_LOADER), 0xff);
    assert_eq!(fields.u64(spec::linux::ACPI_RSDP_ADDR), 0xe_0000);
    assert_eq!(fields.u8(spec::linux::E820_ENTRIES), 3);
    assert_eq!(fields.u64(spec::linux::E820_TABLE + 40), 0x10_0000);
    assert_eq!(fields.u64(spec::linux::E820_TABLE + 48), MEMORY - 0x10_0000);
    assert_eq!(machine.text(fields.u32(spec::linux::CMD_LINE_PTR).into()), "console=ttyS0");
}

#[test]
fn long_mode_has_its_first_four_gibibytes_mapped_to_themselves() {
    let machine = Machine::new(MEMORY);
    machine.load(&kernels::bzimage(), None).unwrap();
    for address in [0, 0x20_0000, 0x4000_0000, 0xffe0_0000_u64] {
        let table = |entry: u64| entry & !0xfff;
        let pdpt = table(machine.u64(low::PML4));
        let directory = table(machine.u64(pdpt + 8 * (address >> 30)));
        let page = machine.u64(directory + 8 * (address >> 21 & 0x1ff));
        assert_eq!(page, address | spec::paging::LARGE);
    }
}

#[test]
fn an_entry_changes_the_reset_state_only_where_the_protocol_says() {
    let entry = Entry { mode: Mode::Long, rip: 0x1000, rax: 1, rbx: 2, rsi: 3 };
    let mut state = VcpuState { xcr0: 7, xsave: vec![1; 576], ..VcpuState::default() };
    state.system.apic_base = 0xfee0_0900;
    state.general.gpr = [9; 16];
    entry.apply(&mut state);
    assert_eq!(state.general.gpr, [1, 0, 0, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((state.general.rip, state.general.rflags), (0x1000, 2));
    assert_eq!(state.system.efer, control::EFER_LME | control::EFER_LMA);
    assert!(state.system.segments[1].l && !state.system.segments[1].db);
    assert_eq!(state.system.segments[1].selector, 0x10);
    assert_eq!(state.system.segments[2].selector, 0x18);
    assert_eq!((state.system.apic_base, state.xcr0, state.xsave.len()), (0xfee0_0900, 7, 576));
    let apic = |offset: usize| Fields(&state.apic.registers).u32(offset);
    assert_eq!((apic(0xf0), apic(0x350), apic(0x360)), (0x1ff, 0x700, 0x400), "virtual wire mode");
}

#[test]
fn an_initrd_lies_as_high_as_the_protocol_allows() {
    let machine = Machine::new(MEMORY);
    let initrd = [0x5a; 5000];
    machine.load(&kernels::bzimage(), Some(&initrd)).unwrap();
    let at = machine.u32(low::INFO + spec::linux::RAMDISK_IMAGE as u64);
    assert_eq!((u64::from(at), machine.u32(low::INFO + 0x21c)), (MEMORY - 8192, 5000));
    assert_eq!(machine.bytes(at.into(), 5000), initrd);
    let mut kernel = kernels::bzimage();
    kernel[spec::linux::INITRD_ADDR_MAX..][..4].copy_from_slice(&0x1ff_ffff_u32.to_le_bytes());
    machine.load(&kernel, Some(&initrd)).unwrap();
    assert_eq!(machine.u32(low::INFO + spec::linux::RAMDISK_IMAGE as u64), 0x1ff_e000);
}

#[test]
fn a_relocatable_kernel_goes_low_when_memory_is_short() {
    let machine = Machine::new(8 << 20);
    let entry = machine.load(&kernels::bzimage(), None).unwrap();
    assert_eq!(entry.rip, 0x20_0200);
    let mut fixed = kernels::bzimage();
    fixed[spec::linux::RELOCATABLE_KERNEL] = 0;
    let error = machine.load(&fixed, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "needs memory up to 0x1200000, RAM ends at 0x800000; give more --memory"
    );
}

#[test]
fn a_kernel_without_the_64_bit_entry_starts_in_protected_mode() {
    let machine = Machine::new(MEMORY);
    let mut kernel = kernels::bzimage();
    kernel[spec::linux::XLOADFLAGS] = 0;
    let entry = machine.load(&kernel, None).unwrap();
    assert_eq!((entry.mode, entry.rip, entry.rsi), (Mode::Protected, 0x100_0000, low::INFO));
}

#[test]
fn a_pvh_kernel_starts_where_its_note_says_with_start_info() {
    let machine = Machine::new(MEMORY);
    let entry = machine.load(&kernels::elf64(true), Some(&[1; 100])).unwrap();
    assert_eq!((entry.mode, entry.rip), (Mode::Protected, SEGMENT + 0x10));
    let info = machine.bytes(entry.rbx, 56);
    let info = Fields(&info);
    assert_eq!((info.u32(0), info.u32(4), info.u32(12)), (0x336e_c578, 1, 1));
    assert_eq!(machine.u64(info.u64(16)), MEMORY - 4096);
    assert_eq!(machine.u64(info.u64(16) + 8), 100);
    assert_eq!(machine.text(info.u64(24)), "console=ttyS0");
    assert_eq!(info.u64(32), 0xe_0000);
    assert_eq!(info.u32(48), 3);
    let last = info.u64(40) + 2 * 24;
    let entry = (machine.u64(last), machine.u64(last + 8), machine.u32(last + 16));
    assert_eq!(entry, (0x10_0000, MEMORY - 0x10_0000, 1));
}

#[test]
fn a_segment_is_loaded_at_its_physical_address_and_its_rest_is_zero() {
    let machine = Machine::new(MEMORY);
    machine.memory.write_slice(&[0xee; 8192], GuestAddress(SEGMENT)).unwrap();
    machine.load(&kernels::elf64(true), None).unwrap();
    assert_eq!(machine.bytes(SEGMENT, 256), [CODE; 256]);
    assert_eq!(machine.bytes(SEGMENT + 256, 3840), vec![0; 3840]);
    assert_eq!(machine.bytes(SEGMENT + 4096, 1), [0xee]);
}

#[test]
fn multiboot_kernels_of_every_form_start_with_the_magic_in_eax() {
    for (kernel, rip) in [
        (kernels::multiboot_elf32(), SEGMENT + 12),
        (kernels::multiboot_elf64(), SEGMENT + 0x20),
        (kernels::multiboot_flat(), SEGMENT + 8),
    ] {
        let machine = Machine::new(MEMORY);
        let entry = machine.load(&kernel, None).unwrap();
        assert_eq!((entry.mode, entry.rip, entry.rax), (Mode::Protected, rip, 0x2bad_b002));
        assert_eq!(machine.bytes(SEGMENT + 60, 8), [CODE; 8]);
    }
}

#[test]
fn multiboot_information_tells_memory_command_line_and_module() {
    let machine = Machine::new(MEMORY);
    let entry = machine.load(&kernels::multiboot_elf32(), Some(b"NR_CPUS=2\n")).unwrap();
    let info = machine.bytes(entry.rbx, mb::INFO_LENGTH);
    let info = Fields(&info);
    assert_eq!(info.u32(0), 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    assert_eq!((info.u32(4), info.u32(8)), (639, 63 * 1024));
    assert_eq!(machine.text(info.u32(16).into()), "console=ttyS0");
    assert_eq!(info.u32(20), 1);
    let module: u64 = info.u32(24).into();
    let (start, end) = (machine.u32(module), machine.u32(module + 4));
    assert_eq!(machine.bytes(start.into(), (end - start) as usize), b"NR_CPUS=2\n");
    assert_eq!(machine.text(machine.u32(module + 8).into()), "");
    assert_eq!(info.u32(44), 3 * 24);
    let third = u64::from(info.u32(48)) + 48;
    assert_eq!((machine.u32(third), machine.u64(third + 4)), (20, 0x10_0000));
    assert_eq!(machine.text(info.u32(64).into()), "kezhan");
}

#[test]
fn what_is_no_kernel_is_refused_with_what_would_be_one() {
    let machine = Machine::new(MEMORY);
    for file in [&b""[..], b"#!/bin/sh\n", &[0; 10_000]] {
        let text = machine.load(file, None).unwrap_err().to_string();
        assert!(text.starts_with("is no kernel: give a bzImage"), "{text}");
    }
    let text = machine.load(b"\x7fELF", None).unwrap_err().to_string();
    assert!(text.starts_with("is cut short: the ELF header wants bytes up to 64"), "{text}");
    let error = machine.load(&kernels::elf64(false), None).unwrap_err();
    assert!(matches!(error, KernelError::NoEntry));
}

#[test]
fn what_does_not_fit_is_an_error_with_both_sizes() {
    let machine = Machine::new(8 << 20);
    let initrd = vec![0; 7 << 20];
    let error = machine.load(&kernels::bzimage(), Some(&initrd)).unwrap_err();
    let room = (8 << 20) - 0x40_0000;
    assert!(
        matches!(error, KernelError::InitrdTooLarge { size: 0x70_0000, room: r } if r == room),
        "{error}"
    );
    let error = machine.load_with(&kernels::bzimage(), None, &"x".repeat(2048)).unwrap_err();
    assert!(matches!(error, KernelError::CommandLineTooLong { length: 2048, most: 2047 }));
    let tiny = Machine { map: map(2 << 20), ..Machine::new(2 << 20) };
    assert!(matches!(
        tiny.load(&kernels::bzimage(), None),
        Err(KernelError::MemoryTooSmall { .. })
    ));
}

#[test]
fn a_segment_over_the_boot_information_or_outside_ram_is_refused() {
    let machine = Machine::new(MEMORY);
    let at = |address: u64| {
        let mut kernel = kernels::elf64(true);
        kernel[72 + 16..][..8].copy_from_slice(&address.to_le_bytes());
        machine.load(&kernel, None)
    };
    assert!(matches!(at(0x9_0800), Err(KernelError::Overlap { .. })));
    assert!(matches!(at(0xf_0000), Err(KernelError::Overlap { .. })));
    assert!(matches!(at(MEMORY - 1), Err(KernelError::MemoryTooSmall { .. })));
    assert!(matches!(at(u64::MAX), Err(KernelError::MemoryTooSmall { .. })));
    at(0x8000).unwrap();
}

#[test]
fn a_file_is_read_straight_into_memory() {
    let machine = Machine::new(MEMORY);
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &kernels::bzimage()).unwrap();
    let guest =
        Guest { kernel: &file, initrd: None, cmdline: "", rsdp: 0, memory_map: &machine.map };
    let entry = load(&machine.memory, &guest).unwrap();
    assert_eq!(machine.bytes(entry.rip, 4), [CODE; 4]);
}

/// Every truncation at a stride, and every header byte replaced by telling values.
#[test]
fn no_damaged_kernel_makes_the_loader_panic() {
    let machine = Machine::new(MEMORY);
    for (name, kernel) in kernels::all() {
        assert!(machine.load(&kernel, None).is_ok(), "{name}");
        for length in (0..kernel.len().min(6000)).step_by(7) {
            let _ = machine.load(&kernel[..length], None);
        }
        let mut damaged = kernel.clone();
        let header = (0..0x300).chain(0x1000..0x1030).filter(|at| *at < kernel.len());
        for at in header {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                damaged[at] = value;
                let _ = machine.load(&damaged, Some(&[1; 64]));
            }
            damaged[at] = kernel[at];
        }
    }
}

#[test]
fn a_release_of_linux_tells_its_version_and_nothing_else_does() {
    let mut kernel = testkernels::bzimage();
    assert_eq!(crate::system_version(&kernel), None, "no version string");
    let at = 0x300_u16;
    kernel[usize::from(at) + 0x200..][..12].copy_from_slice(b"6.1.0 (x) #1");
    kernel[0x20e..0x210].copy_from_slice(&at.to_le_bytes());
    kernel[usize::from(at) + 0x20c] = 0;
    assert_eq!(crate::system_version(&kernel).as_deref(), Some("6.1.0 (x) #1"));
    kernel[0x20e..0x210].copy_from_slice(&0xffff_u16.to_le_bytes());
    assert_eq!(crate::system_version(&kernel), None, "beyond the file");
    assert_eq!(crate::system_version(&testkernels::elf64(true)), None);
}
