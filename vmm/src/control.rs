//! The control socket: what others ask of this machine while it runs (`kezhan-control`).
//!
//! ```text
//!   accept thread ──► a thread for each client: read ─► ask the card's network ─► reply
//!        └── ends when the machine does                  (Connect: the socket goes to the network)
//! ```
//! Networks are asked by the client's thread itself: that changes no state of the machine. What does is an order
//! to the driver ([`Orders`]), for whose outcome the thread waits.
//!
//! A client's thread holds the networks only while it asks: the machine's end waits for no client.

use crate::commands::Orders;
use crate::nets;
use kezhan_control::{CardState, Door, Fault, NetReport, Reply, Request, machines, read, write};
use kezhan_machine_spec::{Forward, ForwardFrom, ForwardProtocol};
use kezhan_net::user::{
    self, Answers, ForwardId, Listen, Report, UserError, UserNetwork, remove_dead_networks,
};
use kezhan_networks::{NetworkError, Store};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Clients at a time; more are turned away.
const CLIENTS: usize = 64;

/// Ways for datagrams that one client may have.
const ASSOCIATIONS: usize = 16;

/// How long a client may take to take a reply, or be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// A card that has a user network.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) index: usize,
    pub(crate) name: Option<String>,
    pub(crate) network: UserNetwork,
}

/// The folder of the machines' sockets, which is the person's own.
///
/// # Errors
/// It cannot be made, or others may write to it.
pub fn folder() -> Result<PathBuf, NetworkError> {
    Store::usual().own_folder(MACHINES)
}

/// The folders of machines' sockets and of named networks in the runtime folder.
const MACHINES: &str = "machines";
pub(crate) const NETWORKS: &str = "lan";

/// Removes what killed machines left in the runtime folder. What of a machine is the kernel's goes with its
/// process.
pub fn remove_leavings() {
    let store = Store::usual();
    // A folder that is not there, or not ours, has nothing of ours.
    machines(&store.folder().join(MACHINES)).ok();
    remove_dead_networks(&store.folder().join(NETWORKS));
    // Without the privilege there is nothing of ours either.
    kezhan_networks::remove_dead().ok();
}

/// A socket that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    end: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Opens the door and serves it.
    pub(crate) fn open(door: Door, asked: Asked) -> io::Result<Control> {
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let bell = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || serve(&door, &asked, &bell))?;
        Ok(Control { end, thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        rustix::io::write(&*self.end, &1_u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Whom a client's requests go to.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) cards: Weak<Vec<Card>>,
    pub(crate) orders: Weak<Orders>,
}

/// Counts clients.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(door: &Door, asked: &Asked, end: &OwnedFd) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let mut sources = [
            PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(door.listener().as_fd(), PollFlags::IN),
        ];
        // Interrupted: nothing is ready then.
        poll(&mut sources, None).ok();
        let [ended, came] = sources.map(|source| !source.revents().is_empty());
        if ended {
            return;
        }
        if came && let Ok((stream, _)) = door.listener().accept() {
            let place = Place(Arc::clone(&clients));
            if clients.fetch_add(1, Ordering::SeqCst) < CLIENTS {
                let asked = asked.clone();
                let thread = std::thread::Builder::new().name("control-client".to_owned());
                // Without a thread the client sees its connection end.
                thread.spawn(move || hear(stream, &asked, place)).ok();
            }
        }
    }
}

/// Answers a client until it leaves.
fn hear(mut stream: UnixStream, asked: &Asked, _place: Place) {
    let limited = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    if limited.is_err() {
        return;
    }
    let mut own = Associations { asked: asked.clone(), all: Vec::new() };
    while let Ok(Some(request)) = read(&mut stream) {
        if let Request::Command { line } = &request {
            if write(&mut stream, &obey(asked, line)).is_err() {
                return;
            }
            continue;
        }
        let Some(cards) = asked.cards.upgrade() else { return };
        if let Request::Connect { card, port } = request {
            return enter(&cards, card, port, stream);
        }
        if let Request::Associate { card, port, peer } = request {
            let reply = own.add(&cards, (card, port), peer);
            // From now on it may be silent: it lives as long as its own client does.
            let kept = stream.set_read_timeout(None).is_ok();
            if !kept || write(&mut stream, &reply).is_err() {
                return;
            }
            continue;
        }
        if write(&mut stream, &answer(&cards, request)).is_err() {
            return;
        }
    }
}

/// Has the driver do it, and waits until it has.
fn obey(asked: &Asked, line: &str) -> Reply {
    let command = match line.parse() {
        Ok(command) => command,
        Err(error) => return failed(Fault::Request, &error),
    };
    let outcome = asked.orders.upgrade().map(|orders| orders.give(command));
    match outcome.and_then(|outcome| outcome.recv().ok()) {
        Some(Ok(text)) if text.is_empty() => Reply::Done,
        Some(Ok(text)) => Reply::Said { text },
        Some(Err(reason)) => failed(Fault::Request, &reason),
        None => failed(Fault::Host, &"the machine has ended"),
    }
}

/// A client's ways for datagrams, which end with it.
struct Associations {
    asked: Asked,
    all: Vec<(usize, ForwardId)>,
}

impl Associations {
    fn add(&mut self, cards: &[Card], (index, port): (usize, u16), peer: SocketAddr) -> Reply {
        if !peer.ip().is_loopback() || self.all.len() >= ASSOCIATIONS {
            return failed(
                Fault::Request,
                &format!("{peer}: not on the loopback, or one too many"),
            );
        }
        let added = find(cards, index)
            .and_then(|card| card.network.add_association(port, peer).map_err(told));
        match added {
            Ok((id, Listen::Udp(at))) => {
                self.all.push((index, id));
                Reply::Associated { at }
            }
            Ok(_) => failed(Fault::Host, &"it is no UDP socket"),
            Err(reply) => reply,
        }
    }
}

impl Drop for Associations {
    fn drop(&mut self) {
        let Some(cards) = self.asked.cards.upgrade() else { return };
        for (index, id) in &self.all {
            if let Ok(card) = find(&cards, *index) {
                card.network.remove_forward(*id).ok();
            }
        }
    }
}

/// Hands the socket over to the network, which answers once the guest has.
fn enter(cards: &[Card], card: usize, port: u16, mut stream: UnixStream) {
    let entered = find(cards, card).and_then(|card| {
        let answers = answers(port).map_err(|error| failed(Fault::Host, &error))?;
        let socket = stream.try_clone().map_err(|error| failed(Fault::Host, &error))?;
        card.network.enter(port, socket.into(), answers).map_err(told)
    });
    if let Err(reply) = entered {
        write(&mut stream, &reply).ok();
    }
}

fn answers(port: u16) -> io::Result<Answers> {
    let mut answers = Answers::default();
    write(&mut answers.accepted, &Reply::Connected)?;
    let reason = format!("nobody listens at the guest's port {port}");
    write(&mut answers.refused, &Reply::Failed { fault: Fault::Refused, reason })?;
    Ok(answers)
}

fn answer(cards: &[Card], request: Request) -> Reply {
    match request {
        Request::Cards => {
            let state = |card: &Card| CardState {
                card: card.index,
                network: card.name.clone(),
                guest: card.network.guest_address(),
            };
            Ok(Reply::Cards { cards: cards.iter().map(state).collect() })
        }
        Request::Forwards { card } => find(cards, card).and_then(forwards),
        Request::AddForward { card, forward } => {
            find(cards, card).and_then(|card| add(card, &forward))
        }
        Request::RemoveForward { card, forward } => {
            find(cards, card).and_then(|card| remove(card, &forward))
        }
        Request::Report { card } => find(cards, card)
            .and_then(|card| card.network.report().map_err(told))
            .map(|report| Reply::Report { report: Box::new(figures(report)) }),
        Request::SetLink { card, up } => find(cards, card).map(|card| {
            card.network.set_link(up);
            Reply::Done
        }),
        Request::Connect { .. } | Request::Associate { .. } | Request::Command { .. } => {
            Err(failed(Fault::Request, &"that is asked for alone"))
        }
    }
    .unwrap_or_else(|failure| failure)
}

fn find(cards: &[Card], index: usize) -> Result<&Card, Reply> {
    let found = cards.iter().find(|card| card.index == index);
    found.ok_or_else(|| {
        failed(Fault::Request, &format!("card {index}: there is none with a user network"))
    })
}

fn failed(fault: Fault, reason: &dyn std::fmt::Display) -> Reply {
    Reply::Failed { fault, reason: reason.to_string() }
}

fn told(error: UserError) -> Reply {
    failed(Fault::Host, &error)
}

fn forwards(card: &Card) -> Result<Reply, Reply> {
    let all = card.network.forwards().map_err(told)?;
    let forwards = all.iter().map(|(_, forward)| described(&forward.listen, forward));
    Ok(Reply::Forwards { forwards: forwards.collect() })
}

fn add(card: &Card, forward: &Forward) -> Result<Reply, Reply> {
    let wanted = nets::forward(forward);
    let (_, listens) = card.network.add_forward(wanted.clone()).map_err(told)?;
    Ok(Reply::Forwards { forwards: vec![described(&listens, &wanted)] })
}

fn remove(card: &Card, forward: &Forward) -> Result<Reply, Reply> {
    let wanted: user::Forward = nets::forward(forward);
    let all = card.network.forwards().map_err(told)?;
    let found = all.into_iter().find(|(_, there)| *there == wanted);
    let missing = || failed(Fault::Request, &format!("forward {forward}: there is none like it"));
    let (id, _) = found.ok_or_else(missing)?;
    card.network.remove_forward(id).map_err(told)?;
    Ok(Reply::Done)
}

/// A forward as a description has it.
fn described(listen: &Listen, forward: &user::Forward) -> Forward {
    let (protocol, from) = match listen {
        Listen::Tcp(at) => (ForwardProtocol::Tcp, ForwardFrom::Port(*at)),
        Listen::Udp(at) => (ForwardProtocol::Udp, ForwardFrom::Port(*at)),
        Listen::Unix(path) => (ForwardProtocol::Tcp, ForwardFrom::Unix(path.clone())),
    };
    Forward { protocol, from, guest: forward.guest, to: forward.port }
}

fn figures(report: Report) -> NetReport {
    let counts = report.counts;
    NetReport {
        frames_out: counts.received.0,
        bytes_out: counts.received.1,
        frames_in: counts.sent.0,
        bytes_in: counts.sent.1,
        dropped: counts.dropped,
        spoofed: counts.spoofed,
        denied: counts.denied,
        full: counts.full,
        streams: report.streams,
        flows: report.flows,
        rules: report.policy.rules,
        by_default: report.policy.default,
        of_host: report.policy.host,
        decisions: report.decisions.iter().map(ToString::to_string).collect(),
    }
}

/// Opens the door of this process's machine; else says why it has none.
pub(crate) fn open(machine: &str, asked: Asked) -> Result<Control, String> {
    let without = |why: String| format!("{why}: `kezhan net` and `kezhan socks` cannot ask it");
    let folder = folder().map_err(|error| without(error.to_string()))?;
    let door = Door::open(&folder, machine).map_err(|error| without(error.to_string()))?;
    Control::open(door, asked).map_err(|error| without(error.to_string()))
}

#[cfg(test)]
mod tests;
