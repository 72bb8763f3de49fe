//! Servers on the loopback for the tests with sockets.

#![allow(dead_code, reason = "each test binary uses a part")]

use kezhan_socks::{Access, HostOutbound, ListenerConfig, ListenerHandle, Outbound, Proxy, listen};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn host() -> Box<dyn Outbound> {
    Box::new(HostOutbound::new(PATIENCE))
}

pub fn server(access: Access, outbound: Box<dyn Outbound>) -> ListenerHandle {
    server_at("127.0.0.1:0", ListenerConfig::new(access), outbound)
}

pub fn server_at(
    address: &str,
    config: ListenerConfig,
    outbound: Box<dyn Outbound>,
) -> ListenerHandle {
    listen(TcpListener::bind(address).unwrap(), config, outbound).unwrap()
}

pub fn proxy(address: SocketAddr) -> Proxy {
    Proxy::new(address.into(), None, PATIENCE)
}

/// Serves every connection with `story`, each on its own thread.
pub fn tcp_server(address: &str, story: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || story(stream));
        }
    });
    address
}

/// Sends back what comes until the sender ends, then ends.
pub fn echo(mut stream: TcpStream) {
    let mut from = stream.try_clone().unwrap();
    std::io::copy(&mut from, &mut stream).ok();
    stream.shutdown(Shutdown::Write).ok();
}

/// Sends datagrams back to where they came from.
pub fn udp_echo(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], from).ok();
        }
    });
    address
}

/// An address of the loopback that is taken, so that nobody else gets it, and where nobody listens.
pub fn closed_port() -> SocketAddr {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &any).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    std::mem::forget(socket);
    address
}

/// Whether this host has an IPv6 loopback; says so when it has none.
pub fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped in part: no IPv6 loopback on this host");
    }
    has
}

/// A port that was free a moment ago, for a program that must be told one.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn exchange(stream: &mut TcpStream, send: &[u8], expect: &[u8]) {
    stream.write_all(send).unwrap();
    let mut got = vec![0; expect.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, expect);
}

/// Everything until the end.
pub fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Waits until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
