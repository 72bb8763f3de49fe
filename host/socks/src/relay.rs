//! Carrying bytes between two stream sockets until both directions have ended.
//!
//! ```text
//!   client ──► Flow (64 KiB) ──► target
//!   client ◄── Flow (64 KiB) ◄── target
//! ```
//! * The end of one direction is passed on as a half-close once its bytes are out (RFC 9293 §3.6).
//! * A reset, or any other error, on either side resets both: an aborted transfer must not look whole.
//! * A slow receiver slows its sender, since a full flow is not read into.

use crate::wait::{Interest, Stop, wait};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const BUFFER: usize = 64 * 1024;

/// Bytes on their way from one socket to the other.
struct Flow<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The sender has ended.
    ended: bool,
    /// The receiver has been told.
    passed_on: bool,
}

impl<'a> Flow<'a> {
    fn new(from: &'a OwnedFd, to: &'a OwnedFd, first: Vec<u8>) -> Flow<'a> {
        let end = first.len();
        let mut buffer = first;
        buffer.resize(BUFFER.max(end), 0);
        Flow { from, to, buffer, start: 0, end, ended: false, passed_on: false }
    }

    /// A flow is filled when it is empty and emptied before it is filled again.
    fn interest(&self) -> Option<Interest<'a>> {
        if self.start < self.end {
            Some((self.to.as_fd(), PollFlags::OUT))
        } else if !self.ended {
            Some((self.from.as_fd(), PollFlags::IN))
        } else {
            None
        }
    }

    fn fill(&mut self) -> Result<(), Errno> {
        match recv(self.from, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.ended = true,
            Ok((count, _)) => (self.start, self.end) = (0, count),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn empty(&mut self) -> Result<(), Errno> {
        let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
        match send(self.to, waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => self.start += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Moves what can be moved now.
    fn advance(&mut self) -> Result<(), Errno> {
        if self.start == self.end && !self.ended {
            self.fill()?;
        }
        if self.start < self.end {
            self.empty()?;
        }
        if self.start == self.end && self.ended && !self.passed_on {
            self.passed_on = true;
            match shutdown(self.to, Shutdown::Write) {
                // The other side has left altogether; its own direction tells how.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Carries bytes both ways; `first` goes to the target before anything else.
///
/// # Errors
/// A side was reset, or the listener stopped; both sockets are then reset when they are dropped.
pub(crate) fn relay(
    client: &OwnedFd,
    target: &OwnedFd,
    first: Vec<u8>,
    stop: &Stop,
) -> io::Result<()> {
    for socket in [client, target] {
        sockopt::set_socket_keepalive(socket, true).ok();
    }
    let mut up = Flow::new(client, target, first);
    let mut down = Flow::new(target, client, Vec::new());
    let outcome = carry(&mut up, &mut down, stop);
    if outcome.is_err() {
        for socket in [client, target] {
            sockopt::set_socket_linger(socket, Some(Duration::ZERO)).ok();
        }
    }
    outcome
}

fn carry(up: &mut Flow<'_>, down: &mut Flow<'_>, stop: &Stop) -> io::Result<()> {
    loop {
        up.advance()?;
        down.advance()?;
        let interests: Vec<Interest<'_>> =
            [up.interest(), down.interest()].into_iter().flatten().collect();
        if interests.is_empty() {
            return Ok(());
        }
        wait(&interests, stop, None)?;
    }
}
