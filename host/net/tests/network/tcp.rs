//! A guest's TCP through a running network to sockets of the host.

use crate::guest::{Guest, MAC, guest};
use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::{Answers, Forward, Limits, Listen, UserConfig, UserNic};
use smoltcp::socket::tcp::State;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

/// A network whose guest may reach the host's loopback, by the address of the gateway.
pub fn config() -> UserConfig {
    let rules = ["127.0.0.0/8", "::1"].map(|text| Rule::parse(Verdict::Allow, text).unwrap());
    UserConfig { policy: Policy::new(rules.into(), Verdict::Allow), ..UserConfig::usual(MAC) }
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, SocketAddr::new([10, 0, 2, 2].into(), port))
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A server that sends back what it gets, until the end.
fn echo() -> (std::thread::JoinHandle<()>, SocketAddr) {
    let (listener, at) = listen();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut other = stream.try_clone().unwrap();
        io::copy(&mut stream, &mut other).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
    });
    (server, at)
}

#[test]
fn what_the_guest_sends_comes_back_and_both_ends_close() {
    let (mut guest, network) = guest(config());
    let (server, at) = echo();
    let handle = guest.connect(at, 64 * 1024);
    guest.send(handle, b"through the gateway");
    guest.tcp(handle).close();
    assert_eq!(guest.receive(handle, usize::MAX), b"through the gateway");
    server.join().unwrap();
    guest.until("the close", |guest| {
        !guest.tcp(handle).is_active() || guest.tcp(handle).state() == State::TimeWait
    });
    assert_eq!(network.report().unwrap().counts.denied, 0);
}

#[test]
fn a_connection_into_the_guest_is_told_whether_it_was_accepted() {
    let (mut guest, network) = guest(config());
    let answers = || Answers { accepted: b"yes:".into(), refused: b"no".into() };
    let handle = guest.add_tcp(64 * 1024);
    guest.tcp(handle).listen(80).unwrap();
    let (mut client, inner) = UnixStream::pair().unwrap();
    client.write_all(b"before the answer").unwrap();
    network.enter(80, inner.into(), answers()).unwrap();
    guest.until("the call", |guest| guest.tcp(handle).may_recv());
    assert_eq!(guest.receive(handle, 17), b"before the answer");
    guest.send(handle, b"hello");
    guest.tcp(handle).close();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_count| all)
    });
    guest.until("the end", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap().unwrap(), b"yes:hello");
    let (mut client, inner) = UnixStream::pair().unwrap();
    network.enter(81, inner.into(), answers()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_count| all)
    });
    guest.until("the refusal", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap().unwrap(), b"no");
}

#[test]
fn a_bulk_transfer_arrives_byte_for_byte_both_ways() {
    let (mut guest, _network) = guest(config());
    let (listener, at) = listen();
    let bytes = noise(8 << 20);
    let expected = bytes.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&expected).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == expected);
    });
    let handle = guest.connect(at, 1 << 20);
    assert!(guest.receive(handle, bytes.len()) == bytes);
    guest.send(handle, &bytes);
    guest.tcp(handle).close();
    guest.until("the close", |guest| !guest.tcp(handle).may_send());
    guest.until("the end", |_| server.is_finished());
    server.join().unwrap();
}

#[test]
fn a_port_where_nobody_listens_refuses() {
    let (mut guest, _network) = guest(config());
    let (listener, at) = listen();
    drop(listener);
    let handle = guest.dial(at, 4096);
    guest.until("the refusal", |guest| guest.tcp(handle).state() == State::Closed);
}

#[test]
fn the_hosts_loopback_is_closed_unless_a_rule_opens_it() {
    let (mut guest, network) = guest(UserConfig::usual(MAC));
    let (listener, at) = listen();
    for to in
        [at, SocketAddr::new([127, 0, 0, 1].into(), at.port()), "169.254.1.1:80".parse().unwrap()]
    {
        let handle = guest.dial(to, 4096);
        guest.until("the refusal", |guest| guest.tcp(handle).state() == State::Closed);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let report = network.report().unwrap();
    assert_eq!((report.counts.denied, report.policy.host), (3, 3));
    assert!(report.decisions.iter().all(|record| !record.allowed));
}

#[test]
fn a_reset_passes_through_both_ways() {
    let (mut guest, _network) = guest(config());
    let (listener, at) = listen();
    let handle = guest.connect(at, 4096);
    let (mut stream, _) = listener.accept().unwrap();
    guest.tcp(handle).abort();
    guest.poll();
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let handle = guest.connect(at, 4096);
    let (mut stream, _) = listener.accept().unwrap();
    guest.send(handle, b"unread");
    stream.read_exact(&mut [0; 1]).unwrap();
    // Closing with bytes unread resets.
    drop(stream);
    guest.until("the reset", |guest| guest.tcp(handle).state() == State::Closed);
}

#[test]
fn a_direction_that_is_closed_leaves_the_other_open() {
    let (mut guest, _network) = guest(config());
    let (listener, at) = listen();
    let handle = guest.connect(at, 4096);
    let (mut stream, _) = listener.accept().unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    guest.until("the host's end", |guest| !guest.tcp(handle).may_recv());
    guest.send(handle, b"still here");
    guest.tcp(handle).close();
    guest.until("the guest's end", |guest| guest.tcp(handle).state() != State::CloseWait);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"still here");
}

fn serve(guest: &mut Guest<UserNic>, port: u16) -> smoltcp::iface::SocketHandle {
    let handle = guest.add_tcp(64 * 1024);
    guest.tcp(handle).listen(port).unwrap();
    handle
}

#[test]
fn a_forward_leads_into_the_guest_until_it_is_removed() {
    let (mut guest, network) = guest(config());
    let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let (id, at) = network.add_forward(Forward { listen, guest: None, port: 22 }).unwrap();
    let Listen::Tcp(at) = at else { panic!("{at:?}") };
    let handle = serve(&mut guest, 22);
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"hello").unwrap();
    guest.until("the connection", |guest| guest.tcp(handle).may_recv());
    assert_eq!(guest.receive(handle, 5), b"hello");
    guest.send(handle, b"world");
    let mut got = [0; 5];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"world");
    assert_eq!(network.forwards().unwrap().len(), 1);
    assert!(network.remove_forward(id).unwrap());
    assert!(!network.remove_forward(id).unwrap());
    TcpStream::connect(at).unwrap_err();
    // What came by it stays.
    stream.write_all(b"!").unwrap();
    assert_eq!(guest.receive(handle, 1), b"!");
}

#[test]
fn a_forward_leads_to_the_guests_ipv6_address_when_it_is_told() {
    let (mut guest, network) = guest(config());
    let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let six = Some("fd6b:7a68:616e::f".parse().unwrap());
    let (_, Listen::Tcp(at)) =
        network.add_forward(Forward { listen, guest: six, port: 22 }).unwrap()
    else {
        panic!("no TCP");
    };
    let handle = guest.add_tcp(4096);
    guest.tcp(handle).listen(22).unwrap();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        said
    });
    guest.until("the connection", |guest| guest.tcp(handle).may_send());
    let ours = guest.tcp(handle).local_endpoint().unwrap().addr;
    assert_eq!(ours.to_string(), "fd6b:7a68:616e::f");
    guest.send(handle, b"hello");
    guest.until("the reading", |_| client.is_finished());
    assert_eq!(&client.join().unwrap(), b"hello");
}

#[test]
fn a_forward_to_a_port_where_nobody_listens_is_reset() {
    let (mut guest, network) = guest(config());
    let listen = Listen::Tcp("127.0.0.1:0".parse().unwrap());
    let (_, Listen::Tcp(at)) =
        network.add_forward(Forward { listen, guest: None, port: 9 }).unwrap()
    else {
        panic!("no TCP");
    };
    let mut stream = TcpStream::connect(at).unwrap();
    let reader = std::thread::spawn(move || stream.read(&mut [0; 1]).unwrap_err().kind());
    guest.until("the reset", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_socket_file_leads_into_the_guest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ssh");
    let (mut guest, network) = guest(config());
    let forward = Forward { listen: Listen::Unix(path.clone()), guest: None, port: 22 };
    let (id, _) = network.add_forward(forward).unwrap();
    let handle = serve(&mut guest, 22);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"hello").unwrap();
    guest.until("the connection", |guest| guest.tcp(handle).may_recv());
    assert_eq!(guest.receive(handle, 5), b"hello");
    network.remove_forward(id).unwrap();
    assert!(!path.exists());
}

#[test]
fn ipv6_reaches_the_host_too() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let (mut guest, _network) = guest(config());
    let port = listener.local_addr().unwrap().port();
    let at = SocketAddr::new("fd6b:7a68:616e::2".parse().unwrap(), port);
    let handle = guest.connect(at, 4096);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"six").unwrap();
    assert_eq!(guest.receive(handle, 3), b"six");
}

#[test]
fn a_limit_holds_a_download_back_and_loses_nothing() {
    let limits = Limits { down: Some(400_000), ..Limits::default() };
    let (mut guest, _network) = guest(UserConfig { limits, ..config() });
    let (listener, at) = listen();
    let handle = guest.connect(at, 1 << 20);
    let (mut stream, _) = listener.accept().unwrap();
    let started = std::time::Instant::now();
    let bytes = noise(400_000);
    stream.write_all(&bytes).unwrap();
    assert!(guest.receive(handle, bytes.len()) == bytes);
    // What may be saved up comes at once.
    assert!(started.elapsed() > std::time::Duration::from_millis(600));
}
