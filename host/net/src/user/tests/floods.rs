//! Much of the same, and the work that is left to a guest for its datagrams.

use super::checksum::Sum;
use super::frame::{ETHERNET, IPV4};
use super::*;

#[test]
fn a_flood_of_arp_fills_one_queue_and_teaches_nothing() {
    let mirrored = GatewayConfig { guest_mac: [0xff; 6], mac: GUEST_MAC, ..config() };
    let mut gateway = open();
    for n in 0..100_000_u32 {
        let target = if n % 2 == 0 { GATEWAY } else { Ipv4Addr::from_bits(n) };
        let [a, b, c, d] = n.to_be_bytes();
        let packet = ArpRepr::EthernetIpv4 {
            operation: if n % 3 == 0 { ArpOperation::Reply } else { ArpOperation::Request },
            source_hardware_addr: EthernetAddress([2, 9, a, b, c, d]),
            source_protocol_addr: Ipv4Addr::from_bits(n),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        };
        give(&mut gateway, NOW, &frame::arp(&mirrored, &packet));
    }
    assert_eq!(gateway.frames.len(), QUEUE);
    assert_eq!(gateway.load(), (0, 0, 0));
    assert_eq!(gateway.expire(NOW), None, "nothing is kept that would have to end");
}

#[test]
fn a_guest_that_makes_checksums_is_left_that_of_a_datagram() {
    let mut gateway = open();
    gateway.accept(Offloads { checksum: true, ..Offloads::default() });
    give(&mut gateway, NOW, &datagram(1000, to("192.0.2.1:7"), b"ask"));
    let (flow, ..) = sent(&mut gateway);
    gateway.datagram(NOW, flow, to("192.0.2.1:7"), b"answer");
    let frame = gateway.take_frame(NOW).unwrap();
    let checksum = frame.packet().checksum.unwrap();
    let (start, offset) = (usize::from(checksum.start), usize::from(checksum.offset));
    assert_eq!((start, offset), (ETHERNET + IPV4, 6));
    let mut bytes = frame.to_vec();
    // What the guest does (virtio 1.2 §5.1.6.4.1).
    let mut sum = Sum::default();
    sum.add(&bytes[start..]);
    bytes[start + offset..start + offset + 2].copy_from_slice(&sum.finish());
    assert_eq!(udp_of(&bytes), (to("192.0.2.1:7"), 1000, b"answer".to_vec()));
}

#[test]
fn a_slow_guest_is_given_datagrams_in_bursts_and_what_waits_is_bounded() {
    let mut gateway = open();
    gateway.limit_datagrams(Some(1000));
    give(&mut gateway, NOW, &datagram(1000, to("192.0.2.1:7"), b"ask"));
    let (flow, ..) = sent(&mut gateway);
    for _ in 0..5000 {
        gateway.datagram(NOW, flow, to("192.0.2.1:7"), b"answer");
    }
    assert!(gateway.counts().full > 3900);
    let taken = |gateway: &mut Gateway, now| {
        std::iter::from_fn(|| gateway.take_frame(now)).take(5000).count()
    };
    let burst = taken(&mut gateway, NOW);
    assert!((2..100).contains(&burst));
    let next = gateway.next_datagram().unwrap();
    assert_eq!(next, NOW + Duration::from_millis(burst as u64));
    assert!(gateway.has_enough_datagrams() && gateway.waits_for_idle());
    // Other frames are not held back.
    give(&mut gateway, NOW, &datagram(1000, to("10.0.2.2:9"), b"x"));
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::PortUnreachable);
    assert_eq!(taken(&mut gateway, NOW), 0);
    gateway.guest_is_idle(NOW);
    assert_eq!(taken(&mut gateway, NOW), burst);
    assert_eq!(taken(&mut gateway, next), burst);
}
