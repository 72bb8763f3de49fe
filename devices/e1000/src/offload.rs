//! What the card does to a frame before it leaves: tags, checksums, cutting (SDM §3.5, §3.3.6).
//!
//! All of it is done here and not left to the port: the card's way of asking for it has gaps (lengths that are
//! zero, sums without lengths) that a port would have to know of.

/// A context descriptor: where a packet's parts are (SDM §3.3.6). The offsets are the guest's and checked when
/// they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// IP header: start, place of its checksum, last byte.
    pub(crate) ip: [u16; 3],
    /// TCP or UDP: start, place of its checksum, last byte of what is summed, 0 for the end.
    pub(crate) tcp: [u16; 3],
    /// Bytes of headers before the payload.
    pub(crate) headers: u16,
    /// Payload bytes of a segment.
    pub(crate) size: u16,
    pub(crate) is_tcp: bool,
    pub(crate) is_ipv4: bool,
}

/// Which sums are to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sums {
    pub(crate) ip: bool,
    pub(crate) tcp: bool,
}

/// IPv4's total length and identification, IPv6's payload length, TCP's sequence number and flags
/// (RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1).
const IPV4_LENGTH: usize = 2;
const IPV4_IDENTIFICATION: usize = 4;
const IPV6_LENGTH: usize = 4;
const IPV6_HEADER: usize = 40;
const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
/// FIN and PSH: of the last segment only.
const LAST_ONLY: u8 = 0x09;

/// Puts in the sums that were asked for.
pub(crate) fn fill(frame: &mut [u8], context: &Context, sums: Sums) {
    if sums.ip {
        put_sum(frame, context.ip);
    }
    if sums.tcp {
        put_sum(frame, context.tcp);
    }
}

/// The ones' complement sum (RFC 1071) from `start` to `end` goes to `place`; nothing where that is outside.
pub(crate) fn put_sum(frame: &mut [u8], [start, place, end]: [u16; 3]) {
    let end = if end == 0 { frame.len() } else { usize::from(end) + 1 };
    let sum = frame.get(usize::from(start)..end.min(frame.len())).map(|part| !sum(part, 0));
    let place = usize::from(place);
    if let (Some(sum), Some(to)) = (sum, frame.get_mut(place..place + 2)) {
        to.copy_from_slice(&sum.to_be_bytes());
    }
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let pairs = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair)));
    let odd = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    let mut sum = pairs.sum::<u64>() + odd + u64::from(start);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The segments of a packet; `None` when its headers make no sense.
pub(crate) fn cut(packet: &[u8], context: &Context, sums: Sums) -> Option<Vec<Vec<u8>>> {
    let size = usize::from(context.size);
    let (headers, payload) = packet.split_at_checked(context.headers.into())?;
    if size == 0 || payload.is_empty() || !context.is_tcp {
        return None;
    }
    let count = payload.len().div_ceil(size);
    let segments = payload.chunks(size).enumerate();
    segments
        .map(|(index, piece)| {
            let mut segment = [headers, piece].concat();
            let before = u32::try_from(index * size).ok()?;
            let place =
                Place { index: u16::try_from(index).ok()?, before, last: index + 1 == count };
            finish(&mut segment, context, place)?;
            fill(&mut segment, context, sums);
            Some(segment)
        })
        .collect()
}

/// Which segment it is, and how much payload is before it.
struct Place {
    index: u16,
    before: u32,
    last: bool,
}

/// Puts right what differs between segments: lengths, identification, sequence number, flags, and the length
/// in the sum of the pseudo-header (SDM §3.5.5).
fn finish(segment: &mut [u8], context: &Context, place: Place) -> Option<()> {
    let (ip, tcp) = (usize::from(context.ip[0]), usize::from(context.tcp[0]));
    let length = segment.len();
    if context.is_ipv4 {
        add(segment, ip + IPV4_IDENTIFICATION, place.index)?;
        put(segment, ip + IPV4_LENGTH, length.checked_sub(ip)?)?;
    } else {
        put(segment, ip + IPV6_LENGTH, length.checked_sub(ip + IPV6_HEADER)?)?;
    }
    let sequence = segment.get_mut(tcp + TCP_SEQUENCE..)?.first_chunk_mut::<4>()?;
    *sequence = u32::from_be_bytes(*sequence).wrapping_add(place.before).to_be_bytes();
    if !place.last {
        *segment.get_mut(tcp + TCP_FLAGS)? &= !LAST_ONLY;
    }
    let at = usize::from(context.tcp[1]);
    let seed = u16::from_be_bytes(*segment.get(at..)?.first_chunk()?);
    let part = u32::try_from(length.checked_sub(tcp)?).ok()?;
    let with_length = sum(&seed.to_be_bytes(), part);
    segment.get_mut(at..at + 2)?.copy_from_slice(&with_length.to_be_bytes());
    Some(())
}

fn add(segment: &mut [u8], at: usize, more: u16) -> Option<()> {
    let value = segment.get_mut(at..)?.first_chunk_mut::<2>()?;
    *value = u16::from_be_bytes(*value).wrapping_add(more).to_be_bytes();
    Some(())
}

fn put(segment: &mut [u8], at: usize, value: usize) -> Option<()> {
    let value = u16::try_from(value).ok()?;
    segment.get_mut(at..at + 2)?.copy_from_slice(&value.to_be_bytes());
    Some(())
}

/// Puts a VLAN tag behind the addresses (IEEE 802.1Q §9.3).
pub(crate) fn add_tag(frame: &mut Vec<u8>, tag: u16) {
    if frame.len() >= 12 {
        let [high, low] = tag.to_be_bytes();
        frame.splice(12..12, [0x81, 0, high, low]);
    }
}

/// Takes a VLAN tag out, if there is one.
pub(crate) fn take_tag(frame: &mut Vec<u8>) -> Option<u16> {
    let &[0x81, 0, high, low] = frame.get(12..16)? else { return None };
    frame.drain(12..16);
    Some(u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4 with length 0, TCP whose sum holds the pseudo-header's without length.
    fn packet(payload: usize) -> (Vec<u8>, Context) {
        let mut packet = vec![0; 14];
        packet.extend([0x45, 0, 0, 0, 0, 7, 0, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2]);
        packet.extend([0, 80, 0, 81, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x19, 0, 0]);
        let pseudo = sum(&[10, 0, 2, 15, 10, 0, 2, 2], 6);
        packet.extend(pseudo.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend((0..payload).map(|n| n as u8));
        let (ip, tcp) = ([14, 24, 33], [34, 50, 0]);
        let context = Context { ip, tcp, headers: 54, size: 100, is_tcp: true, is_ipv4: true };
        (packet, context)
    }

    #[test]
    fn a_packet_is_cut_into_segments_that_are_right_in_themselves() {
        let (packet, context) = packet(250);
        let segments = cut(&packet, &context, Sums { ip: true, tcp: true }).unwrap();
        let lengths: Vec<_> = segments.iter().map(Vec::len).collect();
        assert_eq!(lengths, [154, 154, 104]);
        for (index, segment) in segments.iter().enumerate() {
            assert_eq!(sum(&segment[14..34], 0), 0xffff, "IP");
            let length = u32::from(u16::from_be_bytes([segment[16], segment[17]])) - 20;
            assert_eq!(segment.len(), length as usize + 34);
            assert_eq!(segment[19], 7 + index as u8);
            let pseudo = u32::from(sum(&segment[26..34], 6)) + length;
            assert_eq!(sum(&segment[34..], pseudo), 0xffff, "TCP");
            assert_eq!(segment[38..42], (256 + 100 * index as u32).to_be_bytes());
            assert_eq!(segment[47], if index == 2 { 0x19 } else { 0x10 });
        }
        let payload: Vec<u8> = segments.iter().flat_map(|segment| segment[54..].to_vec()).collect();
        assert_eq!(payload, packet[54..]);
    }

    #[test]
    fn headers_that_make_no_sense_are_refused() {
        let (packet, context) = packet(250);
        for wrong in [
            Context { headers: 400, ..context },
            Context { size: 0, ..context },
            Context { ip: [0xffff; 3], ..context },
            Context { tcp: [0xffff; 3], ..context },
            Context { is_tcp: false, ..context },
        ] {
            assert_eq!(cut(&packet, &wrong, Sums::default()), None, "{wrong:?}");
        }
        let mut short = vec![0; 20];
        put_sum(&mut short, [0xffff, 3, 0]);
        put_sum(&mut short, [3, 0xffff, 0]);
        assert_eq!(short, [0; 20]);
    }

    #[test]
    fn a_tag_is_put_in_and_taken_out() {
        let mut frame: Vec<u8> = (0..20).collect();
        add_tag(&mut frame, 0x1005);
        assert_eq!(frame[12..16], [0x81, 0, 0x10, 0x05]);
        assert_eq!(take_tag(&mut frame), Some(0x1005));
        assert_eq!(frame, (0..20).collect::<Vec<u8>>());
        assert_eq!(take_tag(&mut frame), None);
    }
}
