//! The user-mode network's edge towards one guest: a small router with a name server, without I/O.
//!
//! ```text
//!                      ┌──────────────── Gateway ─────────────────┐
//!   guest ── frames ──►│ ARP, DHCP, echo          answered here   │
//!         ◄────────────│ names      policy ──► Query ────────────►│──► driver: the host's resolver
//!                      │ datagrams  policy ──► Datagram ─────────►│──► driver: a UDP socket for each flow
//!                      └──────────────────────────────────────────┘
//! ```
//! # Who calls what
//! 1. The driver gives each frame of the guest to [`Gateway::receive`] with the time, then takes every
//!    [`Gateway::take_outward`] and every [`Gateway::take_frame`].
//! 2. What comes back goes to [`Gateway::datagram`] and [`Gateway::answer`]; what was too late or was never
//!    asked for is dropped there.
//! 3. [`Gateway::expire`] is called at the time that it gave last, and ends what has been idle.
//!
//! The machine reads no clock and draws no numbers: the same calls give the same frames.
//!
//! # What holds
//! * A frame whose source is not the guest's own address, Ethernet or IP, is dropped.
//! * Nothing leaves but by [`Policy::decide`] and [`Policy::may_resolve`]. A denied datagram is answered
//!   with "administratively prohibited" (RFC 1812 §5.2.7.1), a denied name with REFUSED (RFC 1035 §4.1.1).
//! * A datagram from outside reaches the guest only from an address that the flow has sent to (RFC 4787 §5,
//!   address-dependent filtering); a flow is one port of the guest's, whatever the target (§4.1).
//! * An answer teaches the policy only when it is to a question that was asked and is the same question.
//! * Flows, questions and queued frames are bounded; the longest idle flow, the new question and the new
//!   frame give way.
//!
//! # What it does not carry
//! IPv4 only, no fragments from the guest, and of TCP nothing: "protocol unreachable" is the answer.
//!
//! Rejected: one host socket for each pair of guest port and target, which breaks protocols that expect one
//! source port (RFC 4787 REQ-1).

mod dhcp;
mod dns;
mod flows;
mod frame;
mod send;

use crate::policy::{Policy, Protocol};
use dns::Questions;
use flows::Flows;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, EthernetAddress,
    EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

pub use dns::QueryId;
pub use flows::FlowId;

/// The port of name servers (RFC 1035 §4.2.1).
const DNS_PORT: u16 = 53;

/// Bytes of a refused packet that go back behind its header: the message has 576 at most, of which two IP
/// headers and its own take 48.
const QUOTE: usize = 576 - 48;

/// Frames and orders that wait to be taken.
const QUEUE: usize = 1024;

/// The network that the guest sees.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The guest's Ethernet address.
    pub guest_mac: [u8; 6],
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// The guest's address.
    pub guest: Ipv4Addr,
    /// Our address: router, DHCP server and name server.
    pub gateway: Ipv4Addr,
    /// Leading bits of the network.
    pub prefix: u8,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// How long the guest may keep its address.
    pub lease: Duration,
}

/// What the driver has to do outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outward {
    /// Send this from the flow's socket, which is made with the first datagram.
    Datagram {
        /// The flow.
        flow: FlowId,
        /// The receiver.
        to: SocketAddrV4,
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
    /// Lost because a queue was full.
    pub full: u64,
}

/// A router for one guest. See the module.
#[derive(Debug)]
pub struct Gateway {
    config: GatewayConfig,
    policy: Policy,
    flows: Flows,
    questions: Questions,
    frames: VecDeque<Vec<u8>>,
    outward: VecDeque<Outward>,
    counts: GatewayCounts,
    ident: u16,
}

/// The headers of a datagram of the guest's.
struct Inward<'a> {
    ip: Ipv4Repr,
    packet: Ipv4Packet<&'a [u8]>,
}

impl Gateway {
    /// A router that knows no flows.
    #[must_use]
    pub fn new(config: GatewayConfig, policy: Policy) -> Gateway {
        Gateway {
            config,
            policy,
            flows: Flows::default(),
            questions: Questions::default(),
            frames: VecDeque::new(),
            outward: VecDeque::new(),
            counts: GatewayCounts::default(),
            ident: 0,
        }
    }

    /// Takes a frame of the guest's.
    pub fn receive(&mut self, now: Duration, frame: &[u8]) {
        if self.dispatch(now, frame).is_none() {
            self.counts.dropped += 1;
        }
    }

    /// Takes a datagram that came to a flow's socket.
    pub fn datagram(&mut self, now: Duration, flow: FlowId, from: SocketAddrV4, payload: &[u8]) {
        match self.flows.heard(now, flow, from) {
            Some(port) => self.send_udp(from, port, payload),
            None => self.counts.dropped += 1,
        }
    }

    /// Takes the resolver's answer to a query.
    pub fn answer(&mut self, now: Duration, query: QueryId, message: &[u8]) {
        let Some(answered) = self.questions.answer(query, message) else {
            self.counts.dropped += 1;
            return;
        };
        for (ip, lifetime) in &answered.addresses {
            self.policy.learn(now, &answered.name, *ip, *lifetime);
        }
        let from = SocketAddrV4::new(self.config.gateway, DNS_PORT);
        self.send_udp(from, answered.port, &answered.message);
    }

    /// Ends what has been idle for too long; when to call again, `None` when nothing can end.
    pub fn expire(&mut self, now: Duration) -> Option<Duration> {
        for flow in self.flows.expire(now) {
            self.outward.push_back(Outward::Close { flow });
        }
        self.questions.expire(now);
        self.flows.next_end().into_iter().chain(self.questions.next_end()).min()
    }

    /// The next frame for the guest.
    pub fn take_frame(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// The next order for the driver.
    pub fn take_outward(&mut self) -> Option<Outward> {
        self.outward.pop_front()
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

    fn dispatch(&mut self, now: Duration, frame: &[u8]) -> Option<()> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.src_addr() != EthernetAddress(self.config.guest_mac) {
            self.counts.spoofed += 1;
            return Some(());
        }
        let ours = EthernetAddress(self.config.mac);
        if frame.dst_addr() != ours && !frame.dst_addr().is_broadcast() {
            // Multicast, or a neighbour that is not there.
            return None;
        }
        match frame.ethertype() {
            EthernetProtocol::Arp => self.arp(frame.payload()),
            EthernetProtocol::Ipv4 => self.ipv4(now, frame.payload()),
            _ => None,
        }
    }

    /// Answers for our own address (RFC 826): there is nobody else on the guest's network.
    fn arp(&mut self, packet: &[u8]) -> Option<()> {
        let packet = ArpPacket::new_checked(packet).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        if target_protocol_addr != self.config.gateway {
            return None;
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(self.config.mac),
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let frame = frame::arp(&self.config, &reply);
        self.queue(frame);
        Some(())
    }

    fn ipv4(&mut self, now: Duration, bytes: &[u8]) -> Option<()> {
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
        if packet.more_frags() || packet.frag_offset() != 0 {
            return None;
        }
        let unset = ip.src_addr.is_unspecified() && ip.next_header == IpProtocol::Udp;
        if ip.src_addr != self.config.guest && !unset {
            self.counts.spoofed += 1;
            return Some(());
        }
        let inward = Inward { ip, packet };
        match ip.next_header {
            IpProtocol::Udp => self.udp(now, &inward),
            IpProtocol::Icmp => self.icmp(&inward),
            _ if ip.dst_addr.is_broadcast() || ip.dst_addr.is_multicast() => None,
            _ => {
                self.refuse(&inward, Icmpv4DstUnreachable::ProtoUnreachable);
                Some(())
            }
        }
    }

    /// Answers echo requests to us (RFC 792). Nobody else can be asked for an echo without privilege.
    fn icmp(&mut self, inward: &Inward<'_>) -> Option<()> {
        let packet = Icmpv4Packet::new_checked(inward.packet.payload()).ok()?;
        let parsed = Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
        let Icmpv4Repr::EchoRequest { ident, seq_no, data } = parsed else { return None };
        if inward.ip.dst_addr != self.config.gateway {
            self.refuse(inward, Icmpv4DstUnreachable::HostProhibited);
            return Some(());
        }
        self.send_icmp(&Icmpv4Repr::EchoReply { ident, seq_no, data });
        Some(())
    }

    fn udp(&mut self, now: Duration, inward: &Inward<'_>) -> Option<()> {
        let (from, to) = (inward.ip.src_addr, inward.ip.dst_addr);
        let packet = UdpPacket::new_checked(inward.packet.payload()).ok()?;
        let caps = ChecksumCapabilities::default();
        let udp = UdpRepr::parse(&packet, &from.into(), &to.into(), &caps).ok()?;
        let for_us = to == self.config.gateway;
        if udp.src_port == DHCP_CLIENT_PORT
            && udp.dst_port == DHCP_SERVER_PORT
            && (for_us || to.is_broadcast())
        {
            return self.dhcp(packet.payload());
        }
        if from != self.config.guest {
            self.counts.spoofed += 1;
            return Some(());
        }
        match udp.dst_port {
            _ if self.is_broadcast(to) || to.is_multicast() => None,
            DNS_PORT if for_us => self.resolve(now, udp.src_port, packet.payload()),
            _ if for_us => {
                self.refuse(inward, Icmpv4DstUnreachable::PortUnreachable);
                Some(())
            }
            port => {
                self.forward(now, inward, udp.src_port, port, packet.payload());
                Some(())
            }
        }
    }

    fn is_broadcast(&self, ip: Ipv4Addr) -> bool {
        let hosts = u32::MAX.checked_shr(self.config.prefix.into()).unwrap_or(0);
        ip.is_broadcast()
            || (ip.to_bits() | hosts) == ip.to_bits()
                && ip.to_bits() & !hosts == self.config.gateway.to_bits() & !hosts
    }

    fn dhcp(&mut self, message: &[u8]) -> Option<()> {
        let (reply, to) = dhcp::reply(&self.config, message)?;
        let from = SocketAddrV4::new(self.config.gateway, DHCP_SERVER_PORT);
        self.send(from, SocketAddrV4::new(to, DHCP_CLIENT_PORT), &reply);
        Some(())
    }

    fn resolve(&mut self, now: Duration, port: u16, message: &[u8]) -> Option<()> {
        let name = dns::question(message)?.name;
        if !self.policy.may_resolve(&name) {
            log_denied(format_args!("the name {name}"));
            self.counts.denied += 1;
            let refusal = dns::refusal(message)?;
            self.send_udp(SocketAddrV4::new(self.config.gateway, DNS_PORT), port, &refusal);
            return Some(());
        }
        if !self.may_order() {
            return Some(());
        }
        match self.questions.ask(now, port, message) {
            Some((query, message)) => self.outward.push_back(Outward::Query { query, message }),
            None => self.counts.full += 1,
        }
        Some(())
    }

    fn forward(&mut self, now: Duration, inward: &Inward<'_>, port: u16, to: u16, payload: &[u8]) {
        let to = SocketAddrV4::new(inward.ip.dst_addr, to);
        if !self.flows.knows(now, port, to) {
            let decision = self.policy.decide(now, (*to.ip()).into(), to.port(), Protocol::Udp);
            if !decision.allows() {
                self.deny(inward, to, decision);
                return;
            }
        }
        if !self.may_order() {
            return;
        }
        let (flow, closed) = self.flows.sent(now, port, to);
        if let Some(flow) = closed {
            self.outward.push_back(Outward::Close { flow });
        }
        self.outward.push_back(Outward::Datagram { flow, to, payload: payload.to_vec() });
    }

    /// Whether an order can be given; counts when it cannot. Asked before anything is noted for it, so that
    /// a close always finds room: it is ordered beside a datagram, or for one of the flows.
    fn may_order(&mut self) -> bool {
        let room = self.outward.len() < QUEUE;
        if !room {
            self.counts.full += 1;
        }
        room
    }
}

fn log_denied(what: std::fmt::Arguments<'_>) {
    log::info!("policy: denied: {what}");
}

#[cfg(test)]
mod tests;
