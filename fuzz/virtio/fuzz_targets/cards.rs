#![no_main]
//! A hostile driver of a network card: virtio-net when the input's first byte is even, else e1000.
//!
//! The rest is a program of 8-byte steps: what to do, size, offset (16 bits), value (32 bits). Steps write
//! registers and guest memory, hand over frames, make the port full, poll, pause, save and restore.

use kezhan_device::{Device, GuestMemory, MsiInterrupt, RegionIndex, testkit::Recorder};
use kezhan_e1000::E1000;
use kezhan_ports::nic::{Nic, NicInfo, Offloads, Packet, PartialChecksum};
use kezhan_ports::testkit::NicBuffer;
use kezhan_virtio::{Net, VirtioPci};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: usize = 0x1_0000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn card(kind: u8, network: &NicBuffer, memory: &Arc<GuestMemory>) -> Box<dyn Device> {
    let port: Box<dyn Nic> = Box::new(network.clone());
    if kind % 2 == 1 {
        return Box::new(E1000::new("fuzz", port, MAC, memory.clone()));
    }
    let msi = MsiInterrupt::new(Arc::new(Recorder::default()));
    let ports = vec![port, Box::new(NicBuffer::default())];
    Box::new(VirtioPci::new("fuzz", Box::new(Net::new(ports, MAC)), memory.clone(), msi))
}

fn feed(network: &NicBuffer, length: u16, value: [u8; 4]) {
    let frame: Vec<u8> = value.into_iter().cycle().take(length.into()).collect();
    let [start, _, offset, _] = value.map(u16::from);
    let checksum = (value[0] % 2 == 1).then_some(PartialChecksum { start, offset });
    network.feed_packet(&frame, Packet { checksum, segmentation: None });
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, program)) = input.split_first() else { return };
    let Ok(memory) = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY)]) else { return };
    let memory = Arc::new(memory);
    let offloads = Offloads { checksum: true, tcp4: true, tcp6: true };
    let network = NicBuffer::new(NicInfo { mtu: 1500, offloads });
    let mut device = card(*kind, &network, &memory);
    for step in program.chunks_exact(8) {
        let &[what, size, low, high, a, b, c, d] = step else { return };
        let value = [a, b, c, d];
        let (offset, size) = (u16::from_le_bytes([low, high]), 1 << (size % 3));
        let data = &value[..size];
        match what % 10 {
            0 => drop(memory.write_slice(&value, GuestAddress(offset.into()))),
            1 => _ = device.write(RegionIndex(1), (offset % 0x4000).into(), data),
            2 => _ = device.write(RegionIndex(1), (offset % 0x38).into(), data),
            3 => _ = device.write(RegionIndex(0), (offset & 0x5fff).into(), data),
            4 => _ = device.read(RegionIndex(0), (offset & 0x5fff).into(), &mut [0; 4][..size]),
            5 => feed(&network, offset % 9100, value),
            6 => network.limit((offset % 2 == 0).then_some(0)),
            7 => network.set_link(offset % 2 == 0),
            8 => {
                let state = device.save();
                device.restore(&state).expect("a card takes back its own state");
            }
            _ => {
                device.pause();
                device.resume();
            }
        }
        device.poll();
        if device.deadline().is_some() {
            device.wake(0);
        }
        network.take_sent();
    }
});
