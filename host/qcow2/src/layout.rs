//! The sizes that follow from a header.

use crate::spec;
use kezhan_block::{BlockError, Result};

/// How guest clusters are compressed (qcow2 specification, "Header", compression type).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate.
    #[default]
    Zlib,
    /// Zstandard.
    Zstd,
}

/// Cluster arithmetic of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Version 3 (or 2).
    pub v3: bool,
    /// A cluster is `1 << cluster_bits` bytes.
    pub cluster_bits: u32,
    /// A refcount is `1 << refcount_order` bits.
    pub refcount_order: u32,
    /// L2 entries are 16 bytes and have subclusters.
    pub extended: bool,
    /// Guest data lies at its own offset in another file.
    pub external: bool,
    /// How clusters are compressed.
    pub compression: Compression,
}

impl Layout {
    /// Bytes in a cluster.
    pub const fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes in the unit of allocation within a cluster: a subcluster, or all of it.
    pub const fn unit(&self) -> u64 {
        if self.extended { self.cluster() / spec::SUBCLUSTERS } else { self.cluster() }
    }

    /// Bytes in an L2 entry.
    pub const fn entry(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries in an L2 table.
    pub const fn l2_entries(&self) -> u64 {
        self.cluster() / self.entry()
    }

    /// Bytes of the guest's disk that one L2 table maps.
    pub const fn l2_span(&self) -> u64 {
        self.l2_entries() * self.cluster()
    }

    /// L1 entries that a disk of `size` bytes needs.
    pub const fn l1_entries(&self, size: u64) -> u64 {
        size.div_ceil(self.l2_span())
    }

    /// Refcounts in a refcount block.
    pub const fn block_entries(&self) -> u64 {
        (self.cluster() * 8) >> self.refcount_order
    }

    /// The largest refcount.
    pub const fn refcount_max(&self) -> u64 {
        if self.refcount_order == 6 { u64::MAX } else { (1 << (1 << self.refcount_order)) - 1 }
    }

    /// Clusters that `bytes` take up.
    pub const fn clusters(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster())
    }

    /// Splits a guest offset into L1 index and L2 index.
    pub const fn indices(&self, offset: u64) -> (usize, usize) {
        let l1 = offset / self.l2_span();
        (l1 as usize, (offset % self.l2_span() / self.cluster()) as usize)
    }

    /// Checks the sizes that a header asks for.
    ///
    /// # Errors
    /// The value that is out of range.
    pub fn check(&self, name: &str) -> Result<()> {
        let smallest = if self.extended { 14 } else { spec::CLUSTER_BITS_MIN };
        if self.cluster_bits < smallest || self.cluster_bits > spec::CLUSTER_BITS_MAX {
            let what = format!(
                "cluster_bits {} is not from {smallest} to {}",
                self.cluster_bits,
                spec::CLUSTER_BITS_MAX
            );
            return Err(BlockError::corrupt(name, what));
        }
        if self.refcount_order > spec::REFCOUNT_ORDER_MAX {
            let what = format!("refcount_order {} is above 6", self.refcount_order);
            return Err(BlockError::corrupt(name, what));
        }
        Ok(())
    }
}
