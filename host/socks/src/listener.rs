//! The server: a listening socket, and a thread for each client.
//!
//! ```text
//!   listen thread ── accept ──► session thread: hand-shake (10 s) ── answer ──► relay | association
//!        └── at most `sessions` at a time; more wait in the kernel's queue
//! ```
//! # Why threads
//! A session is a straight story with waits in it, and resolving a name blocks. A thread costs its stack
//! (128 KiB of address space, a few pages of memory); ten thousand flows of a guest do not come this way.
//!
//! # End
//! [`ListenerHandle::stop`], or dropping it, sets one signal that every wait watches, and waits for the
//! threads. A session that is just connecting ends at its time-out.
//!
//! # Locks
//! `Gate::running` only: held to count.

use crate::association::Association;
use crate::outbound::{Outbound, reply_for};
use crate::relay::relay;
use crate::server::{Access, Command, Refusal, Request, ServerSession, ServerStep};
use crate::spec::Reply;
use crate::wait::{Stop, wait};
use rustix::event::PollFlags;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How a client has to be, and how many there may be.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Who may use the server.
    pub access: Access,
    /// How long a client may take for its hand-shake.
    pub handshake: Duration,
    /// Sessions at a time.
    pub sessions: usize,
}

impl ListenerConfig {
    /// Ten seconds and 4096 sessions.
    #[must_use]
    pub fn new(access: Access) -> ListenerConfig {
        ListenerConfig { access, handshake: Duration::from_secs(10), sessions: 4096 }
    }
}

/// Why a session ended badly.
#[derive(Debug, Error)]
enum SessionError {
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it left during the hand-shake")]
    Left,
}

/// Counts the sessions.
#[derive(Debug, Default)]
struct Gate {
    running: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    fn running(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_below(&self, limit: usize) {
        let running = self.running();
        let guard = self.changed.wait_while(running, |running| *running >= limit);
        drop(guard.unwrap_or_else(PoisonError::into_inner));
    }
}

/// One session's place; gives it back when dropped.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Place {
        *shared.gate.running() += 1;
        Place(Arc::clone(shared))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.gate.running() -= 1;
        self.0.gate.changed.notify_all();
    }
}

struct Shared {
    config: ListenerConfig,
    outbound: Box<dyn Outbound>,
    gate: Gate,
    stop: Stop,
}

/// A running server; it stops when this is dropped.
pub struct ListenerHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for ListenerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListenerHandle({})", self.address)
    }
}

/// Starts a server on a socket that listens.
///
/// # Errors
/// A descriptor or a thread could not be made.
pub fn listen(
    socket: TcpListener,
    config: ListenerConfig,
    outbound: Box<dyn Outbound>,
) -> io::Result<ListenerHandle> {
    let address = socket.local_addr()?;
    socket.set_nonblocking(true)?;
    let shared = Arc::new(Shared { config, outbound, gate: Gate::default(), stop: Stop::new()? });
    let for_thread = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name("socks".to_owned())
        .spawn(move || accept_all(&socket, &for_thread))?;
    Ok(ListenerHandle { address, shared, thread: Some(thread) })
}

impl ListenerHandle {
    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many sessions run now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        *self.shared.gate.running()
    }

    /// Waits until the listening socket fails, which it does not of itself.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }

    /// Ends every session and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        self.shared.stop.set();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        self.shared.gate.wait_below(1);
    }
}

/// How long to leave the kernel alone when it has no descriptor or thread for a client.
const BREATH: Duration = Duration::from_millis(100);

fn accept_all(socket: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.is_set() {
        match socket.accept() {
            Ok((client, peer)) => {
                start_session(client, peer, shared);
                shared.gate.wait_below(shared.config.sessions.max(1));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&[(socket.as_fd(), PollFlags::IN)], &shared.stop, None).ok();
            }
            Err(error) => {
                log::warn!("socks: accept: {error}");
                wait(&[], &shared.stop, Some(Instant::now() + BREATH)).ok();
            }
        }
    }
}

fn start_session(client: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    let place = Place::take(shared);
    let started = thread::Builder::new()
        .name("socks session".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || match serve(client, &place.0) {
            Ok(()) => log::debug!("socks: {peer}: ended"),
            Err(error) => log::info!("socks: {peer}: {error}"),
        });
    if let Err(error) = started {
        log::warn!("socks: {peer}: no thread: {error}");
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> Result<(), SessionError> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    client.set_write_timeout(Some(shared.config.handshake))?;
    let mut session = ServerSession::new(shared.config.access.clone());
    let request = match negotiate(&mut client, &mut session, shared) {
        Ok(request) => request,
        Err(SessionError::Refused(refusal)) => {
            part(&mut client, &mut session, shared)?;
            return Err(refusal.into());
        }
        Err(error) => return Err(error),
    };
    match request.command {
        Command::Connect => connect(client, session, &request, shared),
        Command::UdpAssociate => associate(client, session, shared),
    }
}

/// Reads until a whole request has come.
fn negotiate(
    client: &mut TcpStream,
    session: &mut ServerSession,
    shared: &Shared,
) -> Result<Request, SessionError> {
    let deadline = Instant::now() + shared.config.handshake;
    let mut buffer = [0; 2048];
    loop {
        wait(&[(client.as_fd(), PollFlags::IN)], &shared.stop, Some(deadline))?;
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Err(SessionError::Left);
        }
        match session.receive(buffer.get(..count).unwrap_or_default()) {
            ServerStep::More => client.write_all(&session.take_output())?,
            ServerStep::Ask(request) => {
                client.write_all(&session.take_output())?;
                return Ok(request);
            }
            ServerStep::Close(refusal) => return Err(refusal.into()),
        }
    }
}

/// How long, and how much, a client is listened to after the last word: closing with bytes unread would
/// reset the connection, and the reset could overtake that word.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_READS: usize = 32;

fn part(
    client: &mut TcpStream,
    session: &mut ServerSession,
    shared: &Shared,
) -> Result<(), SessionError> {
    client.write_all(&session.take_output())?;
    client.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + PARTING;
    let mut buffer = [0; 2048];
    for _ in 0..PARTING_READS {
        let ready = wait(&[(client.as_fd(), PollFlags::IN)], &shared.stop, Some(deadline));
        if ready.is_err() || client.read(&mut buffer)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Tells the client of a failure and closes.
fn fail(
    mut client: TcpStream,
    mut session: ServerSession,
    reply: Reply,
    shared: &Shared,
) -> Result<(), SessionError> {
    session.answer(Err(reply));
    part(&mut client, &mut session, shared)?;
    Err(Refusal::Request(reply).into())
}

fn connect(
    mut client: TcpStream,
    mut session: ServerSession,
    request: &Request,
    shared: &Shared,
) -> Result<(), SessionError> {
    let connection = match shared.outbound.connect(&request.target) {
        Ok(connection) => connection,
        Err(reply) => return fail(client, session, reply, shared),
    };
    session.answer(Ok(connection.bound));
    client.write_all(&session.take_output())?;
    let client = OwnedFd::from(client);
    Ok(relay(&client, &connection.socket, session.take_payload(), &shared.stop)?)
}

fn associate(
    mut client: TcpStream,
    mut session: ServerSession,
    shared: &Shared,
) -> Result<(), SessionError> {
    let opened = shared.outbound.associate().and_then(|outbound| {
        let opened = Association::open(&client, outbound);
        let association = opened.map_err(|error| reply_for(&error))?;
        let address = association.address().map_err(|error| reply_for(&error))?;
        Ok((association, address))
    });
    let (mut association, address) = match opened {
        Ok(opened) => opened,
        Err(reply) => return fail(client, session, reply, shared),
    };
    session.answer(Ok(address));
    client.write_all(&session.take_output())?;
    Ok(association.run(&mut client, &shared.stop)?)
}
