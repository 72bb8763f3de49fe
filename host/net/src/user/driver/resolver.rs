//! Asks the host's name servers (RFC 1035 §4.2.1), each question from a socket of its own with a random
//! number (RFC 5452 §9).

use super::super::QueryId;
use super::poller::{Ready, Token, Watch};
use super::sockets::dial;
use super::thread::Desk;
use rustix::net::{RecvFlags, SendFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
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
enum Way {
    Datagram(UdpSocket),
    /// What is still to be written, and what was read.
    Stream(OwnedFd, Vec<u8>, Vec<u8>),
}

/// What is asked, how, and how often it was.
#[derive(Debug)]
struct Question {
    message: Vec<u8>,
    stream: bool,
    attempts: usize,
}

#[derive(Debug)]
struct Open {
    way: Way,
    question: Question,
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

    pub(super) fn ask(
        &mut self,
        desk: &mut Desk,
        query: QueryId,
        (message, stream): (Vec<u8>, bool),
    ) {
        self.attempt(desk, query, Question { message, stream, attempts: 0 });
    }

    /// Asks the next server, until one can be asked.
    fn attempt(&mut self, desk: &Desk, query: QueryId, mut question: Question) {
        while question.attempts < ATTEMPTS && !self.servers.is_empty() {
            let Some(server) = self.servers.get(question.attempts % self.servers.len()) else {
                return;
            };
            question.attempts += 1;
            let mut ident = [0; 2];
            getrandom(&mut ident, GetRandomFlags::empty()).ok();
            if let Some(field) = question.message.first_chunk_mut() {
                *field = ident;
            }
            match open(desk, query, *server, &question) {
                Ok(way) => {
                    let end = desk.now + PATIENCE;
                    self.open.insert(query, Open { way, question, end });
                    return;
                }
                Err(error) => log::debug!("name server {server}: {error}"),
            }
        }
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, query: QueryId, ready: Ready) {
        let Some(open) = self.open.get_mut(&query) else { return };
        match hear(&mut open.way, &mut self.buffer, ready) {
            Ok(Some(length)) => {
                let message = self.buffer.get(..length).unwrap_or_default();
                // Another number: not the answer to this question (RFC 5452 §9.1).
                if length >= 2 && message.get(..2) == open.question.message.get(..2) {
                    self.open.remove(&query);
                    desk.gateway.answer(desk.now, query, message);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::debug!("a name server cannot be asked: {error}");
                if let Some(open) = self.open.remove(&query) {
                    self.attempt(desk, query, open.question);
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
                self.attempt(desk, query, open.question);
            }
        }
        self.open.values().map(|open| open.end).min()
    }
}

fn open(desk: &Desk, query: QueryId, server: SocketAddr, question: &Question) -> io::Result<Way> {
    if question.stream {
        let fd = dial(server)?;
        desk.poller.add(&fd, Token::Query(query), Watch::Changes)?;
        let length = u16::try_from(question.message.len()).unwrap_or(u16::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(&question.message);
        return Ok(Way::Stream(fd, bytes, Vec::new()));
    }
    let socket = match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    desk.poller.add(&socket, Token::Query(query), Watch::Reading)?;
    socket.send(&question.message)?;
    Ok(Way::Datagram(socket))
}

/// Reads an answer into the buffer; its length, or `None` when there is more to come.
fn hear(way: &mut Way, buffer: &mut [u8], ready: Ready) -> io::Result<Option<usize>> {
    let (fd, output, input) = match way {
        Way::Datagram(socket) => return socket.recv(buffer).map(Some),
        Way::Stream(fd, output, input) => (fd, output, input),
    };
    if ready.write && !output.is_empty() {
        let sent = rustix::net::send(&*fd, output, SendFlags::NOSIGNAL)?;
        output.drain(..sent);
    }
    if !ready.read {
        return Ok(None);
    }
    // Until it would block; the length comes first (RFC 1035 §4.2.2).
    loop {
        let (count, _) = rustix::net::recv(&*fd, &mut *buffer, RecvFlags::empty())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let Some((length, rest)) = input.split_first_chunk() else { continue };
        let length = usize::from(u16::from_be_bytes(*length));
        if let Some(message) = rest.get(..length)
            && let Some(to) = buffer.get_mut(..length)
        {
            to.copy_from_slice(message);
            return Ok(Some(length));
        }
    }
}
