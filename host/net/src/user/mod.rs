//! The user-mode network: a small router with a name server for one guest, and the thread that drives it.
//!
//! ```text
//!                      ┌──────────────── Gateway ─────────────────┐
//!   guest ── frames ──►│ ARP, DHCP, NDP, echo     answered here   │
//!         ◄────────────│ names      policy ──► Query ────────────►│──► driver: the host's resolver
//!                      │ datagrams  policy ──► Datagram ─────────►│──► driver: a UDP socket for each flow
//!                      │ streams    policy ──► Connect, Output ──►│──► driver: a TCP socket for each
//!                      └──────────────────────────────────────────┘
//! ```
//! [`spawn`] is what a machine uses: it gives the device's half ([`UserNic`]) and the machine's
//! ([`UserNetwork`]). The rest of this page is for its driver.
//!
//! # Who calls what
//! 1. The driver gives each frame of the guest to [`Gateway::receive`] with the time, then takes every
//!    [`Gateway::take_outward`], and each [`Gateway::take_frame`] that it has room for: segments are made
//!    when they are taken, so that nothing piles up.
//! 2. What comes back goes to [`Gateway::datagram`], [`Gateway::answer`] and the `stream_` methods; what was
//!    too late or was never asked for is dropped there.
//! 3. [`Gateway::expire`] is called at the time that it gave last, and ends what has been idle.
//!
//! The machine reads no clock and draws no numbers: the same calls give the same frames.
//!
//! # What holds
//! * A frame whose source is not the guest's own address, Ethernet or IP, is dropped.
//! * Nothing leaves but by [`Policy::decide`] and [`Policy::may_resolve`]. A denied datagram is answered
//!   with "administratively prohibited" (RFC 1812 §5.2.7.1, RFC 4443 §3.1), a denied connection with a
//!   reset, a denied name with REFUSED (RFC 1035 §4.1.1).
//! * Our own address stands for the host's loopback, which the policy denies unless a rule names it.
//! * A datagram from outside reaches the guest only from an address that the flow has sent to (RFC 4787 §5,
//!   address-dependent filtering); a flow is one port of the guest's, whatever the target (§4.1).
//! * An answer teaches the policy only when it is to a question that was asked and is the same question.
//! * Flows, streams, questions and queued frames are bounded, in number and in memory; the longest idle
//!   flow, the new stream, the new question and the new frame give way.
//!
//! Rejected: one host socket for each pair of guest port and target, which breaks protocols that expect one
//! source port (RFC 4787 REQ-1).

mod bootp;
mod checksum;
mod config;
mod datagrams;
mod decisions;
mod dhcp;
mod dhcp6;
mod dispatch;
mod dns;
mod driver;
mod flows;
mod fragments;
mod frame;
mod icmp;
mod inward;
mod lan;
mod names;
mod ndp;
mod paced;
mod peers;
mod plain;
mod resolve;
mod send;
mod streams;
mod tcp;

use crate::policy::{Policy, Protocol};
use decisions::Decisions;
use dns::Questions;
use flows::Flows;
use fragments::Fragments;
use kezhan_ports::nic::{Offloads, Packet};
use names::Names;
use paced::Paced;
use peers::Peers;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tcp::Streams;

pub use config::{BootFile, GatewayConfig, Ipv6Config};
pub use decisions::{DecisionRecord, Subject};
pub use dns::QueryId;
pub use driver::{
    Answers, BootConfig, Forward, ForwardId, GuestIdle, LanConfig, Limits, Listen, Report,
    UserConfig, UserError, UserNetwork, UserNic, remove_dead_networks, spawn,
};
pub use flows::FlowId;
pub use frame::Frame;
pub use tcp::{Failure, StreamId};

/// The port of name servers (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// Frames and orders that wait to be taken.
const QUEUE: usize = 1024;

/// What the driver has to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outward {
    /// Send this from the flow's socket, which is made with the first datagram.
    Datagram {
        /// The flow.
        flow: FlowId,
        /// The receiver.
        to: SocketAddr,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Close the flow's socket.
    Close {
        /// The flow.
        flow: FlowId,
    },
    /// Ask the host's resolver. The message's ID is 0: the driver puts in a random one for each query, and
    /// takes only answers that carry it back, from where it asked.
    Query {
        /// For [`Gateway::answer`].
        query: QueryId,
        /// The DNS message.
        message: Vec<u8>,
        /// The guest asked by a stream: an answer of any length is welcome.
        stream: bool,
    },
    /// The guest asks for a file to start from: answer with [`Gateway::send_boot`].
    Boot {
        /// The guest's address and port.
        guest: SocketAddr,
        /// The port of ours.
        port: u16,
        /// The TFTP message.
        message: Vec<u8>,
    },
    /// Send this from the forward's socket.
    Reply {
        /// The forward.
        forward: ForwardId,
        /// The peer.
        to: SocketAddr,
        /// The payload.
        payload: Vec<u8>,
    },
    /// Connect, and say [`Gateway::stream_connected`] or [`Gateway::stream_failed`].
    Connect {
        /// The stream.
        stream: StreamId,
        /// The target.
        to: SocketAddr,
    },
    /// There is output: write [`Gateway::stream_output`] until there is none or the socket is full.
    Output {
        /// The stream.
        stream: StreamId,
    },
    /// There is room for bytes from the host, after [`Gateway::stream_room`] said 0.
    Room {
        /// The stream.
        stream: StreamId,
    },
    /// The guest sends no more, and all was written: shut the socket's writing side.
    Shut {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is over: close its socket, or reset it. Nothing more is heard of it.
    Drop {
        /// The stream.
        stream: StreamId,
        /// The guest broke it off.
        reset: bool,
    },
}

/// What became of frames, for the log and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayCounts {
    /// Not understood, or nothing that is carried.
    pub dropped: u64,
    /// From an address that is not the guest's.
    pub spoofed: u64,
    /// Denied by the policy.
    pub denied: u64,
    /// Lost because a queue or a table was full.
    pub full: u64,
    /// Frames from the guest, and their bytes.
    pub received: (u64, u64),
    /// Frames to the guest, and their bytes.
    pub sent: (u64, u64),
}

/// A router for one guest. See the module.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    policy: Policy,
    flows: Flows,
    fragments: Fragments,
    streams: Streams,
    questions: Questions,
    names: Names,
    peers: Peers,
    decisions: Decisions,
    frames: VecDeque<Frame>,
    datagrams: Paced,
    orders: VecDeque<Outward>,
    counts: GatewayCounts,
    offloads: Offloads,
    held: bool,
    flows_a_second: Option<u32>,
    /// This second, and the flows that it has seen.
    fresh: (u64, u32),
    ident: u16,
    ephemeral: u16,
}

impl Gateway {
    /// A router that knows no flows.
    #[must_use]
    pub fn new(config: GatewayConfig, policy: Policy) -> Gateway {
        Gateway {
            config,
            policy,
            flows: Flows::default(),
            fragments: Fragments::default(),
            streams: Streams::default(),
            questions: Questions::default(),
            names: Names::default(),
            peers: Peers::default(),
            decisions: Decisions::default(),
            frames: VecDeque::new(),
            datagrams: Paced::default(),
            orders: VecDeque::new(),
            counts: GatewayCounts::default(),
            offloads: Offloads::default(),
            held: false,
            flows_a_second: None,
            fresh: (0, 0),
            ident: 0,
            ephemeral: 0,
        }
    }

    /// Which work the guest does on receive: frames taken from now on may leave it that.
    pub fn accept(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// Takes a frame of the guest's, with the work that is left to do for it.
    pub fn receive(&mut self, now: Duration, frame: Vec<u8>, packet: Packet) {
        self.counts.received.0 += 1;
        self.counts.received.1 += frame.len() as u64;
        if self.dispatch(now, frame, packet).is_none() {
            self.counts.dropped += 1;
        }
    }

    /// Whether frames that were taken wait for the guest to come for them: then nothing is sent again, since
    /// nothing can have been lost yet. A paused guest's connections stay.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Ends what has been idle for too long, and repeats what was lost; when to call again, `None` when
    /// nothing can end.
    pub fn expire(&mut self, now: Duration) -> Option<Duration> {
        for flow in self.flows.expire(now) {
            self.orders.push_back(Outward::Close { flow });
        }
        self.questions.expire(now);
        self.expire_streams(now);
        let ends = [self.flows.next_end(), self.questions.next_end(), self.streams.next_deadline()];
        ends.into_iter().flatten().min()
    }

    /// The next frame for the guest.
    pub fn take_frame(&mut self, now: Duration) -> Option<Frame> {
        let frame = self.frames.pop_front();
        let frame = frame.or_else(|| self.datagrams.pop(now));
        let frame = frame.or_else(|| self.next_segment(now))?;
        self.counts.sent.0 += 1;
        self.counts.sent.1 += frame.length() as u64;
        Some(frame)
    }

    /// When [`Gateway::take_frame`] has another datagram, that is held back to this time; `None` when none is.
    #[must_use]
    pub fn next_datagram(&self) -> Option<Duration> {
        self.datagrams.next()
    }

    /// The guest has nothing to do, and has done what it was given: it can be given more datagrams.
    pub fn guest_is_idle(&mut self, now: Duration) {
        self.datagrams.idle(now);
    }

    /// Whether datagrams wait for [`Gateway::guest_is_idle`].
    #[must_use]
    pub fn waits_for_idle(&self) -> bool {
        self.datagrams.waits_for_idle()
    }

    /// Whether there is no use in reading more datagrams for now: there is when some were taken as frames.
    #[must_use]
    pub fn has_enough_datagrams(&self) -> bool {
        self.datagrams.has_enough()
    }

    /// The next order for the driver.
    pub fn take_outward(&mut self) -> Option<Outward> {
        self.orders.pop_front()
    }

    /// What became of frames.
    #[must_use]
    pub fn counts(&self) -> GatewayCounts {
        self.counts
    }

    /// The policy, for its counts.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The last few hundred decisions of the policy, the oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &DecisionRecord> {
        self.decisions.iter()
    }

    /// The network that the guest sees.
    #[must_use]
    pub fn config(&self) -> &GatewayConfig {
        &self.config
    }

    /// Streams and datagram flows that are known now, and bytes that the streams hold or have promised.
    #[must_use]
    pub fn load(&self) -> (usize, usize, usize) {
        (self.streams.len(), self.flows.len(), self.streams.held())
    }

    /// Limits the connections and flows that the guest may begin in a second.
    pub fn limit_flows(&mut self, a_second: Option<u32>) {
        self.flows_a_second = a_second;
    }

    /// Limits the datagrams that a guest is given in a second while it has other work.
    pub fn limit_datagrams(&mut self, a_second: Option<u32>) {
        self.datagrams.limit(a_second);
    }

    /// Whether one more flow may begin; counts when it may not.
    fn may_begin(&mut self, now: Duration) -> bool {
        let Some(most) = self.flows_a_second else { return true };
        if self.fresh.0 != now.as_secs() {
            self.fresh = (now.as_secs(), 0);
        }
        let may = self.fresh.1 < most;
        self.fresh.1 += u32::from(may);
        self.counts.full += u64::from(!may);
        may
    }

    /// Where a flow to this address goes; `None` when the policy denies it. Our own address stands for the
    /// host's loopback.
    fn target(&mut self, now: Duration, to: SocketAddr, protocol: Protocol) -> Option<SocketAddr> {
        let target = match to.ip() {
            ip if !self.config.is_ours(ip) => to,
            IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port()),
            IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), to.port()),
        };
        let decision = self.policy.decide(now, target.ip(), target.port(), protocol);
        let names = self.policy.names(now, target.ip());
        self.decisions.note(DecisionRecord {
            at: now,
            subject: Subject::Flow { to: target, protocol, names },
            allowed: decision.allows(),
            decision: Some(decision),
        });
        decision.allows().then_some(target)
    }

    /// Whether an order can be given; counts when it cannot. Asked before anything is noted for it, so that
    /// a close always finds room: it is ordered beside a datagram, or for one of the flows.
    fn may_order(&mut self) -> bool {
        let room = self.orders.len() < QUEUE;
        if !room {
            self.counts.full += 1;
        }
        room
    }
}

#[cfg(test)]
mod tests;
