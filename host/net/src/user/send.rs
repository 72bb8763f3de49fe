//! What the gateway sends to its guest.

use super::{Gateway, Inward, QUEUE, QUOTE, frame, log_denied};
use crate::policy::Decision;
use smoltcp::wire::{Icmpv4DstUnreachable, Icmpv4Repr, IpProtocol};
use std::net::{Ipv4Addr, SocketAddrV4};

impl Gateway {
    pub(super) fn deny(&mut self, inward: &Inward<'_>, to: SocketAddrV4, decision: Decision) {
        log_denied(format_args!("{to}/udp ({:?})", decision.reason));
        self.counts.denied += 1;
        self.refuse(inward, Icmpv4DstUnreachable::HostProhibited);
    }

    /// Tells the guest that its packet goes nowhere, quoting as much of it as fits (RFC 1812 §4.3.2.3).
    pub(super) fn refuse(&mut self, inward: &Inward<'_>, reason: Icmpv4DstUnreachable) {
        let payload = inward.packet.payload();
        let data = payload.get(..QUOTE).unwrap_or(payload);
        let header = inward.ip;
        self.send_icmp(&Icmpv4Repr::DstUnreachable { reason, header, data });
    }

    pub(super) fn send_icmp(&mut self, message: &Icmpv4Repr<'_>) {
        let payload = frame::icmp(message);
        self.send_ip(IpProtocol::Icmp, self.config.gateway, self.config.guest, &payload);
    }

    pub(super) fn send_udp(&mut self, from: SocketAddrV4, port: u16, payload: &[u8]) {
        self.send(from, SocketAddrV4::new(self.config.guest, port), payload);
    }

    pub(super) fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) {
        match frame::udp(from, to, payload) {
            Some(datagram) => self.send_ip(IpProtocol::Udp, *from.ip(), *to.ip(), &datagram),
            None => self.counts.dropped += 1,
        }
    }

    pub(super) fn send_ip(
        &mut self,
        protocol: IpProtocol,
        from: Ipv4Addr,
        to: Ipv4Addr,
        payload: &[u8],
    ) {
        self.ident = self.ident.wrapping_add(1);
        let header = frame::Header { protocol, from, to, ident: self.ident };
        for frame in frame::ipv4(&self.config, &header, payload) {
            self.queue(frame);
        }
    }

    pub(super) fn queue(&mut self, frame: Vec<u8>) {
        if self.frames.len() < QUEUE {
            self.frames.push_back(frame);
        } else {
            self.counts.full += 1;
        }
    }
}
