//! Frames for the guest.
//!
//! A frame is its headers and, for a stream, pieces of what was read from the host: these are shared, not
//! copied, until the frame is written into the device's buffer.

use super::GatewayConfig;
use super::checksum::Sum;
use kezhan_ports::nic::{Packet, PartialChecksum};
use smoltcp::wire::{ArpPacket, ArpRepr};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an Ethernet header (IEEE 802.3 §3.1.1).
pub(super) const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options (RFC 791 §3.1).
pub(super) const IPV4: usize = 20;
/// Bytes of an IPv6 header (RFC 8200 §3), and of its fragment header (§4.5).
pub(super) const IPV6: usize = 40;
const FRAGMENT: usize = 8;
/// Bytes of a UDP header (RFC 768).
pub(super) const UDP: usize = 8;

/// Where the UDP checksum is in its header (RFC 768).
pub(super) const UDP_CHECKSUM: u16 = 6;

/// The longest IP packet.
const LONGEST: usize = 65_535;

/// Ethernet types (IEEE 802 numbers at IANA).
pub(super) mod kind {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const IPV6: u16 = 0x86dd;
}

/// Protocol numbers (RFC 791 §3.1 and RFC 8200 §4; IANA's list).
pub(super) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION: u8 = 60;
}

/// Bytes that frames and buffers share.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) range: Range<usize>,
}

impl Piece {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

/// A frame for the guest.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<Piece>,
    pub(super) packet: Packet,
}

impl Frame {
    pub(super) fn plain(head: Vec<u8>) -> Frame {
        Frame { head, ..Frame::default() }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.head.len() + self.body.iter().map(|piece| piece.range.len()).sum::<usize>()
    }

    /// The work that is left to the guest.
    #[must_use]
    pub fn packet(&self) -> Packet {
        self.packet
    }

    /// Writes it to the start of a buffer; its length, or `None` when it does not fit.
    #[must_use]
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let length = self.length();
        let mut rest = buffer.get_mut(..length)?;
        let pieces = self.body.iter().map(Piece::as_slice);
        for piece in std::iter::once(self.head.as_slice()).chain(pieces) {
            let (here, behind) = rest.split_at_mut_checked(piece.len())?;
            here.copy_from_slice(piece);
            rest = behind;
        }
        Some(length)
    }

    /// Its bytes in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        self.body.iter().for_each(|piece| bytes.extend(piece.as_slice()));
        bytes
    }
}

/// What an IP header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) protocol: u8,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) ident: u16,
}

/// How the parts of a packet that is cut are told apart.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    offset: usize,
    more: bool,
    whole: bool,
}

fn ethernet(config: &GatewayConfig, to: [u8; 6], kind: u16, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ETHERNET + room);
    bytes.extend(to);
    bytes.extend(config.mac);
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// The station of an IP address: the guest's, or everybody's (RFC 1112 §6.4, RFC 2464 §7).
fn station(config: &GatewayConfig, to: IpAddr) -> [u8; 6] {
    match to {
        IpAddr::V6(ip) if ip.is_multicast() => {
            let [.., a, b, c, d] = ip.octets();
            [0x33, 0x33, a, b, c, d]
        }
        ip if config.is_broadcast(ip) => [0xff; 6],
        _ => config.guest_mac,
    }
}

pub(super) fn arp(config: &GatewayConfig, packet: &ArpRepr) -> Vec<u8> {
    let mut bytes = ethernet(config, config.guest_mac, kind::ARP, packet.buffer_len());
    bytes.resize(ETHERNET + packet.buffer_len(), 0);
    packet.emit(&mut ArpPacket::new_unchecked(bytes.get_mut(ETHERNET..).unwrap_or_default()));
    bytes
}

/// The frame of a UDP datagram that need not be cut, else `None`. With `leave_sum` the guest makes the checksum,
/// or rather believes in it.
pub(super) fn datagram(
    config: &GatewayConfig,
    (from, to): (SocketAddr, SocketAddr),
    payload: &[u8],
    (ident, leave_sum): (u16, bool),
) -> Option<Frame> {
    let length = UDP + payload.len();
    let network = if to.is_ipv6() { IPV6 } else { IPV4 };
    if network + length > config.mtu.into() {
        return None;
    }
    let header = Header { protocol: protocol::UDP, from: from.ip(), to: to.ip(), ident };
    let mut head = headers(config, &header, length, length);
    let start = head.len();
    for field in [from.port(), to.port(), clipped(length), 0] {
        head.extend(field.to_be_bytes());
    }
    head.extend(payload);
    let mut sum = Sum::pseudo(from.ip(), to.ip(), protocol::UDP, length);
    let sum = if leave_sum {
        sum.partial()
    } else {
        sum.add(head.get(start..).unwrap_or_default());
        udp_sum(sum)
    };
    let place = start + usize::from(UDP_CHECKSUM);
    head.get_mut(place..place + 2)?.copy_from_slice(&sum);
    let checksum = PartialChecksum { start: clipped(start), offset: UDP_CHECKSUM };
    let packet = Packet { checksum: leave_sum.then_some(checksum), segmentation: None };
    Some(Frame { head, body: Vec::new(), packet })
}

/// A sum of zero is sent as its other form: zero means that there is none (RFC 768, RFC 8200 §8.1).
fn udp_sum(sum: Sum) -> [u8; 2] {
    match sum.finish() {
        [0, 0] => [0xff, 0xff],
        sum => sum,
    }
}

/// A UDP datagram with its checksum; `None` when the payload is too long for one.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(UDP + payload.len()).ok()?;
    if usize::from(length) > LONGEST - IPV4 {
        return None;
    }
    let mut bytes = Vec::with_capacity(length.into());
    for field in [from.port(), to.port(), length, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(payload);
    let mut sum = Sum::pseudo(from.ip(), to.ip(), protocol::UDP, length.into());
    sum.add(&bytes);
    if let Some(field) = bytes.get_mut(usize::from(UDP_CHECKSUM)..UDP) {
        field.copy_from_slice(&udp_sum(sum));
    }
    Some(bytes)
}

/// Ethernet and IP headers before a payload of `length` bytes that is not cut, with room for `room` bytes
/// behind them.
pub(super) fn headers(
    config: &GatewayConfig,
    header: &Header,
    length: usize,
    room: usize,
) -> Vec<u8> {
    ip(config, header, length, (Cut { whole: true, ..Cut::default() }, room))
}

fn ip(
    config: &GatewayConfig,
    header: &Header,
    length: usize,
    (cut, room): (Cut, usize),
) -> Vec<u8> {
    let to = station(config, header.to);
    match (header.from, header.to) {
        (IpAddr::V6(from), IpAddr::V6(target)) => {
            let mut bytes = ethernet(config, to, kind::IPV6, IPV6 + FRAGMENT + room);
            let extension = if cut.whole { 0 } else { FRAGMENT };
            let first = if cut.whole { header.protocol } else { protocol::FRAGMENT };
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend(clipped(length + extension).to_be_bytes());
            // Neighbour discovery demands that no router has been passed (RFC 4861 §4.1).
            bytes.extend([first, if header.protocol == protocol::ICMPV6 { 255 } else { 64 }]);
            bytes.extend(from.octets());
            bytes.extend(target.octets());
            if !cut.whole {
                bytes.extend([header.protocol, 0]);
                bytes.extend((clipped(cut.offset) | u16::from(cut.more)).to_be_bytes());
                bytes.extend(u32::from(header.ident).to_be_bytes());
            }
            bytes
        }
        (from, target) => {
            let mut bytes = ethernet(config, to, kind::IPV4, IPV4 + room);
            let fragment = clipped(cut.offset / 8) | if cut.more { 0x2000 } else { 0 };
            bytes.extend([0x45, 0]);
            for field in [clipped(IPV4 + length), header.ident, fragment] {
                bytes.extend(field.to_be_bytes());
            }
            bytes.extend([64, header.protocol, 0, 0]);
            for ip in [from, target] {
                if let IpAddr::V4(ip) = ip {
                    bytes.extend(ip.octets());
                }
            }
            let mut sum = Sum::default();
            sum.add(bytes.get(ETHERNET..).unwrap_or_default());
            if let Some(field) = bytes.get_mut(ETHERNET + 10..ETHERNET + 12) {
                field.copy_from_slice(&sum.finish());
            }
            bytes
        }
    }
}

fn clipped(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The frames of an IP packet, cut into fragments when it is longer than the MTU (RFC 791 §3.2, RFC 8200
/// §4.5).
pub(super) fn packet(config: &GatewayConfig, header: &Header, payload: &[u8]) -> Vec<Frame> {
    let mtu = usize::from(config.mtu);
    let (network, extension) = if header.to.is_ipv6() { (IPV6, FRAGMENT) } else { (IPV4, 0) };
    if network + payload.len() <= mtu {
        let mut bytes = headers(config, header, payload.len(), payload.len());
        bytes.extend(payload);
        return vec![Frame::plain(bytes)];
    }
    // Fragments but the last carry multiples of 8 bytes.
    let room = (mtu.saturating_sub(network + extension) & !7).max(8);
    let pieces = payload.chunks(room);
    let count = pieces.len();
    pieces
        .enumerate()
        .map(|(index, piece)| {
            let cut = Cut { offset: index * room, more: index + 1 < count, whole: false };
            let mut bytes = ip(config, header, piece.len(), (cut, piece.len()));
            bytes.extend(piece);
            Frame::plain(bytes)
        })
        .collect()
}
