//! A table under construction.

use crate::spec::{CHECKSUM, CREATOR, CREATOR_REVISION, OEM_ID, OEM_TABLE_ID};

/// Bytes of a table in order.
#[derive(Debug)]
pub(crate) struct Table(Vec<u8>);

impl Table {
    /// A table with its header (ACPI 6.5 §5.2.6).
    pub(crate) fn new(signature: &[u8; 4], revision: u8) -> Table {
        let mut table = Table(Vec::with_capacity(256));
        table.bytes(signature).u32(0).u8(revision).u8(0).bytes(OEM_ID).bytes(OEM_TABLE_ID);
        table.u32(1).bytes(CREATOR).u32(CREATOR_REVISION);
        table
    }

    /// A structure without a header.
    pub(crate) fn bare() -> Table {
        Table(Vec::new())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Table {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Table {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Table {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Table {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Table {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Table {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// Fills in length and checksum of a table with a header.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        if let Some(field) = self.0.get_mut(4..8) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        let sum = checksum(&self.0);
        if let Some(field) = self.0.get_mut(CHECKSUM) {
            *field = sum;
        }
        self.0
    }

    /// The bytes as they are.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The byte that makes the sum of all bytes 0.
pub(crate) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// The next address at which a table may start.
pub(crate) fn align(address: u32) -> u32 {
    address.checked_next_multiple_of(64).unwrap_or(u32::MAX)
}
