//! A frame of the guest's finds its protocol.

use super::frame::{self, ETHERNET, Frame, Header, kind, protocol};
use super::icmp::{self, Refusal};
use super::inward::{Fragment, Inward};
use super::{Gateway, ndp};
use kezhan_ports::nic::Packet;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use std::time::Duration;

impl Gateway {
    pub(super) fn dispatch(&mut self, now: Duration, frame: Vec<u8>, packet: Packet) -> Option<()> {
        let header = frame.first_chunk::<ETHERNET>()?;
        let (to, rest) = header.split_first_chunk::<6>()?;
        let (from, kind) = rest.split_first_chunk::<6>()?;
        if *from != self.config.guest_mac {
            self.counts.spoofed += 1;
            return Some(());
        }
        let kind = u16::from_be_bytes(*kind.first_chunk()?);
        let multicast6 = kind == kind::IPV6 && to.starts_with(&[0x33, 0x33]);
        if *to != self.config.mac && *to != [0xff; 6] && !multicast6 {
            // Multicast, or a neighbour that is not there.
            return None;
        }
        match kind {
            kind::ARP => self.arp(frame.get(ETHERNET..)?),
            kind::IPV4 => {
                let inward = Inward::ipv4(&frame)?;
                self.ip(now, inward, frame, packet)
            }
            kind::IPV6 if self.config.six.is_some() => {
                let inward = Inward::ipv6(&frame)?;
                self.ip(now, inward, frame, packet)
            }
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
        self.queue(Frame::plain(frame));
        Some(())
    }

    fn ip(&mut self, now: Duration, inward: Inward, frame: Vec<u8>, packet: Packet) -> Option<()> {
        if let Some(fragment) = inward.fragment {
            return self.fragment(now, (&inward, fragment), &frame);
        }
        // Who has no address yet asks for one by DHCP, or asks its neighbours.
        let unset = inward.from.is_unspecified()
            && matches!(inward.protocol, protocol::UDP | protocol::ICMPV6);
        if !self.config.is_guests(inward.from) && !unset {
            self.counts.spoofed += 1;
            return Some(());
        }
        let length = inward.payload.end - inward.network;
        if length > self.config.mtu.into() && packet.segmentation.is_none() {
            self.refuse_packet(&inward, &frame, Refusal::TooBig(self.config.mtu));
            return None;
        }
        self.carry(now, inward, frame, packet)
    }

    /// A whole packet of the guest's.
    fn carry(
        &mut self,
        now: Duration,
        inward: Inward,
        frame: Vec<u8>,
        packet: Packet,
    ) -> Option<()> {
        let everybody = self.config.is_broadcast(inward.to) || inward.to.is_multicast();
        match (inward.protocol, inward.to.is_ipv6()) {
            (protocol::UDP, _) => self.udp(now, &inward, &frame, packet),
            (protocol::TCP, _) if !everybody => self.tcp(now, &inward, frame, packet),
            (protocol::ICMP, false) if !everybody => self.icmp(now, &inward, &frame),
            (protocol::ICMPV6, true) => self.icmpv6(now, &inward, &frame),
            _ if everybody => None,
            _ => {
                self.refuse_packet(&inward, &frame, Refusal::Protocol);
                Some(())
            }
        }
    }

    /// A part of a packet: when that makes it whole, the packet goes on as if it had come in one.
    fn fragment(
        &mut self,
        now: Duration,
        (inward, fragment): (&Inward, Fragment),
        frame: &[u8],
    ) -> Option<()> {
        if !self.config.is_guests(inward.from) {
            self.counts.spoofed += 1;
            return Some(());
        }
        let bytes = inward.bytes(frame);
        let Some(payload) = self.fragments.take(now, (inward, fragment), bytes) else {
            return Some(());
        };
        let header =
            Header { protocol: inward.protocol, from: inward.from, to: inward.to, ident: 0 };
        let mut whole = frame::headers(&self.config, &header, payload.len(), payload.len());
        let start = whole.len();
        whole.extend(payload);
        let inward = Inward { payload: start..whole.len(), fragment: None, ..inward.clone() };
        self.carry(now, inward, whole, Packet::default())
    }

    pub(super) fn refuse_packet(&mut self, inward: &Inward, frame: &[u8], refusal: Refusal) {
        self.refuse(inward.from, inward.to, inward.packet(frame), refusal);
    }

    /// Answers echo requests to us (RFC 792). Nobody else can be asked for an echo without privilege.
    fn icmp(&mut self, now: Duration, inward: &Inward, frame: &[u8]) -> Option<()> {
        let message = inward.bytes(frame);
        if !icmp::is_sound(message) {
            return None;
        }
        if !self.config.is_ours(inward.to) {
            if message.first() == Some(&icmp::ECHO_REQUEST.0) {
                self.refuse_packet(inward, frame, Refusal::Prohibited);
                return Some(());
            }
            return self.hint(now, message);
        }
        let reply = icmp::echo(message, inward.to, inward.from);
        self.send_icmp(inward.to, inward.from, &reply?);
        Some(())
    }

    /// RFC 4443 and RFC 4861.
    fn icmpv6(&mut self, now: Duration, inward: &Inward, frame: &[u8]) -> Option<()> {
        if !inward.is_sound(frame, Packet::default(), 2) {
            return None;
        }
        let message = inward.bytes(frame);
        if let Some(answer) = ndp::reply(&self.config, message, inward.from) {
            self.send_icmp(answer.from, answer.to, &answer.message);
            return Some(());
        }
        if self.config.is_ours(inward.to) {
            let reply = icmp::echo(message, inward.to, inward.from);
            self.send_icmp(inward.to, inward.from, &reply?);
            return Some(());
        }
        if message.first() == Some(&icmp::ECHO_REQUEST.1) && !inward.to.is_multicast() {
            self.refuse_packet(inward, frame, Refusal::Prohibited);
            return Some(());
        }
        self.hint(now, message)
    }

    /// What the guest tells about our packets: that they are too long for the way behind it (RFC 1191 §4,
    /// RFC 8201 §4).
    fn hint(&mut self, now: Duration, message: &[u8]) -> Option<()> {
        let hint = icmp::too_big(message)?;
        self.shrink_stream(now, &hint)
    }
}
