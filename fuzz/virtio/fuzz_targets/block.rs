#![no_main]
//! A hostile driver of virtio-blk.
//!
//! The input is a program of 8-byte steps: what to do, size, offset (16 bits), value (32 bits). Steps
//! write registers, write guest memory, notify, poll, pause and resume.

use kezhan_device::{Device, GuestMemory, MsiInterrupt, RegionIndex, testkit::Recorder};
use kezhan_ports::testkit::MemoryDisk;
use kezhan_virtio::{Block, BlockOptions, VirtioPci};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: usize = 0x1_0000;

libfuzzer_sys::fuzz_target!(|program: &[u8]| {
    let ranges = [(GuestAddress(0), MEMORY)];
    let Ok(memory) = GuestMemory::from_ranges(&ranges) else { return };
    let memory = Arc::new(memory);
    let options = BlockOptions { serial: "fuzz".to_owned(), queues: 2 };
    let block = Box::new(Block::new(Box::new(MemoryDisk::new(1 << 16)), options));
    let msi = MsiInterrupt::new(Arc::new(Recorder::default()));
    let mut device = VirtioPci::new("fuzz", block, memory.clone(), msi);
    for step in program.chunks_exact(8) {
        let &[what, size, low, high, a, b, c, d] = step else { return };
        let value = [a, b, c, d];
        let (offset, size) = (u16::from_le_bytes([low, high]), 1 << (size % 3));
        let data = &value[..size];
        match what % 6 {
            0 => drop(memory.write_slice(&value, GuestAddress(offset.into()))),
            1 => _ = device.write(RegionIndex(1), (offset % 0x4000).into(), data),
            2 => _ = device.write(RegionIndex(1), (offset % 0x38).into(), data),
            3 => _ = device.write(RegionIndex(0), (offset % 0x1000).into(), data),
            4 => device.poll(),
            _ => {
                device.pause();
                device.resume();
            }
        }
        if device.deadline().is_some() {
            device.wake(0);
        }
    }
});
