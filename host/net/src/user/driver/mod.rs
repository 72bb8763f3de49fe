//! The thread that drives a guest's user-mode network, with the host's sockets.
//!
//! ```text
//!   device ── UserNic ──► inbox  ──bell──► thread: Gateway, epoll, sockets ──► host's network
//!                    ◄── outbox ◄──waker──┘        ▲
//!   machine ─ UserNetwork ── commands ──bell───────┘
//! ```
//! # The device's half
//! [`UserNic`] is a `Nic`: `transmit` copies the frame into the inbox and rings the bell when the thread may
//! sleep; `receive` writes the next frame of the outbox into the device's buffer. No call waits for
//! anything but the short lock of a queue. Large segments are taken (`NicInfo::offloads` has all), and given
//! once `accept` said so: a frame then is up to 64 KiB with `Packet::segmentation` and
//! `Packet::checksum`. The waker may be called by the network's thread at any time and must only signal.
//!
//! # The machine's half
//! [`UserNetwork`] adds and removes forwards, moves the link, and reports counts and decisions, while the
//! machine runs. Dropping it ends the thread and closes every socket; the device's half then takes and
//! drops what it is given.
//!
//! # Order of a turn
//! Events are collected; the guest's frames go to the gateway; its orders are carried out; sockets are read
//! and written within a budget; frames are taken from the gateway while the outbox has room. A full outbox
//! stops segments from being made, and a full retransmission buffer stops the host's socket from being
//! read: nothing piles up between the two ends. Nor are datagrams read while enough wait for the guest: what comes
//! faster than a slow guest takes it is lost in the host's socket, where that is cheapest.
//!
//! The thread is jailed (`jail`): it can use sockets, and neither files nor programs.
//!
//! Locks: the inbox and the outbox have one each, never held together, and no call to the waker is made
//! under either.
//!
//! Rejected: working on frames in the device's own thread, which saves a wake-up and spends the vCPU's
//! time, and which would need the machine's threads to be allowed sockets. A thread for each connection.

pub(super) mod boot;
mod commands;
mod datagrams;
mod egress;
mod errors;
mod forwards;
mod jail;
mod lan;
mod many;
mod nic;
mod pace;
mod poller;
mod resolver;
mod sockets;
mod thread;

use super::{DecisionRecord, Gateway, GatewayConfig, GatewayCounts};
use crate::policy::{Counts, Policy};
use boot::Boot;
use commands::{Command, Remote};
use jail::Jail;
use kezhan_socks::Proxy;
use nic::Shared;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use thiserror::Error;
use thread::Driver;

pub use boot::BootConfig;
pub use lan::{LanConfig, remove_dead_networks};
pub use nic::{GuestIdle, UserNic};
pub use sockets::Answers;

/// A user-mode network for one guest.
#[derive(Debug)]
pub struct UserConfig {
    /// What the thread is called, and the log names.
    pub name: String,
    /// The network that the guest sees.
    pub gateway: GatewayConfig,
    /// What the guest may reach.
    pub policy: Policy,
    /// Name servers to ask; when there are none, those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// Forwards that exist from the start.
    pub forwards: Vec<Forward>,
    /// A SOCKS proxy that every flow and every name goes through, and nothing goes around.
    pub egress: Option<Proxy>,
    /// How fast the guest may be.
    pub limits: Limits,
    /// A named network with guests of other processes. The guest's IPv4 address then is given by the
    /// network, in place of the one in `gateway`.
    pub lan: Option<LanConfig>,
    /// What a guest that starts from its network is given.
    pub boot: Option<BootConfig>,
}

/// Limits of a guest's network; none by default. What is beyond them waits, and a connection beyond them is
/// not answered, so that the guest asks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second from the guest, with the headers.
    pub up: Option<u64>,
    /// Bytes a second to the guest, with the headers.
    pub down: Option<u64>,
    /// New TCP connections and UDP flows of the guest's in a second.
    pub flows: Option<u32>,
    /// Datagrams to the guest in a second while its CPUs have other work: of more, one whose CPU is slow loses most.
    /// [`GuestIdle`] tells when they have none.
    pub datagrams: Option<u32>,
}

impl UserConfig {
    /// The usual network with nothing forwarded and everything but the host itself allowed.
    #[must_use]
    pub fn usual(guest_mac: [u8; 6]) -> UserConfig {
        UserConfig {
            name: "net".to_owned(),
            gateway: GatewayConfig::usual(guest_mac),
            policy: Policy::open(),
            resolvers: Vec::new(),
            forwards: Vec::new(),
            egress: None,
            limits: Limits::default(),
            lan: None,
            boot: None,
        }
    }
}

/// Where a forward listens on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// For TCP connections; port 0 takes a free one.
    Tcp(SocketAddr),
    /// For UDP datagrams; port 0 takes a free one.
    Udp(SocketAddr),
    /// For connections to a socket file, which must not exist; it is removed with the forward.
    Unix(PathBuf),
}

/// A way from the host into the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Where it listens.
    pub listen: Listen,
    /// The guest's address; that by which the network knows it when `None`.
    pub guest: Option<Ipv6Addr>,
    /// The guest's port.
    pub port: u16,
}

/// A forward's number; it is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(pub(super) u64);

/// Why a network, or a part of it, could not be made.
#[derive(Debug, Error)]
pub enum UserError {
    /// The thread or its descriptors.
    #[error("network {name:?}: it cannot be started: {error}")]
    Start {
        /// The network.
        name: String,
        /// What the host said.
        error: io::Error,
    },
    /// A forward's own socket.
    #[error(
        "forward {0:?}: the host's side cannot listen: {1}; give another address or end what uses it"
    )]
    Listen(Listen, io::Error),
    /// The thread has ended.
    #[error("the network has ended")]
    Ended,
}

/// What a network did so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What became of frames.
    pub counts: GatewayCounts,
    /// How often each rule decided.
    pub policy: Counts,
    /// TCP connections now.
    pub streams: usize,
    /// UDP flows now.
    pub flows: usize,
    /// Bytes that connections hold or have promised to hold.
    pub held: usize,
    /// The last decisions, the oldest first.
    pub decisions: Vec<DecisionRecord>,
}

/// A running network, for the machine that owns it. See the module.
#[derive(Debug)]
pub struct UserNetwork {
    remote: Remote,
    guest: Ipv4Addr,
    thread: Option<JoinHandle<Option<Driver>>>,
}

/// Starts a network: the device's half, and the machine's.
///
/// # Errors
/// A descriptor or the thread could not be made, or a forward cannot listen.
pub fn spawn(config: UserConfig) -> Result<(UserNic, UserNetwork), UserError> {
    let name = config.name;
    let failed = |error| UserError::Start { name: name.clone(), error };
    let shared = Arc::new(Shared::new(config.gateway.mtu).map_err(failed)?);
    let (commands, orders) = mpsc::channel();
    let egress = config.egress.map(egress::Egress::new).transpose().map_err(failed)?.map(Arc::new);
    let resolvers = match config.resolvers {
        // The proxy resolves.
        _ if egress.is_some() => Vec::new(),
        given if given.is_empty() => resolver::hosts_resolvers(),
        given => given,
    };
    let stand_ins = egress.is_some();
    let lan = config.lan.map(|lan| lan::Lan::join(lan, config.gateway.guest_mac));
    let lan = lan.transpose().map_err(failed)?;
    let jail = Jail::new(lan.is_some()).map_err(failed)?;
    let mut layout = config.gateway;
    if let Some(lan) = &lan {
        layout.guest = lan::address(&layout, lan.number());
    }
    let guest = layout.guest;
    let open = |boot: &BootConfig| Boot::open(&boot.folder, layout.mtu);
    let boot = config.boot.as_ref().map(open).transpose().map_err(failed)?;
    layout.boot = config.boot.map(|boot| boot.file);
    let mut gateway = Gateway::new(GatewayConfig { stand_ins, ..layout }, config.policy);
    gateway.limit_flows(config.limits.flows);
    gateway.limit_datagrams(config.limits.datagrams);
    let ways = thread::Ways { resolvers, egress, limits: config.limits, lan, boot };
    let driver = Driver::new(gateway, Arc::clone(&shared), ways, orders).map_err(failed)?;
    raise_descriptors();
    let thread = start(&name, driver, jail).map_err(failed)?;
    let remote = Remote::new(commands, Arc::clone(&shared));
    let network = UserNetwork { remote, guest, thread: Some(thread) };
    for forward in config.forwards {
        network.add_forward(forward)?;
    }
    Ok((UserNic::new(shared), network))
}

/// Starts the thread, in its jail.
fn start(name: &str, driver: Driver, jail: Jail) -> io::Result<JoinHandle<Option<Driver>>> {
    let (told, entered) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = jail.enter();
        let closed = result.is_ok();
        told.send(result).ok();
        closed.then(|| driver.run())
    })?;
    entered.recv().map_err(io::Error::other)??;
    Ok(thread)
}

/// A connection of the guest's takes a descriptor: as many as the host lets us have.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

impl UserNetwork {
    /// The guest's IPv4 address.
    #[must_use]
    pub fn guest_address(&self) -> Ipv4Addr {
        self.guest
    }

    /// What is to be told when the guest has nothing to do.
    #[must_use]
    pub fn guest_idle(&self) -> GuestIdle {
        GuestIdle(self.remote.shared())
    }

    /// Adds a forward; its number, and the address that it really listens on.
    ///
    /// # Errors
    /// The host's side cannot listen, or the network has ended.
    pub fn add_forward(&self, forward: Forward) -> Result<(ForwardId, Listen), UserError> {
        let listener = forwards::Listener::open(&forward)?;
        let listens = listener.listens().clone();
        let id = self.remote.ask(|reply| Command::AddForward(listener, reply))?;
        Ok((id, listens))
    }

    /// Adds a forward of datagrams to a port of the guest's, for one peer on the host's loopback: nobody else is heard.
    /// Its number, and where it listens.
    ///
    /// # Errors
    /// The host's side cannot listen, or the network has ended.
    pub fn add_association(
        &self,
        port: u16,
        peer: SocketAddr,
    ) -> Result<(ForwardId, Listen), UserError> {
        let listener = forwards::Listener::for_peer(port, peer)?;
        let listens = listener.listens().clone();
        let id = self.remote.ask(|reply| Command::AddForward(listener, reply))?;
        Ok((id, listens))
    }

    /// Removes a forward; connections that came by it stay. Whether there was one.
    ///
    /// # Errors
    /// The network has ended.
    pub fn remove_forward(&self, id: ForwardId) -> Result<bool, UserError> {
        let removed = self.remote.ask(|reply| Command::RemoveForward(id, reply))?;
        Ok(removed.is_some())
    }

    /// The forwards that exist.
    ///
    /// # Errors
    /// The network has ended.
    pub fn forwards(&self) -> Result<Vec<(ForwardId, Forward)>, UserError> {
        self.remote.ask(Command::Forwards)
    }

    /// Makes a connection to a port of the guest's, which then is that of `socket`, a connected stream socket:
    /// what it carries before the guest has accepted stays in it.
    ///
    /// # Errors
    /// The network has ended.
    pub fn enter(&self, port: u16, socket: OwnedFd, answers: Answers) -> Result<(), UserError> {
        self.remote.order(Command::Enter(port, (socket, Some(answers))))
    }

    /// What the network did so far.
    ///
    /// # Errors
    /// The network has ended.
    pub fn report(&self) -> Result<Report, UserError> {
        self.remote.ask(Command::Report)
    }

    /// Sets the names of the machines on this network, with their addresses: the guest resolves them plain
    /// and under `kezhan.internal`.
    pub fn set_names(&self, machines: Vec<(String, Vec<IpAddr>)>) {
        self.remote.tell(Command::Names(machines));
    }

    /// Plugs the cable in, or pulls it.
    pub fn set_link(&self, up: bool) {
        self.remote.set_link(up);
    }

    /// Ends the network and waits for its thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for UserNetwork {
    fn drop(&mut self) {
        self.remote.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // The sockets' files are removed here.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests;
