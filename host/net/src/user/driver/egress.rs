//! The way out through a SOCKS proxy.
//!
//! Every connection is one to the proxy, whose hand-shake says where it goes: to a name when the guest's
//! address stands for one, otherwise to the address. Nothing is resolved here but the proxy's own name,
//! once, at the start; when the proxy is out of reach, so is everything.

use super::super::{Failure, Gateway};
use super::sockets::failure;
use kezhan_socks::{
    ClientSession, ClientStep, Command, HandshakeError, Host, Proxy, Reply, Request, Target,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

/// Bytes that are read at a time before the target speaks.
const READ: usize = 512;

/// A proxy with its address.
#[derive(Debug)]
pub(super) struct Egress {
    proxy: Proxy,
    server: SocketAddr,
}

impl Egress {
    /// Finds the proxy; the host resolves its name.
    pub(super) fn new(proxy: Proxy) -> io::Result<Egress> {
        let server = match (&proxy.server().host, proxy.server().port) {
            (Host::Ip(ip), port) => Some(SocketAddr::new(*ip, port)),
            (Host::Name(name), port) => (name.as_str(), port).to_socket_addrs()?.next(),
        };
        let server = server.ok_or(io::ErrorKind::NotFound)?;
        Ok(Egress { proxy, server })
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn session(&self, command: Command, target: Target) -> ClientSession {
        self.proxy.session(Request { command, target })
    }

    /// What the proxy is asked for; `None` when the address stands for nothing any more.
    pub(super) fn target(&self, gateway: &Gateway, to: SocketAddr) -> Option<Target> {
        match gateway.name_behind(to.ip()) {
            Some(name) => Some(Target { host: name.parse().ok()?, port: to.port() }),
            None => (!is_stand_in(to.ip())).then(|| to.into()),
        }
    }
}

/// Whether an address is of the network that stand-ins come from (RFC 2544 appendix C.2.2).
pub(super) fn is_stand_in(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 198 && ip.octets()[1] & 0xfe == 18)
}

/// Sends what the session has to say: less than a socket's buffer holds.
pub(super) fn say(fd: &OwnedFd, session: &mut ClientSession) -> Result<(), Failure> {
    let output = session.take_output();
    match rustix::net::send(fd, &output, SendFlags::NOSIGNAL) {
        Ok(count) if count == output.len() => Ok(()),
        Ok(_) => Err(Failure::Refused),
        Err(error) => Err(failure(error)),
    }
}

/// Hears the proxy; its address for us once the request is granted.
pub(super) fn listen(fd: &OwnedFd, session: &mut ClientSession) -> Result<Option<Target>, Failure> {
    let mut buffer = [0; READ];
    loop {
        let count = match rustix::net::recv(fd, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(Failure::Refused),
            Ok((_, count)) => count,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failure(error)),
        };
        match session.receive(buffer.get(..count).unwrap_or_default()) {
            ClientStep::More => say(fd, session)?,
            ClientStep::Open(bound) => return Ok(Some(bound)),
            ClientStep::Failed(error) => {
                log::debug!("proxy: {error}");
                return Err(refusal(error));
            }
        }
    }
}

/// What the guest is told.
fn refusal(error: HandshakeError) -> Failure {
    match error {
        HandshakeError::Refused(Reply::NETWORK_UNREACHABLE) => Failure::NetworkUnreachable,
        HandshakeError::Refused(Reply::HOST_UNREACHABLE | Reply::TTL_EXPIRED) => {
            Failure::HostUnreachable
        }
        _ => Failure::Refused,
    }
}
