//! Frames for the guest.

use super::GatewayConfig;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, SocketAddrV4};

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;

/// The longest payload of a UDP datagram (RFC 768, with IPv4's 16-bit total length).
const LONGEST_UDP: usize = 65_535 - IPV4 - UDP;

/// What an IPv4 header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) protocol: IpProtocol,
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) ident: u16,
}

fn ethernet(config: &GatewayConfig, to: EthernetAddress, kind: EthernetProtocol) -> EthernetRepr {
    EthernetRepr { src_addr: EthernetAddress(config.mac), dst_addr: to, ethertype: kind }
}

pub(super) fn arp(config: &GatewayConfig, packet: &ArpRepr) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET + packet.buffer_len()];
    let guest = EthernetAddress(config.guest_mac);
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet(config, guest, EthernetProtocol::Arp).emit(&mut frame);
    packet.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

pub(super) fn icmp(message: &Icmpv4Repr<'_>) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    let mut packet = Icmpv4Packet::new_unchecked(&mut bytes[..]);
    message.emit(&mut packet, &ChecksumCapabilities::default());
    bytes
}

/// A UDP datagram; `None` when the payload is too long for one.
pub(super) fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() > LONGEST_UDP {
        return None;
    }
    let mut bytes = vec![0; UDP + payload.len()];
    let header = UdpRepr { src_port: from.port(), dst_port: to.port() };
    header.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[..]),
        &(*from.ip()).into(),
        &(*to.ip()).into(),
        payload.len(),
        |to| to.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    Some(bytes)
}

/// The frames of an IPv4 packet, cut into fragments when it is longer than the MTU (RFC 791 §3.2).
pub(super) fn ipv4(config: &GatewayConfig, header: &Header, payload: &[u8]) -> Vec<Vec<u8>> {
    // Fragments but the last carry multiples of 8 bytes.
    let room = (usize::from(config.mtu).saturating_sub(IPV4) & !7).max(8);
    let whole = payload.len() + IPV4 <= config.mtu.into();
    let pieces = payload.chunks(if whole { payload.len().max(1) } else { room });
    let count = pieces.len();
    pieces
        .enumerate()
        .map(|(index, piece)| fragment(config, header, piece, (index * room, index + 1 < count)))
        .collect()
}

fn fragment(
    config: &GatewayConfig,
    header: &Header,
    piece: &[u8],
    (offset, more): (usize, bool),
) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET + IPV4 + piece.len()];
    let to = match header.to.is_broadcast() {
        true => EthernetAddress::BROADCAST,
        false => EthernetAddress(config.guest_mac),
    };
    let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet(config, to, EthernetProtocol::Ipv4).emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    let ip = Ipv4Repr {
        src_addr: header.from,
        dst_addr: header.to,
        next_header: header.protocol,
        payload_len: piece.len(),
        hop_limit: 64,
    };
    ip.emit(&mut packet, &ChecksumCapabilities::ignored());
    packet.set_ident(header.ident);
    packet.set_dont_frag(false);
    packet.set_more_frags(more);
    // A packet is shorter than 64 KiB.
    packet.set_frag_offset(u16::try_from(offset).unwrap_or(u16::MAX));
    packet.payload_mut().copy_from_slice(piece);
    packet.fill_checksum();
    bytes
}
