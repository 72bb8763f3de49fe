//! virtio-net from the driver's side.

use super::*;
use crate::spec::{common, feature};
use crate::testkit::{Bench, MEMORY, Part, Ring};
use kezhan_device::testkit::{check_contract, check_storm};
use kezhan_device::{Device, ManualClock};
use kezhan_ports::nic::{NicInfo, Packet, PartialChecksum, Segmentation, SegmentationKind};
use kezhan_ports::testkit::NicBuffer;

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x15];
const OTHER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];
const MULTICAST: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];
const RX: u64 = 0;
const TX: u64 = 1;
const CONTROL: u64 = 2;
/// Where the device's configuration is in its BAR.
const CONFIG: u64 = 0x2000;
const HEADER: u64 = 0x4_8000;
const DATA: u64 = 0x5_0000;
const BUFFERS: u64 = 0x8_0000;

const WHOLE: Offloads = Offloads { checksum: true, tcp4: true, tcp6: true };
const LAYOUTS: [u64; 3] = [0, feature::EVENT_IDX, feature::RING_PACKED | feature::EVENT_IDX];

struct Card {
    network: NicBuffer,
    bench: Bench,
    rx: Ring,
    tx: Ring,
    control: Ring,
}

fn card(features: u64) -> Card {
    let network = NicBuffer::new(NicInfo { mtu: 9000, offloads: WHOLE });
    let mut bench = Bench::new(Net::new(vec![Box::new(network.clone())], MAC));
    bench.use_msix();
    bench.set(common::CONFIG_VECTOR, 2, 0);
    assert!(bench.negotiate(features), "features {features:#x} are agreed upon");
    let [rx, tx, control] = [0, 1, 2].map(|queue| bench.ring(queue));
    bench.go_live();
    Card { network, bench, rx, tx, control }
}

fn frame(to: [u8; 6], length: usize) -> Vec<u8> {
    let body = (0..length).map(|n| (n % 251) as u8).skip(12);
    to.into_iter().chain(MAC).chain(body).collect()
}

impl Card {
    /// Sends a frame behind a header in a buffer of several parts; gives whether it came back used.
    fn send(&mut self, header: [u8; 12], frame: &[u8]) -> bool {
        self.bench.put(HEADER, &header);
        self.bench.put(DATA, frame);
        let half = frame.len() as u32 / 2;
        let rest = frame.len() as u32 - half;
        let data = [(DATA, half, false), (DATA + u64::from(half), rest, false)];
        self.tx.add(&[&[(HEADER, 12, false)], &data[..]].concat());
        self.bench.notify(TX);
        self.tx.take(3).is_some()
    }

    /// Gives the device receive buffers of so many bytes each.
    fn offer(&mut self, lengths: &[u32]) {
        for (place, length) in (0..).zip(lengths) {
            self.rx.add(&[(BUFFERS + place * 0x1000, *length, true)]);
        }
        self.bench.notify(RX);
    }

    /// Performs a command; gives its answer.
    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        self.bench.put(DATA, &[&[class, command], data].concat());
        self.bench.put(HEADER, &[0xee]);
        let parts: [Part; 2] = [(DATA, data.len() as u32 + 2, false), (HEADER, 1, true)];
        self.control.add(&parts);
        self.bench.notify(CONTROL);
        assert_eq!(self.control.take(2).map(|(_, length)| length), Some(1));
        self.bench.bytes(HEADER, 1)[0]
    }

    /// Whether a frame to this address reaches the guest.
    fn hears(&mut self, to: [u8; 6]) -> bool {
        self.hears_frame(&frame(to, 60))
    }

    fn hears_frame(&mut self, frame: &[u8]) -> bool {
        self.network.feed(frame);
        self.bench.poll();
        assert_eq!(self.network.waiting(), 0);
        self.rx.take(1).is_some()
    }
}

fn header(flags: u8, kind: u8, size: u16, start: u16, offset: u16) -> [u8; 12] {
    let [s0, s1] = size.to_le_bytes();
    let [c0, c1] = start.to_le_bytes();
    let [o0, o1] = offset.to_le_bytes();
    [flags, kind, 0, 0, s0, s1, c0, c1, o0, o1, 0, 0]
}

/// A frame whose TCP header, of 20 bytes and 12 of options, begins at 34.
fn tcp(length: usize) -> Vec<u8> {
    let mut frame = frame(OTHER, length);
    frame[34 + 12] = 8 << 4;
    frame
}

#[test]
fn the_configuration_tells_address_link_and_mtu() {
    let mut card = card(numbers::MAC | numbers::STATUS | numbers::MTU);
    let config: Vec<u8> = (0..12).map(|at| card.bench.get(CONFIG + at, 1) as u8).collect();
    assert_eq!(config[..6], MAC);
    assert_eq!(config[6..], [1, 0, 1, 0, 0x28, 0x23]);
}

#[test]
fn what_the_port_cannot_do_is_not_offered() {
    let bench = |offloads| {
        let network = NicBuffer::new(NicInfo { mtu: 1500, offloads });
        let mut bench = Bench::new(Net::new(vec![Box::new(network)], MAC));
        bench.get(common::DEVICE_FEATURE, 4)
    };
    let all = numbers::CSUM | numbers::HOST_TSO4 | numbers::HOST_TSO6;
    assert_eq!(bench(WHOLE) & all, all);
    assert_eq!(bench(Offloads::default()) & all, 0);
    let no_checksum = Offloads { checksum: false, ..WHOLE };
    assert_eq!(bench(no_checksum) & all, 0, "cutting needs checksums");
    assert_eq!(bench(WHOLE) & numbers::MQ, 0, "one pair");
}

#[test]
fn a_frame_is_sent_whole_in_every_layout() {
    for features in LAYOUTS {
        let mut card = card(features);
        for length in [14, 60, 1514, 9014] {
            assert!(card.send([0; 12], &frame(OTHER, length)), "{features:#x}");
            assert_eq!(card.network.take_sent(), [(frame(OTHER, length), Packet::default())]);
        }
        assert!(card.bench.interrupts().contains(&2));
    }
}

#[test]
fn a_frame_waits_while_the_port_is_full() {
    for features in LAYOUTS {
        let mut card = card(features);
        card.network.limit(Some(0));
        assert!(!card.send([0; 12], &frame(OTHER, 60)));
        card.bench.poll();
        assert_eq!(card.tx.take(3), None);
        card.network.limit(None);
        card.bench.poll();
        assert!(card.tx.take(3).is_some(), "{features:#x}");
        assert_eq!(card.network.take_sent().len(), 1);
    }
}

#[test]
fn a_checksum_left_to_the_device_is_told_to_the_port() {
    let mut card = card(numbers::CSUM);
    assert!(card.send(header(1, 0, 0, 34, 16), &tcp(100)));
    let (_, packet) = card.network.take_sent().remove(0);
    assert_eq!(packet.checksum, Some(PartialChecksum { start: 34, offset: 16 }));
    assert_eq!(packet.segmentation, None);
}

#[test]
fn a_segment_of_64_kib_reaches_the_port_uncut() {
    let mut card = card(numbers::CSUM | numbers::HOST_TSO4 | numbers::HOST_TSO6);
    for (kind, expected) in [(1, SegmentationKind::Tcp4), (4, SegmentationKind::Tcp6)] {
        let frame = tcp(65_549);
        assert!(card.send(header(1, kind, 1448, 34, 16), &frame));
        let (sent, packet) = card.network.take_sent().remove(0);
        assert_eq!(sent.len(), frame.len());
        let segmentation = Segmentation { kind: expected, headers: 34 + 32, size: 1448 };
        assert_eq!(packet.segmentation, Some(segmentation));
    }
}

#[test]
fn work_that_was_not_agreed_upon_or_makes_no_sense_drops_the_frame() {
    let all = numbers::CSUM | numbers::HOST_TSO4;
    let mut outside = tcp(100);
    outside[34 + 12] = 15 << 4;
    outside.truncate(34 + 50);
    let cases: [(u64, [u8; 12], Vec<u8>); 11] = [
        (0, header(1, 0, 0, 34, 16), tcp(100)),
        (numbers::CSUM, header(1, 1, 1448, 34, 16), tcp(100)),
        (all, header(1, 4, 1448, 34, 16), tcp(100)),
        (all, header(0, 1, 1448, 34, 16), tcp(100)),
        (all, header(1, 1, 0, 34, 16), tcp(100)),
        (all, header(1, 0x81, 1448, 34, 16), tcp(100)),
        (all, header(1, 3, 1448, 34, 16), tcp(100)),
        (all, header(1, 0, 0, 90, 9), tcp(100)),
        (all, header(1, 0, 0, 0xffff, 0xffff), tcp(100)),
        (all, header(1, 1, 1448, 34, 16), outside),
        (all, [0; 12], frame(OTHER, 13)),
    ];
    for (place, (features, header, frame)) in cases.into_iter().enumerate() {
        let mut card = card(features);
        assert!(card.send(header, &frame), "case {place} comes back");
        assert_eq!(card.network.take_sent(), [], "case {place}");
    }
}

#[test]
fn buffers_of_no_use_come_back() {
    let mut card = card(0);
    let parts: [&[Part]; 4] = [
        &[(HEADER, 11, false)],
        &[(HEADER, 12, false), (MEMORY as u64, 60, false)],
        &[(HEADER, 12, false), (0, 65_550, false)],
        &[(HEADER, 12, true)],
    ];
    for parts in parts {
        card.tx.add(parts);
        card.bench.notify(TX);
        assert!(card.tx.take(parts.len() as u16).is_some(), "{parts:?}");
    }
    assert_eq!(card.network.take_sent(), []);
}

#[test]
fn a_frame_is_received_behind_its_header_in_every_layout() {
    for features in LAYOUTS {
        let mut card = card(features);
        card.offer(&[1526, 1526]);
        assert_eq!(card.rx.take(1), None);
        card.network.feed(&frame(MAC, 1514));
        card.bench.poll();
        let (_, length) = card.rx.take(1).unwrap();
        assert_eq!(length, 1526);
        let mut expected = vec![0; 12];
        expected[10] = 1;
        expected.extend(frame(MAC, 1514));
        assert_eq!(card.bench.bytes(BUFFERS, 1526), expected, "{features:#x}");
        assert!(card.bench.interrupts().contains(&1));
        assert_eq!(card.rx.take(1), None, "the other buffer stays in the ring");
        card.network.feed(&frame(MAC, 60));
        card.bench.poll();
        assert_eq!(card.rx.take(1).map(|(_, length)| length), Some(72));
    }
}

#[test]
fn frames_wait_behind_the_port_until_the_guest_has_buffers() {
    let mut card = card(0);
    card.network.feed(&frame(MAC, 60));
    card.bench.poll();
    assert_eq!(card.network.waiting(), 1);
    card.offer(&[1526]);
    assert_eq!(card.network.waiting(), 0);
    assert!(card.rx.take(1).is_some());
}

#[test]
fn a_long_frame_fills_several_buffers_which_become_used_together() {
    for layout in LAYOUTS {
        let mut card = card(layout | numbers::MRG_RXBUF);
        card.offer(&[1526, 1526]);
        card.network.feed(&frame(MAC, 4000));
        card.bench.poll();
        assert_eq!(card.rx.take(1), None, "two are too few");
        card.rx.add(&[(BUFFERS + 0x2000, 1526, true)]);
        card.bench.notify(RX);
        let lengths = [0; 3].map(|_| card.rx.take(1).map(|(_, length)| length));
        assert_eq!(lengths, [Some(1526), Some(1526), Some(4012 - 2 * 1526)], "{layout:#x}");
        assert_eq!(card.bench.bytes(BUFFERS, 12)[10..], [3, 0]);
        let mut seen = card.bench.bytes(BUFFERS + 12, 1514);
        seen.extend(card.bench.bytes(BUFFERS + 0x1000, 1526));
        seen.extend(card.bench.bytes(BUFFERS + 0x2000, 960));
        assert_eq!(seen, frame(MAC, 4000));
    }
}

#[test]
fn a_frame_that_can_never_fit_is_dropped_and_the_next_one_comes() {
    let mut card = card(0);
    card.offer(&[1526]);
    card.network.feed(&frame(MAC, 4000));
    card.network.feed(&frame(MAC, 60));
    card.bench.poll();
    assert_eq!(card.rx.take(1).map(|(_, length)| length), Some(72));
    let mut card = self::card(numbers::MRG_RXBUF);
    card.offer(&[100; Ring::SIZE as usize]);
    card.network.feed(&frame(MAC, 4000));
    card.network.feed(&frame(MAC, 60));
    card.bench.poll();
    assert_eq!(card.rx.take(1).map(|(_, length)| length), Some(72), "the ring is smaller");
}

#[test]
fn work_that_the_guest_takes_is_left_to_it_and_other_frames_are_dropped() {
    let taken = numbers::GUEST_CSUM | numbers::GUEST_TSO4 | numbers::MRG_RXBUF;
    let mut card = card(taken);
    assert_eq!(card.network.accepted(), Offloads { tcp6: false, ..WHOLE });
    card.offer(&[1526, 1526]);
    let checksum = Some(PartialChecksum { start: 34, offset: 16 });
    let cut = |kind| Some(Segmentation { kind, headers: 54, size: 1460 });
    let six = Packet { checksum, segmentation: cut(SegmentationKind::Tcp6) };
    card.network.feed_packet(&frame(MAC, 100), six);
    let four = Packet { checksum, segmentation: cut(SegmentationKind::Tcp4) };
    card.network.feed_packet(&frame(MAC, 100), four);
    card.bench.poll();
    assert!(card.rx.take(1).is_some());
    let expected = [1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0, 1, 0];
    assert_eq!(card.bench.bytes(BUFFERS, 12), expected);
    assert_eq!(card.rx.take(1), None);
}

#[test]
fn offloads_are_turned_off_by_command_and_a_reset_takes_them_back() {
    let agreed = numbers::GUEST_CSUM | numbers::GUEST_TSO4;
    let mut card = card(agreed | numbers::CTRL_VQ | numbers::CTRL_GUEST_OFFLOADS);
    let checksum_only = numbers::GUEST_CSUM.to_le_bytes();
    assert_eq!(card.command(5, 0, &checksum_only), numbers::ACK_OK);
    let accepted = Offloads { checksum: true, ..Offloads::default() };
    assert_eq!(card.network.accepted(), accepted);
    let too_much = (agreed | numbers::GUEST_TSO6).to_le_bytes();
    assert_eq!(card.command(5, 0, &too_much), numbers::ACK_ERROR);
    card.bench.set_status(0);
    assert_eq!(card.network.accepted(), Offloads::default());
}

#[test]
fn without_commands_everything_is_received() {
    let mut card = card(0);
    card.offer(&[100; 4]);
    for to in [MAC, OTHER, MULTICAST, [0xff; 6]] {
        assert!(card.hears(to), "{to:x?}");
    }
}

#[test]
fn the_filter_passes_what_the_driver_wants() {
    let mut card = card(numbers::CTRL_VQ | numbers::CTRL_RX | numbers::CTRL_RX_EXTRA);
    card.offer(&[100; 8]);
    assert_eq!(card.command(0, numbers::RX_PROMISC, &[0]), numbers::ACK_OK);
    let hears = |card: &mut Card| {
        [MAC, OTHER, MULTICAST, [0xff; 6]].map(|to| {
            let heard = card.hears(to);
            if heard {
                card.offer(&[100]);
            }
            heard
        })
    };
    assert_eq!(hears(&mut card), [true, false, false, true]);
    let tables = [&[1, 0, 0, 0], &OTHER[..], &[1, 0, 0, 0], &MULTICAST[..]].concat();
    assert_eq!(card.command(1, 0, &tables), numbers::ACK_OK);
    assert_eq!(hears(&mut card), [true; 4]);
    assert_eq!(card.command(1, 0, &[0; 8]), numbers::ACK_OK, "both tables empty");
    assert_eq!(card.command(0, numbers::RX_ALLMULTI, &[1]), numbers::ACK_OK);
    assert_eq!(hears(&mut card), [true, false, true, true]);
    for off in [numbers::RX_NOMULTI, numbers::RX_NOUNI, numbers::RX_NOBCAST] {
        assert_eq!(card.command(0, off, &[1]), numbers::ACK_OK);
    }
    assert_eq!(hears(&mut card), [false; 4]);
}

#[test]
fn commands_that_make_no_sense_are_refused_and_change_nothing() {
    let mut card = card(numbers::CTRL_VQ | numbers::CTRL_RX);
    for (class, command, data) in [
        (0, 0, &[][..]),
        (0, 9, &[1]),
        (0, numbers::RX_NOUNI, &[1]),
        (1, 0, &[2, 0, 0, 0, 1, 2, 3]),
        (1, 0, &[0xff; 8]),
        (1, 1, &OTHER),
        (2, 0, &[1, 0]),
        (4, 0, &[1, 0]),
        (9, 0, &[]),
    ] {
        assert_eq!(card.command(class, command, data), numbers::ACK_ERROR, "{class} {command}");
    }
    card.control.add(&[(DATA, 1, false)]);
    card.bench.notify(CONTROL);
    assert!(card.control.take(1).is_some(), "no room for an answer");
    card.offer(&[100]);
    assert!(card.hears(OTHER));
}

#[test]
fn a_vlan_passes_when_the_driver_has_named_it() {
    let mut card = card(numbers::CTRL_VQ | numbers::CTRL_VLAN);
    card.offer(&[100; 6]);
    let tagged = |vlan: u16| {
        let mut frame = frame(MAC, 60);
        frame[12..14].copy_from_slice(&[0x81, 0]);
        frame[14..16].copy_from_slice(&(0xe000 | vlan).to_be_bytes());
        frame
    };
    assert!(!card.hears_frame(&tagged(5)));
    assert!(card.hears_frame(&tagged(0)), "a priority, no VLAN");
    assert_eq!(card.command(2, 0, &5_u16.to_le_bytes()), numbers::ACK_OK);
    assert!(card.hears_frame(&tagged(5)) && !card.hears_frame(&tagged(6)));
    assert_eq!(card.command(2, 1, &5_u16.to_le_bytes()), numbers::ACK_OK);
    assert!(!card.hears_frame(&tagged(5)));
    assert_eq!(card.command(2, 0, &4096_u16.to_le_bytes()), numbers::ACK_ERROR);
}

#[test]
fn an_address_that_the_driver_sets_is_its_own_until_a_reset() {
    let mut card = card(numbers::CTRL_VQ | numbers::CTRL_RX | numbers::CTRL_MAC_ADDR);
    card.offer(&[100; 4]);
    card.command(0, numbers::RX_PROMISC, &[0]);
    assert_eq!(card.command(1, 1, &OTHER), numbers::ACK_OK);
    assert!(card.hears(OTHER) && !card.hears(MAC));
    assert_eq!(card.bench.get(CONFIG + 5, 1), 0x99);
    card.bench.set_status(0);
    assert_eq!(card.bench.get(CONFIG + 5, 1), 0x15);
}

#[test]
fn a_cable_that_is_pulled_is_told_to_the_driver() {
    let mut card = card(numbers::STATUS);
    assert_eq!(card.bench.get(CONFIG + 6, 2), 1);
    card.network.set_link(false);
    card.bench.poll();
    assert_eq!(card.bench.get(CONFIG + 6, 2), 0);
    assert_eq!(card.bench.interrupts(), [0]);
    card.bench.poll();
    assert!(card.bench.interrupts().is_empty(), "told once");
}

#[test]
fn pairs_of_queues_are_used_once_the_driver_says_so() {
    let ports = [NicBuffer::default(), NicBuffer::default()];
    let boxed = |port: &NicBuffer| Box::new(port.clone()) as Box<dyn Nic>;
    let mut bench = Bench::new(Net::new(ports.iter().map(boxed).collect(), MAC));
    assert_eq!(bench.get(common::NUM_QUEUES, 2), 5);
    assert_eq!(bench.get(CONFIG + 8, 2), 2);
    bench.use_msix();
    assert!(bench.negotiate(numbers::MQ | numbers::CTRL_VQ));
    let mut second = bench.ring(2);
    let mut control = bench.ring(4);
    bench.go_live();
    second.add(&[(BUFFERS, 100, true)]);
    ports[1].feed(&frame(MAC, 60));
    bench.poll();
    assert_eq!(second.take(1), None, "one pair is in use");
    bench.put(HEADER, &[4, 0, 2, 0]);
    control.add(&[(HEADER, 4, false), (DATA, 1, true)]);
    bench.notify(4);
    assert_eq!(bench.bytes(DATA, 1), [numbers::ACK_OK]);
    bench.poll();
    assert!(second.take(1).is_some());
}

#[test]
fn frames_of_a_pair_that_is_not_in_use_come_by_one_that_is() {
    let ports = [NicBuffer::default(), NicBuffer::default(), NicBuffer::default()];
    let boxed = |port: &NicBuffer| Box::new(port.clone()) as Box<dyn Nic>;
    let mut bench = Bench::new(Net::new(ports.iter().map(boxed).collect(), MAC));
    bench.use_msix();
    assert!(bench.negotiate(numbers::MQ | numbers::CTRL_VQ));
    let mut first = bench.ring(0);
    bench.go_live();
    for port in &ports {
        first.add(&[(BUFFERS, 100, true)]);
        port.feed(&frame(MAC, 60));
        bench.poll();
        assert!(first.take(1).is_some());
    }
}

#[test]
fn a_card_goes_on_from_a_saved_state() {
    let features =
        numbers::CTRL_VQ | numbers::CTRL_RX | numbers::CTRL_MAC_ADDR | numbers::GUEST_CSUM;
    let mut card = card(features);
    card.offer(&[100; 4]);
    card.command(0, numbers::RX_PROMISC, &[0]);
    card.command(1, 1, &OTHER);
    card.bench.device.pause();
    let state = card.bench.device.save();
    let network = NicBuffer::default();
    let mut other = Bench::new(Net::new(vec![Box::new(network.clone())], MAC));
    other.device.restore(&state).unwrap();
    assert_eq!(other.device.save(), state);
    assert!(network.accepted().checksum);
    card.bench.device = other.device;
    card.network = network;
    assert_eq!(card.bench.get(CONFIG + 5, 1), 0x99);
}

#[test]
fn a_state_that_no_driver_could_have_made_is_refused() {
    let mut card = card(0);
    let state = card.bench.device.save();
    for (place, value) in [("pairs", 2), ("pairs", 0)] {
        let mut hostile = state.clone();
        hostile.payload["core"]["device"][place] = value.into();
        assert!(card.bench.device.restore(&hostile).is_err(), "{place} {value}");
    }
    let mut hostile = state;
    hostile.payload["core"]["device"]["filter"]["vlans"] = vec![5000].into();
    assert!(card.bench.device.restore(&hostile).is_err());
}

#[test]
fn a_flood_that_the_filter_keeps_out_is_served_in_shares() {
    let mut card = card(numbers::CTRL_VQ | numbers::CTRL_RX);
    card.offer(&[100]);
    card.command(0, numbers::RX_PROMISC, &[0]);
    for _ in 0..3000 {
        card.network.feed(&frame(OTHER, 60));
    }
    card.bench.poll();
    assert_eq!(card.network.waiting(), 3000 - 1024);
    assert_eq!(card.bench.device.deadline(), Some(0));
    while let Some(0) = card.bench.device.deadline() {
        card.bench.device.wake(0);
    }
    assert_eq!(card.network.waiting(), 0);
}

#[test]
fn the_card_keeps_the_contract_and_survives_storms() {
    let ports: Vec<Box<dyn Nic>> =
        vec![Box::new(NicBuffer::default()), Box::new(NicBuffer::default())];
    let mut bench = Bench::new(Net::new(ports, MAC));
    check_contract(&mut bench.device);
    check_storm(&mut bench.device, &ManualClock::default());
    assert!(bench.negotiate(numbers::ALWAYS));
    let _rings = [0, 1, 2].map(|queue| bench.ring(queue));
    bench.go_live();
    check_storm(&mut bench.device, &ManualClock::default());
}
