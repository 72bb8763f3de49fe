use super::flows::{FLOWS, IDLE};
use super::frame::protocol;
use super::inward::Inward;
use super::*;
use crate::policy::{Rule, Verdict};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress,
    EthernetFrame, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Ipv4Packet, Ipv4Repr, UdpPacket,
};

mod floods;
mod rules;
mod six;
mod stream;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NOW: Duration = Duration::from_secs(500);

fn config() -> GatewayConfig {
    GatewayConfig {
        guest_mac: GUEST_MAC,
        mac: MAC,
        guest: GUEST,
        gateway: GATEWAY,
        prefix: 24,
        mtu: 1500,
        lease: Duration::from_secs(86_400),
        six: GatewayConfig::usual(GUEST_MAC).six,
        stand_ins: false,
        boot: None,
    }
}

fn open() -> Gateway {
    Gateway::new(config(), Policy::open())
}

fn allowing(rule: &str) -> Gateway {
    let rules = vec![Rule::parse(Verdict::Allow, rule).unwrap()];
    Gateway::new(config(), Policy::new(rules, Verdict::Deny))
}

fn to(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A guest's frame: the gateway's own, with the two stations exchanged.
fn packet(protocol: u8, from: impl Into<IpAddr>, to: impl Into<IpAddr>, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (from.into(), to.into());
    let mirrored = GatewayConfig { guest_mac: MAC, mac: GUEST_MAC, mtu: 65_535, ..config() };
    let header = frame::Header { protocol, from, to, ident: 1 };
    frame::packet(&mirrored, &header, payload).remove(0).to_vec()
}

fn give(gateway: &mut Gateway, now: Duration, frame: &[u8]) {
    gateway.receive(now, frame.to_vec(), Packet::default());
}

fn take(gateway: &mut Gateway) -> Option<Vec<u8>> {
    gateway.take_frame(NOW).map(|frame| frame.to_vec())
}

fn icmp_of(message: &Icmpv4Repr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    let mut packet = Icmpv4Packet::new_unchecked(&mut bytes[..]);
    message.emit(&mut packet, &ChecksumCapabilities::default());
    bytes
}

fn datagram(port: u16, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = frame::udp(SocketAddr::new(GUEST.into(), port), to, payload).unwrap();
    packet(protocol::UDP, GUEST, to.ip(), &udp)
}

/// What the guest gets as UDP: sender, port, payload; checksums are checked.
fn udp_of(frame: &[u8]) -> (SocketAddr, u16, Vec<u8>) {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).unwrap();
    let udp = UdpPacket::new_checked(packet.payload()).unwrap();
    assert!(udp.verify_checksum(&ip.src_addr.into(), &ip.dst_addr.into()));
    (SocketAddr::new(ip.src_addr.into(), udp.src_port()), udp.dst_port(), udp.payload().to_vec())
}

/// Why the guest is told that its packet went nowhere.
fn refusal_of(frame: &[u8]) -> Icmpv4DstUnreachable {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    match Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap() {
        Icmpv4Repr::DstUnreachable { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

// Ethernet, ARP, echo

#[test]
fn the_gateway_answers_for_its_own_address_and_no_other() {
    let mirrored = GatewayConfig { guest_mac: [0xff; 6], mac: GUEST_MAC, ..config() };
    let mut gateway = open();
    for (asked, answers) in [(GATEWAY, true), (GUEST, false), (Ipv4Addr::new(10, 0, 2, 3), false)] {
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(GUEST_MAC),
            source_protocol_addr: GUEST,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: asked,
        };
        give(&mut gateway, NOW, &frame::arp(&mirrored, &request));
        let reply = take(&mut gateway);
        assert_eq!(reply.is_some(), answers, "{asked}");
        if let Some(reply) = reply {
            let frame = EthernetFrame::new_checked(&reply[..]).unwrap();
            let packet = ArpPacket::new_checked(frame.payload()).unwrap();
            assert_eq!(packet.source_hardware_addr(), MAC);
            assert_eq!(packet.target_protocol_addr(), GUEST.octets());
        }
    }
}

#[test]
fn an_echo_request_to_the_gateway_comes_back() {
    let mut gateway = open();
    let request = icmp_of(&Icmpv4Repr::EchoRequest { ident: 7, seq_no: 3, data: b"abc" });
    give(&mut gateway, NOW, &packet(protocol::ICMP, GUEST, GATEWAY, &request));
    let reply = take(&mut gateway).unwrap();
    let frame = EthernetFrame::new_checked(&reply[..]).unwrap();
    let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    let parsed = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
    assert_eq!(parsed, Icmpv4Repr::EchoReply { ident: 7, seq_no: 3, data: b"abc" });
    give(&mut gateway, NOW, &packet(protocol::ICMP, GUEST, Ipv4Addr::new(192, 0, 2, 1), &request));
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::HostProhibited);
}

#[test]
fn a_frame_with_another_source_is_dropped() {
    let mut gateway = open();
    let mut frame = datagram(1000, to("192.0.2.1:7"), b"x");
    frame[11] ^= 1;
    give(&mut gateway, NOW, &frame);
    let other = Ipv4Addr::new(10, 0, 2, 16);
    let udp = frame::udp(SocketAddr::new(other.into(), 1), to("192.0.2.1:7"), b"x").unwrap();
    give(&mut gateway, NOW, &packet(protocol::UDP, other, Ipv4Addr::new(192, 0, 2, 1), &udp));
    let none = Ipv4Addr::UNSPECIFIED;
    let udp = frame::udp(SocketAddr::new(none.into(), 1), to("192.0.2.1:7"), b"x").unwrap();
    give(&mut gateway, NOW, &packet(protocol::UDP, none, Ipv4Addr::new(192, 0, 2, 1), &udp));
    assert_eq!(gateway.counts().spoofed, 3);
    assert_eq!((take(&mut gateway), gateway.take_outward()), (None, None));
}

#[test]
fn wrong_checksums_are_dropped() {
    let mut gateway = open();
    let good = datagram(1000, to("192.0.2.1:7"), b"x");
    for (at, bits) in [(24, 1), (42, 1)] {
        let mut bad = good.clone();
        bad[at] ^= bits;
        give(&mut gateway, NOW, &bad);
    }
    assert_eq!(gateway.counts().dropped, 2);
    assert_eq!(gateway.take_outward(), None);
}

#[test]
fn noise_never_panics_and_memory_stays_bounded() {
    let mut gateway = open();
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let models = [
        datagram(1000, to("192.0.2.1:7"), &[0; 40]),
        datagram(1000, SocketAddr::new(GATEWAY.into(), 53), &query(1, "a.example")),
        dhcp(DhcpMessageType::Request, Some(GUEST)),
    ];
    for _ in 0..30_000 {
        let mut frame = models[random() % models.len()].clone();
        for _ in 0..random() % 6 {
            let at = random() % frame.len();
            frame[at] = random() as u8;
        }
        frame.truncate(random() % (frame.len() + 1));
        give(&mut gateway, NOW, &frame);
    }
    assert!(gateway.frames.len() <= QUEUE && gateway.orders.len() <= QUEUE + FLOWS);
}

// DHCP

fn dhcp(kind: DhcpMessageType, wanted: Option<Ipv4Addr>) -> Vec<u8> {
    let request = DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: EthernetAddress(GUEST_MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: wanted,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    let from = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 68);
    let udp = frame::udp(from, SocketAddr::new(Ipv4Addr::BROADCAST.into(), 67), &bytes).unwrap();
    packet(protocol::UDP, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &udp)
}

#[test]
fn the_guest_gets_its_address_and_everything_else_by_dhcp() {
    let mut gateway = open();
    for (kind, wanted, answer) in [
        (DhcpMessageType::Discover, None, DhcpMessageType::Offer),
        (DhcpMessageType::Request, Some(GUEST), DhcpMessageType::Ack),
    ] {
        give(&mut gateway, NOW, &dhcp(kind, wanted));
        let (from, port, message) = udp_of(&take(&mut gateway).unwrap());
        assert_eq!((from, port), (SocketAddr::new(GATEWAY.into(), 67), 68));
        let packet = DhcpPacket::new_checked(&message[..]).unwrap();
        let reply = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(reply.message_type, answer);
        assert_eq!((reply.transaction_id, reply.your_ip), (0x1234_5678, GUEST));
        assert_eq!((reply.router, reply.server_identifier), (Some(GATEWAY), Some(GATEWAY)));
        assert_eq!(reply.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(reply.dns_servers.unwrap().as_slice(), [GATEWAY]);
        assert_eq!(reply.lease_duration, Some(86_400));
        let mtu = packet.options().find(|option| option.kind == 26).map(|option| option.data);
        assert_eq!(mtu, Some([0x05, 0xdc].as_slice()));
    }
}

#[test]
fn another_address_is_not_given() {
    let mut gateway = open();
    give(&mut gateway, NOW, &dhcp(DhcpMessageType::Request, Some(Ipv4Addr::new(192, 168, 1, 5))));
    let (_, _, message) = udp_of(&take(&mut gateway).unwrap());
    let packet = DhcpPacket::new_checked(&message[..]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    assert_eq!((reply.message_type, reply.your_ip), (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED));
    give(&mut gateway, NOW, &dhcp(DhcpMessageType::Release, None));
    assert_eq!(take(&mut gateway), None);
}

// Datagrams

fn sent(gateway: &mut Gateway) -> (FlowId, SocketAddr, Vec<u8>) {
    match gateway.take_outward() {
        Some(Outward::Datagram { flow, to, payload }) => (flow, to, payload),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_datagram_goes_out_and_its_answer_comes_back() {
    let mut gateway = open();
    let target = to("192.0.2.1:7");
    give(&mut gateway, NOW, &datagram(1000, target, b"ping"));
    let (flow, receiver, payload) = sent(&mut gateway);
    assert_eq!((receiver, payload), (target, b"ping".to_vec()));
    gateway.datagram(NOW, flow, target, b"pong");
    assert_eq!(udp_of(&take(&mut gateway).unwrap()), (target, 1000, b"pong".to_vec()));
    give(&mut gateway, NOW, &datagram(1000, to("192.0.2.2:9"), b"x"));
    assert_eq!(sent(&mut gateway).0, flow, "one port is one flow");
    give(&mut gateway, NOW, &datagram(1001, target, b"x"));
    assert_ne!(sent(&mut gateway).0, flow);
}

#[test]
fn a_stranger_does_not_reach_the_guest() {
    let mut gateway = open();
    give(&mut gateway, NOW, &datagram(1000, to("192.0.2.1:7"), b"ping"));
    let (flow, ..) = sent(&mut gateway);
    gateway.datagram(NOW, flow, to("192.0.2.9:7"), b"stranger");
    assert_eq!(take(&mut gateway), None);
    gateway.datagram(NOW, flow, to("192.0.2.1:8"), b"other port");
    assert!(take(&mut gateway).is_some());
}

#[test]
fn an_idle_flow_ends() {
    let mut gateway = open();
    assert_eq!(gateway.expire(NOW), None);
    give(&mut gateway, NOW, &datagram(1000, to("192.0.2.1:7"), b"ping"));
    let (flow, ..) = sent(&mut gateway);
    assert_eq!(gateway.expire(NOW), Some(NOW + IDLE));
    assert_eq!(gateway.take_outward(), None);
    gateway.datagram(NOW + IDLE, flow, to("192.0.2.1:7"), b"late");
    assert_eq!(gateway.expire(NOW + IDLE), None);
    assert_eq!(gateway.take_outward(), Some(Outward::Close { flow }));
    assert_eq!(take(&mut gateway), None);
}

#[test]
fn the_longest_idle_flow_makes_room_for_a_new_one() {
    let mut gateway = open();
    let target = to("192.0.2.1:7");
    let mut flows = Vec::new();
    for index in 0..u16::try_from(FLOWS).unwrap() {
        let now = NOW + Duration::from_millis(u64::from(index));
        give(&mut gateway, now, &datagram(1000 + index, target, b"x"));
        flows.push(sent(&mut gateway).0);
    }
    give(&mut gateway, NOW + Duration::from_secs(9), &datagram(9000, target, b"x"));
    assert_eq!(gateway.take_outward(), Some(Outward::Close { flow: flows[0] }));
    assert!(!flows.contains(&sent(&mut gateway).0));
}

#[test]
fn a_denied_datagram_is_answered_and_counted() {
    let mut gateway = open();
    give(&mut gateway, NOW, &datagram(1000, to("127.0.0.1:53"), b"x"));
    give(&mut gateway, NOW, &datagram(1000, to("169.254.169.254:80"), b"x"));
    assert_eq!(gateway.take_outward(), None);
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::HostProhibited);
    assert_eq!(gateway.counts().denied, 2);
    assert_eq!(gateway.policy().counts().host, 2);
    give(&mut gateway, NOW, &datagram(1000, SocketAddr::new(GATEWAY.into(), 69), b"x"));
    take(&mut gateway);
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::PortUnreachable);
}

#[test]
fn broadcast_and_multicast_stay_inside() {
    let mut gateway = open();
    for target in ["255.255.255.255:9", "10.0.2.255:9", "224.0.0.251:5353"] {
        give(&mut gateway, NOW, &datagram(1000, to(target), b"x"));
    }
    assert_eq!((gateway.take_outward(), take(&mut gateway)), (None, None));
    assert_eq!(gateway.counts().dropped, 3);
}

#[test]
fn a_long_answer_comes_in_fragments() {
    let mut gateway = open();
    let target = to("192.0.2.1:7");
    give(&mut gateway, NOW, &datagram(1000, target, b"more"));
    let (flow, ..) = sent(&mut gateway);
    let payload: Vec<u8> = (0..4000_u32).map(|index| index as u8).collect();
    gateway.datagram(NOW, flow, target, &payload);
    let mut whole = Vec::new();
    let mut more = Vec::new();
    while let Some(bytes) = take(&mut gateway) {
        let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
        let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert!(packet.verify_checksum() && packet.total_len() <= 1500 && packet.ident() == 1);
        assert_eq!(usize::from(packet.frag_offset()), whole.len());
        more.push(packet.more_frags());
        whole.extend(packet.payload());
    }
    assert_eq!(more, [true, true, false]);
    assert_eq!(whole[8..], payload);
    let udp = UdpPacket::new_checked(&whole[..]).unwrap();
    assert!(udp.verify_checksum(&target.ip().into(), &GUEST.into()));
}

fn fragments(payload: &[u8], ident: u16) -> Vec<Vec<u8>> {
    let target = to("192.0.2.1:7");
    let udp = frame::udp(SocketAddr::new(GUEST.into(), 1000), target, payload).unwrap();
    let mirrored = GatewayConfig { guest_mac: MAC, mac: GUEST_MAC, ..config() };
    let header =
        frame::Header { protocol: protocol::UDP, from: GUEST.into(), to: target.ip(), ident };
    frame::packet(&mirrored, &header, &udp).iter().map(Frame::to_vec).collect()
}

#[test]
fn a_long_datagram_is_put_together_in_any_order() {
    let mut gateway = open();
    let payload: Vec<u8> = (0..5000_u32).map(|index| (index / 7) as u8).collect();
    let parts = fragments(&payload, 7);
    assert_eq!(parts.len(), 4);
    for index in [2, 0, 0, 3, 1] {
        assert_eq!(gateway.take_outward(), None);
        give(&mut gateway, NOW, &parts[index]);
    }
    assert_eq!(sent(&mut gateway).2, payload);
    // After a while the first parts are forgotten.
    give(&mut gateway, NOW, &parts[0]);
    for part in &parts[1..] {
        give(&mut gateway, NOW + Duration::from_secs(31), part);
    }
    assert_eq!(gateway.take_outward(), None);
}

#[test]
fn parts_that_overlap_and_floods_of_parts_come_to_nothing() {
    let mut gateway = open();
    let parts = fragments(&[7; 4000], 7);
    give(&mut gateway, NOW, &parts[0]);
    let mut moved = parts[1].clone();
    moved[21] -= 1;
    let mut packet = Ipv4Packet::new_unchecked(&mut moved[14..]);
    packet.fill_checksum();
    give(&mut gateway, NOW, &moved);
    give(&mut gateway, NOW, &parts[1]);
    give(&mut gateway, NOW, &parts[2]);
    assert_eq!(gateway.take_outward(), None);
    for ident in 0..20_000 {
        give(&mut gateway, NOW, &fragments(&[7; 4000], ident)[1]);
    }
    let whole = fragments(b"x", 1);
    give(&mut gateway, NOW, &whole[0]);
    assert_eq!(sent(&mut gateway).2, b"x");
}

// Names

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn query(id: u16, of: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(name(of));
    message.extend([0, 1, 0, 1]);
    message
}

fn response(of: &str, ip: [u8; 4]) -> Vec<u8> {
    let mut message = query(0, of);
    message[2] |= 0x80;
    message[7] = 1;
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4]);
    message.extend(ip);
    message
}

fn ask(gateway: &mut Gateway, id: u16, of: &str) -> Option<(QueryId, Vec<u8>)> {
    let server = SocketAddr::new(GATEWAY.into(), 53);
    give(gateway, NOW, &datagram(4000, server, &query(id, of)));
    match gateway.take_outward() {
        Some(Outward::Query { query, message, .. }) => Some((query, message)),
        other => {
            assert_eq!(other, None);
            None
        }
    }
}

#[test]
fn a_name_that_is_resolved_opens_its_address() {
    let mut gateway = allowing("deb.example:80/udp");
    let target = to("198.51.100.1:80");
    give(&mut gateway, NOW, &datagram(1000, target, b"x"));
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::HostProhibited);
    let (id, message) = ask(&mut gateway, 77, "DEB.example").unwrap();
    assert_eq!(message, query(0, "DEB.example"), "the driver chooses the ID");
    gateway.answer(NOW, id, &response("deb.example", [198, 51, 100, 1]));
    let (from, port, reply) = udp_of(&take(&mut gateway).unwrap());
    assert_eq!((from, port), (SocketAddr::new(GATEWAY.into(), 53), 4000));
    assert_eq!(reply[..2], 77_u16.to_be_bytes());
    give(&mut gateway, NOW, &datagram(1000, target, b"x"));
    assert_eq!(sent(&mut gateway).1, target);
}

#[test]
fn a_denied_name_is_refused_and_not_asked_outside() {
    let mut gateway = allowing("deb.example");
    assert_eq!(ask(&mut gateway, 9, "evil.example"), None);
    let (_, _, reply) = udp_of(&take(&mut gateway).unwrap());
    let mut expected = query(9, "evil.example");
    (expected[2], expected[3]) = (0x81, 0x85);
    assert_eq!(reply, expected);
    assert_eq!(gateway.counts().denied, 1);
}

#[test]
fn an_answer_to_another_question_teaches_nothing() {
    let mut gateway = allowing("deb.example");
    let (id, _) = ask(&mut gateway, 1, "deb.example").unwrap();
    gateway.answer(NOW, id, &response("evil.example", [198, 51, 100, 9]));
    gateway.answer(NOW, id, &query(0, "deb.example"));
    gateway.answer(NOW, id, b"short");
    assert_eq!(take(&mut gateway), None);
    give(&mut gateway, NOW, &datagram(1000, to("198.51.100.9:80"), b"x"));
    assert_eq!(gateway.take_outward(), None);
    take(&mut gateway);
    gateway.answer(NOW, id, &response("deb.example", [198, 51, 100, 1]));
    assert!(take(&mut gateway).is_some(), "the question was still open");
    gateway.answer(NOW, id, &response("deb.example", [198, 51, 100, 2]));
    assert_eq!(take(&mut gateway), None, "and is closed by its answer");
}

#[test]
fn an_answer_that_points_inside_opens_nothing() {
    let mut gateway = allowing("evil.example");
    for inside in [[127, 0, 0, 1], [192, 168, 0, 1], [169, 254, 169, 254]] {
        let (id, _) = ask(&mut gateway, 1, "evil.example").unwrap();
        gateway.answer(NOW, id, &response("evil.example", inside));
        give(&mut gateway, NOW, &datagram(1000, SocketAddr::new(IpAddr::from(inside), 80), b"x"));
        assert_eq!(gateway.take_outward(), None, "{inside:?}");
    }
}

#[test]
fn another_resolver_is_a_target_like_any_other() {
    let mut gateway = allowing("deb.example");
    give(&mut gateway, NOW, &datagram(4000, to("192.0.2.53:53"), &query(1, "deb.example")));
    assert_eq!(gateway.take_outward(), None);
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::HostProhibited);
}

#[test]
fn open_questions_are_bounded_and_end() {
    let mut gateway = open();
    let mut asked = 0;
    for id in 0..1000 {
        asked += usize::from(ask(&mut gateway, id, "a.example").is_some());
    }
    assert_eq!(asked, dns::QUESTIONS);
    assert_eq!(gateway.expire(NOW), Some(NOW + dns::PATIENCE));
    assert_eq!(gateway.expire(NOW + dns::PATIENCE), None);
    assert!(ask(&mut gateway, 1, "a.example").is_some());
}

#[test]
fn a_question_with_an_odd_name_or_an_endless_pointer_is_dropped() {
    let mut gateway = open();
    let mut dotted = query(1, "a.example");
    dotted[13] = b'.';
    let mut pointer = query(1, "ab");
    (pointer[12], pointer[13]) = (0xc0, 12);
    let mut two = query(1, "a.example");
    two[5] = 2;
    for message in [dotted, pointer, two, response("a.example", [1, 1, 1, 1]), vec![0; 11]] {
        give(&mut gateway, NOW, &datagram(4000, SocketAddr::new(GATEWAY.into(), 53), &message));
        assert_eq!((gateway.take_outward(), take(&mut gateway)), (None, None), "{message:02x?}");
    }
}
