use super::dns::Step;
use super::*;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};

const MAC: [u8; 6] = [0x52, 0, 0, 0, 0, 1];
const NOW: u64 = 1_000_000;

fn subnet() -> Subnet {
    "10.77.0.1/24".parse().unwrap()
}

/// A client's message.
fn message(kind: DhcpMessageType, mac: [u8; 6], wanted: Option<Ipv4Addr>) -> Vec<u8> {
    let options = [smoltcp::wire::DhcpOption { kind: 12, data: b"Inn" }];
    let request = DhcpRepr {
        message_type: kind,
        transaction_id: 7,
        secs: 0,
        client_hardware_address: EthernetAddress(mac),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: true,
        requested_ip: wanted,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &options,
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).unwrap();
    bytes
}

/// What the server says, and the address that it gives.
fn said(reply: &[u8]) -> (DhcpMessageType, Ipv4Addr) {
    let packet = DhcpPacket::new_checked(reply).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    if reply.message_type != DhcpMessageType::Nak {
        assert_eq!(reply.router, Some(subnet().address));
        assert_eq!(reply.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
    }
    (reply.message_type, reply.your_ip)
}

fn ask(leases: &mut Leases, message: &[u8]) -> Option<(DhcpMessageType, Ipv4Addr)> {
    leases.reply(NOW, message).map(|(reply, _)| said(&reply))
}

/// The address that a machine gets by the usual exchange.
fn lease(leases: &mut Leases, mac: [u8; 6]) -> Ipv4Addr {
    let offer = ask(leases, &message(DhcpMessageType::Discover, mac, None)).unwrap();
    assert_eq!(offer.0, DhcpMessageType::Offer);
    let ack = ask(leases, &message(DhcpMessageType::Request, mac, Some(offer.1)));
    assert_eq!(ack, Some((DhcpMessageType::Ack, offer.1)));
    offer.1
}

#[test]
fn each_machine_has_an_address_of_its_own_and_keeps_it() {
    let mut leases = Leases::new(subnet());
    let all: std::collections::BTreeSet<Ipv4Addr> =
        (0..100).map(|n| lease(&mut leases, [0x52, 0, 0, 0, 0, n])).collect();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|address| is_station(subnet(), *address)));
    let first = lease(&mut leases, MAC);
    assert_eq!(first, lease(&mut Leases::new(subnet()), MAC), "also of a server that started anew");
}

#[test]
fn what_a_machine_had_it_gets_and_what_another_has_it_does_not() {
    let mut leases = Leases::new(subnet());
    let taken = lease(&mut leases, MAC);
    let other = [0x52, 0, 0, 0, 0, 2];
    let wish = Ipv4Addr::new(10, 77, 0, 200);
    let request = |address| message(DhcpMessageType::Request, other, Some(address));
    assert_eq!(ask(&mut leases, &request(wish)), Some((DhcpMessageType::Ack, wish)));
    for refused in [taken, Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 78, 0, 9)] {
        assert_eq!(ask(&mut leases, &request(refused)).unwrap().0, DhcpMessageType::Nak);
    }
    assert_eq!(ask(&mut leases, &message(DhcpMessageType::Release, MAC, None)), None);
    assert_eq!(ask(&mut leases, &request(taken)), Some((DhcpMessageType::Ack, taken)));
}

#[test]
fn a_full_network_has_no_more_addresses_until_a_lease_has_ended() {
    let small: Subnet = "10.77.0.1/29".parse().unwrap();
    let mut leases = Leases::new(small);
    let discover = |n| message(DhcpMessageType::Discover, [0x52, 0, 0, 0, 0, n], None);
    for n in 0..5 {
        assert!(leases.reply(NOW, &discover(n)).is_some(), "station {n}");
    }
    assert!(leases.reply(NOW, &discover(5)).is_none());
    assert!(leases.reply(NOW + 4000, &discover(5)).is_some());
}

#[test]
fn nonsense_is_not_answered() {
    let mut leases = Leases::new(subnet());
    let good = message(DhcpMessageType::Discover, MAC, None);
    for length in 0..good.len() {
        leases.reply(NOW, &good[..length]);
    }
    assert!(leases.reply(NOW, &[0xff; 600]).is_none());
}

/// A question for the address of a name.
fn query(name: &str) -> Vec<u8> {
    let mut bytes = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn client() -> SocketAddr {
    "10.77.0.9:4000".parse().unwrap()
}

fn server() -> SocketAddr {
    "192.0.2.53:53".parse().unwrap()
}

#[test]
fn a_machines_own_name_is_answered_here() {
    let mut leases = Leases::new(subnet());
    let address = lease(&mut leases, MAC);
    let mut names = Names::new(vec![server()]);
    for name in ["inn", "INN.internal"] {
        let Step::Answer(reply) = dns_ask(&mut names, name, &leases) else { panic!("{name}") };
        assert_eq!(reply[..4], [0xab, 0xcd, 0x81, 0x80]);
        assert_eq!(reply[reply.len() - 4..], address.octets());
    }
    let Step::Answer(reply) = dns_ask(&mut names, "nobody", &leases) else { panic!() };
    assert_eq!(reply[3] & 15, 3);
}

fn dns_ask(names: &mut Names, name: &str, leases: &Leases) -> Step {
    names.ask(NOW, &query(name), client(), leases)
}

#[test]
fn other_names_are_asked_outside_and_only_their_answer_comes_back() {
    let leases = Leases::new(subnet());
    let mut names = Names::new(vec![server()]);
    let Step::Forward(question, to) = dns_ask(&mut names, "deb.example", &leases) else { panic!() };
    assert_eq!((to, &question[2..]), (server(), &query("deb.example")[2..]));
    let mut answer = question.clone();
    answer[2] |= 0x80;
    let stranger = "192.0.2.66:53".parse().unwrap();
    assert_eq!(names.answer(&answer, stranger), None);
    let mut other = query("evil.example");
    (other[0], other[1], other[2]) = (question[0], question[1], 0x81);
    assert_eq!(names.answer(&other, server()), None);
    assert_eq!(names.answer(&question, server()), None, "a question is no answer");
    let mapped = "[::ffff:192.0.2.53]:53".parse().unwrap();
    let (reply, to) = names.answer(&answer, mapped).unwrap();
    assert_eq!((to, &reply[..2]), (client(), &[0xab, 0xcd][..]));
    assert_eq!(names.answer(&answer, server()), None, "once");
    let Step::Answer(refused) = dns_ask(&mut Names::new(Vec::new()), "a.b", &leases) else {
        panic!()
    };
    assert_eq!(refused[3] & 15, 5);
}

#[test]
fn questions_that_make_no_sense_are_not_answered() {
    let leases = Leases::new(subnet());
    let mut names = Names::new(vec![server()]);
    let good = query("deb.example");
    for length in 0..good.len() {
        assert_eq!(names.ask(NOW, &good[..length], client(), &leases), Step::Nothing);
    }
    let mut pointer = query("a");
    pointer[12] = 0xc0;
    assert_eq!(names.ask(NOW, &pointer, client(), &leases), Step::Nothing);
}

#[test]
fn a_flood_of_questions_stays_bounded() {
    let leases = Leases::new(subnet());
    let mut names = Names::new(vec![server()]);
    for n in 0..5000 {
        dns_ask(&mut names, &format!("n{n}.example"), &leases);
    }
    let later = names.ask(NOW + 11, &query("late.example"), client(), &leases);
    assert!(matches!(later, Step::Forward(..)), "what was not answered is forgotten");
}

#[test]
fn the_hosts_name_servers_are_read() {
    let text = "# hello\nsearch x\nnameserver 192.0.2.53\nnameserver ::1\nnameserver nonsense\n";
    let wanted: Vec<SocketAddr> = vec![server(), "[::1]:53".parse().unwrap()];
    assert_eq!(resolvers(text), wanted);
}
