//! Into the guests' networks from the host: where a SOCKS server's connections go that names machines.
//!
//! ```text
//!   browser ── SOCKS ──► kezhan socks --network lan ── control socket ──► the machine's network ──► guest
//! ```
//! A target is a machine's name, plain or under `kezhan.internal`, or a guest's address. It is looked up among
//! the machines that run: nothing here resolves a name or goes to the host's own network.

use kezhan_control::{CardState, Client, Fault, MachineAddress, Reply, Request, machines};
use kezhan_socks::{Connection, Datagrams, Host, Outbound, Target, spec};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a guest may take to accept.
const PATIENCE: Duration = Duration::from_secs(20);

/// What machines' names end with (`host/net`, "names").
const ZONE: &str = ".kezhan.internal";

/// Which machines are reached.
#[derive(Clone, Debug)]
enum Which {
    Network(String),
    Process(u32),
}

/// The machines of a person, as a place to connect to.
#[derive(Clone, Debug)]
pub struct Guests {
    folder: PathBuf,
    which: Which,
}

impl Guests {
    /// Those on a named network.
    pub fn of_network(folder: PathBuf, network: &str) -> Guests {
        Guests { folder, which: Which::Network(network.to_owned()) }
    }

    /// That of one process.
    pub(crate) fn of_process(folder: PathBuf, process: u32) -> Guests {
        Guests { folder, which: Which::Process(process) }
    }

    /// Asks each machine that may be meant; the first that is, and its card.
    fn find(&self, target: &Target) -> Result<(Client, CardState), spec::Reply> {
        let all = machines(&self.folder).map_err(|_folder| spec::Reply::GENERAL_FAILURE)?;
        for machine in &all {
            // One that has just ended is not meant.
            let Ok(mut client) = Client::connect(machine) else { continue };
            let Ok(Reply::Cards { cards }) = client.ask(&Request::Cards) else { continue };
            let meant = |card: &CardState| self.is_meant(machine, card, &target.host);
            if let Some(card) = cards.into_iter().find(meant) {
                return Ok((client, card));
            }
        }
        Err(spec::Reply::HOST_UNREACHABLE)
    }

    fn is_meant(&self, machine: &MachineAddress, card: &CardState, host: &Host) -> bool {
        let here = match &self.which {
            Which::Network(network) => card.network.as_ref() == Some(network),
            Which::Process(process) => machine.process == *process,
        };
        here && match host {
            Host::Ip(ip) => *ip == IpAddr::V4(card.guest),
            Host::Name(name) => {
                let name = name.as_str().trim_end_matches('.').to_ascii_lowercase();
                name.strip_suffix(ZONE).unwrap_or(&name) == machine.name.to_ascii_lowercase()
            }
        }
    }
}

fn enter(mut client: Client, card: &CardState, port: u16) -> Result<Connection, spec::Reply> {
    let failed = |_error| spec::Reply::GENERAL_FAILURE;
    client.wait_at_most(PATIENCE).map_err(failed)?;
    match client.ask(&Request::Connect { card: card.card, port }) {
        Ok(Reply::Connected) => {}
        Ok(Reply::Failed { fault: Fault::Refused, .. }) => {
            return Err(spec::Reply::CONNECTION_REFUSED);
        }
        Ok(Reply::Failed { fault: Fault::Unreachable, .. }) | Err(_) => {
            return Err(spec::Reply::HOST_UNREACHABLE);
        }
        Ok(_) => return Err(spec::Reply::GENERAL_FAILURE),
    }
    let socket = client.into_stream().map_err(|_error| spec::Reply::GENERAL_FAILURE)?;
    // The guest sees its router; which port of it is known in the machine only.
    Ok(Connection {
        socket: socket.into(),
        bound: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    })
}

impl Outbound for Guests {
    fn connect(&self, target: &Target) -> Result<Connection, spec::Reply> {
        let (client, card) = self.find(target)?;
        enter(client, &card, target.port)
    }

    fn associate(&self) -> Result<Box<dyn Datagrams>, spec::Reply> {
        let guests = self.clone();
        Ok(Box::new(GuestDatagrams { guests, ways: VecDeque::new(), missed: None }))
    }
}

/// Ports of guests that an association reaches at a time; the oldest makes room.
const WAYS: usize = 16;

/// How long a target that was not found is not looked for again: its datagrams are lost.
const MISSED: Duration = Duration::from_secs(1);

/// A way to a port of a guest's.
#[derive(Debug)]
struct Way {
    target: Target,
    /// As the client is told where datagrams come from.
    guest: SocketAddr,
    /// Connected to the machine's, which hears no other.
    socket: UdpSocket,
    /// The way is there as long as this connection.
    _client: Client,
}

/// Datagrams to the guests and back.
///
/// ```text
///   association ── socket on the loopback ◄──► a forward of the machine's, for this socket alone ◄──► guest
/// ```
#[derive(Debug)]
struct GuestDatagrams {
    guests: Guests,
    ways: VecDeque<Way>,
    missed: Option<(Target, Instant)>,
}

impl GuestDatagrams {
    fn way(&mut self, target: &Target) -> Option<&Way> {
        if let Some(known) = self.ways.iter().position(|way| way.target == *target) {
            return self.ways.get(known);
        }
        let now = Instant::now();
        if self.missed.as_ref().is_some_and(|(of, since)| of == target && now < *since + MISSED) {
            return None;
        }
        let Some(way) = open(&self.guests, target) else {
            self.missed = Some((target.clone(), now));
            return None;
        };
        if self.ways.len() >= WAYS {
            self.ways.pop_front();
        }
        self.ways.push_back(way);
        self.ways.back()
    }
}

fn open(guests: &Guests, target: &Target) -> Option<Way> {
    let (mut client, card) = guests.find(target).ok()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    socket.set_nonblocking(true).ok()?;
    let (card_number, peer) = (card.card, socket.local_addr().ok()?);
    let ask = Request::Associate { card: card_number, port: target.port, peer };
    let Ok(Reply::Associated { at }) = client.ask(&ask) else { return None };
    socket.connect(at).ok()?;
    let guest = SocketAddr::new(card.guest.into(), target.port);
    Some(Way { target: target.clone(), guest, socket, _client: client })
}

impl Datagrams for GuestDatagrams {
    fn send(&mut self, target: &Target, payload: &[u8]) {
        if let Some(way) = self.way(target) {
            // Lost when there is no room, as on any network.
            way.socket.send(payload).ok();
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(Target, usize)> {
        for index in 0..self.ways.len() {
            let Some(way) = self.ways.get(index) else { break };
            match way.socket.recv(buffer) {
                Ok(length) => return Some((way.guest.into(), length)),
                // The machine has ended.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.ways.remove(index);
                    return None;
                }
                Err(_) => {}
            }
        }
        None
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        self.ways.iter().map(|way| way.socket.as_fd()).collect()
    }
}
