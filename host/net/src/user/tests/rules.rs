//! What a guest that may reach one name can do, and what it cannot, with the reasons that are logged.

use super::super::tcp::{Segment, Seq, flag};
use super::*;

/// A guest that may reach web.example by TCP at 443, and nothing else.
fn strict() -> Gateway {
    allowing("web.example:443/tcp")
}

/// Tries to connect; the reason that is logged, when it is denied.
fn dial(gateway: &mut Gateway, to: &str) -> Result<(), String> {
    let to: SocketAddr = to.parse().unwrap();
    let from: IpAddr = match to {
        SocketAddr::V4(_) => GUEST.into(),
        SocketAddr::V6(_) => "fd6b:7a68:616e::1:2".parse().unwrap(),
    };
    let syn = Segment {
        source: 5000,
        destination: to.port(),
        seq: Seq(1),
        flags: flag::SYN,
        ..Segment::default()
    };
    let mut bytes = Vec::new();
    syn.write(&mut bytes);
    let mut sum = checksum::Sum::pseudo(from, to.ip(), protocol::TCP, bytes.len());
    sum.add(&bytes);
    bytes[16..18].copy_from_slice(&sum.finish());
    give(gateway, NOW, &packet(protocol::TCP, from, to.ip(), &bytes));
    let order = gateway.take_outward();
    let reply = take(gateway);
    if let Some(Outward::Connect { stream, .. }) = order {
        assert_eq!(reply, None);
        gateway.stream_failed(NOW, stream, Failure::Refused);
        take(gateway).unwrap();
        return Ok(());
    }
    assert_eq!(order, None);
    reply.expect("a reset");
    Err(gateway.decisions().last().unwrap().to_string())
}

fn learn(gateway: &mut Gateway, name: &str, ip: [u8; 4]) {
    let (id, _) = ask(gateway, 1, name).unwrap();
    gateway.answer(NOW, id, &response(name, ip));
    take(gateway).unwrap();
}

#[test]
fn the_allowed_name_works_at_its_port_only() {
    let mut gateway = strict();
    learn(&mut gateway, "web.example", [198, 51, 100, 1]);
    assert_eq!(dial(&mut gateway, "198.51.100.1:443"), Ok(()));
    let why = "denied: 198.51.100.1:80/Tcp known as [\"web.example\"]: Default";
    assert_eq!(dial(&mut gateway, "198.51.100.1:80"), Err(why.to_owned()));
    assert_eq!(gateway.policy().counts().rules, [1]);
}

#[test]
fn an_address_that_was_not_asked_for_does_not() {
    let mut gateway = strict();
    // The literal address of the name, before it was resolved here.
    let why = "denied: 198.51.100.1:443/Tcp known as []: Default";
    assert_eq!(dial(&mut gateway, "198.51.100.1:443"), Err(why.to_owned()));
    learn(&mut gateway, "web.example", [198, 51, 100, 1]);
    // Another address of the same name that the guest knows otherwise, and the same in IPv6.
    for other in ["198.51.100.2:443", "[2001:db8::1]:443"] {
        let why = format!("denied: {other}/Tcp known as []: Default");
        assert_eq!(dial(&mut gateway, other), Err(why));
    }
}

#[test]
fn other_resolvers_are_out_of_reach_by_any_protocol() {
    let mut gateway = strict();
    for resolver in ["192.0.2.53:53", "192.0.2.53:853", "192.0.2.53:443", "[2001:db8::53]:53"] {
        let why = dial(&mut gateway, resolver).unwrap_err();
        assert!(why.ends_with("Default"), "{why}");
    }
    give(&mut gateway, NOW, &datagram(4000, to("192.0.2.53:53"), &query(1, "web.example")));
    assert_eq!(gateway.take_outward(), None);
    assert_eq!(refusal_of(&take(&mut gateway).unwrap()), Icmpv4DstUnreachable::HostProhibited);
}

#[test]
fn a_name_that_points_inside_opens_nothing() {
    let mut gateway = strict();
    for inside in [[127, 0, 0, 1], [10, 0, 0, 1], [192, 168, 1, 1], [169, 254, 169, 254]] {
        learn(&mut gateway, "web.example", inside);
        let to = SocketAddr::new(inside.into(), 443).to_string();
        let why = dial(&mut gateway, &to).unwrap_err();
        assert!(why.contains("known as []"), "{why}");
    }
    // Nor does our own address, which stands for the host's loopback.
    let why = dial(&mut gateway, "10.0.2.2:443").unwrap_err();
    assert_eq!(why, "denied: 127.0.0.1:443/Tcp known as []: Host");
}

#[test]
fn a_denied_name_is_refused_with_its_reason() {
    let mut gateway = strict();
    assert_eq!(ask(&mut gateway, 1, "other.example"), None);
    take(&mut gateway).unwrap();
    let record = gateway.decisions().last().unwrap().to_string();
    assert_eq!(record, "denied: the name \"other.example\"");
}

#[test]
fn flows_in_a_second_are_limited() {
    let mut gateway = open();
    gateway.limit_flows(Some(3));
    let mut begun = |now| {
        (0..10)
            .filter(|port| {
                give(&mut gateway, now, &datagram(1000 + port, to("192.0.2.1:7"), b"x"));
                gateway.take_outward().is_some()
            })
            .count()
    };
    assert_eq!(begun(NOW), 3);
    // Those that were begun go on, and three more begin.
    assert_eq!(begun(NOW + Duration::from_secs(1)), 6);
}
