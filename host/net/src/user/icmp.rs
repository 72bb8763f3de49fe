//! Messages about packets: ICMP (RFC 792) and ICMPv6 (RFC 4443).
//!
//! Errors quote as much of the packet as fits into the smallest packet that everybody takes: 576 bytes
//! (RFC 1812 §4.3.2.3), 1280 with IPv6 (RFC 4443 §3.1).

use super::checksum::Sum;
use super::frame::{IPV4, IPV6, protocol};
use std::net::{IpAddr, SocketAddr};

/// Bytes of a message's header (RFC 792).
const HEADER: usize = 8;

/// Message types of RFC 792 and RFC 4443 §2.1: the answer to an echo.
const ECHO_REPLY: (u8, u8) = (0, 129);

/// Message types of RFC 792 and RFC 4443 §2.1: the wish for an echo.
pub(super) const ECHO_REQUEST: (u8, u8) = (8, 128);

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The policy.
    Prohibited,
    /// No such host, or no way to it.
    Host,
    /// No such network.
    Network,
    /// Nobody listens.
    Port,
    /// A protocol that is not carried.
    Protocol,
    /// Longer than this many bytes.
    TooBig(u16),
}

impl Refusal {
    /// Type, code and the last four bytes of the header.
    fn fields(self, six: bool) -> (u8, u8, u32) {
        match (self, six) {
            // RFC 792, RFC 1812 §5.2.7.1, RFC 1191 §4.
            (Refusal::Network, false) => (3, 0, 0),
            (Refusal::Host, false) => (3, 1, 0),
            (Refusal::Protocol, false) => (3, 2, 0),
            (Refusal::Port, false) => (3, 3, 0),
            (Refusal::TooBig(mtu), false) => (3, 4, mtu.into()),
            (Refusal::Prohibited, false) => (3, 10, 0),
            // RFC 4443 §3.1, §3.2, §3.4.
            (Refusal::Network, true) => (1, 0, 0),
            (Refusal::Prohibited, true) => (1, 1, 0),
            (Refusal::Host, true) => (1, 3, 0),
            (Refusal::Port, true) => (1, 4, 0),
            (Refusal::TooBig(mtu), true) => (2, 0, mtu.into()),
            // The next-header field of the IPv6 header is what is wrong.
            (Refusal::Protocol, true) => (4, 1, 6),
        }
    }
}

/// An error message about a packet.
pub(super) fn error(refusal: Refusal, from: IpAddr, to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let six = to.is_ipv6();
    let (kind, code, last) = refusal.fields(six);
    let room = if six { 1280 - IPV6 - HEADER } else { 576 - IPV4 - HEADER };
    let quote = packet.get(..room).unwrap_or(packet);
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(last.to_be_bytes());
    bytes.extend(quote);
    seal(&mut bytes, from, to);
    bytes
}

/// The answer to an echo request; `None` when it is none.
pub(super) fn echo(request: &[u8], from: IpAddr, to: IpAddr) -> Option<Vec<u8>> {
    let six = to.is_ipv6();
    let (wanted, kind) =
        if six { (ECHO_REQUEST.1, ECHO_REPLY.1) } else { (ECHO_REQUEST.0, ECHO_REPLY.0) };
    if request.len() < HEADER || *request.first()? != wanted {
        return None;
    }
    let mut bytes = request.to_vec();
    *bytes.first_mut()? = kind;
    seal(&mut bytes, from, to);
    Some(bytes)
}

/// Fills in the checksum: with a pseudo-header in IPv6 (RFC 4443 §2.3), without one in IPv4.
pub(super) fn seal(message: &mut [u8], from: IpAddr, to: IpAddr) {
    if let Some(field) = message.get_mut(2..4) {
        field.fill(0);
    }
    let mut sum = match to {
        IpAddr::V4(_) => Sum::default(),
        IpAddr::V6(_) => Sum::pseudo(from, to, protocol::ICMPV6, message.len()),
    };
    sum.add(message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.finish());
    }
}

/// Whether an ICMP message's checksum is right.
pub(super) fn is_sound(message: &[u8]) -> bool {
    let mut sum = Sum::default();
    sum.add(message);
    sum.is_right()
}

/// What an error says about a segment of ours that was too long.
pub(super) struct TooBig {
    /// What the way carries, in bytes of IP packet.
    pub(super) mtu: u16,
    /// The segment's ends: ours and the guest's.
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Its sequence number.
    pub(super) seq: u32,
}

/// Reads "fragmentation needed" (RFC 1191 §4) and "packet too big" (RFC 4443 §3.2) about TCP.
pub(super) fn too_big(message: &[u8]) -> Option<TooBig> {
    let [kind, code, _, _, unused @ ..] = message.first_chunk::<HEADER>()?;
    let quote = message.get(HEADER..)?;
    let mtu = u32::from_be_bytes(*unused);
    let (from, to, length): (IpAddr, IpAddr, usize) = match (*kind, *code) {
        (3, 4) => {
            let header = quote.first_chunk::<IPV4>()?;
            let [.., a, b, c, d, e, f, g, h] = *header;
            let tcp = header.first()? >> 4 == 4 && *header.get(9)? == protocol::TCP;
            let length = usize::from(header.first()? & 15) * 4;
            (tcp).then_some(([a, b, c, d].into(), [e, f, g, h].into(), length))?
        }
        (2, 0) => {
            let header = quote.first_chunk::<IPV6>()?;
            let from = <[u8; 16]>::try_from(header.get(8..24)?).ok()?;
            let to = <[u8; 16]>::try_from(header.get(24..40)?).ok()?;
            let tcp = header.first()? >> 4 == 6 && *header.get(6)? == protocol::TCP;
            tcp.then_some((from.into(), to.into(), IPV6))?
        }
        _ => return None,
    };
    let [a, b, c, d, seq @ ..] = quote.get(length..)?.first_chunk::<8>()?;
    Some(TooBig {
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        from: SocketAddr::new(from, u16::from_be_bytes([*a, *b])),
        to: SocketAddr::new(to, u16::from_be_bytes([*c, *d])),
        seq: u32::from_be_bytes(*seq),
    })
}
