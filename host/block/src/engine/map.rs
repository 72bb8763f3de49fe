//! The map of a chain: which image holds a range, and where.

use super::Image;
use crate::Result;
use crate::format::MappingKind;
use crate::units::{GuestOffset, HostOffset};

/// A run of the disk that is of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapEntry {
    /// Its first byte.
    pub start: GuestOffset,
    /// Its length in bytes; not 0.
    pub length: u64,
    /// How far down the chain it was found: 0 is the image itself.
    pub depth: usize,
    /// Whether an image of the chain has it allocated.
    pub present: bool,
    /// Whether it is known to read as zeroes without looking at the data.
    pub zero: bool,
    /// Whether it has data in a storage.
    pub data: bool,
    /// Whether that data is compressed.
    pub compressed: bool,
    /// Where, for what lies in a storage as it is.
    pub offset: Option<HostOffset>,
    /// The name of the storage at `offset`.
    pub file: Option<String>,
}

impl Image {
    /// The run that starts at `offset`, at most `length` long. Neighbouring runs may be of one kind.
    ///
    /// # Errors
    /// A range outside the disk; the storage's; a corrupt image.
    pub fn map(&self, offset: GuestOffset, length: u64) -> Result<MapEntry> {
        self.check_range(offset, length)?;
        let _busy = self.busy();
        self.map_busy(offset, length)
    }

    /// Whether a range is known to read as zeroes.
    ///
    /// # Errors
    /// As [`Image::map`].
    pub fn is_known_zero(&self, offset: GuestOffset, length: u64) -> Result<bool> {
        let mut done = 0;
        while done < length {
            let entry = self.map(offset.plus(done), length - done)?;
            if !entry.zero {
                return Ok(false);
            }
            done += entry.length;
        }
        Ok(true)
    }

    pub(super) fn map_busy(&self, at: GuestOffset, length: u64) -> Result<MapEntry> {
        let mapping = self.format.locate(at, length)?;
        let mut entry = MapEntry {
            start: at,
            length: mapping.length,
            depth: 0,
            present: true,
            zero: false,
            data: false,
            compressed: false,
            offset: None,
            file: None,
        };
        match mapping.kind {
            MappingKind::Data { storage, offset } => {
                let extent = storage.extent(offset, entry.length)?;
                entry.length = extent.length;
                entry.zero = extent.hole;
                // Another format has it allocated, hole or not; a raw disk is its file.
                entry.data = !extent.hole || self.format.format_name() != "raw";
                entry.offset = Some(offset);
                entry.file = Some(storage.name().to_owned());
            }
            MappingKind::Zero { reserved } => {
                entry.zero = true;
                entry.offset = reserved;
                entry.file = reserved.map(|_| self.file.name().to_owned());
            }
            MappingKind::Special => {
                entry.data = true;
                entry.compressed = true;
            }
            MappingKind::Unallocated { reserved } => {
                let found = self.map_backing(at, mapping.length)?;
                // Nobody has it: then what is held ready for it is where it would be.
                let reserved = reserved.filter(|_| found.depth == 0);
                let file = reserved.map(|_| self.file.name().to_owned());
                return Ok(MapEntry { offset: reserved, file, ..found });
            }
        }
        Ok(entry)
    }

    fn map_backing(&self, at: GuestOffset, length: u64) -> Result<MapEntry> {
        let nothing = |length| MapEntry {
            start: at,
            length,
            depth: 0,
            present: false,
            zero: true,
            data: false,
            compressed: false,
            offset: None,
            file: None,
        };
        let Some(backing) = &self.backing else { return Ok(nothing(length)) };
        let have = backing.size().saturating_sub(at.get()).min(length);
        if have == 0 {
            return Ok(nothing(length));
        }
        let entry = backing.map(at, have)?;
        Ok(MapEntry { depth: entry.depth + 1, ..entry })
    }
}
