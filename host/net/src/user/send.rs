//! What the gateway sends to its guest, besides segments.

use super::frame::{self, Frame, Header, protocol};
use super::icmp::{self, Refusal};
use super::{Gateway, QUEUE};
use std::net::{IpAddr, SocketAddr};

impl Gateway {
    /// Tells the guest, at `guest`, that its packet to `to` goes nowhere.
    pub(super) fn refuse(&mut self, guest: IpAddr, to: IpAddr, packet: &[u8], refusal: Refusal) {
        let ours = self.config.ours_like(to);
        let message = icmp::error(refusal, ours, guest, packet);
        self.send_icmp(ours, guest, &message);
    }

    pub(super) fn send_icmp(&mut self, from: IpAddr, to: IpAddr, message: &[u8]) {
        let protocol = if to.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        self.send_ip(protocol, from, to, message);
    }

    pub(super) fn send_udp(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let how = (self.ident.wrapping_add(1), self.offloads.checksum);
        if let Some(frame) = frame::datagram(&self.config, (from, to), payload, how) {
            self.ident = how.0;
            self.counts.full += u64::from(!self.datagrams.push(frame));
            return;
        }
        match frame::udp(from, to, payload) {
            Some(datagram) => self.send_ip(protocol::UDP, from.ip(), to.ip(), &datagram),
            None => self.counts.dropped += 1,
        }
    }

    pub(super) fn send_ip(&mut self, protocol: u8, from: IpAddr, to: IpAddr, payload: &[u8]) {
        self.ident = self.ident.wrapping_add(1);
        let header = Header { protocol, from, to, ident: self.ident };
        for frame in frame::packet(&self.config, &header, payload) {
            self.queue(frame);
        }
    }

    pub(super) fn queue(&mut self, frame: Frame) {
        if self.frames.len() < QUEUE {
            self.frames.push_back(frame);
        } else {
            self.counts.full += 1;
        }
    }
}
