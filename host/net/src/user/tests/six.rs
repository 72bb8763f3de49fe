//! IPv6: who we are, which network it is, and what goes through.

use super::*;

fn six() -> Ipv6Config {
    config().six.unwrap()
}

const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x15);

fn icmp6(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    icmp::seal(&mut message, from.into(), to.into());
    packet(protocol::ICMPV6, from, to, &message)
}

/// The receiver's station, the ends and the ICMP message of a frame, whose checksum is checked.
fn icmp6_of(frame: &[u8]) -> ([u8; 6], Inward, Vec<u8>) {
    let inward = Inward::ipv6(frame).unwrap();
    assert!(inward.is_sound(frame, Packet::default(), 2));
    let message = inward.bytes(frame).to_vec();
    (frame[..6].try_into().unwrap(), inward, message)
}

#[test]
fn a_router_tells_of_itself_and_the_network() {
    let mut gateway = open();
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    // Multicast goes to the group's station.
    let mut frame = icmp6(LINK, routers, vec![133, 0, 0, 0, 0, 0, 0, 0]);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
    give(&mut gateway, NOW, &frame);
    let (station, inward, message) = icmp6_of(&take(&mut gateway).unwrap());
    assert_eq!((message[0], station), (134, [0x33, 0x33, 0, 0, 0, 1]));
    assert_eq!(inward.from, IpAddr::V6(six().link_local));
    let prefix = six().prefix.octets();
    assert!(message.windows(16).any(|part| part == prefix));
    assert!(message.windows(16).any(|part| part == six().gateway.octets()));
}

#[test]
fn neighbours_are_told_of_our_addresses_only() {
    let mut gateway = open();
    for (asked, answers) in [(six().gateway, true), (six().link_local, true), (LINK, false)] {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(asked.octets());
        let frame = icmp6(LINK, six().link_local, message);
        give(&mut gateway, NOW, &frame);
        let reply = take(&mut gateway);
        assert_eq!(reply.is_some(), answers, "{asked}");
        if let Some(reply) = reply {
            let (.., message) = icmp6_of(&reply);
            assert_eq!(message[0], 136);
            assert_eq!(message[8..24], asked.octets());
            assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0, 2]);
        }
    }
}

fn guest6() -> Ipv6Addr {
    let [a, b, c, ..] = six().prefix.segments();
    Ipv6Addr::new(a, b, c, 0, 1, 2, 3, 4)
}

#[test]
fn an_echo_request_comes_back_from_us_and_is_refused_for_others() {
    let mut gateway = open();
    let request = vec![128, 0, 0, 0, 0, 7, 0, 3, b'x'];
    give(&mut gateway, NOW, &icmp6(guest6(), six().gateway, request.clone()));
    let (.., message) = icmp6_of(&take(&mut gateway).unwrap());
    assert_eq!((message[0], &message[4..]), (129, &request[4..]));
    give(&mut gateway, NOW, &icmp6(guest6(), "2001:db8::1".parse().unwrap(), request));
    let (.., message) = icmp6_of(&take(&mut gateway).unwrap());
    assert_eq!(message[..2], [1, 1]);
}

fn datagram6(from: Ipv6Addr, to: &str, payload: &[u8]) -> Vec<u8> {
    let to: SocketAddr = to.parse().unwrap();
    let udp = frame::udp(SocketAddr::new(from.into(), 1000), to, payload).unwrap();
    packet(protocol::UDP, from, to.ip(), &udp)
}

#[test]
fn datagrams_pass_by_the_same_policy() {
    let mut gateway = open();
    give(&mut gateway, NOW, &datagram6(guest6(), "[2001:db8::1]:7", b"ping"));
    let (flow, to, payload) = sent(&mut gateway);
    assert_eq!((to.to_string().as_str(), &payload[..]), ("[2001:db8::1]:7", &b"ping"[..]));
    gateway.datagram(NOW, flow, to, &[7; 4000]);
    let mut whole = 0;
    while let Some(frame) = take(&mut gateway) {
        let inward = Inward::ipv6(&frame).unwrap();
        let fragment = inward.fragment.unwrap();
        assert_eq!((fragment.offset, frame.len() <= 1514), (whole, true));
        whole += inward.payload.len();
        assert_eq!(fragment.more, whole < 4008);
    }
    assert_eq!(whole, 4008);
    for inside in ["[::1]:7", "[fe80::9]:7", "[::ffff:127.0.0.1]:7"] {
        give(&mut gateway, NOW, &datagram6(guest6(), inside, b"x"));
        assert_eq!(gateway.take_outward(), None, "{inside}");
        let (.., message) = icmp6_of(&take(&mut gateway).unwrap());
        assert_eq!(message[..2], [1, 1], "{inside}");
    }
}

#[test]
fn another_network_is_not_the_guests() {
    let mut gateway = open();
    give(&mut gateway, NOW, &datagram6("2001:db8::5".parse().unwrap(), "[2001:db8::1]:7", b"x"));
    give(&mut gateway, NOW, &datagram6(six().gateway, "[2001:db8::1]:7", b"x"));
    assert_eq!((gateway.take_outward(), gateway.counts().spoofed), (None, 2));
}

#[test]
fn the_name_server_is_told_by_dhcp_too() {
    let mut gateway = open();
    let request = [11, 1, 2, 3, 0, 1, 0, 3, 9, 9, 9, 0, 6, 0, 2, 0, 23];
    let from = SocketAddr::new(LINK.into(), 546);
    let to = SocketAddr::new(dhcp6::ALL_SERVERS.into(), 547);
    let udp = frame::udp(from, to, &request).unwrap();
    let mut frame = packet(protocol::UDP, LINK, to.ip(), &udp);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 1, 0, 2]);
    give(&mut gateway, NOW, &frame);
    let reply = take(&mut gateway).unwrap();
    let inward = Inward::ipv6(&reply).unwrap();
    let message = &inward.bytes(&reply)[8..];
    assert_eq!(message[..11], [7, 1, 2, 3, 0, 1, 0, 3, 9, 9, 9]);
    assert!(message.windows(16).any(|part| part == six().gateway.octets()));
}
