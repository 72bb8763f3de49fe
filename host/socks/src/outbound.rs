//! Where a server's connections leave: the contract, and the host's own network as one of its kinds.
//!
//! | kind | a connection is | names are resolved by |
//! |---|---|---|
//! | [`HostOutbound`] | a TCP connection of this process | the host |
//! | [`crate::Proxy`] | a request to another SOCKS server, and nothing else when that one fails | that server |
//!
//! # Life
//! 1. A session's thread calls [`Outbound::connect`] or [`Outbound::associate`]; both may block, up to
//!    their own deadline.
//! 2. A failure is the [`Reply`] that the client gets: it is what SOCKS can say.
//! 3. The socket of a [`Connection`] is any stream socket (the kind does not matter to the relay), and
//!    belongs to the session from then on.

use crate::spec::Reply;
use crate::target::{Host, Target};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A connection to a target.
#[derive(Debug)]
pub struct Connection {
    /// A connected stream socket.
    pub socket: OwnedFd,
    /// Its address on our side: BND.ADDR and BND.PORT.
    pub bound: SocketAddr,
}

/// Makes connections for a server.
pub trait Outbound: Send + Sync {
    /// Connects to a target.
    ///
    /// # Errors
    /// The reply for the client.
    fn connect(&self, target: &Target) -> Result<Connection, Reply>;

    /// Opens a way for datagrams.
    ///
    /// # Errors
    /// The reply for the client.
    fn associate(&self) -> Result<Box<dyn Datagrams>, Reply>;
}

/// Datagrams to and from any number of targets.
pub trait Datagrams: Send {
    /// Sends one, or drops it: datagrams carry no promise.
    fn send(&mut self, target: &Target, payload: &[u8]);

    /// One that has come in, without waiting: its sender and its length in `buffer`.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<(Target, usize)>;

    /// What to poll for reading; asked anew before each wait.
    fn sources(&self) -> Vec<BorrowedFd<'_>>;

    /// Whether the way is gone, so that the client's association must end.
    fn ended(&mut self) -> bool {
        false
    }
}

/// The reply that tells a client of an I/O error.
#[must_use]
pub fn reply_for(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reply::CONNECTION_REFUSED,
        io::ErrorKind::NetworkUnreachable => Reply::NETWORK_UNREACHABLE,
        io::ErrorKind::HostUnreachable => Reply::HOST_UNREACHABLE,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Reply::TTL_EXPIRED,
        io::ErrorKind::PermissionDenied => Reply::NOT_ALLOWED,
        _ => Reply::GENERAL_FAILURE,
    }
}

/// The addresses of a host, as this machine resolves names.
fn addresses(target: &Target) -> Result<Vec<SocketAddr>, Reply> {
    let found = match &target.host {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
        Host::Name(name) => (name.as_str(), target.port).to_socket_addrs(),
    };
    match found.map(Iterator::collect::<Vec<_>>) {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Reply::HOST_UNREACHABLE),
    }
}

/// This host's own network.
#[derive(Clone, Copy, Debug)]
pub struct HostOutbound {
    timeout: Duration,
}

impl HostOutbound {
    /// Connections that must stand within `timeout`, however many addresses a name has.
    #[must_use]
    pub fn new(timeout: Duration) -> HostOutbound {
        HostOutbound { timeout }
    }
}

impl Outbound for HostOutbound {
    fn connect(&self, target: &Target) -> Result<Connection, Reply> {
        let stream = dial(target, Instant::now() + self.timeout)?;
        let bound = stream.local_addr().map_err(|error| reply_for(&error))?;
        Ok(Connection { socket: stream.into(), bound })
    }

    fn associate(&self) -> Result<Box<dyn Datagrams>, Reply> {
        Ok(Box::new(HostDatagrams::default()))
    }
}

/// Connects to the first address of a target that accepts.
pub(crate) fn dial(target: &Target, deadline: Instant) -> Result<TcpStream, Reply> {
    let mut last = Reply::HOST_UNREACHABLE;
    for address in addresses(target)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Reply::TTL_EXPIRED);
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = reply_for(&error),
        }
    }
    Err(last)
}

/// How many remote hosts an association hears, and how many names it remembers: the oldest go first.
const REMEMBERED: usize = 1024;

/// Datagrams by this host's own sockets, one for each address family.
///
/// What comes from a host that the client never sent to is dropped (RFC 4787 §5, address-dependent
/// filtering): an association is no open door. A name is resolved once for each association.
#[derive(Debug, Default)]
struct HostDatagrams {
    four: Option<UdpSocket>,
    six: Option<UdpSocket>,
    heard: VecDeque<IpAddr>,
    names: VecDeque<(Target, SocketAddr)>,
}

impl HostDatagrams {
    fn resolve(&mut self, target: &Target) -> Option<SocketAddr> {
        if let Some(address) = target.socket_address() {
            return Some(address);
        }
        if let Some((_, address)) = self.names.iter().find(|(known, _)| known == target) {
            return Some(*address);
        }
        let address = *addresses(target).ok()?.first()?;
        remember(&mut self.names, (target.clone(), address));
        Some(address)
    }

    fn socket(&mut self, ip: IpAddr) -> Option<&UdpSocket> {
        let (slot, any) = match ip {
            IpAddr::V4(_) => (&mut self.four, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            IpAddr::V6(_) => (&mut self.six, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
        };
        if slot.is_none() {
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.set_nonblocking(true).ok()?;
            *slot = Some(socket);
        }
        slot.as_ref()
    }
}

fn remember<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == REMEMBERED {
        queue.pop_front();
    }
    queue.push_back(item);
}

impl Datagrams for HostDatagrams {
    fn send(&mut self, target: &Target, payload: &[u8]) {
        let Some(address) = self.resolve(target) else { return };
        let ip = address.ip().to_canonical();
        if !self.heard.contains(&ip) {
            remember(&mut self.heard, ip);
        }
        if let Some(socket) = self.socket(ip) {
            // A full buffer or an unreachable host loses the datagram, as the network would.
            socket.send_to(payload, address).ok();
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<(Target, usize)> {
        for socket in [&self.four, &self.six].into_iter().flatten() {
            loop {
                match socket.recv_from(buffer) {
                    Ok((length, from)) if self.heard.contains(&from.ip().to_canonical()) => {
                        return Some((from.into(), length));
                    }
                    // A stranger's datagram, or the error that an earlier one of ours came back with.
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
        None
    }

    fn sources(&self) -> Vec<BorrowedFd<'_>> {
        [&self.four, &self.six].into_iter().flatten().map(AsFd::as_fd).collect()
    }
}
