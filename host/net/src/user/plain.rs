//! Does the work that one guest left to another who does not do it: checksums, and cutting (virtio 1.2
//! §5.1.6.2).

use super::checksum::Sum;
use super::frame::{ETHERNET, Frame, IPV6};
use super::tcp::header::CHECKSUM;
use kezhan_ports::nic::{Offloads, Packet, PartialChecksum, Segmentation, SegmentationKind};

/// Where the flags are in a TCP header, and those that only the last, or the first, of several carries.
const FLAGS: usize = 13;
const LAST_ONLY: u8 = 0x09;
const FIRST_ONLY: u8 = 0x80;

/// Segments that one frame may become.
const SEGMENTS: usize = 1024;

/// The frames that a guest with these offloads takes in place of one; none when the numbers do not fit.
pub(super) fn frames(frame: Vec<u8>, packet: Packet, offloads: Offloads) -> Vec<Frame> {
    let cut = packet.segmentation.filter(|cut| match cut.kind {
        SegmentationKind::Tcp4 => !offloads.tcp4,
        SegmentationKind::Tcp6 => !offloads.tcp6,
    });
    let pieces = match cut {
        None => vec![(frame, packet)],
        Some(cut) => segments(&frame, packet, cut).unwrap_or_default(),
    };
    let finish = |(head, packet): (Vec<u8>, Packet)| match packet.checksum {
        Some(partial) if !offloads.checksum => summed(head, partial).map(Frame::plain),
        _ => Some(Frame { head, body: Vec::new(), packet }),
    };
    pieces.into_iter().filter_map(finish).collect()
}

/// Fills in a checksum.
fn summed(mut frame: Vec<u8>, partial: PartialChecksum) -> Option<Vec<u8>> {
    let start = usize::from(partial.start);
    let at = start + usize::from(partial.offset);
    let mut sum = Sum::default();
    sum.add(frame.get(start..)?);
    frame.get_mut(at..at + 2)?.copy_from_slice(&sum.finish());
    Some(frame)
}

/// Cuts a large segment; each piece has its checksum still to be made.
fn segments(frame: &[u8], packet: Packet, cut: Segmentation) -> Option<Vec<(Vec<u8>, Packet)>> {
    let checksum = packet.checksum.filter(|partial| partial.offset == CHECKSUM)?;
    let (headers, payload) = frame.split_at_checked(cut.headers.into())?;
    let pieces = payload.chunks(usize::from(cut.size).max(1));
    let count = pieces.len();
    if count > SEGMENTS {
        return None;
    }
    pieces
        .enumerate()
        .map(|(index, piece)| {
            let place = (index * usize::from(cut.size), index == 0, index + 1 == count);
            let head =
                segment(headers, (piece, payload.len()), (cut.kind, checksum.start.into()), place)?;
            Some((head, Packet { checksum: Some(checksum), segmentation: None }))
        })
        .collect()
}

fn segment(
    headers: &[u8],
    (piece, whole): (&[u8], usize),
    (kind, tcp): (SegmentationKind, usize),
    (offset, first, last): (usize, bool, bool),
) -> Option<Vec<u8>> {
    let mut head = headers.to_vec();
    let length = head.len() - ETHERNET + piece.len();
    match kind {
        SegmentationKind::Tcp4 => {
            let header = head.get_mut(ETHERNET..tcp)?;
            header.get_mut(2..4)?.copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
            let ident = u16::from_be_bytes(*header.get(4..6)?.first_chunk()?);
            // Far fewer than 65536 pieces.
            let ident = ident.wrapping_add((offset / piece.len().max(1)) as u16);
            header.get_mut(4..6)?.copy_from_slice(&ident.to_be_bytes());
            header.get_mut(10..12)?.fill(0);
            let mut sum = Sum::default();
            sum.add(header);
            header.get_mut(10..12)?.copy_from_slice(&sum.finish());
        }
        SegmentationKind::Tcp6 => {
            let payload = u16::try_from(length.checked_sub(IPV6)?).ok()?;
            head.get_mut(ETHERNET + 4..ETHERNET + 6)?.copy_from_slice(&payload.to_be_bytes());
        }
    }
    let header = head.get_mut(tcp..)?;
    let here = header.len();
    let seq = u32::from_be_bytes(*header.get(4..8)?.first_chunk()?);
    let seq = seq.wrapping_add(u32::try_from(offset).ok()?);
    header.get_mut(4..8)?.copy_from_slice(&seq.to_be_bytes());
    let flags = header.get_mut(FLAGS)?;
    *flags &= if last { 0xff } else { !LAST_ONLY };
    *flags &= if first { 0xff } else { !FIRST_ONLY };
    // The pseudo-header's length is another: the field's sum is corrected (RFC 1624 §3).
    let field = header.get_mut(usize::from(CHECKSUM)..usize::from(CHECKSUM) + 2)?;
    let mut sum = Sum::default();
    sum.add(field);
    let before = u32::try_from(here + whole).ok()?;
    let after = u32::try_from(here + piece.len()).ok()?;
    sum.add(&(!before).to_be_bytes());
    sum.add(&after.to_be_bytes());
    field.copy_from_slice(&sum.partial());
    head.extend(piece);
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::super::frame::{self, Header, protocol};
    use super::super::inward::Inward;
    use super::super::{GatewayConfig, tcp::Segment};
    use super::*;
    use std::net::IpAddr;

    fn large(from: IpAddr, to: IpAddr, kind: SegmentationKind) -> (Vec<u8>, Packet) {
        let config = GatewayConfig::usual([2; 6]);
        let tcp = Segment {
            seq: super::super::tcp::Seq(u32::MAX - 100),
            flags: 0x19,
            ..Segment::default()
        };
        let header = Header { protocol: protocol::TCP, from, to, ident: 9 };
        let mut bytes = frame::headers(&config, &header, 20 + 3000, 3020);
        let start = bytes.len();
        tcp.write(&mut bytes);
        bytes.extend((0..3000_u32).map(|index| index as u8));
        let sum = Sum::pseudo(from, to, protocol::TCP, 3020).partial();
        bytes[start + 16..start + 18].copy_from_slice(&sum);
        let checksum = PartialChecksum { start: start as u16, offset: CHECKSUM };
        let cut = Segmentation { kind, headers: start as u16 + 20, size: 1400 };
        (bytes, Packet { checksum: Some(checksum), segmentation: Some(cut) })
    }

    #[test]
    fn a_large_segment_becomes_small_ones_with_right_checksums() {
        let four: [IpAddr; 2] = [[10, 0, 2, 15].into(), [10, 0, 2, 16].into()];
        let six: [IpAddr; 2] = ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()];
        for ([from, to], kind) in [(four, SegmentationKind::Tcp4), (six, SegmentationKind::Tcp6)] {
            let (bytes, packet) = large(from, to, kind);
            let frames = frames(bytes, packet, Offloads::default());
            let mut whole: Vec<u8> = Vec::new();
            let mut flags = Vec::new();
            for frame in &frames {
                let bytes = frame.to_vec();
                assert_eq!(frame.packet(), Packet::default());
                let inward = match kind {
                    SegmentationKind::Tcp4 => Inward::ipv4(&bytes),
                    SegmentationKind::Tcp6 => Inward::ipv6(&bytes),
                };
                let inward = inward.unwrap();
                assert!(inward.is_sound(&bytes, Packet::default(), CHECKSUM));
                let (segment, header) = Segment::read(inward.bytes(&bytes)).unwrap();
                assert_eq!(segment.seq.0, (u32::MAX - 100).wrapping_add(whole.len() as u32));
                flags.push(segment.flags);
                whole.extend(&inward.bytes(&bytes)[header..]);
            }
            assert_eq!(flags, [0x10, 0x10, 0x19]);
            assert!(whole == (0..3000_u32).map(|index| index as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn numbers_that_do_not_fit_come_to_nothing() {
        let (bytes, packet) =
            large([10, 0, 2, 15].into(), [10, 0, 2, 16].into(), SegmentationKind::Tcp4);
        for (start, headers) in [(4000, 54), (34, 4000), (50, 54), (0, 54)] {
            let checksum = Some(PartialChecksum { start, offset: CHECKSUM });
            let cut = Segmentation { kind: SegmentationKind::Tcp4, headers, size: 0 };
            for segmentation in [Some(cut), None] {
                let packet = Packet { checksum, segmentation };
                for frame in frames(bytes.clone(), packet, Offloads::default()) {
                    assert!(frame.length() <= bytes.len());
                }
            }
        }
        assert_eq!(
            frames(bytes, packet, Offloads { checksum: true, tcp4: true, tcp6: false }).len(),
            1
        );
    }
}
