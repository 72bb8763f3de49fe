//! A guest behind a SOCKS proxy, which is the witness of what leaves.

use crate::guest::{MAC, PATIENCE, guest};
use crate::udp::resolve;
use kezhan_net::policy::{Policy, Rule, Verdict};
use kezhan_net::user::UserConfig;
use kezhan_socks::{
    Access, Connection, Datagrams, Host, HostOutbound, ListenerConfig, ListenerHandle, Outbound,
    Reply, Target, listen,
};
use smoltcp::socket::tcp::State;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};

/// The proxy's way out: one name leads to sockets of the test, everything is written down.
#[derive(Clone, Default)]
struct Witness {
    asked: Arc<Mutex<Vec<String>>>,
    to: Option<SocketAddr>,
}

impl Witness {
    fn find(&self, target: &Target) -> Result<SocketAddr, Reply> {
        self.asked.lock().unwrap().push(target.to_string());
        match (&target.host, self.to) {
            (Host::Name(name), Some(to)) if name.as_str() == "www.test.internal" => Ok(to),
            _ => Err(Reply::HOST_UNREACHABLE),
        }
    }
}

impl Outbound for Witness {
    fn connect(&self, target: &Target) -> Result<Connection, Reply> {
        let to = self.find(target)?;
        HostOutbound::new(PATIENCE).connect(&Target::from(to))
    }

    fn associate(&self) -> Result<Box<dyn Datagrams>, Reply> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Ok(Box::new(Relayed(self.clone(), socket)))
    }
}

struct Relayed(Witness, UdpSocket);

impl Datagrams for Relayed {
    fn send(&mut self, target: &Target, payload: &[u8]) {
        if let Ok(to) = self.0.find(target) {
            self.1.send_to(payload, to).unwrap();
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(Target, usize)> {
        let (length, from) = self.1.recv_from(buffer).ok()?;
        Some((from.into(), length))
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.1.as_fd()]
    }
}

fn proxy(witness: Witness) -> (ListenerHandle, UserConfig) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ListenerConfig { access: Access::Open, handshake: PATIENCE, sessions: 16 };
    let handle = listen(socket, config, Box::new(witness)).unwrap();
    let egress = Some(format!("socks5://{}", handle.address()).parse().unwrap());
    (handle, UserConfig { egress, ..UserConfig::usual(MAC) })
}

#[test]
fn a_name_goes_to_the_proxy_as_a_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let witness = Witness { to: Some(listener.local_addr().unwrap()), ..Witness::default() };
    let (_proxy, config) = proxy(witness.clone());
    let (mut guest, _network) = guest(config);
    let ip = resolve(&mut guest, "www.test.internal").unwrap();
    let handle = guest.connect(SocketAddr::new(ip, 80), 4096);
    let (mut stream, _) = listener.accept().unwrap();
    guest.send(handle, b"GET");
    let mut got = [0; 3];
    stream.read_exact(&mut got).unwrap();
    stream.write_all(b"hello").unwrap();
    drop(stream);
    assert_eq!((&got, guest.receive(handle, usize::MAX)), (b"GET", b"hello".to_vec()));
    assert_eq!(*witness.asked.lock().unwrap(), ["www.test.internal:80"]);
}

#[test]
fn datagrams_go_through_the_proxy_and_come_back_from_the_name() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = socket.local_addr().unwrap();
    let witness = Witness { to: Some(at), ..Witness::default() };
    let (_proxy, config) = proxy(witness.clone());
    let (mut guest, _network) = guest(config);
    let ip = resolve(&mut guest, "www.test.internal").unwrap();
    let handle = guest.add_udp(6000);
    let to = SocketAddr::new(ip, at.port());
    for word in [b"one", b"two"] {
        guest.udp(handle).send_slice(word, to).unwrap();
        guest.until("the sending", |guest| guest.udp(handle).send_queue() == 0);
        let mut buffer = [0; 16];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], word);
        socket.send_to(b"back", from).unwrap();
        assert_eq!(guest.receive_udp(handle), (b"back".to_vec(), to));
    }
}

#[test]
fn what_the_proxy_refuses_is_refused_and_nothing_goes_around_it() {
    let witness = Witness::default();
    let (handle, config) = proxy(witness.clone());
    let rule = Rule::parse(Verdict::Allow, "127.0.0.0/8").unwrap();
    let policy = Policy::new(vec![rule], Verdict::Allow);
    let (mut guest, network) = guest(UserConfig { policy, ..config });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = SocketAddr::new([10, 0, 2, 2].into(), listener.local_addr().unwrap().port());
    let mut refused = |what: &str, to: SocketAddr| {
        let handle = guest.dial(to, 4096);
        guest.until(what, |guest| guest.tcp(handle).state() == State::Closed);
    };
    // smoltcp does not hear of ICMP: it is asked for what is refused by a reset.
    refused("a stand-in for nothing", "198.18.7.7:80".parse().unwrap());
    handle.stop();
    refused("a dead proxy", at);
    refused("a dead proxy", "192.0.2.1:80".parse().unwrap());
    listener.set_nonblocking(true).unwrap();
    listener.accept().unwrap_err();
    assert!(witness.asked.lock().unwrap().is_empty());
    network.stop();
}
