//! Wide accesses to 8-bit devices.
//!
//! On the ISA bus a 16- or 32-bit cycle to an 8-bit device becomes one byte cycle for each lane, lowest
//! address first (IEEE P996, byte steering). A device made of byte registers says
//! what each register does and leaves the rest to these two functions.

use crate::Access;

/// Serves a read byte by byte: `register` gives the byte at an offset, or `None` where there is none.
pub fn read_bytes(
    offset: u64,
    data: &mut [u8],
    mut register: impl FnMut(u64) -> Option<u8>,
) -> Access {
    for (lane, byte) in (0..).zip(data) {
        match register(offset.wrapping_add(lane)) {
            Some(value) => *byte = value,
            None => return Access::BadRegister,
        }
    }
    Access::Done
}

/// Serves a write byte by byte: `register` takes the byte at an offset, or answers false where there is
/// no register.
pub fn write_bytes(offset: u64, data: &[u8], mut register: impl FnMut(u64, u8) -> bool) -> Access {
    for (lane, byte) in (0..).zip(data) {
        if !register(offset.wrapping_add(lane), *byte) {
            return Access::BadRegister;
        }
    }
    Access::Done
}
