//! The header of a relayed datagram (RFC 1928 §7).
//!
//! ```text
//!   +-----+------+------+----------+----------+------+
//!   | RSV | FRAG | ATYP | DST.ADDR | DST.PORT | DATA |
//!   |  2  |  1   |  1   | variable |    2     |      |
//!   +-----+------+------+----------+----------+------+
//! ```
//! Towards the relay the address is the receiver's, back from it the sender's. We do not reassemble
//! fragments, so that a datagram whose FRAG is not 0 is dropped, as the RFC demands.

use crate::reader::{Missing, Reader};
use crate::target::{AddressFault, Target};
use thiserror::Error;

/// The most bytes that a header takes: reserved, fragment, type, length, name, port.
pub const MAX_HEADER: usize = 2 + 1 + 1 + 1 + 255 + 2;

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// It ends within its header.
    #[error("the datagram ends within its header")]
    Short,
    /// It is a fragment.
    #[error("the datagram is fragment {0}: fragments are not reassembled")]
    Fragment(u8),
    /// Its address is of an unknown type, or a name that cannot be one.
    #[error("the datagram's address is not understood")]
    Address,
}

impl From<Missing> for DatagramError {
    fn from(_: Missing) -> DatagramError {
        DatagramError::Short
    }
}

impl From<AddressFault> for DatagramError {
    fn from(fault: AddressFault) -> DatagramError {
        match fault {
            AddressFault::Missing => DatagramError::Short,
            AddressFault::UnknownType | AddressFault::BadName => DatagramError::Address,
        }
    }
}

/// Appends a header and the payload.
pub fn write_datagram(target: &Target, payload: &[u8], to: &mut Vec<u8>) {
    to.extend([0, 0, 0]);
    target.write(to);
    to.extend(payload);
}

/// Splits a datagram into its address and its payload. The reserved field is not looked at.
///
/// # Errors
/// The datagram is to be dropped.
pub fn read_datagram(datagram: &[u8]) -> Result<(Target, &[u8]), DatagramError> {
    let mut reader = Reader(datagram);
    reader.array::<2>()?;
    match reader.byte()? {
        0 => {}
        fragment => return Err(DatagramError::Fragment(fragment)),
    }
    let target = Target::read(&mut reader)?;
    Ok((target, reader.0))
}
