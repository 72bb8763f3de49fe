//! A named network: the guests of several processes hear each other.
//!
//! ```text
//!   process 1: guest ── Gateway ── switch ──┬── process 2: Gateway ── guest
//!                                  (socket) └── process 3: Gateway ── guest
//! ```
//! Whoever holds the lock beside the socket file is the switch; the others connect to it. It gives each its
//! number, which is the last part of the guest's address, and tells all who is there, so that machines find
//! each other by name. When the switch ends, its lock falls and the next that notices takes its place;
//! everybody keeps its number.
//!
//! The way to the host stays each process's own: a gateway hears its own guest only. A frame that finds a
//! neighbour's queue full is lost, as on any network.
//!
//! Trust: the socket is in a folder of the user's; its processes believe each other's numbers and names,
//! and check frames all the same (a station speaks as itself, nobody as the router).

mod wire;

use super::super::GatewayConfig;
use super::poller::{Poller, Token, Watch};
use kezhan_ports::nic::Packet;
use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::Message;

/// Machines on one network, and the first number: a guest alone has it, too.
const MEMBERS: usize = 128;
const FIRST: u16 = 15;

/// How long joining may take, and between attempts.
const PATIENCE: Duration = Duration::from_secs(3);
const GAP: Duration = Duration::from_millis(10);

/// Bytes that wait in a socket: the host gives less when it is set up so (socket(7)).
const BUFFER: usize = 4 * 1024 * 1024;

/// Messages that are taken from one member in a turn.
const BUDGET: usize = 256;

/// The longest message.
const LONGEST: usize = wire::HEADER + kezhan_ports::nic::MAX_FRAME;

/// How a machine joins a named network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanConfig {
    /// The socket file that the network is known by, in a folder of the user's own; a lock file stands
    /// beside it.
    pub socket: PathBuf,
    /// The machine's name: one label of letters, digits and hyphens (RFC 1123 §2.1), or empty.
    pub name: String,
}

#[derive(Debug)]
struct Member {
    fd: OwnedFd,
    /// Once it has said hello.
    known: Option<(u16, [u8; 6], String)>,
}

#[derive(Debug)]
enum Role {
    /// Holds the lock.
    Switch {
        listener: OwnedFd,
        members: BTreeMap<u64, Member>,
        next: u64,
    },
    Member(OwnedFd),
}

/// A machine's place on a named network.
#[derive(Debug)]
pub(super) struct Lan {
    config: LanConfig,
    /// The file of the lock, open from the start: later no file can be opened (`jail`).
    lock: File,
    mac: [u8; 6],
    number: u16,
    role: Role,
    buffer: Vec<u8>,
    /// Who is there, as the switch told last.
    present: Vec<(u16, String)>,
    changed: bool,
}

/// The address of a number in a network.
pub(super) fn address(config: &GatewayConfig, number: u16) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(config.prefix.into()).unwrap_or(0);
    Ipv4Addr::from_bits(config.gateway.to_bits() & !hosts | u32::from(number) & hosts)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    sockopt::set_socket_send_buffer_size(&fd, BUFFER).ok();
    Ok(fd)
}

/// Removes the sockets of networks whose switch was killed, in a folder of [`LanConfig::socket`]s. Whoever
/// starts in this moment tries again.
pub fn remove_dead_networks(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == LOCK) {
            let socket = path.with_extension("");
            if let Err(error) = open_lock(&socket).and_then(|lock| take(&lock, &socket)) {
                log::warn!("{}: {error}", path.display());
            }
        }
    }
}

/// What the name of a lock file ends with.
const LOCK: &str = "lock";

/// The file of the lock beside a socket.
fn open_lock(socket: &Path) -> io::Result<File> {
    let mut beside = socket.as_os_str().to_owned();
    beside.push(".");
    beside.push(LOCK);
    File::options().create(true).append(true).open(beside)
}

/// Takes the lock, and removes the socket of a switch that is no more; false when there is a switch.
fn take(lock: &File, socket: &Path) -> io::Result<bool> {
    if flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// Becomes the switch when nobody is.
fn take_over(lock: &File, path: &Path) -> io::Result<Option<OwnedFd>> {
    if !take(lock, path)? {
        return Ok(None);
    }
    let fd = socket()?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&fd, 64)?;
    Ok(Some(fd))
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket()?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

/// Joins with a wished number, as the switch or not; the number that it got.
fn join(config: &LanConfig, lock: &File, mac: [u8; 6], wanted: u16) -> io::Result<(Role, u16)> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(listener) = take_over(lock, &config.socket)? {
            let members = BTreeMap::new();
            return Ok((Role::Switch { listener, members, next: 0 }, wanted));
        }
        let joined = connect(&config.socket).and_then(|fd| {
            rustix::net::send(&fd, &wire::hello(wanted, mac, &config.name), SendFlags::NOSIGNAL)?;
            let number = await_welcome(&fd, end)?;
            Ok((Role::Member(fd), number))
        });
        match joined {
            Ok(joined) => return Ok(joined),
            // The switch has just gone, or has not listened yet.
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => std::thread::sleep(GAP),
        }
    }
}

fn await_welcome(fd: &OwnedFd, end: Instant) -> io::Result<u16> {
    let mut buffer = [0; 64];
    while Instant::now() < end {
        match rustix::net::recv(fd, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) => {
                let message = buffer.get(..length).unwrap_or_default();
                if let Some(Message::Welcome(number)) = wire::read(message) {
                    return Ok(number);
                }
            }
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(GAP / 10),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

impl Lan {
    /// Joins a network.
    pub(super) fn join(config: LanConfig, mac: [u8; 6]) -> io::Result<Lan> {
        let lock = open_lock(&config.socket)?;
        let (role, number) = join(&config, &lock, mac, FIRST)?;
        let present = vec![(number, config.name.to_ascii_lowercase())];
        let buffer = vec![0; LONGEST];
        Ok(Lan { config, lock, mac, number, role, buffer, present, changed: true })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Watches what there is to hear from.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        match &self.role {
            Role::Switch { listener, .. } => poller.add(listener, Token::Lan, Watch::Reading),
            Role::Member(fd) => poller.add(fd, Token::Lan, Watch::Reading),
        }
    }

    /// The names of those who are there, once for each change.
    pub(super) fn news(&mut self, config: &GatewayConfig) -> Option<Vec<(String, Vec<IpAddr>)>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let named = self.present.iter().filter(|(_, name)| !name.is_empty());
        let machine =
            |(number, name): &(u16, String)| (name.clone(), vec![address(config, *number).into()]);
        Some(named.map(machine).collect())
    }

    /// Sends a frame of the guest's to its neighbours.
    pub(super) fn send(&self, frame: &[u8], packet: Packet) {
        self.pass(None, frame, &wire::frame(frame, packet));
    }

    /// Passes a frame to whom it is for. What finds no room is lost.
    fn pass(&self, from: Option<u64>, frame: &[u8], message: &[u8]) {
        match &self.role {
            Role::Member(fd) => tell(fd, message),
            Role::Switch { members, .. } => {
                let to = frame.get(..6).unwrap_or_default();
                let everybody = to.first().is_some_and(|first| first & 1 == 1);
                for (id, member) in members {
                    let meant = member.known.as_ref().is_some_and(|(_, mac, _)| mac == to);
                    if (everybody && member.known.is_some() || meant) && from != Some(*id) {
                        tell(&member.fd, message);
                    }
                }
            }
        }
    }

    /// Takes what was sent to our own socket; frames for the guest are appended.
    pub(super) fn ready(&mut self, poller: &Poller, frames: &mut Vec<(Vec<u8>, Packet)>) {
        match &mut self.role {
            Role::Switch { listener, members, next, .. } => {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                while let Ok(fd) = rustix::net::accept_with(&*listener, flags) {
                    sockopt::set_socket_send_buffer_size(&fd, BUFFER).ok();
                    let id = *next;
                    if members.len() >= MEMBERS
                        || poller.add(&fd, Token::Neighbour(id), Watch::Reading).is_err()
                    {
                        continue;
                    }
                    *next += 1;
                    members.insert(id, Member { fd, known: None });
                }
            }
            Role::Member(_) => self.hear_switch(poller, frames),
        }
    }

    fn hear_switch(&mut self, poller: &Poller, frames: &mut Vec<(Vec<u8>, Packet)>) {
        for _ in 0..BUDGET {
            let Role::Member(fd) = &self.role else { return };
            let length = match rustix::net::recv(fd, &mut self.buffer, RecvFlags::empty()) {
                Ok((_, length @ 1..)) => length,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                _ => return self.rejoin(poller),
            };
            match wire::read(self.buffer.get(..length).unwrap_or_default()) {
                Some(Message::Frame(frame, packet)) => frames.push((frame.to_vec(), packet)),
                Some(Message::Members(present)) => {
                    self.present = present;
                    self.changed = true;
                }
                _ => {}
            }
        }
    }

    /// The switch is gone: another takes its place, perhaps we.
    fn rejoin(&mut self, poller: &Poller) {
        match join(&self.config, &self.lock, self.mac, self.number) {
            Ok((role, number)) if number == self.number => {
                self.role = role;
                if matches!(self.role, Role::Switch { .. }) {
                    self.present = vec![(number, self.config.name.to_ascii_lowercase())];
                    self.changed = true;
                }
                if let Err(error) = self.watch(poller) {
                    log::warn!("network {:?}: {error}", self.config.socket);
                }
            }
            Ok((_, number)) => {
                log::warn!(
                    "network {:?}: number {} has become {number}: the guest is off it",
                    self.config.socket,
                    self.number
                );
            }
            Err(error) => log::warn!("network {:?}: {error}", self.config.socket),
        }
    }

    /// Takes what a member sent, as the switch.
    pub(super) fn hear(&mut self, id: u64, frames: &mut Vec<(Vec<u8>, Packet)>) {
        for _ in 0..BUDGET {
            let Role::Switch { members, .. } = &mut self.role else { return };
            let Some(member) = members.get_mut(&id) else { return };
            let length = match rustix::net::recv(&member.fd, &mut self.buffer, RecvFlags::empty()) {
                Ok((_, length @ 1..)) => length,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                _ => {
                    members.remove(&id);
                    return self.tell_members();
                }
            };
            let message = self.buffer.get(..length).unwrap_or_default();
            match (wire::read(message), &member.known) {
                (Some(Message::Hello { number, mac, name }), None) => {
                    self.greet(id, (number, mac, name));
                }
                (Some(Message::Frame(frame, packet)), Some((_, mac, _)))
                    if frame.get(6..12) == Some(mac) =>
                {
                    let to = frame.get(..6).unwrap_or_default();
                    let everybody = to.first().is_some_and(|first| first & 1 == 1);
                    if everybody || to == self.mac {
                        frames.push((frame.to_vec(), packet));
                    }
                    if to != self.mac {
                        self.pass(Some(id), frame, message);
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives a member its number: the one that it wants when that is free.
    fn greet(&mut self, id: u64, (wanted, mac, name): (u16, [u8; 6], String)) {
        let Role::Switch { members, .. } = &mut self.role else { return };
        let known = members.values().filter_map(|member| member.known.as_ref());
        let taken: Vec<u16> = known.map(|(number, ..)| *number).chain([self.number]).collect();
        let wanted = wanted.max(FIRST);
        let number = (wanted..FIRST + 2 * MEMBERS as u16)
            .chain(FIRST..wanted)
            .find(|number| *number < 255 && !taken.contains(number));
        let (Some(number), Some(member)) = (number, members.get_mut(&id)) else {
            members.remove(&id);
            return;
        };
        tell(&member.fd, &wire::welcome(number));
        member.known = Some((number, mac, name));
        self.tell_members();
    }

    fn tell_members(&mut self) {
        let Role::Switch { members, .. } = &self.role else { return };
        let known = members.values().filter_map(|member| member.known.as_ref());
        let others = known.map(|(number, _, name)| (*number, name.clone()));
        let own = (self.number, self.config.name.to_ascii_lowercase());
        self.present = others.chain([own]).collect();
        self.changed = true;
        let message = wire::members(&self.present);
        members.values().for_each(|member| tell(&member.fd, &message));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // The lock is still held: nobody else has made the file anew.
        if matches!(self.role, Role::Switch { .. }) {
            std::fs::remove_file(&self.config.socket).ok();
        }
    }
}

fn tell(fd: &OwnedFd, message: &[u8]) {
    if let Err(error) = rustix::net::send(fd, message, SendFlags::NOSIGNAL) {
        log::trace!("a neighbour hears nothing: {error}");
    }
}
