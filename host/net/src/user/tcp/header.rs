//! A segment's header (RFC 9293 §3.1) with the two options that we use: maximum segment size (§3.2) and
//! window scale (RFC 7323 §2).

use super::seq::Seq;

/// Bytes of a header without options.
pub(crate) const HEADER: usize = 20;
/// Where the checksum is.
pub(crate) const CHECKSUM: u16 = 16;

/// Flags (RFC 9293 §3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
}

/// Option kinds (RFC 9293 §3.2, RFC 7323 §2.2).
const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;

/// The largest shift of a window (RFC 7323 §2.3).
const LARGEST_SHIFT: u8 = 14;

/// What a header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) mss: Option<u16>,
    pub(crate) shift: Option<u8>,
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Segment {
    /// Reads a header, and its length with the options.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Segment, usize)> {
        let length = usize::from(*bytes.get(12)? >> 4) * 4;
        let options = bytes.get(HEADER..length)?;
        let mut segment = Segment {
            source: half(bytes, 0)?,
            destination: half(bytes, 2)?,
            seq: Seq(word(bytes, 4)?),
            ack: Seq(word(bytes, 8)?),
            flags: *bytes.get(13)?,
            window: half(bytes, 14)?,
            ..Segment::default()
        };
        if segment.has(flag::SYN) {
            segment.read_options(options);
        }
        Some((segment, length))
    }

    /// Options that are cut short end the list; unknown ones are stepped over.
    fn read_options(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            let length = match (*kind, rest.first()) {
                (END, _) => return,
                (NOTHING, _) => 1,
                (_, Some(length)) if *length >= 2 => usize::from(*length),
                _ => return,
            };
            match (*kind, options.get(2..length)) {
                (SEGMENT_SIZE, Some(&[high, low])) => {
                    self.mss = Some(u16::from_be_bytes([high, low]));
                }
                (WINDOW_SCALE, Some(&[shift])) => self.shift = Some(shift.min(LARGEST_SHIFT)),
                _ => {}
            }
            options = options.get(length..).unwrap_or_default();
        }
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of the header with its options.
    pub(crate) fn length(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        HEADER + mss + if self.shift.is_some() { 4 } else { 0 }
    }

    /// Appends the header; its checksum is zero.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.source.to_be_bytes());
        to.extend(self.destination.to_be_bytes());
        to.extend(self.seq.0.to_be_bytes());
        to.extend(self.ack.0.to_be_bytes());
        // At most 28 bytes.
        to.extend([((self.length() / 4) << 4) as u8, self.flags]);
        to.extend(self.window.to_be_bytes());
        to.extend([0; 4]);
        if let Some(mss) = self.mss {
            to.extend([SEGMENT_SIZE, 4]);
            to.extend(mss.to_be_bytes());
        }
        if let Some(shift) = self.shift {
            to.extend([NOTHING, WINDOW_SCALE, 3, shift]);
        }
    }
}
