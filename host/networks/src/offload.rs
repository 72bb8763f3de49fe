//! What is left to do for a frame, as the kernel and a card say it, and the doing of it for a guest that does not.
//!
//! ```text
//!   card: Packet ── header() ──► virtio_net_hdr, frame ──► kernel
//!   card ◄── packet() ◄── virtio_net_hdr, frame ◄── kernel
//!        ◄── plain frames ◄── plain() ◄──┘ when the guest takes no such work
//! ```
//! With IFF_VNET_HDR the kernel puts a virtio_net_hdr (virtio 1.2 §5.1.6, without the count of buffers) before each
//! frame, and takes one. It may leave a checksum, a segment of TCP and, since Linux 6.2, one of UDP to the reader.

use kezhan_ports::nic::{
    ETHERNET_HEADER, Offloads, Packet, PartialChecksum, Segmentation, SegmentationKind,
};
use std::collections::VecDeque;
use tun_rs::{VirtioNetHdr, gso_split};

/// Bytes of the header.
pub(crate) const HEADER: usize = tun_rs::VIRTIO_NET_HDR_LEN;

/// What the kernel does for a guest.
pub(crate) const OFFLOADS: Offloads = Offloads { checksum: true, tcp4: true, tcp6: true };

/// virtio 1.2 §5.1.6.
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// A VLAN's tag lies between addresses and type (IEEE 802.1Q).
const VLAN: [u8; 2] = [0x81, 0x00];
const VLAN_TAG: usize = 4;
/// Version of IP, in the first byte.
const VERSION_6: u8 = 6;
/// A TCP header without options, and where its length is (RFC 9293 §3.1).
const TCP: usize = 20;
const TCP_LENGTH: usize = 12;
/// Where the checksum of UDP is, and the bytes of its header (RFC 768).
const UDP_CHECKSUM: u16 = 6;
const UDP: usize = 8;
/// Pieces that one frame may become.
const PIECES: usize = 1024;

/// The header for a frame from the guest.
pub(crate) fn header(packet: Packet) -> [u8; HEADER] {
    let mut header = VirtioNetHdr::default();
    if let Some(PartialChecksum { start, offset }) = packet.checksum {
        header.flags = NEEDS_CSUM;
        (header.csum_start, header.csum_offset) = (start, offset);
    }
    if let Some(Segmentation { kind, headers, size }) = packet.segmentation {
        header.gso_type = match kind {
            SegmentationKind::Tcp4 => GSO_TCPV4,
            SegmentationKind::Tcp6 => GSO_TCPV6,
        };
        (header.hdr_len, header.gso_size) = (headers, size);
    }
    let mut bytes = [0; HEADER];
    // It has the room that it asks for.
    header.encode(&mut bytes).ok();
    bytes
}

/// What the kernel leaves to do for a frame to the guest; nothing when a card has no words for it.
pub(crate) fn packet(header: &VirtioNetHdr, frame: &[u8]) -> Option<Packet> {
    if header.flags & NEEDS_CSUM == 0 {
        return (header.gso_type == GSO_NONE).then(Packet::default);
    }
    let checksum = Some(PartialChecksum { start: header.csum_start, offset: header.csum_offset });
    let kind = match header.gso_type {
        GSO_NONE => return Some(Packet { checksum, segmentation: None }),
        GSO_TCPV4 => SegmentationKind::Tcp4,
        GSO_TCPV6 => SegmentationKind::Tcp6,
        _ => return None,
    };
    let headers = end_of_headers(header, frame)?;
    let segmentation = Segmentation { kind, headers, size: header.gso_size };
    Some(Packet { checksum, segmentation: Some(segmentation) })
}

/// Where the payload begins. The kernel's own `hdr_len` may be too much.
fn end_of_headers(header: &VirtioNetHdr, frame: &[u8]) -> Option<u16> {
    let start = usize::from(header.csum_start);
    let length = match header.csum_offset {
        UDP_CHECKSUM => UDP,
        _ => usize::from(frame.get(start + TCP_LENGTH)? >> 4) * 4,
    };
    let whole = header.csum_offset == UDP_CHECKSUM || length >= TCP;
    (whole && start + length <= frame.len()).then(|| u16::try_from(start + length).ok())?
}

/// Does all the work that is left: the frames that come of it, none when the numbers do not fit.
pub(crate) fn plain(header: VirtioNetHdr, frame: &mut [u8]) -> VecDeque<Vec<u8>> {
    if header.gso_type != GSO_NONE {
        return pieces(header, frame).unwrap_or_default();
    }
    let summed = header.flags & NEEDS_CSUM == 0 || fill_in(&header, frame).is_some();
    if summed { VecDeque::from([frame.to_vec()]) } else { VecDeque::new() }
}

/// Makes a checksum (RFC 1071) of what is there from its start on, the pseudo-header's sum in its field included.
fn fill_in(header: &VirtioNetHdr, frame: &mut [u8]) -> Option<()> {
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    let words = frame.get(start..)?.chunks(2);
    let sum: u64 = words
        .map(|word| match *word {
            [high, low] => u64::from(u16::from_be_bytes([high, low])),
            [high] => u64::from(high) << 8,
            _ => 0,
        })
        .sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    frame.get_mut(at..at + 2)?.copy_from_slice(&(!(folded as u16)).to_be_bytes());
    Some(())
}

fn pieces(mut header: VirtioNetHdr, frame: &mut [u8]) -> Option<VecDeque<Vec<u8>>> {
    let tagged = frame.get(ETHERNET_HEADER - 2..ETHERNET_HEADER)? == VLAN;
    let ip = ETHERNET_HEADER + if tagged { VLAN_TAG } else { 0 };
    header.hdr_len = end_of_headers(&header, frame)?.checked_sub(ip as u16)?;
    header.csum_start = header.csum_start.checked_sub(ip as u16)?;
    let (link, packet) = frame.split_at_mut_checked(ip)?;
    let payload = packet.len().checked_sub(header.hdr_len.into())?;
    let count = payload.div_ceil(usize::from(header.gso_size).max(1));
    if count > PIECES {
        return None;
    }
    let room = ip + usize::from(header.hdr_len) + usize::from(header.gso_size);
    let (mut pieces, mut sizes) = (vec![vec![0; room]; count], vec![0; count]);
    let six = packet.first()? >> 4 == VERSION_6;
    let made = gso_split(packet, header, &mut pieces, &mut sizes, ip, six).ok()?;
    pieces.truncate(made);
    for (piece, size) in pieces.iter_mut().zip(sizes) {
        piece.truncate(ip + size);
        piece.get_mut(..ip)?.copy_from_slice(link);
    }
    Some(pieces.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP segment of 3000 bytes over IPv4, its checksums as the kernel leaves them.
    fn large(tag: &[u8]) -> (VirtioNetHdr, Vec<u8>) {
        let mut frame = [&[2; 12], tag, &[8, 0]].concat();
        let ip = frame.len();
        frame.extend([0x45, 0, 0, 0, 0, 9, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0, 80, 0, 90, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        frame.extend((0..3000).map(|n| n as u8));
        let header = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 200,
            gso_size: 1400,
            csum_start: (ip + 20) as u16,
            csum_offset: 16,
        };
        (header, frame)
    }

    #[test]
    fn what_a_card_and_the_kernel_say_is_the_same() {
        let (header, frame) = large(&[]);
        let packet = packet(&header, &frame).unwrap();
        assert_eq!(packet.segmentation.unwrap().headers, 54);
        let again = VirtioNetHdr::decode(&super::header(packet)).unwrap();
        assert_eq!((again.gso_size, again.hdr_len, again.csum_start), (1400, 54, 34));
        assert!(packet.fits(OFFLOADS) && !packet.fits(Offloads::default()));
        assert_eq!(super::header(Packet::default()), [0; HEADER]);
    }

    #[test]
    fn a_segment_is_cut_for_a_guest_that_does_not_and_its_parts_are_whole() {
        for tag in [&[][..], &[0x81, 0, 0, 5]] {
            let (header, mut frame) = large(tag);
            let payload = frame[tag.len() + 54..].to_vec();
            let parts = plain(header, &mut frame);
            let sizes: Vec<usize> = parts.iter().map(|part| part.len() - tag.len() - 54).collect();
            assert_eq!(sizes, [1400, 1400, 200]);
            let together: Vec<u8> =
                parts.iter().flat_map(|part| part[tag.len() + 54..].to_vec()).collect();
            assert_eq!(together, payload);
            assert_eq!(parts[1][..12], [2; 12]);
            let sequence = u32::from_be_bytes(*parts[2][tag.len() + 38..].first_chunk().unwrap());
            assert_eq!(sequence, 7 + 2800);
        }
    }

    #[test]
    fn a_checksum_is_filled_in() {
        // UDP from 10.0.0.1 to 10.0.0.2, ports 1 and 2, 2 bytes; the pseudo-header's sum stands in the field.
        let mut frame = vec![0; 34];
        frame.extend([0, 1, 0, 2, 0, 10, 0x14, 0x1e, b'h', b'i']);
        let header = VirtioNetHdr {
            flags: NEEDS_CSUM,
            csum_start: 34,
            csum_offset: 6,
            ..Default::default()
        };
        let parts = plain(header, &mut frame);
        assert_eq!(parts[0][40..42], (!(0x141e_u16 + 1 + 2 + 10 + 0x6869)).to_be_bytes());
        assert_eq!(plain(VirtioNetHdr { csum_start: 43, ..header }, &mut frame).len(), 0);
    }

    #[test]
    fn numbers_that_do_not_fit_make_nothing() {
        let (header, frame) = large(&[]);
        for wrong in [
            VirtioNetHdr { gso_size: 0, ..header },
            VirtioNetHdr { gso_size: 1, ..header },
            VirtioNetHdr { csum_start: 9, ..header },
            VirtioNetHdr { csum_start: 3040, ..header },
            VirtioNetHdr { csum_start: u16::MAX, ..header },
            VirtioNetHdr { gso_type: 9, ..header },
        ] {
            assert_eq!(plain(wrong, &mut frame.clone()).len(), 0, "{wrong:?}");
        }
        assert_eq!(plain(header, &mut frame[..20].to_vec()).len(), 0);
    }
}
