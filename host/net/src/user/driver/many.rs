//! Many datagrams by one system call: a guest's and its peers' come in runs.
//!
//! ```text
//!   socket ── recvmmsg(2) ──► room: one place for each          run of equal sizes ── UDP_SEGMENT (udp(7)) ──► socket
//! ```
//! A run is one walk through the host's stack instead of one for each datagram, and is cut as late as the host can.
//! It is short, since a receiver on this host has room for less than a hundred datagrams.

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// The longest datagram.
pub(super) const LONGEST: usize = 65_535;

/// Datagrams that are received at a time.
const MANY: usize = 32;

/// Datagrams of a run, and their bytes.
const RUN: usize = 16;
const RUN_BYTES: usize = 60_000;

/// Room for what is received by one call.
pub(super) fn room() -> Vec<u8> {
    vec![0; MANY * LONGEST]
}

/// Receives what is there: senders and lengths, each datagram in its own part of the room. Less than a full room
/// is the last for now.
///
/// # Errors
/// That of a datagram sent earlier, or `EAGAIN`.
pub(super) fn receive(
    socket: &UdpSocket,
    room: &mut [u8],
) -> Result<Vec<(Option<SocketAddr>, usize)>, Errno> {
    let mut places: Vec<[IoSliceMut<'_>; 1]> =
        room.chunks_exact_mut(LONGEST).map(|place| [IoSliceMut::new(place)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(places.len(), None);
    let flags = MsgFlags::MSG_DONTWAIT;
    let messages = recvmmsg(socket.as_raw_fd(), &mut headers, &mut places, flags, None)?;
    Ok(messages.map(|message| (message.address.and_then(address), message.bytes)).collect())
}

/// The datagrams that [`receive`] put into the room.
pub(super) fn payloads<'a>(
    room: &'a [u8],
    received: &'a [(Option<SocketAddr>, usize)],
) -> impl Iterator<Item = (SocketAddr, &'a [u8])> {
    let each = room.chunks_exact(LONGEST).zip(received);
    each.filter_map(|(place, (from, length))| Some(((*from)?, place.get(..*length)?)))
}

/// Whether there may be more than was received.
pub(super) fn was_full(received: &[(Option<SocketAddr>, usize)]) -> bool {
    received.len() >= MANY
}

/// An address as the host's calls give it.
pub(super) fn address(storage: SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in().map(|four| SocketAddr::from((four.ip(), four.port())));
    four.or_else(|| storage.as_sockaddr_in6().map(|six| SocketAddr::from((six.ip(), six.port()))))
}

/// Datagrams to one target that can be sent as one.
#[derive(Debug)]
pub(super) struct Run {
    to: SocketAddr,
    payloads: Vec<Vec<u8>>,
    bytes: usize,
}

impl Run {
    pub(super) fn new(to: SocketAddr, payload: Vec<u8>) -> Run {
        Run { to, bytes: payload.len(), payloads: vec![payload] }
    }

    /// Takes one more, or gives it back: the target, the size or the run's length does not fit. The last one may be
    /// shorter, and then is the last.
    pub(super) fn take(&mut self, to: SocketAddr, payload: Vec<u8>) -> Result<(), Vec<u8>> {
        let size = self.payloads.first().map_or(0, Vec::len);
        let even = self.bytes == size * self.payloads.len();
        let fits = to == self.to
            && even
            && (1..=size).contains(&payload.len())
            && self.payloads.len() < RUN
            && self.bytes + payload.len() <= RUN_BYTES;
        if !fits {
            return Err(payload);
        }
        self.bytes += payload.len();
        self.payloads.push(payload);
        Ok(())
    }

    /// Sends it, as one where the host can cut it: not where the way is too narrow for one of them.
    pub(super) fn send(&self, socket: &UdpSocket) {
        if self.payloads.len() == 1 || self.send_as_one(socket).is_err() {
            for payload in &self.payloads {
                self.send_one(socket, payload);
            }
        }
    }

    fn send_one(&self, socket: &UdpSocket, payload: &[u8]) {
        // The error of an earlier one is told first, once.
        let sent = socket.send_to(payload, self.to).or_else(|_| socket.send_to(payload, self.to));
        if let Err(error) = sent {
            log::debug!("{}/udp: {error}", self.to);
        }
    }

    fn send_as_one(&self, socket: &UdpSocket) -> Result<(), Errno> {
        let size = self.payloads.first().map_or(0, Vec::len);
        let size = u16::try_from(size).map_err(|_too_long| Errno::EMSGSIZE)?;
        let slices: Vec<IoSlice<'_>> = self.payloads.iter().map(|one| IoSlice::new(one)).collect();
        let (to, cut) = (SockaddrStorage::from(self.to), [ControlMessage::UdpGsoSegments(&size)]);
        let send = || sendmsg(socket.as_raw_fd(), &slices, &cut, MsgFlags::MSG_DONTWAIT, Some(&to));
        match send() {
            // What there is no room for is lost, as one would be.
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(()),
            // That of an earlier one, perhaps.
            Err(Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => send().map(drop),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket, SocketAddr) {
        let (from, to) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let at = to.local_addr().unwrap();
        (from, to, at)
    }

    fn received(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut room = room();
        let received = receive(socket, &mut room).unwrap();
        payloads(&room, &received).map(|(_, payload)| payload.to_vec()).collect()
    }

    #[test]
    fn a_run_arrives_as_the_datagrams_that_it_was_made_of() {
        let (from, to, at) = pair();
        let all: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; if n == 4 { 7 } else { 1000 }]).collect();
        let mut run = Run::new(at, all[0].clone());
        for payload in &all[1..] {
            run.take(at, payload.clone()).unwrap();
        }
        assert!(run.take(at, vec![0; 7]).is_err(), "behind a shorter one");
        run.send(&from);
        assert_eq!(received(&to), all);
        assert_eq!(receive(&to, &mut room()), Err(Errno::EAGAIN));
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let at = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut run = Run::new(at, vec![0; 100]);
        assert!(run.take(SocketAddr::from(([127, 0, 0, 1], 10)), vec![0; 100]).is_err());
        assert!(run.take(at, vec![0; 101]).is_err(), "longer");
        assert!(run.take(at, Vec::new()).is_err(), "nothing cannot be cut off");
        let taken = (0..RUN).take_while(|_| run.take(at, vec![0; 100]).is_ok()).count();
        assert_eq!(taken, RUN - 1);
    }

    #[test]
    fn datagrams_that_the_way_cannot_cut_are_sent_one_by_one() {
        let (from, to, at) = pair();
        let mut run = Run::new(at, vec![1; 30_000]);
        run.take(at, vec![2; 30_000]).unwrap();
        run.send(&from);
        assert_eq!(received(&to).len(), 2);
    }
}
