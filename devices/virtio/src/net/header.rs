//! The header before each frame (virtio 1.2 §5.1.6): what is left to do for it, as a guest writes it and as
//! the ports say it.

use crate::spec::net as numbers;
use kezhan_ports::nic::{
    ETHERNET_HEADER, MAX_FRAME, Offloads, Packet, PartialChecksum, Segmentation, SegmentationKind,
};

/// Bytes of the header; the count of buffers is always there (§5.1.6: VERSION_1).
pub(super) const BYTES: usize = 12;

/// Bytes of a TCP header without options, and where its length is (RFC 9293 §3.1).
const TCP: usize = 20;
const TCP_LENGTH: usize = 12;

/// What a guest asks for; `None` when it makes no sense or was not agreed upon.
pub(super) fn parse(header: &[u8; BYTES], frame: &[u8], allowed: Offloads) -> Option<Packet> {
    if !(ETHERNET_HEADER..=MAX_FRAME).contains(&frame.len()) {
        return None;
    }
    let &[flags, kind, _, _, size_low, size_high, c0, c1, o0, o1, _, _] = header;
    if flags & numbers::NEEDS_CSUM == 0 {
        // A segment to be cut has its checksum to be made too (§5.1.6.2).
        return (kind == numbers::GSO_NONE).then(Packet::default);
    }
    let (start, offset) = (u16::from_le_bytes([c0, c1]), u16::from_le_bytes([o0, o1]));
    let end = usize::from(start) + usize::from(offset) + 2;
    if !allowed.checksum || end > frame.len() {
        return None;
    }
    let checksum = Some(PartialChecksum { start, offset });
    let (kind, agreed) = match kind {
        numbers::GSO_NONE => return Some(Packet { checksum, segmentation: None }),
        numbers::GSO_TCPV4 => (SegmentationKind::Tcp4, allowed.tcp4),
        numbers::GSO_TCPV6 => (SegmentationKind::Tcp6, allowed.tcp6),
        _ => return None,
    };
    let size = u16::from_le_bytes([size_low, size_high]);
    let headers = headers(frame, start.into())?;
    let segmentation = Segmentation { kind, headers, size };
    (agreed && size != 0).then_some(Packet { checksum, segmentation: Some(segmentation) })
}

/// Where the payload begins, given where the TCP header does.
fn headers(frame: &[u8], tcp: usize) -> Option<u16> {
    let length = usize::from(frame.get(tcp + TCP_LENGTH)? >> 4) * 4;
    let end = tcp + length;
    (length >= TCP && end <= frame.len()).then_some(end)?.try_into().ok()
}

/// The header for a frame to the guest that takes so many buffers.
pub(super) fn build(packet: Packet, buffers: u16) -> [u8; BYTES] {
    let mut header = [0; BYTES];
    let mut put = |at: usize, value: u16| {
        for (to, from) in header.iter_mut().skip(at).zip(value.to_le_bytes()) {
            *to = from;
        }
    };
    if let Some(PartialChecksum { start, offset }) = packet.checksum {
        put(0, numbers::NEEDS_CSUM.into());
        put(6, start);
        put(8, offset);
    }
    if let Some(Segmentation { kind, headers, size }) = packet.segmentation {
        let kind = match kind {
            SegmentationKind::Tcp4 => numbers::GSO_TCPV4,
            SegmentationKind::Tcp6 => numbers::GSO_TCPV6,
        };
        put(0, u16::from_le_bytes([numbers::NEEDS_CSUM, kind]));
        put(2, headers);
        put(4, size);
    }
    put(10, buffers);
    header
}
