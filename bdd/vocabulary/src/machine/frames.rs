//! Where captured packets went.
//!
//! Reads capture files of Ethernet frames (draft-ietf-opsawg-pcap) and IPv4 packets within them (RFC 791), as far as a
//! check needs it: the targets of what the guest sent, known by its source on the user network.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use thiserror::Error;

/// Magic numbers of capture files, with stamps of microseconds and of nanoseconds (§4).
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
/// Bytes of a file's header, and of a record's (§4, §5).
const HEADER: usize = 24;
const RECORD: usize = 16;
/// EtherType of IPv4 (RFC 894).
const IPV4: [u8; 2] = [8, 0];
/// Protocol numbers of TCP and UDP, which have ports. (IANA, "Assigned Internet Protocol Numbers")
const WITH_PORTS: [u8; 2] = [6, 17];

/// What is wrong with a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum CaptureError {
    /// It has another magic number.
    #[error("this is no capture file")]
    Magic,
}

/// A receiver of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    /// Of TCP and UDP.
    pub(crate) port: Option<u16>,
}

impl Target {
    /// Whether a text, `ADDRESS` or `ADDRESS:PORT`, names it.
    pub(crate) fn is(&self, text: &str) -> bool {
        match text.trim().split_once(':') {
            Some(_) => self.to_string() == text.trim(),
            None => self.address.to_string() == text.trim(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

/// The targets of what the guest sent beyond its own network.
pub(crate) fn targets(file: &[u8]) -> Result<BTreeSet<Target>, CaptureError> {
    let word = |bytes: &[u8], at: usize| -> Option<[u8; 4]> {
        bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok())
    };
    let magic = word(file, 0).ok_or(CaptureError::Magic)?;
    let number: fn([u8; 4]) -> u32 = if MAGIC.contains(&u32::from_le_bytes(magic)) {
        u32::from_le_bytes
    } else if MAGIC.contains(&u32::from_be_bytes(magic)) {
        u32::from_be_bytes
    } else {
        return Err(CaptureError::Magic);
    };
    let mut targets = BTreeSet::new();
    let mut rest = file.get(HEADER..).unwrap_or_default();
    // A machine that was killed may leave half a record; what precedes it counts.
    while let Some(length) = word(rest, 8).map(number) {
        let end = RECORD.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        let Some(frame) = rest.get(RECORD..end) else { break };
        targets.extend(target(frame));
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(targets)
}

/// The user network's addresses: a guest's own, its router's, and the broadcasts of both.
const OWN_NETWORK: [u8; 3] = [10, 0, 2];

/// Where a frame of the guest's goes, if it leaves the machine's network.
fn target(frame: &[u8]) -> Option<Target> {
    if frame.get(12..14)? != IPV4 {
        return None;
    }
    let packet = frame.get(14..)?;
    // Version and header length (RFC 791 §3.1).
    let head = usize::from(packet.first()? & 15) * 4;
    let address = |at: usize| -> Option<[u8; 4]> { packet.get(at..at + 4)?.try_into().ok() };
    let (from, to) = (address(12)?, address(16)?);
    let local = |address: [u8; 4]| address.starts_with(&OWN_NETWORK);
    if !local(from)
        || local(to)
        || Ipv4Addr::from(to).is_broadcast()
        || Ipv4Addr::from(to).is_multicast()
    {
        return None;
    }
    // Only the first fragment has ports.
    let first = matches!(packet.get(6..8)?, [high, 0] if high & 0x1f == 0);
    let ports = WITH_PORTS.contains(packet.get(9)?) && first;
    let port = match packet.get(head + 2..head + 4) {
        Some([high, low]) if ports => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    Some(Target { address: Ipv4Addr::from(to), port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(from: [u8; 4], to: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(IPV4);
        frame.extend([0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend(from);
        frame.extend(to);
        frame.extend([0x12, 0x34]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        frame
    }

    fn file(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = MAGIC[1].to_be_bytes().to_vec();
        bytes.resize(HEADER, 0);
        for frame in frames {
            bytes.extend([0; 8]);
            let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
            bytes.extend([length, length].concat());
            bytes.extend(frame);
        }
        bytes
    }

    #[test]
    fn what_leaves_is_told_with_its_ports() {
        let guest = [10, 0, 2, 15];
        let sent = [
            packet(guest, [192, 0, 2, 7], 6, 443),
            packet(guest, [192, 0, 2, 7], 6, 443),
            packet(guest, [192, 0, 2, 9], 1, 0),
            packet(guest, [10, 0, 2, 2], 17, 53),
            packet(guest, [255; 4], 17, 67),
            packet([192, 0, 2, 7], guest, 6, 1000),
        ];
        let seen = targets(&file(&sent)).unwrap();
        let texts: Vec<String> = seen.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.7:443", "192.0.2.9"]);
        let web = seen.first().unwrap();
        assert!(web.is("192.0.2.7") && web.is(" 192.0.2.7:443 ") && !web.is("192.0.2.7:80"));
    }

    #[test]
    fn a_file_that_is_cut_off_counts_up_to_there() {
        let whole = file(&[packet([10, 0, 2, 15], [192, 0, 2, 7], 17, 53)]);
        for length in HEADER..whole.len() {
            assert!(targets(&whole[..length]).unwrap().is_empty());
        }
        assert_eq!(targets(b"GIF89a and more"), Err(CaptureError::Magic));
    }

    proptest! {
        #[test]
        fn no_bytes_make_us_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut all = MAGIC[0].to_le_bytes().to_vec();
            all.extend(bytes);
            let _ = targets(&all);
        }
    }
}
