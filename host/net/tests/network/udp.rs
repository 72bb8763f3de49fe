//! Datagrams and names.

use crate::guest::{Guest, MAC, PATIENCE, guest};
use crate::tcp::config;
use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::{Forward, Limits, Listen, UserConfig, UserNic};
use kezhan_ports::nic::{MAX_FRAME, Nic, Packet, Transmit};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

fn host() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(crate::guest::PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

#[test]
fn a_datagram_reaches_the_host_and_its_answer_comes_back_from_where_it_went() {
    let (mut guest, _network) = guest(config());
    let (socket, port) = host();
    let handle = guest.add_udp(5000);
    let to = SocketAddr::new([10, 0, 2, 2].into(), port);
    guest.udp(handle).send_slice(b"ping", to).unwrap();
    // The first waits for the neighbour.
    guest.until("the sending", |guest| guest.udp(handle).send_queue() == 0);
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"ping");
    socket.send_to(b"pong", from).unwrap();
    assert_eq!(guest.receive_udp(handle), (b"pong".to_vec(), to));
}

/// The program of this guest has room for a burst, and takes it when it is told nothing of more.
#[test]
fn a_busy_guest_gets_a_burst_and_the_rest_when_it_has_nothing_to_do() {
    const BURST: u8 = 64;
    const MANY: u8 = 150;
    // The next burst would come by itself after a minute.
    let limits = Limits { datagrams: Some(1), ..Limits::default() };
    let (mut guest, network) = guest(UserConfig { limits, ..config() });
    let idle = network.guest_idle();
    let (socket, port) = host();
    let handle = guest.add_udp(5000);
    guest.udp(handle).send_slice(b"ask", SocketAddr::new([10, 0, 2, 2].into(), port)).unwrap();
    guest.until("the sending", |guest| guest.udp(handle).send_queue() == 0);
    let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
    for number in 0..MANY {
        socket.send_to(&[number], from).unwrap();
    }
    let mut got = 0;
    let mut take = |guest: &mut Guest<UserNic>, wanted: u8| {
        while let Ok((bytes, _)) = guest.udp(handle).recv() {
            assert_eq!(bytes, [got]);
            got += 1;
        }
        got == wanted
    };
    guest.until("a burst", |guest| take(guest, BURST));
    assert!(take(&mut guest, BURST), "more than a burst came");
    guest.until("all of them", |guest| {
        idle.tell();
        take(guest, MANY)
    });
}

/// Two peers send to a forward, and each gets back what it sent; where the guest hears them from.
fn echoes_of_a_forward(address: Option<Ipv6Addr>) -> Vec<SocketAddr> {
    let (mut guest, network) = guest(config());
    let listen = Listen::Udp("127.0.0.1:0".parse().unwrap());
    let (_, Listen::Udp(at)) =
        network.add_forward(Forward { listen, guest: address, port: 53 }).unwrap()
    else {
        panic!("no UDP");
    };
    let handle = guest.add_udp(53);
    let mut heard = Vec::new();
    for name in [b"one", b"two"] {
        let (socket, _) = host();
        socket.send_to(name, at).unwrap();
        let (bytes, from) = guest.receive_udp(handle);
        assert_eq!(bytes, name);
        heard.push(from);
        guest.udp(handle).send_slice(name, from).unwrap();
        guest.until("the sending", |guest| guest.udp(handle).send_queue() == 0);
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&name[..], at));
    }
    heard
}

#[test]
fn a_forward_of_datagrams_keeps_its_peers_apart() {
    echoes_of_a_forward(None);
}

#[test]
fn datagrams_are_forwarded_to_the_guests_ipv6_address_too() {
    for from in echoes_of_a_forward(Some("fd6b:7a68:616e::f".parse().unwrap())) {
        assert!(from.to_string().starts_with("[fd6b:7a68:616e::2]:"), "{from}");
    }
}

/// A question for the address of a name, and the answer (RFC 1035 §4).
fn question(name: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split(|byte| *byte == b'.') {
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn answered(question: &[u8], ip: [u8; 4]) -> Vec<u8> {
    let mut message = question.to_vec();
    (message[2], message[7]) = (0x81, 1);
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4]);
    message.extend(ip);
    message
}

/// The address that a name gets; `None` when it gets none.
pub fn resolve(guest: &mut Guest<UserNic>, name: &str) -> Option<IpAddr> {
    let handle = guest.add_udp(5353);
    let server = SocketAddr::new([10, 0, 2, 2].into(), 53);
    guest.udp(handle).send_slice(&question(name.as_bytes()), server).unwrap();
    let (bytes, _) = guest.receive_udp(handle);
    guest.sockets.remove(handle);
    let [.., a, b, c, d] = bytes[..] else { return None };
    (bytes[7] == 1).then(|| [a, b, c, d].into())
}

#[test]
fn a_name_is_asked_of_the_hosts_resolver_and_the_next_when_the_first_is_dead() {
    let (resolver, port) = host();
    let (dead, dead_port) = host();
    drop(dead);
    let at = |port| SocketAddr::new([127, 0, 0, 1].into(), port);
    let resolvers = vec![at(dead_port), at(port)];
    let (mut guest, _network) = guest(UserConfig { resolvers, ..UserConfig::usual(MAC) });
    let handle = guest.add_udp(5000);
    let server = SocketAddr::new([10, 0, 2, 2].into(), 53);
    guest.udp(handle).send_slice(&question(b"web.example"), server).unwrap();
    guest.until("the sending", |guest| guest.udp(handle).send_queue() == 0);
    let mut buffer = [0; 512];
    let (length, from) = resolver.recv_from(&mut buffer).unwrap();
    let asked = &buffer[..length];
    assert_eq!(asked[2..], question(b"web.example")[2..]);
    resolver.send_to(&answered(asked, [198, 51, 100, 7]), from).unwrap();
    let (bytes, from) = guest.receive_udp(handle);
    assert_eq!(from, server);
    assert_eq!(bytes, answered(&question(b"web.example"), [198, 51, 100, 7]));
}

/// What came on a stream of questions, without its length.
fn answer_on(guest: &mut Guest<UserNic>, handle: smoltcp::iface::SocketHandle) -> Vec<u8> {
    let bytes = guest.receive(handle, 2);
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    assert_eq!(bytes.len(), 2 + length);
    bytes[2..].to_vec()
}

fn behind_its_length(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
    bytes.extend(message);
    bytes
}

#[test]
fn names_are_asked_by_stream_too() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let resolvers = vec![listener.local_addr().unwrap()];
    let (mut guest, network) = guest(UserConfig { resolvers, ..UserConfig::usual(MAC) });
    network.set_names(vec![("web".to_owned(), vec![[10, 0, 2, 20].into()])]);
    let handle = guest.connect(SocketAddr::new([10, 0, 2, 2].into(), 53), 4096);
    let asked = question(b"web.kezhan.internal");
    let mut both = behind_its_length(&asked);
    both.extend(&behind_its_length(&question(b"big.example"))[..5]);
    guest.send(handle, &both);
    let mut expected = answered(&asked, [10, 0, 2, 20]);
    (expected[2], expected[3]) = (0x81, 0x80);
    // Five seconds: machines come and go.
    let lifetime = expected.len() - 8;
    expected[lifetime..lifetime + 2].copy_from_slice(&[0, 5]);
    assert_eq!(answer_on(&mut guest, handle), expected);
    guest.send(handle, &behind_its_length(&question(b"big.example"))[5..]);
    guest.tcp(handle).close();
    guest.until("the question", |_| true);
    let (mut stream, _) = listener.accept().unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    let mut reply = answered(&message, [198, 51, 100, 9]);
    reply.extend([0; 2000]);
    stream.write_all(&behind_its_length(&reply)).unwrap();
    let got = answer_on(&mut guest, handle);
    assert_eq!((got.len(), &got[..2]), (reply.len(), &[0x12, 0x34][..]));
    assert_eq!(guest.receive(handle, usize::MAX), b"");
}

#[test]
fn a_name_that_is_denied_is_refused_by_stream_and_its_resolver_not_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let resolvers = vec![listener.local_addr().unwrap()];
    let policy =
        Policy::new(vec![Rule::parse(Verdict::Allow, "web.example").unwrap()], Verdict::Deny);
    let (mut guest, network) = guest(UserConfig { resolvers, policy, ..UserConfig::usual(MAC) });
    let handle = guest.connect(SocketAddr::new([10, 0, 2, 2].into(), 53), 4096);
    guest.send(handle, &behind_its_length(&question(b"other.example")));
    let answer = answer_on(&mut guest, handle);
    // REFUSED (RFC 1035 §4.1.1).
    assert_eq!((&answer[..2], answer[3] & 0xf), (&[0x12, 0x34][..], 5));
    let why = network.report().unwrap().decisions.last().unwrap().to_string();
    assert_eq!(why, "denied: the name \"other.example\"");
    listener.accept().unwrap_err();
}

#[test]
fn a_datagram_to_a_port_where_nobody_listens_is_answered_so() {
    let (nic, network) = kezhan_net::user::spawn(config()).unwrap();
    let (mut nic, me) = (nic, std::thread::current());
    nic.set_waker(std::sync::Arc::new(move || me.unpark()));
    let (closed, port) = host();
    drop(closed);
    // From port 4000 of the guest's to the gateway, which stands for this host; without a checksum (RFC 768).
    let mut frame = vec![0x02, 0x6b, 0x7a, 0, 0, 2];
    frame.extend(MAC);
    frame.extend([
        8, 0, 0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0x22, 0xbd, 10, 0, 2, 15, 10, 0, 2, 2,
    ]);
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 12, 0, 0, b'a', b'b', b'c', b'd']);
    let end = std::time::Instant::now() + PATIENCE;
    let mut answer = vec![0; MAX_FRAME];
    let length = loop {
        assert_eq!(nic.transmit(&frame, Packet::default()), Transmit::Taken);
        std::thread::park_timeout(std::time::Duration::from_millis(100));
        if let Some(received) = nic.receive(&mut answer) {
            break received.length;
        }
        assert!(std::time::Instant::now() < end, "no answer");
    };
    // Destination unreachable, port (RFC 792), and the datagram's own headers behind it.
    assert_eq!((answer[23], &answer[34..36]), (1, &[3, 3][..]), "{:?}", &answer[..length]);
    assert_eq!(answer[62..66], frame[34..38]);
    assert_eq!(network.report().unwrap().counts.dropped, 0);
}
