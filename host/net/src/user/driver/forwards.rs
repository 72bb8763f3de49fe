//! Ways from the host into the guest.
//!
//! A connection that is accepted becomes a stream to the guest's port; a datagram gets an address of ours
//! that the guest answers to, for each peer of its own.

use super::super::Gateway;
use super::poller::{Token, Watch};
use super::sockets::{Answers, Sockets};
use super::thread::Desk;
use super::{Forward, ForwardId, Listen, UserError};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Connections or datagrams that one forward gets in a turn.
const BUDGET: usize = 128;

/// The longest datagram.
const LONGEST: usize = 65_535;

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
    Unix(UnixListener),
}

/// A forward's socket, which listens.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    forward: Forward,
    /// The file to remove.
    file: Option<PathBuf>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            std::fs::remove_file(file).ok();
        }
    }
}

impl Listener {
    pub(super) fn open(forward: &Forward) -> Result<Listener, UserError> {
        listen(forward).map_err(|error| UserError::Listen(forward.listen.clone(), error))
    }

    /// A UDP socket on the loopback that hears one peer alone.
    pub(super) fn for_peer(port: u16, peer: SocketAddr) -> Result<Listener, UserError> {
        let own = SocketAddr::new(peer.ip(), 0);
        let open = || {
            let socket = UdpSocket::bind(own)?;
            socket.set_nonblocking(true)?;
            socket.connect(peer)?;
            let forward = Forward { listen: Listen::Udp(socket.local_addr()?), guest: None, port };
            Ok(Listener { socket: Socket::Udp(socket), forward, file: None })
        };
        open().map_err(|error| UserError::Listen(Listen::Udp(own), error))
    }

    pub(super) fn listens(&self) -> &Listen {
        &self.forward.listen
    }
}

fn listen(forward: &Forward) -> io::Result<Listener> {
    let (socket, listen, file) = match &forward.listen {
        Listen::Tcp(at) => {
            let listener = TcpListener::bind(at)?;
            listener.set_nonblocking(true)?;
            let at = Listen::Tcp(listener.local_addr()?);
            (Socket::Tcp(listener), at, None)
        }
        Listen::Udp(at) => {
            let socket = UdpSocket::bind(at)?;
            socket.set_nonblocking(true)?;
            let at = Listen::Udp(socket.local_addr()?);
            (Socket::Udp(socket), at, None)
        }
        Listen::Unix(path) => {
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            (Socket::Unix(listener), forward.listen.clone(), Some(path.clone()))
        }
    };
    Ok(Listener { socket, forward: Forward { listen, ..forward.clone() }, file })
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    open: BTreeMap<ForwardId, Listener>,
    next: u64,
    buffer: Vec<u8>,
}

impl Forwards {
    pub(super) fn add(&mut self, desk: &mut Desk, listener: Listener) -> ForwardId {
        let id = ForwardId(self.next);
        self.next += 1;
        let token = Token::Forward(id);
        let added = match &listener.socket {
            Socket::Tcp(socket) => desk.poller.add(socket, token, Watch::Reading),
            Socket::Udp(socket) => desk.poller.add(socket, token, Watch::Reading),
            Socket::Unix(socket) => desk.poller.add(socket, token, Watch::Reading),
        };
        if let Err(error) = added {
            log::warn!("forward {:?}: {error}", listener.forward.listen);
        }
        self.open.insert(id, listener);
        id
    }

    pub(super) fn remove(&mut self, desk: &mut Desk, id: ForwardId) -> Option<Listener> {
        desk.gateway.forward_ended(id);
        self.open.remove(&id)
    }

    pub(super) fn list(&self) -> Vec<(ForwardId, Forward)> {
        self.open.iter().map(|(id, listener)| (*id, listener.forward.clone())).collect()
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, sockets: &mut Sockets, id: ForwardId) {
        let Some(listener) = self.open.get(&id) else { return };
        let (port, six) = (listener.forward.port, listener.forward.guest);
        let four = desk.gateway.config().guest.into();
        let guest = SocketAddr::new(six.map_or(four, IpAddr::from), port);
        for _ in 0..BUDGET {
            let accepted: io::Result<OwnedFd> = match &listener.socket {
                Socket::Tcp(socket) => socket.accept().map(|(stream, _)| stream.into()),
                Socket::Unix(socket) => socket.accept().map(|(stream, _)| stream.into()),
                Socket::Udp(socket) => {
                    self.buffer.resize(LONGEST, 0);
                    return hear(
                        &mut desk.gateway,
                        (socket, id, guest),
                        &mut self.buffer,
                        desk.now,
                    );
                }
            };
            match accepted {
                Ok(fd) => enter(desk, sockets, guest, (fd, None)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return log::warn!("forward to port {port}: {error}"),
            }
        }
    }

    /// Sends a datagram of the guest's back to a peer.
    pub(super) fn reply(&self, id: ForwardId, to: SocketAddr, payload: &[u8]) {
        if let Some(Listener { socket: Socket::Udp(socket), .. }) = self.open.get(&id) {
            socket.send_to(payload, to).ok();
        }
    }
}

/// A connection enters the guest; without room it is closed.
pub(super) fn enter(
    desk: &mut Desk,
    sockets: &mut Sockets,
    guest: SocketAddr,
    (fd, answers): (OwnedFd, Option<Answers>),
) {
    use rustix::fs::{OFlags, fcntl_setfl};
    if fcntl_setfl(&fd, OFlags::NONBLOCK).is_err() {
        return;
    }
    if let Some(id) = desk.gateway.stream_open(desk.now, guest) {
        sockets.adopt(desk, id, (fd, answers));
    }
}

fn hear(
    gateway: &mut Gateway,
    (socket, id, guest): (&UdpSocket, ForwardId, SocketAddr),
    buffer: &mut [u8],
    now: std::time::Duration,
) {
    for _ in 0..BUDGET {
        match socket.recv_from(buffer) {
            Ok((length, from)) => {
                let payload = buffer.get(..length).unwrap_or_default();
                gateway.forwarded(now, id, (from, guest), payload);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}
