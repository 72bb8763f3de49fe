//! What the host's network says of datagrams that it could not deliver (ip(7), IP_RECVERR): which they were, and
//! why. Without being asked, a socket that is not connected tells nothing.

use super::super::Failure;
use super::many;
use super::sockets::failure;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use rustix::io::Errno;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Bytes of the datagram that are of use: what an error quotes (RFC 792).
const QUOTED: usize = 64;

/// A datagram that was not delivered.
#[derive(Debug)]
pub(super) struct Lost {
    /// Where it went.
    pub(super) to: SocketAddr,
    /// Its beginning.
    pub(super) payload: Vec<u8>,
    /// Why.
    pub(super) why: Failure,
}

/// Has the host keep its errors. A host that does not leaves the guest to its own patience.
pub(super) fn ask(socket: &UdpSocket) {
    let asked = match socket.local_addr() {
        Ok(SocketAddr::V4(_)) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        _ => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
    if let Err(error) = asked {
        log::debug!("errors of datagrams stay unknown: {error}");
    }
}

/// The next one; `None` when there is none.
pub(super) fn next(socket: &UdpSocket) -> Option<Lost> {
    let mut payload = [0; QUOTED];
    let mut pieces = [IoSliceMut::new(&mut payload)];
    let mut room = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut room), flags).ok()?;
    let to = message.address.and_then(many::address)?;
    let errors = message.cmsgs().ok()?.filter_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            Some(Errno::from_raw_os_error(error.ee_errno as i32))
        }
        _ => None,
    });
    let why = errors.last().map_or(Failure::HostUnreachable, failure);
    let length = message.bytes.min(QUOTED);
    Some(Lost { to, payload: payload.get(..length).unwrap_or_default().to_vec(), why })
}
