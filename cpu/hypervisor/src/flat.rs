//! A flat 64-bit start without firmware, for probe guests and tests.
//!
//! [`write_tables`] puts page tables, GDT and TSS into the first 64 KiB of guest memory; [`start`] gives
//! the state of a processor that stands in ring 0 on them. Interrupt gates are put in one by one.
//!
//! ```text
//!   0x1000 GDT   0x1800 TSS   0x2000 IDT   0x3000 PML4   0x4000 PDPT   0x5000 4 page directories
//!   0x9000 ring-0 stack that interrupts from ring 3 use, top at 0xa000
//! ```
//!
//! The first 4 GiB are mapped one to one with 2 MiB pages, open to ring 3.

use crate::{DescriptorTable, GuestMemory, Segment, VcpuState};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

/// Ring-0 64-bit code.
pub const CODE: u16 = 0x08;
/// Ring-0 data.
pub const DATA: u16 = 0x10;
/// Ring-3 data, as SYSRET finds it after [`SYSRET_BASE`].
pub const USER_DATA: u16 = 0x20 | 3;
/// Ring-3 64-bit code.
pub const USER_CODE: u16 = 0x28 | 3;
/// For bits 63:48 of IA32_STAR (Intel SDM vol. 3A §5.8.8).
pub const SYSRET_BASE: u16 = 0x18;
/// Task state segment.
pub const TASK: u16 = 0x30;
/// Where free memory begins.
pub const FREE: u64 = 0x1_0000;

const GDT: u64 = 0x1000;
const TSS: u64 = 0x1800;
const TSS_LIMIT: u32 = 0x67;
const IDT: u64 = 0x2000;
const PML4: u64 = 0x3000;
const PDPT: u64 = 0x4000;
const DIRECTORIES: u64 = 0x5000;
const RING0_STACK: u64 = 0xa000;

/// Present, writable, user (Intel SDM vol. 3A §4.5).
const PAGE: u64 = 0b111;
/// A 2 MiB page, accessed and dirty.
const LARGE: u64 = 0xe0;

/// Descriptors in the order of the selectors above (Intel SDM vol. 3A §3.4.5); the second half of the
/// TSS descriptor is zero, since the TSS is low.
const DESCRIPTORS: [u64; 8] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x0000_8900_0000_0000 | TSS << 16 | TSS_LIMIT as u64,
    0,
];

/// Writes page tables, GDT and TSS.
///
/// # Errors
/// When the first 64 KiB are not RAM.
pub fn write_tables(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    for (index, descriptor) in (0..).zip(DESCRIPTORS) {
        memory.write_obj(descriptor, GuestAddress(GDT + 8 * index))?;
    }
    // RSP0 and the offset of the I/O permission map (Intel SDM vol. 3A §8.7).
    memory.write_obj(RING0_STACK, GuestAddress(TSS + 4))?;
    memory.write_obj(TSS_LIMIT as u16 + 1, GuestAddress(TSS + 0x66))?;
    memory.write_obj(PDPT | PAGE, GuestAddress(PML4))?;
    for gigabyte in 0..4 {
        let directory = DIRECTORIES + 0x1000 * gigabyte;
        memory.write_obj(directory | PAGE, GuestAddress(PDPT + 8 * gigabyte))?;
        for page in 0..512 {
            let entry = (gigabyte << 30 | page << 21) | PAGE | LARGE;
            memory.write_obj(entry, GuestAddress(directory + 8 * page))?;
        }
    }
    Ok(())
}

/// Puts an interrupt gate to ring 0 in for `vector`, usable by software of rings up to `dpl` (Intel SDM
/// vol. 3A §6.14.1).
///
/// # Errors
/// When the first 64 KiB are not RAM.
pub fn set_gate(
    memory: &GuestMemory,
    vector: u8,
    handler: u64,
    dpl: u8,
) -> Result<(), GuestMemoryError> {
    let low = (handler & 0xffff)
        | u64::from(CODE) << 16
        | (0x8e00 | u64::from(dpl & 3) << 13) << 32
        | (handler >> 16 & 0xffff) << 48;
    let gate = GuestAddress(IDT + 16 * u64::from(vector));
    memory.write_obj(low, gate)?;
    memory.write_obj(handler >> 32, GuestAddress(gate.0 + 8))
}

/// `reset`, the processor's state after reset, moved to ring 0 of 64-bit mode at `rip`, interrupts off.
pub fn start(reset: &VcpuState, rip: u64, rsp: u64) -> VcpuState {
    let mut state = reset.clone();
    state.general.rip = rip;
    state.general.gpr[4] = rsp;
    state.general.rflags = 2;
    let system = &mut state.system;
    system.segments = [data(); 6];
    system.segments[1] = code();
    system.tr = task();
    system.ldtr = Segment { unusable: true, ..Segment::default() };
    system.gdtr = DescriptorTable { base: GDT, limit: size_of_val(&DESCRIPTORS) as u16 - 1 };
    system.idtr = DescriptorTable { base: IDT, limit: 0xfff };
    // PG, WP, NE, ET, MP, PE; OSXMMEXCPT, OSFXSR, PAE; LMA, LME, SCE (Intel SDM vol. 3A §2.2.1, §2.5).
    system.cr0 = 0x8001_0033;
    system.cr3 = PML4;
    system.cr4 = 0x620;
    system.efer = 0x501;
    state
}

fn code() -> Segment {
    Segment {
        selector: CODE,
        limit: u32::MAX,
        kind: 0xb,
        s: true,
        present: true,
        l: true,
        g: true,
        ..Segment::default()
    }
}

fn data() -> Segment {
    Segment { selector: DATA, kind: 3, l: false, db: true, ..code() }
}

fn task() -> Segment {
    Segment {
        selector: TASK,
        base: TSS,
        limit: TSS_LIMIT,
        kind: 0xb,
        present: true,
        ..Segment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_below_4_gib_is_mapped_to_itself() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        write_tables(&memory).unwrap();
        let entry = |table: u64, index: u64| -> u64 {
            memory.read_obj(GuestAddress((table & !0xfff) + 8 * index)).unwrap()
        };
        for address in [0_u64, 0x20_0000, 0xfee0_0000, 0xffff_ffff] {
            let pointer = entry(entry(PML4, 0), address >> 30);
            let page = entry(pointer, address >> 21 & 511);
            assert_eq!(page & !0x1f_ffff, address & !0x1f_ffff);
            assert_eq!(page & 0x87, 0x87, "present, writable, user, large");
        }
    }

    #[test]
    fn a_gate_holds_the_handler_and_the_ring_that_may_use_it() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        set_gate(&memory, 3, 0x1234_5678_9abc_def0, 3).unwrap();
        let gate: u128 = memory.read_obj(GuestAddress(IDT + 48)).unwrap();
        assert_eq!(gate, 0x1234_5678_9abc_ee00_0008_def0);
    }
}
