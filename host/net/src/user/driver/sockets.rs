//! The host's ends of streams.
//!
//! Each socket is watched for changes: what it is ready for is remembered, and it is read and written
//! until it would block, within a budget for each turn.

use super::super::{Failure, StreamId};
use super::egress::{self, Egress};
use super::poller::{Ready, Token, Watch};
use super::thread::Desk;
use kezhan_socks::{ClientSession, Command};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType,
    sockopt,
};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that one read asks for, and from how many on the buffer itself is handed over.
const READ: usize = 128 * 1024;
const LARGE: usize = READ / 4;

/// Bytes that one socket is read in a turn.
const BUDGET: usize = 1024 * 1024;

/// How long the host's connection, and a proxy's hand-shake, may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Stage {
    Connecting,
    /// Connected to the proxy, not to the target.
    Handshaking,
    /// The guest has not accepted yet; what its answer is told by.
    Calling(Answers),
    Open,
}

/// What is written to a connection into the guest before anything of the guest's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Once the guest has accepted.
    pub accepted: Vec<u8>,
    /// When it does not; then the connection is closed.
    pub refused: Vec<u8>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    stage: Stage,
    /// With the proxy; none when there is none.
    handshake: Option<Box<ClientSession>>,
    /// The target has sent something.
    heard: bool,
    /// The guest has sent its end.
    shut: bool,
    readable: bool,
    writable: bool,
    /// The peer's end is in sight: read until it is reached.
    ending: bool,
    ended: bool,
    queued: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: HashMap<StreamId, Socket>,
    /// Those that had more than their share.
    again: VecDeque<StreamId>,
    buffer: Vec<u8>,
    egress: Option<Arc<Egress>>,
    /// Those that were begun, the oldest first.
    begun: VecDeque<(Duration, StreamId)>,
}

/// What the guest is told of an error.
pub(super) fn failure(error: Errno) -> Failure {
    match error {
        Errno::NETUNREACH | Errno::NETDOWN => Failure::NetworkUnreachable,
        Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::TIMEDOUT => Failure::HostUnreachable,
        _ => Failure::Refused,
    }
}

/// Begins to connect.
pub(super) fn dial(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    prepare(&fd)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}

/// The guest's own stack decides when to send, and an idle connection is asked after by the host's.
fn prepare(fd: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)
}

impl Sockets {
    pub(super) fn new(egress: Option<Arc<Egress>>) -> Sockets {
        Sockets { egress, ..Sockets::default() }
    }

    pub(super) fn connect(&mut self, desk: &mut Desk, id: StreamId, to: SocketAddr) {
        let begun = self
            .begin(desk, to)
            .and_then(|(fd, handshake)| self.watch(desk, id, fd, (Stage::Connecting, handshake)));
        self.begun.push_back((desk.now, id));
        if let Err(error) = begun {
            log::debug!("{to}: {error}");
            desk.gateway.stream_failed(desk.now, id, failure(error));
        }
    }

    /// Begins to connect to a target, or to the proxy in its place and nowhere else.
    fn begin(
        &self,
        desk: &Desk,
        to: SocketAddr,
    ) -> Result<(OwnedFd, Option<Box<ClientSession>>), Errno> {
        let Some(egress) = &self.egress else { return Ok((dial(to)?, None)) };
        let target = egress.target(&desk.gateway, to).ok_or(Errno::CONNREFUSED)?;
        let session = egress.session(Command::Connect, target);
        Ok((dial(egress.server())?, Some(Box::new(session))))
    }

    /// Takes a connection that was accepted for a stream. With `answers` nothing is read from it before the
    /// guest has answered.
    pub(super) fn adopt(
        &mut self,
        desk: &mut Desk,
        id: StreamId,
        (fd, answers): (OwnedFd, Option<Answers>),
    ) {
        // A Unix socket has no such options.
        prepare(&fd).ok();
        let stage = answers.map_or(Stage::Open, Stage::Calling);
        if let Err(error) = self.watch(desk, id, fd, (stage, None)) {
            desk.gateway.stream_failed(desk.now, id, failure(error));
        }
    }

    /// The guest has room, for the first time when it has accepted.
    pub(super) fn room(&mut self, desk: &mut Desk, id: StreamId) {
        let Some(socket) = self.open.get_mut(&id) else { return };
        if let Stage::Calling(answers) = &socket.stage {
            // A few bytes into an empty socket.
            let said = rustix::net::send(&socket.fd, &answers.accepted, SendFlags::NOSIGNAL);
            if let Err(error) = said {
                return self.fail(desk, id, error);
            }
            socket.stage = Stage::Open;
            self.write(desk, id);
        }
        self.read(desk, id);
    }

    fn watch(
        &mut self,
        desk: &Desk,
        id: StreamId,
        fd: OwnedFd,
        (stage, handshake): (Stage, Option<Box<ClientSession>>),
    ) -> Result<(), Errno> {
        let added = desk.poller.add(&fd, Token::Stream(id), Watch::Changes);
        added.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let socket = Socket {
            fd,
            writable: matches!(stage, Stage::Open | Stage::Calling(_)),
            stage,
            handshake,
            heard: false,
            shut: false,
            readable: false,
            ending: false,
            ended: false,
            queued: false,
        };
        self.open.insert(id, socket);
        Ok(())
    }

    pub(super) fn ready(&mut self, desk: &mut Desk, id: StreamId, ready: Ready) {
        let Some(socket) = self.open.get_mut(&id) else { return };
        socket.readable |= ready.read;
        socket.writable |= ready.write;
        socket.ending |= ready.ended;
        match advance(desk, id, socket) {
            Ok(()) => {}
            Err(failure) => return self.end(desk, id, failure),
        }
        if ready.write {
            self.write(desk, id);
        }
        if ready.read {
            self.read(desk, id);
        }
    }

    /// Gives up what takes too long to connect; when to come again.
    pub(super) fn expire(&mut self, desk: &mut Desk) -> Option<Duration> {
        while let Some((since, id)) = self.begun.front().copied() {
            let pending =
                self.open.get(&id).is_some_and(|socket| !matches!(socket.stage, Stage::Open));
            if pending && desk.now < since + PATIENCE {
                return Some(since + PATIENCE);
            }
            self.begun.pop_front();
            if pending {
                self.end(desk, id, Failure::HostUnreachable);
            }
        }
        None
    }

    fn end(&mut self, desk: &mut Desk, id: StreamId, failure: Failure) {
        self.open.remove(&id);
        desk.gateway.stream_failed(desk.now, id, failure);
    }

    fn fail(&mut self, desk: &mut Desk, id: StreamId, error: Errno) {
        self.end(desk, id, failure(error));
    }

    /// Writes what the guest sent.
    pub(super) fn write(&mut self, desk: &mut Desk, id: StreamId) {
        let Some(socket) = self.open.get_mut(&id) else { return };
        while socket.writable && matches!(socket.stage, Stage::Open) {
            let slices = desk.gateway.stream_output(id);
            if slices.is_empty() {
                return;
            }
            let mut control = SendAncillaryBuffer::default();
            let sent = rustix::net::sendmsg(&socket.fd, &slices, &mut control, SendFlags::NOSIGNAL);
            drop(slices);
            match sent {
                Ok(count) => desk.gateway.stream_written(desk.now, id, count),
                Err(Errno::AGAIN) => socket.writable = false,
                Err(Errno::INTR) => {}
                Err(error) => return self.fail(desk, id, error),
            }
        }
    }

    /// Reads what the guest has room for.
    pub(super) fn read(&mut self, desk: &mut Desk, id: StreamId) {
        let Some(socket) = self.open.get_mut(&id) else { return };
        let mut left = BUDGET;
        while socket.readable && !socket.ended && matches!(socket.stage, Stage::Open) {
            let room = desk.gateway.stream_room(id).min(READ);
            if room == 0 {
                return;
            }
            if left == 0 {
                if !std::mem::replace(&mut socket.queued, true) {
                    self.again.push_back(id);
                }
                return;
            }
            self.buffer.clear();
            self.buffer.reserve_exact(READ);
            let wanted = room.min(self.buffer.capacity());
            let read = read_into(&socket.fd, &mut self.buffer, wanted);
            match read {
                // Some proxies grant what they have not connected yet, and close when they cannot.
                Ok(0) if socket.handshake.is_some() && !socket.heard && !socket.shut => {
                    return self.end(desk, id, Failure::Refused);
                }
                Ok(0) => {
                    socket.ended = true;
                    desk.gateway.stream_end(desk.now, id);
                }
                Ok(count) => {
                    socket.heard = true;
                    // A short read has emptied the socket (epoll(7)), unless its end follows.
                    socket.readable = count == wanted || socket.ending;
                    left = left.saturating_sub(count);
                    let bytes = match count >= LARGE {
                        true => std::mem::take(&mut self.buffer),
                        false => self.buffer.as_slice().to_vec(),
                    };
                    desk.gateway.stream_data(desk.now, id, bytes);
                }
                Err(Errno::AGAIN) => socket.readable = false,
                Err(Errno::INTR) => {}
                Err(error) => return self.fail(desk, id, error),
            }
        }
    }

    /// Those that had more than their share get another.
    pub(super) fn go_on(&mut self, desk: &mut Desk) {
        for _ in 0..self.again.len() {
            let Some(id) = self.again.pop_front() else { return };
            if let Some(socket) = self.open.get_mut(&id) {
                socket.queued = false;
                self.read(desk, id);
            }
        }
    }

    pub(super) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    pub(super) fn shut(&mut self, id: StreamId) {
        if let Some(socket) = self.open.get_mut(&id) {
            socket.shut = true;
            rustix::net::shutdown(&socket.fd, Shutdown::Write).ok();
        }
    }

    pub(super) fn close(&mut self, id: StreamId, reset: bool) {
        let Some(socket) = self.open.remove(&id) else { return };
        if let Stage::Calling(answers) = &socket.stage {
            rustix::net::send(&socket.fd, &answers.refused, SendFlags::NOSIGNAL).ok();
        } else if reset {
            // Closing without waiting resets the connection (socket(7), SO_LINGER).
            sockopt::set_socket_linger(&socket.fd, Some(Duration::ZERO)).ok();
        }
    }
}

/// A socket on its way to its target.
fn advance(desk: &mut Desk, id: StreamId, socket: &mut Socket) -> Result<(), Failure> {
    if matches!(socket.stage, Stage::Connecting) {
        if !socket.writable {
            return Ok(());
        }
        sockopt::socket_error(&socket.fd).and_then(|error| error).map_err(failure)?;
        match &mut socket.handshake {
            None => {
                socket.stage = Stage::Open;
                desk.gateway.stream_connected(desk.now, id);
            }
            Some(session) => {
                socket.stage = Stage::Handshaking;
                egress::say(&socket.fd, session)?;
            }
        }
    }
    if matches!(socket.stage, Stage::Handshaking)
        && let Some(session) = &mut socket.handshake
        && egress::listen(&socket.fd, session)?.is_some()
    {
        let payload = session.take_payload();
        socket.heard = !payload.is_empty();
        socket.stage = Stage::Open;
        desk.gateway.stream_connected(desk.now, id);
        desk.gateway.stream_data(desk.now, id, payload);
    }
    Ok(())
}

/// Reads at most `wanted` bytes into the empty buffer's spare room.
fn read_into(fd: &OwnedFd, buffer: &mut Vec<u8>, wanted: usize) -> Result<usize, Errno> {
    if wanted >= buffer.capacity() {
        let (count, _) = rustix::net::recv(fd, spare_capacity(buffer), RecvFlags::empty())?;
        return Ok(count);
    }
    buffer.resize(wanted, 0);
    let (count, _) = rustix::net::recv(fd, buffer.as_mut_slice(), RecvFlags::empty())?;
    buffer.truncate(count);
    Ok(count)
}
