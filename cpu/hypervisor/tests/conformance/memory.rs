//! RAM, ROM and the dirty log.

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::testkit::Access::WriteMemory;
use kezhan_hypervisor::{GuestMemory, Hypervisor};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

/// Where the ROM is.
const ROM: u64 = 0xd000_0000;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("rom_is_read_and_executed_and_writes_go_to_the_machine", rom),
        Case::new("rom_below_the_reset_vector_is_where_a_processor_begins", reset_vector),
        Case::new("memory_that_is_given_back_reads_as_zeroes", given_back),
        Case::new("the_dirty_log_has_exactly_the_pages_written", dirty_pages),
        Case::new("the_dirty_log_is_silent_when_off", dirty_off),
    ]
}

fn rom_at(address: u64, offset: u64, bytes: &[u8]) -> Arc<GuestMemory> {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(address), 0x1_0000)]).unwrap();
    memory.write_slice(bytes, GuestAddress(address + offset)).unwrap();
    Arc::new(memory)
}

fn rom(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, ROM)?;
        a.mov(rax, qword_ptr(rbx + 0x100))?;
        a.mov(qword_ptr(DATA), rax)?;
        a.mov(dword_ptr(rbx + 0x100), 5)?;
        a.mov(rax, qword_ptr(rbx + 0x100))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.call(rbx)?;
        a.mov(qword_ptr(DATA + 16), rax)
    });
    // mov eax, 0x55; ret
    let rom = rom_at(ROM, 0, &[0xb8, 0x55, 0, 0, 0, 0xc3]);
    rom.write_obj(0x1122_3344_5566_7788_u64, GuestAddress(ROM + 0x100)).unwrap();
    guest.partition.map_rom(ROM, rom).unwrap();
    guest.run();
    assert_eq!(guest.result(0), 0x1122_3344_5566_7788);
    assert_eq!(guest.result(1), 0x1122_3344_5566_7788, "a write does not change it");
    assert_eq!(guest.result(2), 0x55);
    assert_eq!(guest.accesses(), [WriteMemory(ROM + 0x100, 5, 4)]);
}

fn reset_vector(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |_| Ok(()));
    // At 0xfff0 of 16-bit code: mov al, 0x42; out 0x80, al; out 0xf4, al; hlt
    let code = [0xb0, 0x42, 0xe6, 0x80, 0xe6, DONE as u8, 0xf4];
    guest.partition.map_rom(0xffff_0000, rom_at(0x3_0000, 0xfff0, &code)).unwrap();
    let mut vcpu = guest.partition.vcpu(0).unwrap();
    guest.go(vcpu.as_mut());
    assert_eq!(guest.accesses(), [kezhan_hypervisor::testkit::Access::WritePort(0x80, 0x42, 1)]);
}

fn given_back(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rax, qword_ptr(FREE + 0xff8))?;
        a.mov(qword_ptr(DATA), rax)?;
        a.mov(rax, qword_ptr(FREE + 0x1000))?;
        a.mov(qword_ptr(DATA + 8), rax)
    });
    guest.memory.write_slice(&[0xaa; 0x2000], GuestAddress(FREE)).unwrap();
    let refused =
        [(FREE + 8, 0x1000), (FREE, 0x800), (FREE, 0), (RAM as u64, 0x1000), (FREE, 1 << 40)];
    for (address, length) in refused {
        assert!(!guest.partition.release_memory(address, length), "{address:#x} {length:#x}");
    }
    assert!(guest.partition.release_memory(FREE, 0x1000));
    guest.run();
    assert_eq!((guest.result(0), guest.result(1)), (0, 0xaaaa_aaaa_aaaa_aaaa));
}

fn write_three_pages(a: &mut CodeAssembler) -> Code {
    a.mov(byte_ptr(FREE), 1)?;
    a.mov(qword_ptr(FREE + 0x2ffc), 2)?;
    a.mov(eax, dword_ptr(FREE + 0x5000))
}

/// The pages of the free RAM that the log has.
fn dirty_free_pages(guest: &Guest) -> Vec<u64> {
    let log = guest.partition.dirty_log().unwrap().take().unwrap();
    assert_eq!(log.len(), 1, "one region");
    assert_eq!(log[0].len(), RAM / 4096 / 64);
    let first = FREE / 4096;
    let dirty = |page: &u64| log[0][(page / 64) as usize] >> (page % 64) & 1 == 1;
    (first..RAM as u64 / 4096).filter(dirty).map(|page| page - first).collect()
}

fn dirty_pages(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, write_three_pages);
    let Some(log) = guest.partition.dirty_log() else { return };
    log.set_logging(true).unwrap();
    guest.run();
    assert_eq!(dirty_free_pages(&guest), [0, 2, 3]);
    assert!(dirty_free_pages(&guest).is_empty(), "taking clears");
}

fn dirty_off(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, write_three_pages);
    let Some(log) = guest.partition.dirty_log() else { return };
    guest.run();
    log.set_logging(true).unwrap();
    assert!(dirty_free_pages(&guest).is_empty());
}
