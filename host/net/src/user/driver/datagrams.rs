//! The host's ends of UDP flows: one socket for each, or one association with the proxy (RFC 1928 §7).

use super::super::{Failure, FlowId};
use super::egress::{self, Egress};
use super::errors::{self, Lost};
use super::many::{self, Run};
use super::poller::{Ready, Token, Watch};
use super::sockets::dial;
use super::thread::Desk;
use kezhan_socks::{ClientSession, Command, Target, read_datagram, write_datagram};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Datagrams that one socket is read in a turn, and calls for it.
const BUDGET: usize = 256;
const CALLS: usize = 8;

/// The kernel's own default limit (socket(7), rmem_max), of which it makes twice as much.
const RECEIVE_BUFFER: usize = 212_992;

/// Datagrams that wait for an association, and stand-ins that one remembers.
const WAITING: usize = 16;

/// An association with the proxy.
#[derive(Debug)]
struct Relay {
    /// The connection that it lives as long as.
    control: OwnedFd,
    /// Until it is granted.
    session: Option<Box<ClientSession>>,
    socket: Option<UdpSocket>,
    waiting: Vec<Vec<u8>>,
    /// Targets that stand for names, the last first: the proxy answers with addresses.
    named: VecDeque<SocketAddr>,
}

#[derive(Debug)]
enum Way {
    Direct(UdpSocket),
    Proxied(Relay),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Datagrams {
    open: HashMap<FlowId, Way>,
    /// Where datagrams are received.
    room: Vec<u8>,
    /// Datagrams that wait for others of their flow, until [`Datagrams::flush`].
    run: Option<(FlowId, Run)>,
    /// Flows whose sockets are not watched: there is enough for the guest. The one that waits longest is first.
    resting: VecDeque<FlowId>,
    egress: Option<Arc<Egress>>,
}

/// A socket that any host of the family can be reached from.
fn bind(like: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match like {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open(egress: Option<&Egress>, desk: &Desk, flow: FlowId, to: SocketAddr) -> io::Result<Way> {
    let Some(egress) = egress else {
        let socket = bind(to)?;
        errors::ask(&socket);
        // As much as the host gives anybody: what comes while we do something else.
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER).ok();
        desk.poller.add(&socket, Token::Flow(flow), Watch::Reading)?;
        return Ok(Way::Direct(socket));
    };
    let control = dial(egress.server())?;
    desk.poller.add(&control, Token::Flow(flow), Watch::Changes)?;
    // We do not know which address the proxy will see: zeros (RFC 1928 §6).
    let unknown = Target::from(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    let session = egress.session(Command::UdpAssociate, unknown);
    Ok(Way::Proxied(Relay {
        control,
        session: Some(Box::new(session)),
        socket: None,
        waiting: Vec::new(),
        named: VecDeque::new(),
    }))
}

impl Datagrams {
    pub(super) fn new(egress: Option<Arc<Egress>>) -> Datagrams {
        Datagrams {
            open: HashMap::new(),
            room: many::room(),
            run: None,
            resting: VecDeque::new(),
            egress,
        }
    }

    /// Sends a datagram, with those that come behind it and before [`Datagrams::flush`]; or loses it: the host's
    /// buffers are full, or there is no way.
    pub(super) fn send(
        &mut self,
        desk: &mut Desk,
        flow: FlowId,
        (to, payload): (SocketAddr, Vec<u8>),
    ) {
        let payload = match &mut self.run {
            Some((of, run)) if *of == flow => match run.take(to, payload) {
                Ok(()) => return,
                Err(payload) => payload,
            },
            _ => payload,
        };
        self.flush();
        let egress = self.egress.as_deref();
        let way = match self.open.entry(flow) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => match open(egress, desk, flow, to) {
                Ok(way) => vacant.insert(way),
                Err(error) => return log::debug!("{to}/udp: {error}"),
            },
        };
        match (way, egress) {
            (Way::Direct(_), _) => self.run = Some((flow, Run::new(to, payload))),
            (Way::Proxied(relay), Some(egress)) => {
                if let Some(target) = egress.target(&desk.gateway, to) {
                    relay.send((to, &target), &payload);
                }
            }
            (Way::Proxied(_), None) => {}
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        if let Some((flow, run)) = self.run.take()
            && let Some(Way::Direct(socket)) = self.open.get(&flow)
        {
            run.send(socket);
        }
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, flow: FlowId, ready: Ready) {
        let over = match self.open.get_mut(&flow) {
            None => return,
            Some(Way::Direct(socket)) => {
                if ready.ended {
                    tell_of_errors(desk, flow, socket);
                }
                if take(desk, flow, socket, &mut self.room) && desk.poller.remove(socket).is_ok() {
                    self.resting.push_back(flow);
                }
                return;
            }
            Some(Way::Proxied(relay)) => relay.ready(desk, flow, ready, &mut self.room).is_err(),
        };
        if over {
            // The next datagram asks for another.
            self.open.remove(&flow);
        }
    }

    /// Whether [`Datagrams::go_on`] has something to do.
    pub(super) fn can_go_on(&self, desk: &Desk) -> bool {
        !self.resting.is_empty() && !desk.gateway.has_enough_datagrams()
    }

    /// Reads what was left in sockets, while the guest can use it; whether anything came of that.
    pub(super) fn go_on(&mut self, desk: &mut Desk) -> bool {
        let mut some = false;
        for _ in 0..self.resting.len() {
            if desk.gateway.has_enough_datagrams() {
                break;
            }
            let Some(flow) = self.resting.pop_front() else { break };
            let Some(Way::Direct(socket)) = self.open.get(&flow) else { continue };
            some = true;
            if take(desk, flow, socket, &mut self.room)
                || desk.poller.add(socket, Token::Flow(flow), Watch::Reading).is_err()
            {
                self.resting.push_back(flow);
            }
        }
        some
    }

    pub(super) fn close(&mut self, flow: FlowId) {
        self.flush();
        self.open.remove(&flow);
    }
}

/// Tells the guest of datagrams that were not delivered.
fn tell_of_errors(desk: &mut Desk, flow: FlowId, socket: &UdpSocket) {
    for _ in 0..BUDGET {
        let Some(Lost { to, payload, why }) = errors::next(socket) else { return };
        desk.gateway.datagram_lost(desk.now, flow, (to, why), &payload);
    }
}

/// Takes what has come to a socket; true when the guest has enough before that is all.
fn take(desk: &mut Desk, flow: FlowId, socket: &UdpSocket, room: &mut [u8]) -> bool {
    for _ in 0..CALLS {
        if desk.gateway.has_enough_datagrams() {
            return true;
        }
        match many::receive(socket, room) {
            Ok(received) => {
                for (from, payload) in many::payloads(room, &received) {
                    desk.gateway.datagram(desk.now, flow, from, payload);
                }
                if !many::was_full(&received) {
                    return false;
                }
            }
            // That of a datagram sent earlier.
            Err(nix::errno::Errno::ECONNREFUSED | nix::errno::Errno::EHOSTUNREACH) => {}
            Err(_) => return false,
        }
    }
    false
}

impl Relay {
    fn send(&mut self, (to, target): (SocketAddr, &Target), payload: &[u8]) {
        if egress::is_stand_in(to.ip()) && self.named.front() != Some(&to) {
            self.named.retain(|known| *known != to);
            self.named.push_front(to);
            self.named.truncate(WAITING);
        }
        let mut message = Vec::new();
        write_datagram(target, payload, &mut message);
        match &self.socket {
            Some(socket) => drop(socket.send(&message)),
            None if self.waiting.len() < WAITING => self.waiting.push(message),
            None => {}
        }
    }

    fn ready(
        &mut self,
        desk: &mut Desk,
        flow: FlowId,
        ready: Ready,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        if let Some(session) = &mut self.session {
            if ready.write {
                sockopt::socket_error(&self.control)
                    .and_then(|error| error)
                    .map_err(|_no_connection| Failure::Refused)?;
                egress::say(&self.control, session)?;
            }
            if let Some(bound) = egress::listen(&self.control, session)? {
                self.session = None;
                self.associate(desk, flow, &bound).map_err(|_no_socket| Failure::Refused)?;
            }
            return Ok(());
        }
        self.relay(desk, flow, buffer);
        // The association ends with its connection (RFC 1928 §7).
        match rustix::net::recv(&self.control, &mut [0; 64], RecvFlags::empty()) {
            Ok((_, 1..)) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            _ => Err(Failure::Refused),
        }
    }

    fn associate(&mut self, desk: &Desk, flow: FlowId, bound: &Target) -> io::Result<()> {
        let peer = rustix::net::getpeername(&self.control)?.ok_or(io::ErrorKind::NotConnected)?;
        let server = SocketAddr::try_from(peer)?;
        let relay = match bound.socket_address() {
            // Some servers answer with zeros and mean the address that they were reached at.
            Some(bound) if bound.ip().is_unspecified() => {
                SocketAddr::new(server.ip(), bound.port())
            }
            Some(bound) => bound,
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        let socket = bind(relay)?;
        socket.connect(relay)?;
        desk.poller.add(&socket, Token::Flow(flow), Watch::Reading)?;
        for message in self.waiting.drain(..) {
            socket.send(&message).ok();
        }
        self.socket = Some(socket);
        Ok(())
    }

    fn relay(&mut self, desk: &mut Desk, flow: FlowId, buffer: &mut [u8]) {
        let Some(socket) = &self.socket else { return };
        for _ in 0..BUDGET {
            let length = match socket.recv(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let Ok((from, payload)) = read_datagram(datagram) else { continue };
            let named = self.named.iter().find(|known| known.port() == from.port);
            // The sender's own address first: the guest may know it, too.
            if let Some(from) = from.socket_address() {
                let known = desk.gateway.knows_sender(desk.now, flow, from);
                if known || named.is_none() {
                    desk.gateway.datagram(desk.now, flow, from, payload);
                    continue;
                }
            }
            if let Some(named) = named {
                desk.gateway.datagram(desk.now, flow, *named, payload);
            }
        }
    }
}
