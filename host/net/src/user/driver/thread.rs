//! The thread's loop.

use super::super::frame::Frame;
use super::super::{Gateway, Outward};
use super::boot::Boot;
use super::commands::Command;
use super::datagrams::Datagrams;
use super::egress::Egress;
use super::forwards::{self, Forwards};
use super::lan::Lan;
use super::nic::Shared;
use super::pace::Pace;
use super::poller::{Poller, Token, Watch};
use super::resolver::Resolver;
use super::sockets::Sockets;
use super::{Limits, Report};
use kezhan_ports::nic::Packet;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Frames that are taken from the gateway before they are handed over.
const BATCH: usize = 64;

/// What every part of the driver works with.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) gateway: Gateway,
    pub(super) poller: Poller,
    started: Instant,
    /// The time of this turn.
    pub(super) now: Duration,
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Driver {
    desk: Desk,
    shared: Arc<Shared>,
    sockets: Sockets,
    datagrams: Datagrams,
    resolver: Resolver,
    forwards: Forwards,
    commands: Receiver<Command>,
    batch: Vec<Frame>,
    /// Frames of the guest's that its limit holds back.
    pending: VecDeque<(Vec<u8>, Packet)>,
    up: Pace,
    down: Pace,
    lan: Option<Lan>,
    boot: Option<Boot>,
    /// Names that the machine set.
    machines: Vec<(String, Vec<IpAddr>)>,
    /// Those that the network has.
    present: Vec<(String, Vec<IpAddr>)>,
    /// Frames of neighbours.
    heard: Vec<(Vec<u8>, Packet)>,
}

/// How the network goes out.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) egress: Option<Arc<Egress>>,
    pub(super) limits: Limits,
    pub(super) lan: Option<Lan>,
    pub(super) boot: Option<Boot>,
}

impl Driver {
    pub(super) fn new(
        gateway: Gateway,
        shared: Arc<Shared>,
        ways: Ways,
        commands: Receiver<Command>,
    ) -> io::Result<Driver> {
        let poller = Poller::new()?;
        poller.add(shared.bell(), Token::Bell, Watch::Reading)?;
        if let Some(lan) = &ways.lan {
            lan.watch(&poller)?;
        }
        let desk = Desk { gateway, poller, started: Instant::now(), now: Duration::ZERO };
        Ok(Driver {
            desk,
            shared,
            sockets: Sockets::new(ways.egress.clone()),
            datagrams: Datagrams::new(ways.egress),
            resolver: Resolver::new(ways.resolvers),
            forwards: Forwards::default(),
            commands,
            batch: Vec::new(),
            pending: VecDeque::new(),
            up: Pace::new(ways.limits.up),
            down: Pace::new(ways.limits.down),
            lan: ways.lan,
            boot: ways.boot,
            machines: Vec::new(),
            present: Vec::new(),
            heard: Vec::new(),
        })
    }

    /// Works until it is told to stop; to be dropped outside of the thread, which may not remove files.
    pub(super) fn run(mut self) -> Driver {
        if let Err(error) = self.turn_over() {
            log::error!("the network has failed: {error}");
        }
        self.shared.end();
        self
    }

    fn turn_over(&mut self) -> io::Result<()> {
        // Who is on the network already.
        self.hear_neighbours(Token::Lan);
        loop {
            self.desk.now = self.desk.started.elapsed();
            let timeout = self.timeout();
            let events = self.desk.poller.wait(timeout)?;
            self.desk.now = self.desk.started.elapsed();
            for (token, ready) in events {
                match token {
                    Token::Bell => {
                        self.shared.hush();
                        if !self.obey() {
                            return Ok(());
                        }
                    }
                    Token::Stream(id) => self.sockets.ready(&mut self.desk, id, ready),
                    Token::Flow(id) => self.datagrams.ready(&mut self.desk, id, ready),
                    Token::Query(id) => self.resolver.ready(&mut self.desk, id, ready),
                    Token::Lan | Token::Neighbour(_) => self.hear_neighbours(token),
                    Token::Forward(id) => {
                        self.forwards.ready(&mut self.desk, &mut self.sockets, id);
                    }
                }
            }
            self.take_in();
            self.carry_out();
            self.sockets.go_on(&mut self.desk);
            self.carry_out();
            self.hand_over();
            if self.datagrams.go_on(&mut self.desk) {
                self.hand_over();
            }
        }
    }

    /// How long to sleep: not at all while a socket has more than its turn's share.
    fn timeout(&mut self) -> Option<Duration> {
        if self.sockets.has_more() {
            return Some(Duration::ZERO);
        }
        let now = self.desk.now;
        self.desk.gateway.hold(self.shared.is_stuck());
        let sockets = self.sockets.expire(&mut self.desk);
        let resolver = self.resolver.expire(&mut self.desk);
        let boot = self.boot.as_mut().and_then(|boot| {
            for (port, guest, message) in boot.expire(now) {
                self.desk.gateway.send_boot(port, guest, &message);
            }
            boot.next()
        });
        let up = (!self.pending.is_empty()).then(|| self.up.next());
        let down = (!self.down.may(now)).then(|| self.down.next());
        let ends = [self.desk.gateway.expire(now), sockets, resolver, boot, up, down];
        self.carry_out();
        self.hand_over();
        if self.datagrams.can_go_on(&self.desk) {
            return Some(Duration::ZERO);
        }
        // A guest that takes nothing is not waited for: the bell rings when it does.
        let room = self.shared.has_room();
        let paced = self.desk.gateway.next_datagram().filter(|_| room);
        let next = ends.into_iter().chain([paced]).flatten().min()?;
        // A little late is right: a deadline that has not come yet would be slept for again.
        Some(next.saturating_sub(now) + Duration::from_micros(50))
    }

    /// Whether to go on.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Names(machines) => {
                    self.machines = machines;
                    self.set_names(Vec::new());
                }
                Command::Stop => return false,
                Command::AddForward(listener, reply) => {
                    reply.send(self.forwards.add(&mut self.desk, listener)).ok();
                }
                Command::RemoveForward(id, reply) => {
                    reply.send(self.forwards.remove(&mut self.desk, id)).ok();
                }
                Command::Enter(port, connection) => {
                    let guest = SocketAddr::new(self.desk.gateway.config().guest.into(), port);
                    forwards::enter(&mut self.desk, &mut self.sockets, guest, connection);
                }
                Command::Forwards(reply) => drop(reply.send(self.forwards.list())),
                Command::Report(reply) => drop(reply.send(self.report())),
            }
        }
        true
    }

    fn report(&self) -> Report {
        let gateway = &self.desk.gateway;
        let (streams, flows, held) = gateway.load();
        Report {
            counts: gateway.counts(),
            policy: gateway.policy().counts().clone(),
            streams,
            flows,
            held,
            decisions: gateway.decisions().cloned().collect(),
        }
    }

    fn take_in(&mut self) {
        if self.pending.is_empty() {
            let inbox = self.shared.take();
            if let Some(offloads) = inbox.offloads {
                self.desk.gateway.accept(offloads);
            }
            self.pending.extend(inbox.frames);
        }
        let now = self.desk.now;
        while !self.pending.is_empty() && self.up.may(now) {
            let Some((frame, packet)) = self.pending.pop_front() else { return };
            self.up.spend(frame.len());
            if let Some(lan) = &self.lan
                && self.desk.gateway.is_for_neighbours(&frame)
            {
                lan.send(&frame, packet);
                if frame.first().is_some_and(|first| first & 1 == 0) {
                    continue;
                }
            }
            self.desk.gateway.receive(now, frame, packet);
        }
    }

    /// Frames of neighbours go to the guest, as it takes them.
    fn hear_neighbours(&mut self, token: Token) {
        let Some(lan) = &mut self.lan else { return };
        match token {
            Token::Neighbour(id) => lan.hear(id, &mut self.heard),
            _ => lan.ready(&self.desk.poller, &mut self.heard),
        }
        for (frame, packet) in self.heard.drain(..) {
            self.desk.gateway.neighbour(frame, packet);
        }
        let news = lan.news(self.desk.gateway.config());
        if let Some(present) = news {
            self.set_names(present);
        }
    }

    /// Those that the machine set, and those of the network, which come last and hold.
    fn set_names(&mut self, present: Vec<(String, Vec<IpAddr>)>) {
        if !present.is_empty() {
            self.present = present;
        }
        let names = self.machines.iter().chain(&self.present).cloned().collect();
        self.desk.gateway.set_names(names);
    }

    fn carry_out(&mut self) {
        while let Some(order) = self.desk.gateway.take_outward() {
            match order {
                Outward::Datagram { flow, to, payload } => {
                    self.datagrams.send(&mut self.desk, flow, (to, payload));
                }
                Outward::Close { flow } => self.datagrams.close(flow),
                Outward::Query { query, message, stream } => {
                    self.resolver.ask(&mut self.desk, query, (message, stream));
                }
                Outward::Connect { stream, to } => {
                    self.sockets.connect(&mut self.desk, stream, to);
                }
                Outward::Output { stream } => self.sockets.write(&mut self.desk, stream),
                Outward::Room { stream } => self.sockets.room(&mut self.desk, stream),
                Outward::Shut { stream } => self.sockets.shut(stream),
                Outward::Drop { stream, reset } => self.sockets.close(stream, reset),
                Outward::Boot { guest, port, message } => {
                    let boot = self.boot.as_mut();
                    let reply =
                        boot.and_then(|boot| boot.take(self.desk.now, (guest, port), &message));
                    if let Some((port, guest, message)) = reply {
                        self.desk.gateway.send_boot(port, guest, &message);
                    }
                }
                Outward::Reply { forward, to, payload } => {
                    self.forwards.reply(forward, to, &payload);
                }
            }
        }
        self.datagrams.flush();
    }

    fn hand_over(&mut self) {
        while self.shared.has_room() {
            let wanted = self.desk.gateway.waits_for_idle();
            if self.shared.is_idle(wanted) {
                self.desk.gateway.guest_is_idle(self.desk.now);
            }
            while self.batch.len() < BATCH
                && self.down.may(self.desk.now)
                && let Some(frame) = self.desk.gateway.take_frame(self.desk.now)
            {
                self.down.spend(frame.length());
                self.batch.push(frame);
            }
            if self.batch.is_empty() {
                return;
            }
            self.shared.give(&mut self.batch);
            // Making segments may have ended a stream.
            self.carry_out();
        }
    }
}
