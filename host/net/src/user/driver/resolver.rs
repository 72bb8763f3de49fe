//! Asks the host's name servers (RFC 1035 §4.2.1), each question from a socket of its own with a random
//! number (RFC 5452 §9).

use super::super::QueryId;
use super::poller::{Token, Watch};
use super::thread::Desk;
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Where the host's name servers are written (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;

/// How long one server may take before the next is asked, and how often any is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 4;

/// The longest answer.
const LONGEST: usize = 65_535;

#[derive(Debug)]
struct Open {
    socket: UdpSocket,
    message: Vec<u8>,
    attempts: usize,
    end: Duration,
}

/// Questions that wait for their answers.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    open: BTreeMap<QueryId, Open>,
    buffer: Vec<u8>,
}

/// The servers of the host; the host itself when it names none (resolv.conf(5)).
pub(super) fn hosts_resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let found = servers_of(&text);
    if found.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { found }
}

fn servers_of(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let rest = line.trim().strip_prefix("nameserver")?;
        let ip: IpAddr = rest.trim().parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    };
    text.lines().filter_map(server).collect()
}

impl Resolver {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Resolver {
        Resolver { servers, open: BTreeMap::new(), buffer: vec![0; LONGEST] }
    }

    pub(super) fn ask(&mut self, desk: &mut Desk, query: QueryId, message: Vec<u8>) {
        self.attempt(desk, query, (message, 0));
    }

    /// Asks the next server.
    fn attempt(&mut self, desk: &Desk, query: QueryId, (mut message, made): (Vec<u8>, usize)) {
        if self.servers.is_empty() || made >= ATTEMPTS {
            return;
        }
        let Some(server) = self.servers.get(made % self.servers.len()) else { return };
        let mut ident = [0; 2];
        getrandom(&mut ident, GetRandomFlags::empty()).ok();
        if let Some(field) = message.first_chunk_mut() {
            *field = ident;
        }
        match send(desk, query, *server, &message) {
            Ok(socket) => {
                let end = desk.now + PATIENCE;
                let open = Open { socket, message, attempts: made + 1, end };
                self.open.insert(query, open);
            }
            Err(error) => {
                log::debug!("name server {server}: {error}");
                self.attempt(desk, query, (message, made + 1));
            }
        }
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, query: QueryId) {
        let Some(open) = self.open.get(&query) else { return };
        match open.socket.recv(&mut self.buffer) {
            Ok(length) => {
                let message = self.buffer.get(..length).unwrap_or_default();
                // Another number: not the answer to this question (RFC 5452 §9.1).
                if length >= 2 && message.get(..2) == open.message.get(..2) {
                    self.open.remove(&query);
                    desk.gateway.answer(desk.now, query, message);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::debug!("a name server cannot be asked: {error}");
                if let Some(open) = self.open.remove(&query) {
                    self.attempt(desk, query, (open.message, open.attempts));
                }
            }
        }
    }

    /// Asks the next server what took too long; when to come again.
    pub(super) fn expire(&mut self, desk: &mut Desk) -> Option<Duration> {
        let now = desk.now;
        let late: Vec<QueryId> =
            self.open.iter().filter(|(_, open)| open.end <= now).map(|(id, _)| *id).collect();
        for query in late {
            if let Some(open) = self.open.remove(&query) {
                self.attempt(desk, query, (open.message, open.attempts));
            }
        }
        self.open.values().map(|open| open.end).min()
    }
}

fn send(desk: &Desk, query: QueryId, server: SocketAddr, message: &[u8]) -> io::Result<UdpSocket> {
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    desk.poller.add(&socket, Token::Query(query), Watch::Reading)?;
    socket.send(message)?;
    Ok(socket)
}
