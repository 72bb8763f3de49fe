//! The card from the driver's side.

use super::*;
use kezhan_device::ManualClock;
use kezhan_device::testkit::{check_contract, check_storm, read, write};
use kezhan_ports::testkit::NicBuffer;
use spec::{receive as rctl, tx};
use vm_memory::{Bytes, GuestAddress};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x2000;
const BUFFERS: u64 = 0x10_000;
const DATA: u64 = 0x8_000;
const COUNT: u32 = 8;

struct Bench {
    network: NicBuffer,
    card: E1000,
    memory: Arc<GuestMemory>,
    line: LineInterrupt,
}

/// A card with both rings set up, every receive buffer given.
fn bench(control: u32) -> Bench {
    let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
    let network = NicBuffer::default();
    let mut card = E1000::new("net0", Box::new(network.clone()), MAC, memory.clone());
    let line = LineInterrupt::unconnected("net0.intx");
    card.connect_interrupt(line.clone());
    let mut bench = Bench { network, card, memory, line };
    for (ring, base) in [(register::RDBAL, RX_RING), (register::TDBAL, TX_RING)] {
        bench.set(ring, base as u32);
        bench.set(ring + 8, COUNT * 16);
    }
    for slot in 0..u64::from(COUNT) {
        bench.put(RX_RING + slot * 16, &(BUFFERS + slot * 0x1000).to_le_bytes());
    }
    bench.set(register::TCTL, 2);
    bench.set(register::RCTL, control | rctl::ENABLE);
    bench.set(register::RDT, COUNT - 1);
    bench
}

fn frame(to: [u8; 6], length: usize) -> Vec<u8> {
    to.into_iter().chain(MAC).chain((12..length).map(|n| n as u8)).collect()
}

impl Bench {
    fn get(&mut self, offset: u32) -> u32 {
        read(&mut self.card, REGISTERS, offset.into(), 4) as u32
    }

    fn set(&mut self, offset: u32, value: u32) {
        write(&mut self.card, REGISTERS, offset.into(), 4, value.into());
    }

    fn put(&self, address: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(address)).unwrap();
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory.read_slice(&mut data, GuestAddress(address)).unwrap();
        data
    }

    /// Writes the transmit descriptors from the tail on and gives them to the card.
    fn transmit(&mut self, descriptors: &[(u64, u32, u32)]) {
        let mut tail = self.get(register::TDT);
        for (address, command, options) in descriptors {
            let at = TX_RING + u64::from(tail) * 16;
            self.put(at, &address.to_le_bytes());
            self.put(at + 8, &command.to_le_bytes());
            self.put(at + 12, &options.to_le_bytes());
            tail = (tail + 1) % COUNT;
        }
        self.set(register::TDT, tail);
    }

    fn hears(&mut self, frame: &[u8]) -> bool {
        let before = self.get(register::RDH);
        self.network.feed(frame);
        self.card.poll();
        assert_eq!(self.network.waiting(), 0);
        let after = self.get(register::RDH);
        self.set(register::RDT, (after + COUNT - 1) % COUNT);
        before != after
    }
}

#[test]
fn a_packet_in_several_descriptors_leaves_whole_and_is_reported() {
    let mut bench = bench(0);
    bench.set(register::IMS, cause::TRANSMITTED);
    for _ in 0..COUNT {
        bench.put(DATA, &frame(OTHER, 100));
        let end = tx::END | tx::REPORT;
        bench.transmit(&[(DATA, 40, 0), (DATA + 40, 60 | end, 0)]);
        assert_eq!(bench.network.take_sent()[0].0, frame(OTHER, 100));
        assert!(bench.line.is_high());
        assert_eq!(bench.get(register::ICR) & 1, 1);
        assert!(!bench.line.is_high(), "reading takes the causes away");
        assert_eq!(bench.get(register::TDH), bench.get(register::TDT));
    }
    assert_eq!(bench.bytes(TX_RING + 16 + 12, 1), [1]);
    assert_eq!(bench.get(register::GPTC), COUNT);
    assert_eq!(bench.get(register::GPTC), 0);
}

#[test]
fn a_packet_waits_while_the_port_is_full() {
    let mut bench = bench(0);
    bench.network.limit(Some(0));
    bench.put(DATA, &frame(OTHER, 60));
    for _ in 0..3 {
        bench.transmit(&[(DATA, 60 | tx::END, 0)]);
    }
    assert_eq!(bench.network.take_sent().len(), 0);
    assert_eq!(bench.get(register::TDH), 1, "the ring stands still");
    bench.network.limit(None);
    bench.card.poll();
    assert_eq!(bench.network.take_sent().len(), 3);
}

#[test]
fn a_large_packet_is_cut_as_its_context_says() {
    let mut bench = bench(0);
    let mut packet = frame(OTHER, 14);
    packet[12..].copy_from_slice(&[8, 0]);
    packet.extend([0x45, 0, 0, 0, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
    packet.extend([0, 80, 0, 81, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
    packet.resize(54 + 3000, 9);
    bench.put(DATA, &packet);
    let context = 14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40;
    let kind = tx::EXTENDED | tx::TCP | tx::IPV4 | tx::CUT;
    let data = tx::EXTENDED | tx::DATA | tx::CUT | tx::END | packet.len() as u32;
    let sums = tx::IP_CHECKSUM | tx::TCP_CHECKSUM;
    bench.transmit(&[(context, kind | 3000, 54 << 8 | 1460 << 16), (DATA, data, sums)]);
    let sent: Vec<_> = bench.network.take_sent().iter().map(|(frame, _)| frame.len()).collect();
    assert_eq!(sent, [1514, 1514, 54 + 80]);
}

#[test]
fn packets_that_make_no_sense_are_dropped_and_the_ring_goes_on() {
    let mut bench = bench(0);
    let cut = tx::EXTENDED | tx::DATA | tx::CUT | tx::END | 60;
    bench.transmit(&[(DATA, cut, 0), (1 << 40, 60 | tx::END, 0), (DATA, 60 | tx::END, 0)]);
    assert_eq!(bench.network.take_sent().len(), 1);
    for _ in 0..3 {
        let large = tx::EXTENDED | tx::DATA | 0xf_ffff;
        bench.transmit(&[(DATA, large, 0), (DATA, large | tx::END, 0)]);
    }
    assert_eq!(bench.network.take_sent().len(), 0);
    for (length, tail) in [(0, 0), (128, 0xffff), (0xffff_ff80, 5)] {
        bench.set(register::TDLEN, length);
        bench.set(register::TDT, tail);
        bench.card.poll();
    }
}

#[test]
fn a_frame_is_received_with_its_length_and_an_interrupt() {
    let mut bench = bench(rctl::BROADCAST);
    bench.set(register::IMS, cause::RECEIVED);
    bench.network.feed(&frame(MAC, 100));
    bench.card.poll();
    assert!(bench.line.is_high());
    assert_eq!(bench.bytes(BUFFERS, 104), [frame(MAC, 100), vec![0; 4]].concat());
    assert_eq!(bench.bytes(RX_RING + 8, 5), [104, 0, 0, 0, 7]);
    bench.set(register::RCTL, rctl::ENABLE | rctl::STRIP);
    bench.network.feed(&frame(MAC, 20));
    bench.card.poll();
    assert_eq!(bench.bytes(RX_RING + 24, 5), [60, 0, 0, 0, 7], "padded, no check sequence");
    bench.set(register::IMC, cause::RECEIVED);
    assert!(!bench.line.is_high());
}

#[test]
fn frames_wait_behind_the_port_until_there_are_buffers() {
    let mut bench = bench(0);
    for _ in 0..10 {
        bench.network.feed(&frame(MAC, 60));
    }
    bench.card.poll();
    assert_eq!(bench.network.waiting(), 3, "a ring of eight has seven");
    bench.set(register::RDT, 2);
    assert_eq!(bench.network.waiting(), 0);
}

#[test]
fn a_long_frame_takes_several_buffers_where_long_ones_are_wanted() {
    let mut bench = bench(rctl::LONG);
    bench.network.feed(&frame(MAC, 4000));
    bench.card.poll();
    assert_eq!(bench.get(register::RDH), 2);
    assert_eq!(bench.bytes(RX_RING + 12, 1), [5]);
    assert_eq!(bench.bytes(RX_RING + 28, 1), [7]);
    bench.set(register::RCTL, rctl::ENABLE);
    bench.network.feed(&frame(MAC, 4000));
    bench.card.poll();
    assert_eq!(bench.get(register::RDH), 2, "dropped");
}

#[test]
fn the_filters_pass_what_the_driver_wants() {
    let multicast = [1, 0, 0x5e, 0, 0, 1];
    let mut bench = bench(0);
    assert!(bench.hears(&frame(MAC, 60)));
    for to in [OTHER, multicast, [0xff; 6]] {
        assert!(!bench.hears(&frame(to, 60)), "{to:x?}");
    }
    // The hash of the multicast address with MO = 0.
    let hash = (u32::from(multicast[4]) >> 4 | u32::from(multicast[5]) << 4) & 0xfff;
    bench.set(register::MTA + hash / 32 * 4, 1 << (hash % 32));
    assert!(bench.hears(&frame(multicast, 60)));
    bench.set(register::RAL + 8, u32::from_le_bytes([OTHER[0], OTHER[1], OTHER[2], OTHER[3]]));
    bench.set(register::RAL + 12, 1 << 31 | u32::from_le_bytes([OTHER[4], OTHER[5], 0, 0]));
    assert!(bench.hears(&frame(OTHER, 60)));
    bench.set(register::RCTL, rctl::ENABLE | rctl::BROADCAST | rctl::ALL_UNICAST);
    assert!(bench.hears(&frame([0xff; 6], 60)) && bench.hears(&frame([2; 6], 60)));
}

#[test]
fn a_vlan_tag_is_taken_out_and_put_in() {
    let mut bench = bench(0);
    bench.set(register::CTRL, control::POWER_ON | control::VLAN);
    let mut tagged = frame(MAC, 60);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    assert!(bench.hears(&tagged));
    assert_eq!(bench.bytes(RX_RING + 12, 4), [0xf, 0, 5, 0]);
    bench.put(DATA, &frame(OTHER, 60));
    bench.transmit(&[(DATA, 60 | tx::END | tx::TAG, 5 << 16)]);
    assert_eq!(bench.network.take_sent()[0].0[12..16], [0x81, 0, 0, 5]);
    bench.set(register::RCTL, rctl::ENABLE | rctl::VLAN_FILTER);
    assert!(!bench.hears(&tagged));
    bench.set(register::VFTA, 1 << 5);
    assert!(bench.hears(&tagged));
}

#[test]
fn a_cable_that_is_pulled_is_told() {
    let mut bench = bench(0);
    assert_ne!(bench.get(register::STATUS) & status::LINK, 0);
    bench.set(register::IMS, cause::LINK);
    bench.network.set_link(false);
    bench.card.poll();
    assert!(bench.line.is_high());
    assert_eq!(bench.get(register::STATUS) & status::LINK, 0);
}

#[test]
fn registers_are_reached_through_ports_too_and_a_reset_takes_all_back() {
    let mut bench = bench(0);
    write(&mut bench.card, PORTS, 0, 4, register::TDLEN.into());
    assert_eq!(read(&mut bench.card, PORTS, 4, 4), u64::from(COUNT * 16));
    write(&mut bench.card, PORTS, 4, 4, 256);
    assert_eq!(bench.get(register::TDLEN), 256);
    bench.set(register::CTRL, control::RESET);
    assert_eq!((bench.get(register::TDLEN), bench.get(register::RCTL)), (0, 0));
    assert_eq!(bench.get(register::RAL), 0x1200_5452);
}

#[test]
fn a_card_goes_on_from_a_saved_state_and_survives_storms() {
    let mut bench = bench(rctl::BROADCAST);
    bench.set(register::IMS, cause::RECEIVED);
    bench.network.feed(&frame(MAC, 60));
    bench.card.poll();
    let state = bench.card.save();
    let mut other = E1000::new("net0", Box::new(NicBuffer::default()), MAC, bench.memory.clone());
    other.restore(&state).unwrap();
    assert_eq!(other.save(), state);
    check_contract(&mut bench.card);
    check_storm(&mut bench.card, &ManualClock::default());
}
