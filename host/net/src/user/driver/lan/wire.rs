//! What processes on one named network say to each other: one message for each packet of a
//! `SOCK_SEQPACKET` socket (unix(7)), numbers in the order of the network.
//!
//! ```text
//!   0 │ flags │ start │ offset │ headers │ size │ frame        a frame, with the work left for it
//!   1 │ number │ station (6) │ name                            "I want to be this one", to the switch
//!   2 │ number                                                 "you are this one", from the switch
//!   3 │ (number │ length │ name) …                             who is there, from the switch
//! ```

use kezhan_ports::nic::{Packet, PartialChecksum, Segmentation, SegmentationKind};

/// Kinds of messages.
const FRAME: u8 = 0;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const MEMBERS: u8 = 3;

/// Flags of a frame: a checksum is to be made, TCP over IPv4 or IPv6 is to be cut.
const CHECKSUM: u8 = 1;
const CUT_4: u8 = 2;
const CUT_6: u8 = 4;

/// Bytes before a frame.
pub(super) const HEADER: usize = 10;

/// The longest name that is passed on.
const NAME: usize = 63;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Frame(&'a [u8], Packet),
    Hello { number: u16, mac: [u8; 6], name: String },
    Welcome(u16),
    Members(Vec<(u16, String)>),
}

/// A frame with its header.
pub(super) fn frame(bytes: &[u8], packet: Packet) -> Vec<u8> {
    let mut flags = 0;
    let mut fields = [0; 4];
    if let Some(partial) = packet.checksum {
        flags |= CHECKSUM;
        fields = [partial.start, partial.offset, 0, 0];
    }
    if let Some(cut) = packet.segmentation {
        flags |= if cut.kind == SegmentationKind::Tcp4 { CUT_4 } else { CUT_6 };
        let [start, offset, ..] = fields;
        fields = [start, offset, cut.headers, cut.size];
    }
    let mut message = Vec::with_capacity(HEADER + bytes.len());
    message.extend([FRAME, flags]);
    fields.iter().for_each(|field| message.extend(field.to_be_bytes()));
    message.extend(bytes);
    message
}

pub(super) fn hello(number: u16, mac: [u8; 6], name: &str) -> Vec<u8> {
    let mut message = vec![HELLO];
    message.extend(number.to_be_bytes());
    message.extend(mac);
    message.extend(name.as_bytes().get(..NAME).unwrap_or(name.as_bytes()));
    message
}

pub(super) fn welcome(number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![WELCOME, high, low]
}

pub(super) fn members(members: &[(u16, String)]) -> Vec<u8> {
    let mut message = vec![MEMBERS];
    for (number, name) in members {
        let name = name.as_bytes().get(..NAME).unwrap_or(name.as_bytes());
        message.extend(number.to_be_bytes());
        message.push(name.len() as u8);
        message.extend(name);
    }
    message
}

/// Reads a message; `None` when it is none.
pub(super) fn read(message: &[u8]) -> Option<Message<'_>> {
    let (kind, rest) = message.split_first()?;
    match *kind {
        FRAME => {
            let (header, bytes) = rest.split_first_chunk::<9>()?;
            let [flags, a, b, c, d, e, f, g, h] = *header;
            let [start, offset, headers, size] =
                [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes);
            let cut = |kind| Segmentation { kind, headers, size };
            let packet = Packet {
                checksum: (flags & CHECKSUM != 0).then_some(PartialChecksum { start, offset }),
                segmentation: match flags & (CUT_4 | CUT_6) {
                    CUT_4 => Some(cut(SegmentationKind::Tcp4)),
                    CUT_6 => Some(cut(SegmentationKind::Tcp6)),
                    _ => None,
                },
            };
            Some(Message::Frame(bytes, packet))
        }
        HELLO => {
            let (header, name) = rest.split_first_chunk::<8>()?;
            let [high, low, mac @ ..] = *header;
            let name = plain(name)?;
            Some(Message::Hello { number: u16::from_be_bytes([high, low]), mac, name })
        }
        WELCOME => Some(Message::Welcome(u16::from_be_bytes(*rest.first_chunk()?))),
        MEMBERS => read_members(rest).map(Message::Members),
        _ => None,
    }
}

fn read_members(mut rest: &[u8]) -> Option<Vec<(u16, String)>> {
    let mut members = Vec::new();
    while let Some(([high, low, length], behind)) = rest.split_first_chunk::<3>() {
        let (name, behind) = behind.split_at_checked((*length).into())?;
        members.push((u16::from_be_bytes([*high, *low]), plain(name)?));
        rest = behind;
    }
    Some(members)
}

/// A machine's name: one label (RFC 1123 §2.1), in lower case.
fn plain(name: &[u8]) -> Option<String> {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = name.len() <= NAME && name.iter().all(good);
    let text = std::str::from_utf8(name).ok().filter(|_| fits)?;
    Some(text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let checksum = Some(PartialChecksum { start: 34, offset: 16 });
        let cut = Segmentation { kind: SegmentationKind::Tcp6, headers: 74, size: 1440 };
        for packet in [Packet::default(), Packet { checksum, segmentation: Some(cut) }] {
            assert_eq!(read(&frame(b"abc", packet)), Some(Message::Frame(b"abc", packet)));
        }
        let named = Message::Hello { number: 16, mac: [2; 6], name: "web-1".to_owned() };
        assert_eq!(read(&hello(16, [2; 6], "Web-1")), Some(named));
        assert_eq!(read(&welcome(15)), Some(Message::Welcome(15)));
        let all = vec![(15, "a".to_owned()), (16, String::new())];
        assert_eq!(read(&members(&all)), Some(Message::Members(all)));
        for bad in [&b""[..], b"\x00\x01", b"\x01abc", b"\x02\x01", b"\x03\x00\x01\x05ab", b"\x09"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(read(&hello(1, [2; 6], "a.b")), None);
    }
}
