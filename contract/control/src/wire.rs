//! Messages on a stream: length and JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// The longest message, in bytes.
pub const LONGEST: usize = 1 << 20;

/// Reads a message; `None` when the stream ends before one.
///
/// # Errors
/// The stream's, `UnexpectedEof` within a message, `InvalidData` for one that is too long or is none.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    let (first, rest) = length.split_at_mut(1);
    if stream.read(first)? == 0 {
        return Ok(None);
    }
    stream.read_exact(rest)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

/// A message as bytes.
///
/// # Errors
/// `InvalidData` for one that is too long.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= LONGEST);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Reply, Request};

    #[test]
    fn what_is_written_is_read_and_the_end_is_told_from_a_cut() {
        let mut bytes = Vec::new();
        let forward = "tcp:127.0.0.1:80:8080".parse().unwrap();
        let ask = Request::AddForward { card: 1, forward };
        write(&mut bytes, &ask).unwrap();
        write(&mut bytes, &Request::Cards).unwrap();
        let mut stream = &bytes[..];
        assert_eq!(read(&mut stream).unwrap(), Some(ask));
        assert_eq!(read(&mut stream).unwrap(), Some(Request::Cards));
        assert_eq!(read::<Request>(&mut stream).unwrap(), None);
        let cut = read::<Request>(&mut &bytes[..9]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_long_or_no_message_is_refused() {
        let long = [0xff, 0xff, 0xff, 0xff, b'{'];
        assert_eq!(read::<Reply>(&mut &long[..]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let junk = b"\0\0\0\x02{]";
        read::<Reply>(&mut &junk[..]).unwrap_err();
        let unknown = b"\0\0\0\x0c{\"is\":\"odd\"}";
        read::<Reply>(&mut &unknown[..]).unwrap_err();
    }
}
