//! The server and the client over real sockets, on the loopback only.

mod kit;

use kezhan_socks::{
    Access, Connection, Credentials, Datagrams, HandshakeError, ListenerConfig, ListenerHandle,
    Outbound, Proxy, ProxyError, Reply, Target, read_datagram, write_datagram,
};
use kit::{
    PATIENCE, closed_port, dial, echo, exchange, host, proxy, rest, server, tcp_server, until,
};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

fn target(address: SocketAddr) -> Target {
    address.into()
}

fn refusal(handle: &ListenerHandle, to: &str) -> Reply {
    match proxy(handle.address()).tunnel(&to.parse().unwrap()) {
        Err(ProxyError::Handshake { error: HandshakeError::Refused(reply), .. }) => reply,
        other => panic!("{to}: {other:?}"),
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_tells_its_address() {
    let echo = tcp_server("127.0.0.1:0", echo);
    let handle = server(Access::Open, host());
    let mut tunnel = proxy(handle.address()).tunnel(&target(echo)).unwrap();
    let bound = tunnel.bound.socket_address().unwrap();
    assert!(bound.ip().is_loopback() && bound.port() != 0 && bound != handle.address(), "{bound}");
    exchange(&mut tunnel.stream, b"hello", b"hello");
}

#[test]
fn ipv6_and_names_are_reached() {
    let handle = server(Access::Open, host());
    let four = tcp_server("127.0.0.1:0", echo);
    let mut targets = vec![format!("localhost:{}", four.port())];
    if kit::has_ipv6() {
        targets.push(tcp_server("[::1]:0", echo).to_string());
    }
    for to in targets {
        let mut tunnel = proxy(handle.address()).tunnel(&to.parse().unwrap()).unwrap();
        exchange(&mut tunnel.stream, to.as_bytes(), to.as_bytes());
    }
}

#[test]
fn a_password_lets_in_and_keeps_out() {
    let echo = tcp_server("127.0.0.1:0", echo);
    let secret = Credentials::new("user", "p:@ss").unwrap();
    let handle = server(Access::Password(secret), host());
    let known: Proxy = format!("socks5://user:p%3A%40ss@{}", handle.address()).parse().unwrap();
    exchange(&mut known.tunnel(&target(echo)).unwrap().stream, b"in", b"in");
    let wrong: Proxy = format!("socks5://user:other@{}", handle.address()).parse().unwrap();
    let error = wrong.tunnel(&target(echo)).unwrap_err();
    assert!(error.to_string().ends_with("refused the user or the password (status 1)"), "{error}");
    let none = proxy(handle.address()).tunnel(&target(echo)).unwrap_err();
    assert!(none.to_string().contains("none of the offered ways to log in"), "{none}");
}

#[test]
fn failures_are_told_before_the_connection_closes() {
    let handle = server(Access::Open, host());
    assert_eq!(refusal(&handle, &closed_port().to_string()), Reply::CONNECTION_REFUSED);
    assert_eq!(refusal(&handle, "no-such-host.invalid:80"), Reply::HOST_UNREACHABLE);
    let mut client = dial(handle.address());
    // More than the server reads at once follows the bad request; the reply must survive it.
    client.write_all(&[5, 1, 0, 5, 9, 0, 1, 127, 0, 0, 1, 0, 80]).unwrap();
    client.write_all(&[0; 8000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]);
}

/// Rules that forbid everything.
struct Forbidden;

impl Outbound for Forbidden {
    fn connect(&self, _target: &Target) -> Result<Connection, Reply> {
        Err(Reply::NOT_ALLOWED)
    }

    fn associate(&self) -> Result<Box<dyn Datagrams>, Reply> {
        Err(Reply::NOT_ALLOWED)
    }
}

#[test]
fn what_the_rules_forbid_is_told_as_such_and_through_a_chain() {
    let last = server(Access::Open, Box::new(Forbidden));
    assert_eq!(refusal(&last, "192.0.2.1:80"), Reply::NOT_ALLOWED);
    let first = server(Access::Open, Box::new(proxy(last.address())));
    assert_eq!(refusal(&first, "192.0.2.1:80"), Reply::NOT_ALLOWED);
    assert!(matches!(
        proxy(first.address()).datagrams(),
        Err(ProxyError::Handshake { error: HandshakeError::Refused(Reply::NOT_ALLOWED), .. })
    ));
}

#[test]
fn a_chain_carries_streams_and_datagrams() {
    let last = server(Access::Open, host());
    let first = server(Access::Open, Box::new(proxy(last.address())));
    let echo = tcp_server("127.0.0.1:0", echo);
    let mut tunnel = proxy(first.address()).tunnel(&target(echo)).unwrap();
    exchange(&mut tunnel.stream, b"chained", b"chained");
    let udp = kit::udp_echo("127.0.0.1:0");
    let mut datagrams = proxy(first.address()).datagrams().unwrap();
    assert_eq!(
        send_and_receive(&mut datagrams, &target(udp), b"chained"),
        (target(udp), b"chained".to_vec())
    );
}

#[test]
fn a_chain_whose_proxy_is_dead_carries_nothing() {
    let echo = tcp_server("127.0.0.1:0", echo);
    let handle = server(Access::Open, Box::new(proxy(closed_port())));
    assert_eq!(refusal(&handle, &echo.to_string()), Reply::GENERAL_FAILURE);
    proxy(handle.address()).datagrams().unwrap_err();
}

#[test]
fn each_direction_ends_on_its_own() {
    let handle = server(Access::Open, host());
    // The target answers only when the client has ended.
    let counter = tcp_server("127.0.0.1:0", |mut stream| {
        let length = rest(&mut stream).len();
        stream.write_all(length.to_string().as_bytes()).ok();
    });
    let mut tunnel = proxy(handle.address()).tunnel(&target(counter)).unwrap();
    tunnel.stream.write_all(&[7; 100_000]).unwrap();
    tunnel.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut tunnel.stream), b"100000");
    // The target ends first, and still hears the client.
    let ender = tcp_server("127.0.0.1:0", |mut stream| {
        stream.write_all(b"bye").ok();
        stream.shutdown(Shutdown::Write).ok();
        assert_eq!(rest(&mut stream), b"late");
    });
    let mut tunnel = proxy(handle.address()).tunnel(&target(ender)).unwrap();
    assert_eq!(rest(&mut tunnel.stream), b"bye");
    tunnel.stream.write_all(b"late").unwrap();
    drop(tunnel);
    until("the sessions end", || handle.sessions() == 0);
}

#[test]
fn a_reset_of_the_target_is_not_taken_for_an_end() {
    let handle = server(Access::Open, host());
    // Closing with bytes unread resets the connection.
    let rude = tcp_server("127.0.0.1:0", |mut stream| {
        stream.read_exact(&mut [0; 1]).ok();
    });
    let mut tunnel = proxy(handle.address()).tunnel(&target(rude)).unwrap();
    tunnel.stream.write_all(b"two").unwrap();
    let error = tunnel.stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    until("the session ends", || handle.sessions() == 0);
}

#[test]
fn a_large_transfer_arrives_byte_for_byte() {
    const LENGTH: usize = 32 << 20;
    let handle = server(Access::Open, host());
    let echo = tcp_server("127.0.0.1:0", echo);
    let mut tunnel = proxy(handle.address()).tunnel(&target(echo)).unwrap();
    let data: Vec<u8> = (0..LENGTH).map(|index| (index ^ (index >> 11)) as u8).collect();
    let mut writer = tunnel.stream.try_clone().unwrap();
    let sent = data.clone();
    let thread = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(rest(&mut tunnel.stream) == data, "the bytes differ");
    thread.join().unwrap();
}

/// A block of the gibibyte: its number, and bytes.
fn block(number: u32) -> Vec<u8> {
    let mut block: Vec<u8> = (0..1 << 20).map(|index| (index ^ (index >> 11)) as u8).collect();
    block[..4].copy_from_slice(&number.to_be_bytes());
    block
}

const BLOCKS: u32 = 1024;

fn send_a_gibibyte(mut stream: TcpStream) {
    let mut block = block(0);
    for number in 0..BLOCKS {
        block[..4].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&block).unwrap();
    }
}

#[test]
fn a_gibibyte_comes_through_byte_for_byte() {
    let handle = server(Access::Open, host());
    let source = tcp_server("127.0.0.1:0", send_a_gibibyte);
    let mut tunnel = proxy(handle.address()).tunnel(&target(source)).unwrap();
    let (mut wanted, mut got) = (block(0), vec![0; 1 << 20]);
    for number in 0..BLOCKS {
        wanted[..4].copy_from_slice(&number.to_be_bytes());
        tunnel.stream.read_exact(&mut got).unwrap();
        assert!(got == wanted, "block {number} differs");
    }
    assert_eq!(rest(&mut tunnel.stream), b"");
}

/// Each session takes some descriptors, of which a process has few unless it asks.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}

#[test]
fn a_thousand_sessions_run_at_a_time_and_all_end() {
    const SESSIONS: usize = 1000;
    raise_descriptors();
    let handle = server(Access::Open, host());
    let echo = tcp_server("127.0.0.1:0", echo);
    let mut tunnels: Vec<_> = (0..SESSIONS)
        .map(|_| proxy(handle.address()).tunnel(&target(echo)).unwrap().stream)
        .collect();
    assert_eq!(handle.sessions(), SESSIONS);
    for stream in &mut tunnels {
        exchange(stream, b"here", b"here");
    }
    drop(tunnels);
    until("the sessions end", || handle.sessions() == 0);
}

#[test]
fn a_client_beyond_the_limit_waits_for_its_turn() {
    let config = ListenerConfig { sessions: 1, ..ListenerConfig::new(Access::Open) };
    let handle = kit::server_at("127.0.0.1:0", config, host());
    let first = dial(handle.address());
    until("the first session", || handle.sessions() == 1);
    let mut second = dial(handle.address());
    second.write_all(&[5, 1, 0]).unwrap();
    drop(first);
    exchange(&mut second, b"", &[5, 0]);
}

#[test]
fn a_client_that_says_nothing_is_left() {
    let handshake = Duration::from_millis(100);
    let config = ListenerConfig { handshake, ..ListenerConfig::new(Access::Open) };
    let handle = kit::server_at("127.0.0.1:0", config, host());
    let mut client = dial(handle.address());
    client.write_all(&[5, 1]).unwrap();
    assert_eq!(rest(&mut client), b"");
}

#[test]
fn stopping_ends_open_sessions() {
    let handle = server(Access::Open, host());
    let echo = tcp_server("127.0.0.1:0", echo);
    let mut tunnel = proxy(handle.address()).tunnel(&target(echo)).unwrap();
    let _idle = dial(handle.address());
    handle.stop();
    assert!(tunnel.stream.read(&mut [0; 1]).is_err(), "reset, not ended");
}

#[test]
fn a_silent_proxy_is_given_up() {
    let silent = tcp_server("127.0.0.1:0", |mut stream| drop(rest(&mut stream)));
    let impatient = proxy(silent).with_timeout(Duration::from_millis(100));
    let error = impatient.tunnel(&"192.0.2.1:80".parse().unwrap()).unwrap_err();
    assert!(matches!(error, ProxyError::Broken { .. }), "{error}");
}

// Datagrams

fn send_and_receive(
    datagrams: &mut dyn Datagrams,
    to: &Target,
    payload: &[u8],
) -> (Target, Vec<u8>) {
    let end = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 65_535];
    datagrams.send(to, payload);
    loop {
        if let Some((from, length)) = datagrams.receive(&mut buffer) {
            return (from, buffer[..length].to_vec());
        }
        assert!(Instant::now() < end, "no answer from {to}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn datagrams_go_to_addresses_and_names_and_come_back_with_their_sender() {
    let handle = server(Access::Open, host());
    let four = kit::udp_echo("127.0.0.1:0");
    let mut targets = vec![four];
    if kit::has_ipv6() {
        targets.push(kit::udp_echo("[::1]:0"));
    }
    let mut datagrams = proxy(handle.address()).datagrams().unwrap();
    assert!(datagrams.relay().ip().is_loopback(), "reachable: {}", datagrams.relay());
    for to in targets {
        let answer = send_and_receive(&mut datagrams, &target(to), b"ping");
        assert_eq!(answer, (target(to), b"ping".to_vec()));
    }
    let mut by_name = proxy(handle.address()).datagrams().unwrap();
    let name = format!("localhost:{}", four.port()).parse().unwrap();
    // Whether localhost is ::1 or 127.0.0.1 first is the host's business; IPv4 alone is sure to answer.
    if let Ok(mut all) = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1))
        && all.next().is_some_and(|first| first.is_ipv4())
    {
        assert_eq!(send_and_receive(&mut by_name, &name, b"x"), (target(four), b"x".to_vec()));
    }
}

/// An association with the client's socket in the test's hands.
struct Raw {
    control: TcpStream,
    socket: UdpSocket,
    relay: SocketAddr,
}

fn associate(handle: &ListenerHandle) -> Raw {
    associate_from(handle, [0; 6])
}

/// An association whose request names an address and a port.
fn associate_from(handle: &ListenerHandle, declared: [u8; 6]) -> Raw {
    let mut control = dial(handle.address());
    exchange(&mut control, &[5, 1, 0], &[5, 0]);
    let request = [[5, 3, 0, 1].as_slice(), &declared].concat();
    exchange(&mut control, &request, &[5, 0, 0, 1, 127, 0, 0, 1]);
    let mut port = [0; 2];
    control.read_exact(&mut port).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Raw { control, socket, relay: SocketAddr::from(([127, 0, 0, 1], u16::from_be_bytes(port))) }
}

fn datagram(to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    write_datagram(&to.into(), payload, &mut message);
    message
}

fn next(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    read_datagram(&buffer[..length]).unwrap().1.to_vec()
}

#[test]
fn fragments_short_headers_and_strangers_are_dropped() {
    let handle = server(Access::Open, host());
    let echo = kit::udp_echo("127.0.0.1:0");
    let raw = associate(&handle);
    raw.socket.send_to(&datagram(echo, b"first"), raw.relay).unwrap();
    assert_eq!(next(&raw.socket), b"first");
    let mut fragment = datagram(echo, b"fragment");
    fragment[2] = 1;
    raw.socket.send_to(&fragment, raw.relay).unwrap();
    raw.socket.send_to(&[0, 0, 0, 1, 127], raw.relay).unwrap();
    raw.socket.send_to(&[], raw.relay).unwrap();
    // Another socket of the same host is not the client once the client has sent.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&datagram(echo, b"stranger"), raw.relay).unwrap();
    raw.socket.send_to(&datagram(echo, b"last"), raw.relay).unwrap();
    assert_eq!(next(&raw.socket), b"last", "and nothing of the rest before it");
}

#[test]
fn a_client_may_name_its_target_where_its_own_address_belongs() {
    let handle = server(Access::Open, host());
    let echo = kit::udp_echo("127.0.0.1:0");
    let raw = associate_from(&handle, [127, 0, 0, 1, 0, 53]);
    raw.socket.send_to(&datagram(echo, b"still"), raw.relay).unwrap();
    assert_eq!(next(&raw.socket), b"still");
}

#[test]
fn datagrams_of_hosts_that_were_not_written_to_are_dropped() {
    let handle = server(Access::Open, host());
    let raw = associate(&handle);
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = receiver.local_addr().unwrap();
    raw.socket.send_to(&datagram(to, b"hello"), raw.relay).unwrap();
    let mut buffer = [0; 16];
    let (_, outside) = receiver.recv_from(&mut buffer).unwrap();
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    stranger.send_to(b"stranger", outside).unwrap();
    receiver.send_to(b"friend", outside).unwrap();
    assert_eq!(next(&raw.socket), b"friend");
}

#[test]
fn the_relay_ends_with_its_connection() {
    let handle = server(Access::Open, host());
    let echo = kit::udp_echo("127.0.0.1:0");
    let raw = associate(&handle);
    raw.socket.send_to(&datagram(echo, b"alive"), raw.relay).unwrap();
    assert_eq!(next(&raw.socket), b"alive");
    drop(raw.control);
    until("the session ends", || handle.sessions() == 0);
    assert!(UdpSocket::bind(raw.relay).is_ok(), "the relay's port is free");
}

#[test]
fn an_association_through_a_chain_ends_when_the_proxy_does() {
    let last = server(Access::Open, host());
    let first = server(Access::Open, Box::new(proxy(last.address())));
    let mut raw = associate(&first);
    last.stop();
    assert_eq!(raw.control.read(&mut [0; 1]).unwrap(), 0);
}

// URLs

#[test]
fn proxy_urls_are_understood_or_explained() {
    for (url, shown) in [
        ("socks5://127.0.0.1", "socks5://127.0.0.1:1080"),
        ("socks5h://u:p@proxy.example:9/", "socks5://proxy.example:9"),
        ("socks5://[::1]", "socks5://[::1]:1080"),
        ("socks5://[::1]:7", "socks5://[::1]:7"),
    ] {
        assert_eq!(url.parse::<Proxy>().unwrap().to_string(), shown);
    }
    for (url, part) in [
        ("http://u:secret@a:1", "is not a SOCKS proxy"),
        ("socks5://user@a:1", "USER:PASSWORD"),
        ("socks5://u:%4@a:1", "USER:PASSWORD"),
        ("socks5://u:%zz@a:1", "USER:PASSWORD"),
        ("socks5://:p@a:1", "user name has 0 bytes"),
        ("socks5://a:99999", "has no port"),
        ("socks5://:1", "is not a host"),
        ("socks5://é", "is not a host"),
    ] {
        let message = url.parse::<Proxy>().unwrap_err().to_string();
        assert!(message.contains(part) && !message.contains("secret"), "{url}: {message}");
    }
}
