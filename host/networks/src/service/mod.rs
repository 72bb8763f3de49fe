//! What answers the machines of a network: DHCP and names. A process for each network, `kezhan net serve NAME`,
//! started with the network and again by the next machine that joins, should it be gone.
//!
//! ```text
//!   machine ── DHCP (67, on the bridge) ──► Leases ─► address, router, name server
//!           ── DNS (53, the router's address) ──► Names ─┬─► machines' own names, from their leases
//!                                                        └─► the host's name servers, and back
//! ```
//! One thread that sleeps until one of its three sockets has something. Nothing is kept on disk: a machine's
//! address follows from its Ethernet address, and a machine that asks for what it had gets it.

mod dhcp;
mod dns;
mod process;

use crate::store::Record;
use crate::{NetworkError, Subnet};
use dhcp::Leases;
use dns::Names;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use process::{end, ensure, run};

/// Ports (RFC 2131 §4.1, RFC 1035 §4.2.1).
const DHCP_SERVER: u16 = 67;
const DNS: u16 = 53;
/// The longest message that is looked at.
const LONGEST: usize = 4096;
/// Messages that are taken from a socket before the next one is looked at.
const SHARE: usize = 64;

/// The service of a network.
pub(crate) struct Service {
    leases: Leases,
    names: Names,
    dhcp: UdpSocket,
    dns: UdpSocket,
    upstream: UdpSocket,
}

impl Service {
    /// Opens the sockets, in the network namespace of the thread.
    pub(crate) fn open(
        record: &Record,
        resolvers: Vec<SocketAddr>,
    ) -> Result<Service, NetworkError> {
        let what = |part| NetworkError::kernel(format!("network {}: {part}", record.name));
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DHCP_SERVER);
        let dhcp = || {
            let socket = UdpSocket::bind(any)?;
            setsockopt(&socket, sockopt::BindToDevice, &record.bridge.clone().into())?;
            socket.set_broadcast(true)?;
            prepared(socket)
        };
        let router = SocketAddrV4::new(record.subnet.address, DNS);
        Ok(Service {
            leases: Leases::new(record.subnet),
            names: Names::new(resolvers),
            dhcp: dhcp().map_err(what("DHCP"))?,
            dns: UdpSocket::bind(router).and_then(prepared).map_err(what("names"))?,
            upstream: UdpSocket::bind("[::]:0")
                .or_else(|_no_ipv6| UdpSocket::bind("0.0.0.0:0"))
                .and_then(prepared)
                .map_err(what("names"))?,
        })
    }

    /// Serves for ever; an error ends it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut message = [0; LONGEST];
        loop {
            let sockets = [&self.dhcp, &self.dns, &self.upstream];
            let mut sources =
                sockets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
            match poll(&mut sources, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.serve_dhcp(&mut message);
            self.serve_names(&mut message);
            self.take_answers(&mut message);
        }
    }

    fn serve_dhcp(&mut self, message: &mut [u8]) {
        for _ in 0..SHARE {
            let Ok((length, _from)) = self.dhcp.recv_from(message) else { return };
            let request = message.get(..length).unwrap_or_default();
            if let Some((reply, to)) = self.leases.reply(now(), request) {
                self.dhcp.send_to(&reply, to).ok();
            }
        }
    }

    fn serve_names(&mut self, message: &mut [u8]) {
        for _ in 0..SHARE {
            let Ok((length, from)) = self.dns.recv_from(message) else { return };
            let question = message.get(..length).unwrap_or_default();
            match self.names.ask(now(), question, from, &self.leases) {
                dns::Step::Answer(reply) => _ = self.dns.send_to(&reply, from),
                dns::Step::Forward(question, to) => {
                    self.upstream.send_to(&question, reachable(&self.upstream, to)).ok();
                }
                dns::Step::Nothing => {}
            }
        }
    }

    fn take_answers(&mut self, message: &mut [u8]) {
        for _ in 0..SHARE {
            let Ok((length, from)) = self.upstream.recv_from(message) else { return };
            let answer = message.get(..length).unwrap_or_default();
            if let Some((reply, to)) = self.names.answer(answer, from) {
                self.dns.send_to(&reply, to).ok();
            }
        }
    }
}

fn prepared(socket: UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An address as a socket of its own family takes it: IPv4 over an IPv6 socket (RFC 4291 §2.5.5.2).
fn reachable(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    match (socket.local_addr(), to) {
        (Ok(SocketAddr::V6(_)), SocketAddr::V4(four)) => {
            SocketAddr::new(four.ip().to_ipv6_mapped().into(), four.port())
        }
        _ => to,
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The host's name servers (resolv.conf(5)).
pub(crate) fn resolvers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        Some(SocketAddr::new(server.parse().ok()?, DNS))
    };
    text.lines().filter_map(address).take(3).collect()
}

/// Whether a station may have this address: in the network, and neither it, the router nor everybody.
fn is_station(subnet: Subnet, address: Ipv4Addr) -> bool {
    Subnet { address, ..subnet }.network() == subnet.network()
        && ![subnet.address, subnet.network(), subnet.broadcast()].contains(&address)
}

#[cfg(test)]
mod tests;
