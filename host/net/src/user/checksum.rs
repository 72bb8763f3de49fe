//! The Internet checksum (RFC 1071), over pieces that lie apart.
//!
//! The sum does not depend on the order of bytes in a word (RFC 1071 §1.2 B), so that four bytes at a time
//! are added as the host keeps them, and only the result is turned.

use std::net::IpAddr;

/// A ones' complement sum that is being made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    total: u64,
    odd: bool,
}

impl Sum {
    /// The sum of a TCP, UDP or ICMPv6 pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
    pub(super) fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Sum {
        let mut sum = Sum::default();
        for ip in [from, to] {
            match ip {
                IpAddr::V4(ip) => sum.add(&ip.octets()),
                IpAddr::V6(ip) => sum.add(&ip.octets()),
            }
        }
        sum.add(&[0, protocol]);
        sum.add(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        sum
    }

    /// Adds a piece that follows those before without a gap.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let words = bytes.chunks_exact(4);
        let mut last = [0; 4];
        let rest = words.remainder();
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        // A piece is shorter than 2^32 words.
        let mut total = u64::from(u32::from_ne_bytes(last));
        for word in words {
            total += u64::from(word.try_into().map_or(0, u32::from_ne_bytes));
        }
        let folded = fold(total);
        self.total += u64::from(if self.odd { folded.swap_bytes() } else { folded });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum itself, as it stands in a field whose checksum is still to be made.
    pub(super) fn partial(self) -> [u8; 2] {
        fold(self.total).to_ne_bytes()
    }

    /// The checksum for the field.
    pub(super) fn finish(self) -> [u8; 2] {
        (!fold(self.total)).to_ne_bytes()
    }

    /// Whether everything with its checksum adds up.
    pub(super) fn is_right(self) -> bool {
        fold(self.total) == u16::MAX
    }
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_adds_up() {
        // RFC 1071 §3.
        let mut sum = Sum::default();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
        assert_eq!(sum.finish(), [0x22, 0x0d]);
    }

    #[test]
    fn it_does_not_matter_where_pieces_are_cut() {
        let bytes: Vec<u8> = (0..1001_u32).map(|index| (index * 7) as u8).collect();
        let mut whole = Sum::default();
        whole.add(&bytes);
        for cut in [1, 2, 3, 500, 999, 1000] {
            let mut parts = Sum::default();
            parts.add(&bytes[..cut]);
            parts.add(&bytes[cut..]);
            assert_eq!(parts.finish(), whole.finish(), "{cut}");
        }
    }
}
