#![no_main]
//! Hostile rings under a live device: what lies in the memory of the queue is the input.
//!
//! The first byte chooses the device, split or packed rings, event indices, and the size of the queue. The rest is
//! laid over the rings and what is behind them, again and again with another place, and the device is rung.

use kezhan_device::{Device, GuestMemory, MsiInterrupt, RegionIndex, testkit::Recorder};
use kezhan_ports::testkit::MemoryDisk;
use kezhan_virtio::{Block, BlockOptions, Console, Rng, VirtioDevice, VirtioPci};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: usize = 0x1_0000;
const VIRTIO: RegionIndex = RegionIndex(1);
const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const PACKED: u64 = 1 << 34;
/// Descriptors, driver's and device's area of each queue, one behind the other.
const AREA: u64 = 0x400;

fn device(kind: u8) -> Box<dyn VirtioDevice> {
    match kind % 3 {
        0 => Box::new(Rng::new(Box::new(Same))),
        1 => Box::new(Console::new(Vec::new())),
        _ => {
            let options = BlockOptions { serial: "fuzz".to_owned(), queues: 2 };
            Box::new(Block::new(Box::new(MemoryDisk::new(1 << 16)), options))
        }
    }
}

/// Random bytes that are the same in each run.
struct Same;

impl kezhan_ports::Entropy for Same {
    fn fill(&mut self, data: &mut [u8]) {
        data.fill(0x5a);
    }
}

fn set(device: &mut VirtioPci, field: u64, value: &[u8]) {
    let _ = device.write(VIRTIO, field, value);
}

/// Brings the device to life as a driver would (virtio 1.2 §3.1.1, registers of §4.1.4.3).
fn go_live(device: &mut VirtioPci, features: u64, size: u16) {
    set(device, 0x14, &[3]);
    for half in 0..2_u32 {
        set(device, 0x08, &half.to_le_bytes());
        set(device, 0x0c, &((features >> (32 * half)) as u32).to_le_bytes());
    }
    set(device, 0x14, &[11]);
    for queue in 0..4_u16 {
        set(device, 0x16, &queue.to_le_bytes());
        set(device, 0x18, &size.to_le_bytes());
        for (index, field) in [0x20, 0x28, 0x30].into_iter().enumerate() {
            let place = (u64::from(queue) * 3 + index as u64) * AREA;
            set(device, field, &(place as u32).to_le_bytes());
            set(device, field + 4, &[0; 4]);
        }
        set(device, 0x1c, &1_u16.to_le_bytes());
    }
    set(device, 0x14, &[15]);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let Ok(memory) = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let memory = Arc::new(memory);
    let msi = MsiInterrupt::new(Arc::new(Recorder::default()));
    let mut device = VirtioPci::new("fuzz", device(choice >> 4), memory.clone(), msi);
    let mut features = VERSION_1 | INDIRECT;
    features |= if choice & 1 != 0 { PACKED } else { 0 };
    features |= if choice & 2 != 0 { EVENT_IDX } else { 0 };
    go_live(&mut device, features, 1 << (choice >> 2 & 3) << 2);
    for step in rest.chunks(66) {
        let Some(([low, high], bytes)) = step.split_first_chunk::<2>() else { return };
        let place = u16::from_le_bytes([*low, *high]) % 0x3800;
        let _ = memory.write_slice(bytes, GuestAddress(place.into()));
        match low % 4 {
            0 => device.rung(),
            1 => device.poll(),
            2 => set(&mut device, 0x3000 + 4 * u64::from(high % 4), &u16::from(high % 4).to_le_bytes()),
            _ => _ = device.waiting(),
        }
    }
    device.pause();
    device.resume();
    let state = device.save();
    let _ = device.restore(&state);
});
