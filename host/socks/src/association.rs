//! A client's relay for datagrams (RFC 1928 §7), from the reply until its TCP connection ends.
//!
//! ```text
//!   client ──header, data──► socket on the address that the client reached ──data──► Datagrams ──► target
//!   client ◄─header, data─── same socket ◄──────────────data──────────────────────── Datagrams ◄── target
//!   client ═══ TCP connection: says nothing, and its end is the association's end
//! ```
//! Only the host of the TCP connection is listened to, and of it only the port that sends first. The
//! address in the request is not looked at: the RFC lets a server limit access by it, but clients in the
//! field put their target there (V2Ray 4 does).

use crate::datagram::{MAX_HEADER, read_datagram, write_datagram};
use crate::outbound::Datagrams;
use crate::wait::{Interest, Stop, wait};
use rustix::event::PollFlags;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

/// The most bytes of a UDP datagram.
const LARGEST: usize = 65_535;

/// How many datagrams one direction may move before the other is looked at.
const BATCH: usize = 64;

/// The relay's end towards the client.
pub(crate) struct Association {
    socket: UdpSocket,
    client: IpAddr,
    port: Option<u16>,
    outbound: Box<dyn Datagrams>,
    buffer: Vec<u8>,
    message: Vec<u8>,
}

impl Association {
    /// Opens the socket that the client sends to.
    pub(crate) fn open(
        control: &TcpStream,
        outbound: Box<dyn Datagrams>,
    ) -> io::Result<Association> {
        let socket = UdpSocket::bind((control.local_addr()?.ip(), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Association {
            socket,
            client: control.peer_addr()?.ip(),
            port: None,
            outbound,
            buffer: vec![0; LARGEST],
            message: Vec::with_capacity(LARGEST + MAX_HEADER),
        })
    }

    /// Where the client sends to.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Relays until the TCP connection ends or the listener stops.
    pub(crate) fn run(&mut self, control: &mut TcpStream, stop: &Stop) -> io::Result<()> {
        loop {
            let ready = {
                let mut interests: Vec<Interest<'_>> =
                    vec![(control.as_fd(), PollFlags::IN), (self.socket.as_fd(), PollFlags::IN)];
                interests.extend(self.outbound.sources().into_iter().map(|fd| (fd, PollFlags::IN)));
                wait(&interests, stop, None)?
            };
            if ready.first().is_some_and(|ready| !ready.is_empty()) && ended(control)? {
                return Ok(());
            }
            self.take_from_client();
            self.give_to_client();
            if self.outbound.ended() {
                return Ok(());
            }
        }
    }

    fn take_from_client(&mut self) {
        for _ in 0..BATCH {
            let Ok((length, from)) = self.socket.recv_from(&mut self.buffer) else { return };
            if from.ip() != self.client || *self.port.get_or_insert(from.port()) != from.port() {
                log::debug!("datagram from {from} dropped: the association is {}'s", self.client);
                continue;
            }
            match read_datagram(self.buffer.get(..length).unwrap_or_default()) {
                Ok((target, payload)) => self.outbound.send(&target, payload),
                Err(error) => log::debug!("datagram of {from} dropped: {error}"),
            }
        }
    }

    fn give_to_client(&mut self) {
        for _ in 0..BATCH {
            let Some((from, length)) = self.outbound.receive(&mut self.buffer) else { return };
            let Some(port) = self.port else { continue };
            self.message.clear();
            let payload = self.buffer.get(..length).unwrap_or_default();
            write_datagram(&from, payload, &mut self.message);
            // Too long with its header, or the client is gone: lost.
            self.socket.send_to(&self.message, (self.client, port)).ok();
        }
    }
}

/// Whether the client has ended; what it sends instead means nothing.
fn ended(control: &mut TcpStream) -> io::Result<bool> {
    let mut nothing = [0; 256];
    control.read(&mut nothing).map(|count| count == 0)
}
