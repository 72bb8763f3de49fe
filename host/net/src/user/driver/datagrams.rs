//! The host's ends of UDP flows: one socket for each.

use super::super::FlowId;
use super::poller::{Token, Watch};
use super::thread::Desk;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The longest datagram.
const LONGEST: usize = 65_535;

/// Datagrams that one socket is read in a turn.
const BUDGET: usize = 256;

/// All of them.
#[derive(Debug)]
pub(super) struct Datagrams {
    open: HashMap<FlowId, UdpSocket>,
    buffer: Vec<u8>,
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

impl Datagrams {
    pub(super) fn new() -> Datagrams {
        Datagrams { open: HashMap::new(), buffer: vec![0; LONGEST] }
    }

    /// Sends a datagram, or loses it: the host's buffers are full, or there is no way.
    pub(super) fn send(
        &mut self,
        desk: &mut Desk,
        flow: FlowId,
        (to, payload): (SocketAddr, &[u8]),
    ) {
        if let Entry::Vacant(vacant) = self.open.entry(flow) {
            let opened = bind(to).and_then(|socket| {
                desk.poller.add(&socket, Token::Flow(flow), Watch::Reading)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => _ = vacant.insert(socket),
                Err(error) => return log::debug!("{to}/udp: {error}"),
            }
        }
        if let Some(socket) = self.open.get(&flow)
            && let Err(error) = socket.send_to(payload, to)
        {
            log::debug!("{to}/udp: {error}");
        }
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, flow: FlowId) {
        let Some(socket) = self.open.get(&flow) else { return };
        for _ in 0..BUDGET {
            match socket.recv_from(&mut self.buffer) {
                Ok((length, from)) => {
                    let payload = self.buffer.get(..length).unwrap_or_default();
                    desk.gateway.datagram(desk.now, flow, from, payload);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn close(&mut self, flow: FlowId) {
        self.open.remove(&flow);
    }
}
