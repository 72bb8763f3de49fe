//! UDP: services of ours, and flows to everywhere.

use super::dns::Client;
use super::driver::boot;
use super::frame::{self, ETHERNET, Header, UDP, UDP_CHECKSUM, protocol};
use super::icmp::Refusal;
use super::inward::Inward;
use super::{DNS_PORT, Failure, FlowId, Gateway, Outward, bootp, dhcp, dhcp6};
use crate::policy::Protocol;
use kezhan_ports::nic::Packet;
use smoltcp::wire::{DHCP_CLIENT_PORT, DHCP_SERVER_PORT};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A datagram of the guest's.
struct Datagram<'a> {
    inward: &'a Inward,
    frame: &'a [u8],
    guest: SocketAddr,
    to: SocketAddr,
    payload: &'a [u8],
}

impl Gateway {
    /// Takes a datagram that came to a flow's socket.
    pub fn datagram(&mut self, now: Duration, flow: FlowId, from: SocketAddr, payload: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        match self.flows.heard(now, flow, from) {
            Some(guest) => {
                // The host's loopback is reached by our address, and answers from there.
                let ip = match from.ip().is_loopback() {
                    true => self.config.ours_like(guest.ip()),
                    false => from.ip(),
                };
                self.send_udp(SocketAddr::new(ip, from.port()), guest, payload);
            }
            None => self.counts.dropped += 1,
        }
    }

    /// A datagram of a flow was not delivered, and this is its beginning: the guest is told as a router tells it
    /// (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
    pub fn datagram_lost(
        &mut self,
        now: Duration,
        flow: FlowId,
        (to, why): (SocketAddr, Failure),
        payload: &[u8],
    ) {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        let Some(guest) = self.flows.heard(now, flow, to) else { return };
        let ip = if to.ip().is_loopback() { self.config.ours_like(guest.ip()) } else { to.ip() };
        let Some(bytes) = frame::udp(guest, SocketAddr::new(ip, to.port()), payload) else {
            return;
        };
        let header = Header { protocol: protocol::UDP, from: guest.ip(), to: ip, ident: 0 };
        let mut packet = frame::headers(&self.config, &header, bytes.len(), bytes.len());
        packet.extend(bytes);
        let refusal = match why {
            Failure::Refused => Refusal::Port,
            Failure::NetworkUnreachable => Refusal::Network,
            Failure::HostUnreachable => Refusal::Host,
        };
        self.refuse(guest.ip(), ip, packet.get(ETHERNET..).unwrap_or_default(), refusal);
    }

    /// Whether a datagram from there would reach the guest.
    #[must_use]
    pub fn knows_sender(&self, now: Duration, flow: FlowId, from: SocketAddr) -> bool {
        self.flows.heard(now, flow, from).is_some()
    }

    /// RFC 768.
    pub(super) fn udp(
        &mut self,
        now: Duration,
        inward: &Inward,
        frame: &[u8],
        packet: Packet,
    ) -> Option<()> {
        let bytes = inward.bytes(frame);
        let header = bytes.first_chunk::<UDP>()?;
        let [source, port, length, sum] =
            [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        let unsummed = sum == 0 && inward.from.is_ipv4() && packet.checksum.is_none();
        if !unsummed && !inward.is_sound(frame, packet, UDP_CHECKSUM) {
            return None;
        }
        let payload = bytes.get(UDP..length.into())?;
        let datagram = Datagram {
            inward,
            frame,
            guest: SocketAddr::new(inward.from, source),
            to: SocketAddr::new(inward.to, port),
            payload,
        };
        let for_us = self.config.is_ours(inward.to);
        let broadcast = self.config.is_broadcast(inward.to);
        let lease = source == DHCP_CLIENT_PORT && port == DHCP_SERVER_PORT;
        if lease && inward.to.is_ipv4() && (for_us || broadcast) {
            return self.dhcp(payload);
        }
        if port == dhcp6::SERVER && (for_us || inward.to == IpAddr::V6(dhcp6::ALL_SERVERS)) {
            return self.dhcp6(&datagram);
        }
        if inward.from.is_unspecified() {
            self.counts.spoofed += 1;
            return Some(());
        }
        match port {
            _ if broadcast || inward.to.is_multicast() => None,
            _ if for_us
                && inward.to.is_ipv4()
                && self.config.boot.is_some()
                && boot::is_port(port) =>
            {
                self.boot(&datagram)
            }
            DNS_PORT if for_us => self.resolve_datagram(now, &datagram),
            _ if self.reply(now, (datagram.guest, datagram.to), payload).is_some() => Some(()),
            _ => self.forward(now, &datagram),
        }
    }

    fn dhcp(&mut self, message: &[u8]) -> Option<()> {
        let lease = dhcp::reply(&self.config, message);
        let (reply, to) =
            lease.or_else(|| Some((bootp::reply(&self.config, message)?, Ipv4Addr::BROADCAST)))?;
        let from = SocketAddr::new(self.config.gateway.into(), DHCP_SERVER_PORT);
        self.send_udp(from, SocketAddr::new(to.into(), DHCP_CLIENT_PORT), &reply);
        Some(())
    }

    /// The files are the driver's.
    fn boot(&mut self, datagram: &Datagram<'_>) -> Option<()> {
        if self.may_order() {
            let (guest, port) = (datagram.guest, datagram.to.port());
            self.orders.push_back(Outward::Boot {
                guest,
                port,
                message: datagram.payload.to_vec(),
            });
        }
        Some(())
    }

    /// Sends what the driver answers to [`Outward::Boot`], from this port of ours.
    pub fn send_boot(&mut self, port: u16, guest: SocketAddr, message: &[u8]) {
        self.send_udp(SocketAddr::new(self.config.gateway.into(), port), guest, message);
    }

    fn dhcp6(&mut self, datagram: &Datagram<'_>) -> Option<()> {
        let six = self.config.six?;
        let reply = dhcp6::reply(&self.config, &six, datagram.payload)?;
        let from = SocketAddr::new(six.link_local.into(), dhcp6::SERVER);
        self.send_udp(from, datagram.guest, &reply);
        Some(())
    }

    fn resolve_datagram(&mut self, now: Duration, datagram: &Datagram<'_>) -> Option<()> {
        let client = Client::Datagram { guest: datagram.guest, ours: datagram.to.ip() };
        self.resolve(now, client, datagram.payload)
    }

    fn forward(&mut self, now: Duration, datagram: &Datagram<'_>) -> Option<()> {
        let guest = datagram.guest;
        if !self.flows.has(guest) && !self.may_begin(now) {
            return Some(());
        }
        let Some(to) = self.allowed_target(now, datagram) else {
            self.counts.denied += 1;
            let refusal = match self.config.is_ours(datagram.to.ip()) {
                true => Refusal::Port,
                false => Refusal::Prohibited,
            };
            self.refuse_packet(datagram.inward, datagram.frame, refusal);
            return Some(());
        };
        if !self.may_order() {
            return Some(());
        }
        let (flow, closed) = self.flows.sent(now, guest, to);
        if let Some(flow) = closed {
            self.orders.push_back(Outward::Close { flow });
        }
        self.orders.push_back(Outward::Datagram { flow, to, payload: datagram.payload.to_vec() });
        Some(())
    }

    /// A flow that lives was allowed when it sent there first.
    fn allowed_target(&mut self, now: Duration, datagram: &Datagram<'_>) -> Option<SocketAddr> {
        let to = datagram.to;
        if !self.config.is_ours(to.ip()) && self.flows.knows(now, datagram.guest, to) {
            return Some(to);
        }
        self.target(now, to, Protocol::Udp)
    }
}
