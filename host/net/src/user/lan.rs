//! What a guest may say to its neighbours on a named network, and hear from them.
//!
//! Each machine's gateway has the same addresses and answers its own guest only, so that a guest can move
//! from one machine's network to the next and find its router. Neighbours therefore never speak as the
//! router: neither by its addresses nor by its services.

use super::frame::{ETHERNET, kind, protocol};
use super::inward::Inward;
use super::{Gateway, plain};
use kezhan_ports::nic::Packet;
use smoltcp::wire::{ArpPacket, ArpRepr};
use std::net::IpAddr;

/// A router's word (RFC 4861 §4.2, §4.5): advertisement and redirect.
const ROUTERS: [u8; 2] = [134, 137];

/// Ports of services that only the router has: DHCP's (RFC 2131 §4.1, RFC 8415 §7.2).
const SERVICES: [u16; 4] = [67, 68, 546, 547];

/// Who sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Guest,
    Neighbours,
}

impl Gateway {
    /// Whether a frame of the guest's is for its neighbours, besides or instead of us.
    pub(super) fn is_for_neighbours(&self, frame: &[u8]) -> bool {
        let Some((to, _)) = frame.split_first_chunk::<6>() else { return false };
        *to != self.config.mac && self.may_pass(frame, Side::Guest)
    }

    /// Takes a frame of a neighbour's for the guest, and does for it what the guest does not.
    pub fn neighbour(&mut self, frame: Vec<u8>, packet: Packet) {
        if !self.may_reach_guest(&frame) {
            self.counts.spoofed += 1;
            return;
        }
        for frame in plain::frames(frame, packet, self.offloads) {
            self.queue(frame);
        }
    }

    /// Whether a frame of a neighbour's may reach the guest.
    fn may_reach_guest(&self, frame: &[u8]) -> bool {
        let Some((to, _)) = frame.split_first_chunk::<6>() else { return false };
        let everybody = to.first().is_some_and(|first| first & 1 == 1);
        (everybody || *to == self.config.guest_mac) && self.may_pass(frame, Side::Neighbours)
    }

    fn may_pass(&self, frame: &[u8], side: Side) -> bool {
        let Some(header) = frame.first_chunk::<ETHERNET>() else { return false };
        let Some((from, kind)) = header.get(6..).and_then(<[u8]>::split_first_chunk::<6>) else {
            return false;
        };
        let own = *from == self.config.guest_mac;
        if own != (side == Side::Guest) || *from == self.config.mac {
            return false;
        }
        match kind.first_chunk().map(|kind| u16::from_be_bytes(*kind)) {
            Some(kind::ARP) => self.arp_may_pass(frame, side) == Some(true),
            Some(kind::IPV4) => {
                Inward::ipv4(frame).is_some_and(|ip| self.ip_may_pass(&ip, frame, side))
            }
            Some(kind::IPV6) => {
                Inward::ipv6(frame).is_some_and(|ip| self.ip_may_pass(&ip, frame, side))
            }
            _ => false,
        }
    }

    fn arp_may_pass(&self, frame: &[u8], side: Side) -> Option<bool> {
        let packet = ArpPacket::new_checked(frame.get(ETHERNET..)?).ok()?;
        let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } =
            ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let same = frame.get(6..12)? == source_hardware_addr.as_bytes();
        let from = IpAddr::from(source_protocol_addr);
        let unset = source_protocol_addr.is_unspecified();
        Some(same && (unset || self.may_speak(from, side)))
    }

    fn ip_may_pass(&self, inward: &Inward, frame: &[u8], side: Side) -> bool {
        let bytes = inward.bytes(frame);
        let service = inward.protocol == protocol::UDP
            && bytes.first_chunk::<4>().is_some_and(|[a, b, c, d]| {
                let ports = [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])];
                SERVICES.iter().any(|port| ports.contains(port))
            });
        let router = inward.protocol == protocol::ICMPV6
            && bytes.first().is_some_and(|kind| ROUTERS.contains(kind));
        // Who asks whether an address is taken has none (RFC 4862 §5.4.3).
        let unset = inward.from.is_unspecified() && inward.protocol == protocol::ICMPV6;
        !service && !router && (unset || self.may_speak(inward.from, side))
    }

    /// Whether a side may have an address.
    fn may_speak(&self, from: IpAddr, side: Side) -> bool {
        let guests = self.config.is_guests(from);
        match (side, from) {
            (Side::Guest, _) => guests,
            // Its own addresses in IPv6 a guest makes itself: they are not known here.
            (Side::Neighbours, IpAddr::V6(_)) => guests,
            (Side::Neighbours, IpAddr::V4(ip)) => {
                let hosts = u32::MAX.checked_shr(self.config.prefix.into()).unwrap_or(0);
                let here = (ip.to_bits() ^ self.config.gateway.to_bits()) & !hosts == 0;
                here && !guests && !self.config.is_ours(from)
            }
        }
    }
}
