//! An IP packet of the guest's: where it is in its frame, and what its header says.
//!
//! ```text
//!   frame:  Ethernet │ IP header, extension headers │ payload │ padding
//!                    └ network                      └ payload.start   └ payload.end
//! ```
//! Only offsets are kept, so that the frame itself can be moved to where its payload is waited for.

use super::checksum::Sum;
use super::frame::{ETHERNET, protocol};
use kezhan_ports::nic::Packet;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};
use std::net::IpAddr;
use std::ops::Range;

/// Extension headers that are walked over.
const EXTENSIONS: usize = 8;

/// A part of a packet that came in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// What the parts of one packet have in common, besides their addresses.
    pub(super) ident: u32,
    /// Bytes from the start of the packet's payload.
    pub(super) offset: usize,
    /// Whether others follow.
    pub(super) more: bool,
}

/// What is known of a packet.
#[derive(Clone, Debug)]
pub(super) struct Inward {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: u8,
    pub(super) network: usize,
    pub(super) payload: Range<usize>,
    pub(super) fragment: Option<Fragment>,
}

impl Inward {
    /// Reads an IPv4 header (RFC 791 §3.1).
    pub(super) fn ipv4(frame: &[u8]) -> Option<Inward> {
        let packet = Ipv4Packet::new_checked(frame.get(ETHERNET..)?).ok()?;
        if packet.version() != 4 || !packet.verify_checksum() {
            return None;
        }
        let fragment = Fragment {
            ident: packet.ident().into(),
            offset: packet.frag_offset().into(),
            more: packet.more_frags(),
        };
        let start = ETHERNET + usize::from(packet.header_len());
        Some(Inward {
            from: packet.src_addr().into(),
            to: packet.dst_addr().into(),
            protocol: packet.next_header().into(),
            network: ETHERNET,
            payload: start..ETHERNET + usize::from(packet.total_len()),
            fragment: Some(fragment).filter(|fragment| fragment.more || fragment.offset != 0),
        })
    }

    /// Reads an IPv6 header and the extension headers behind it (RFC 8200 §4).
    pub(super) fn ipv6(frame: &[u8]) -> Option<Inward> {
        let packet = Ipv6Packet::new_checked(frame.get(ETHERNET..)?).ok()?;
        if packet.version() != 6 {
            return None;
        }
        let mut inward = Inward {
            from: packet.src_addr().into(),
            to: packet.dst_addr().into(),
            protocol: packet.next_header().into(),
            network: ETHERNET,
            payload: ETHERNET + packet.header_len()..ETHERNET + packet.total_len(),
            fragment: None,
        };
        for _ in 0..EXTENSIONS {
            if !inward.skip_extension(frame)? {
                return Some(inward);
            }
        }
        None
    }

    /// Walks over one extension header; `None` when it is cut short.
    fn skip_extension(&mut self, frame: &[u8]) -> Option<bool> {
        let bytes = self.bytes(frame);
        let length = match self.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                8 + 8 * usize::from(*bytes.get(1)?)
            }
            protocol::FRAGMENT if self.fragment.is_none() => {
                // RFC 8200 §4.5.
                let [_, _, high, low, ident @ ..] = bytes.first_chunk::<8>()?;
                let offset = u16::from_be_bytes([*high, *low]);
                self.fragment = Some(Fragment {
                    ident: u32::from_be_bytes(*ident),
                    offset: usize::from(offset & !7),
                    more: offset & 1 == 1,
                });
                8
            }
            _ => return Some(false),
        };
        self.protocol = *bytes.first()?;
        self.payload.start += length;
        let whole = self.payload.start <= self.payload.end;
        // What is behind the header of a later fragment is in the middle of something.
        let later = self.fragment.is_some_and(|fragment| fragment.offset != 0);
        whole.then_some(!later)
    }

    /// What the packet carries.
    pub(super) fn bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload.clone()).unwrap_or_default()
    }

    /// The whole packet.
    pub(super) fn packet<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.network..self.payload.end).unwrap_or_default()
    }

    /// Whether the checksum over pseudo-header and payload is right, or is left to us. `at` is where the
    /// field is in the payload.
    pub(super) fn is_sound(&self, frame: &[u8], packet: Packet, at: u16) -> bool {
        let bytes = self.bytes(frame);
        match packet.checksum {
            Some(partial) => {
                usize::from(partial.start) == self.payload.start && partial.offset == at
            }
            None => {
                let mut sum = Sum::pseudo(self.from, self.to, self.protocol, bytes.len());
                sum.add(bytes);
                sum.is_right()
            }
        }
    }
}
