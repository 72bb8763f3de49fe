//! L2 entries (qcow2 specification, "L2 table entry", "Standard Cluster Descriptor", "Compressed Clusters Descriptor",
//! "Extended L2 Entries").

use crate::layout::Layout;
use crate::spec;

/// An L2 entry as stored; `bitmap` is 0 without extended entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The cluster descriptor.
    pub word: u64,
    /// Bits 0-31 allocated subclusters, bits 32-63 subclusters that read as zeroes.
    pub bitmap: u64,
}

/// What an entry says of its cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Nothing.
    Unallocated,
    /// Zeroes without a place (never with extended entries).
    Zero,
    /// A cluster in the data file; which parts of it count is in the bitmap or the zero flag.
    Held {
        /// Where.
        host: u64,
        /// Its refcount is one.
        copied: bool,
    },
    /// Compressed.
    Compressed {
        /// First byte.
        host: u64,
        /// Most bytes that the data takes.
        length: u64,
    },
}

/// What an entry says of one unit (subcluster, or the whole cluster).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The backing image has it.
    Unallocated,
    /// Zeroes.
    Zero,
    /// Data.
    Data,
    /// Part of a compressed cluster.
    Compressed,
}

impl Entry {
    /// A cluster of its own at `host`, every unit of it data.
    pub fn data(layout: &Layout, host: u64) -> Entry {
        let bitmap = if layout.extended { u64::from(u32::MAX) } else { 0 };
        Entry { word: host | spec::COPIED, bitmap }
    }

    /// Zeroes without a place. Only version 3 has it.
    pub fn zero(layout: &Layout) -> Entry {
        if layout.extended {
            return Entry { word: 0, bitmap: u64::from(u32::MAX) << 32 };
        }
        Entry { word: spec::ZERO, bitmap: 0 }
    }

    /// A compressed cluster of `length` bytes at `host`.
    pub fn compressed(layout: &Layout, host: u64, length: u64) -> Entry {
        let shift = compressed_shift(layout);
        let sectors =
            (host + length - 1) / spec::COMPRESSED_SECTOR - host / spec::COMPRESSED_SECTOR;
        Entry { word: spec::COMPRESSED | sectors << shift | host, bitmap: 0 }
    }

    /// The cluster.
    pub fn cluster(self, layout: &Layout) -> Cluster {
        if self.word & spec::COMPRESSED != 0 {
            let shift = compressed_shift(layout);
            let host = self.word & ((1 << shift) - 1);
            let sectors = (self.word & !(spec::COPIED | spec::COMPRESSED)) >> shift;
            let length = (sectors + 1) * spec::COMPRESSED_SECTOR - host % spec::COMPRESSED_SECTOR;
            return Cluster::Compressed { host, length };
        }
        let (host, copied) = (self.word & spec::OFFSET_MASK, self.word & spec::COPIED != 0);
        // With an external data file, offset 0 is a place like any other; the copied bit marks it.
        if host != 0 || (layout.external && copied) {
            return Cluster::Held { host, copied };
        }
        let zero = layout.v3 && !layout.extended && self.word & spec::ZERO != 0;
        if zero { Cluster::Zero } else { Cluster::Unallocated }
    }

    /// Unit number `index` of the cluster.
    pub fn unit(self, layout: &Layout, index: u64) -> Unit {
        if self.word & spec::COMPRESSED != 0 {
            return Unit::Compressed;
        }
        if layout.extended {
            return match (self.bitmap >> index & 1, self.bitmap >> (index + 32) & 1) {
                (_, 1) => Unit::Zero,
                (1, 0) => Unit::Data,
                _ => Unit::Unallocated,
            };
        }
        match self.cluster(layout) {
            _ if layout.v3 && self.word & spec::ZERO != 0 => Unit::Zero,
            Cluster::Held { .. } => Unit::Data,
            _ => Unit::Unallocated,
        }
    }

    /// Why the entry is not valid, if it is not.
    pub fn fault(self, layout: &Layout) -> Option<&'static str> {
        let bitmap_and = |bits: u64| (self.bitmap >> 32) & self.bitmap & bits != 0;
        match self.cluster(layout) {
            Cluster::Compressed { .. } if layout.external => {
                Some("is compressed although the data is in another file")
            }
            Cluster::Compressed { .. } if self.bitmap != 0 => {
                Some("is compressed and has subclusters")
            }
            Cluster::Compressed { .. } => None,
            Cluster::Held { host, .. } if !host.is_multiple_of(layout.cluster()) => {
                Some("is not aligned to clusters")
            }
            _ if layout.extended && bitmap_and(u64::from(u32::MAX)) => {
                Some("has subclusters that are both data and zeroes")
            }
            Cluster::Unallocated if self.bitmap & u64::from(u32::MAX) != 0 => {
                Some("has data in subclusters but no place for it")
            }
            _ => None,
        }
    }
}

/// Where the sector count starts in a compressed descriptor.
fn compressed_shift(layout: &Layout) -> u32 {
    62 - (layout.cluster_bits - 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Compression;

    fn layout(extended: bool) -> Layout {
        let compression = Compression::Zlib;
        let (v3, cluster_bits, refcount_order, external) = (true, 16, 4, false);
        Layout { v3, cluster_bits, refcount_order, extended, external, compression }
    }

    #[test]
    fn a_compressed_entry_covers_its_bytes_to_the_end_of_their_last_sector() {
        for (host, length) in [(0x50000, 1), (0x501ff, 2), (0x5_1234, 40_000)] {
            let entry = Entry::compressed(&layout(false), host, length);
            let Cluster::Compressed { host: at, length: room } = entry.cluster(&layout(false))
            else {
                panic!("not compressed");
            };
            assert_eq!((at, (at + room) % 512), (host, 0));
            assert!(room >= length && room < length + 512);
        }
    }

    #[test]
    fn zero_flag_and_bitmap_say_what_each_unit_is() {
        let plain = Entry { word: 0x10000 | spec::COPIED | spec::ZERO, bitmap: 0 };
        assert_eq!(plain.unit(&layout(false), 0), Unit::Zero);
        let parts = Entry { word: 0x10000 | spec::COPIED, bitmap: 1 | 1 << 33 };
        let units: Vec<Unit> = (0..3).map(|index| parts.unit(&layout(true), index)).collect();
        assert_eq!(units, [Unit::Data, Unit::Zero, Unit::Unallocated]);
    }
}
