#![no_main]
//! A hostile guest in PCI configuration space: host bridge, root port, and a disk before and behind the port.
//!
//! The input is a program of 8-byte steps: what to do, size, offset (16 bits), value (32 bits).

use kezhan_device::{Device, GuestMemory, MsiInterrupt, RegionIndex, testkit::Recorder};
use kezhan_pci::{BarTarget, HostBridge, PciAddress, PciHost, RootPort};
use kezhan_ports::testkit::MemoryDisk;
use kezhan_virtio::{Block, BlockOptions, VirtioPci};
use std::sync::{Arc, Mutex};
use vm_memory::GuestAddress;

const CONFIG: RegionIndex = RegionIndex(0);
const ECAM: RegionIndex = RegionIndex(1);

/// A board that does not care where BARs are.
struct Nowhere;

impl BarTarget for Nowhere {
    fn place(&self, _function: PciAddress, _region: RegionIndex, _base: Option<u64>) {}
}

fn disk(memory: &Arc<GuestMemory>) -> Arc<Mutex<VirtioPci>> {
    let options = BlockOptions { serial: "fuzz".to_owned(), queues: 1 };
    let block = Box::new(Block::new(Box::new(MemoryDisk::new(1 << 16)), options));
    let msi = MsiInterrupt::new(Arc::new(Recorder::default()));
    Arc::new(Mutex::new(VirtioPci::new("disk", block, memory.clone(), msi)))
}

libfuzzer_sys::fuzz_target!(|program: &[u8]| {
    let Ok(memory) = GuestMemory::from_ranges(&[(GuestAddress(0), 0x1_0000)]) else { return };
    let memory = Arc::new(memory);
    let mut host = PciHost::new("pci", 4, Arc::new(Nowhere));
    let (port, behind) = (PciAddress::new(0, 1, 0), PciAddress::new(2, 0, 0));
    let root = Arc::new(Mutex::new(RootPort::new("port", 1)));
    let _ = host.plug(PciAddress::new(0, 0, 0), Arc::new(Mutex::new(HostBridge::new("bridge"))));
    let _ = host.plug(port, root.clone());
    let _ = host.plug(PciAddress::new(0, 2, 0), disk(&memory));
    host.lead(behind.bus, port);
    let root = || root.lock().expect("nobody panics with it");
    for step in program.chunks_exact(8) {
        let &[what, size, low, high, a, b, c, d] = step else { return };
        let (value, size) = ([a, b, c, d], 1 << (size % 3));
        let offset = u64::from(u16::from_le_bytes([low, high]));
        // Two buses, three devices, function 0: where something is, more often than not.
        let place = u64::from(what >> 4 & 1) << 20 | u64::from(what >> 5 & 3) << 15 | offset % 0x1000;
        match what % 8 {
            0 => _ = host.write(CONFIG, offset % 8, &value[..size]),
            1 => _ = host.read(CONFIG, offset % 8, &mut [0; 4][..size]),
            2 | 3 => _ = host.write(ECAM, place, &value[..size]),
            4 => _ = host.read(ECAM, place, &mut [0; 4][..size]),
            5 => {
                if host.plug(behind, disk(&memory)).is_ok() {
                    root().insert();
                }
            }
            6 => {
                root().press_button();
                if root().handle().take_ejected() {
                    host.unplug(behind);
                    root().remove();
                }
            }
            _ => {
                let state = root().save();
                let _ = root().restore(&state);
                host.resume();
            }
        }
    }
});
