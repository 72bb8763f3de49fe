//! Numbers of the qcow2 format. Section names are those of QEMU's document "The QCOW2 image format"
//! (docs/interop/qcow2). All fields are big-endian.

// qcow2 specification, "Header": the first cluster of the file.

/// `QFI\xfb`.
pub const MAGIC: u32 = 0x5146_49fb;
/// Length of a version 2 header.
pub const HEADER_V2_LENGTH: usize = 72;
/// Shortest version 3 header.
pub const HEADER_V3_LENGTH: usize = 104;
/// Version 3 header with the compression type and its padding.
pub const HEADER_LENGTH: usize = 112;
/// Smallest `cluster_bits`.
pub const CLUSTER_BITS_MIN: u32 = 9;
/// Largest `cluster_bits` that QEMU takes ("implementations may have limits").
pub const CLUSTER_BITS_MAX: u32 = 21;
/// `refcount_order` of version 2 images: 16 bits a count.
pub const REFCOUNT_ORDER_V2: u32 = 4;
/// Largest `refcount_order`: 64 bits a count.
pub const REFCOUNT_ORDER_MAX: u32 = 6;
/// `crypt_method`: none.
pub const CRYPT_NONE: u32 = 0;
/// `crypt_method`: LUKS.
pub const CRYPT_LUKS: u32 = 2;

// qcow2 specification, "Header", byte offsets.

/// `version`.
pub const AT_VERSION: usize = 4;
/// `backing_file_offset`.
pub const AT_BACKING_OFFSET: usize = 8;
/// `backing_file_size`.
pub const AT_BACKING_SIZE: usize = 16;
/// `cluster_bits`.
pub const AT_CLUSTER_BITS: usize = 20;
/// `size`.
pub const AT_SIZE: usize = 24;
/// `crypt_method`.
pub const AT_CRYPT: usize = 32;
/// `l1_size`.
pub const AT_L1_SIZE: usize = 36;
/// `l1_table_offset`.
pub const AT_L1_OFFSET: usize = 40;
/// `refcount_table_offset`.
pub const AT_REFCOUNT_OFFSET: usize = 48;
/// `refcount_table_clusters`.
pub const AT_REFCOUNT_CLUSTERS: usize = 56;
/// `nb_snapshots`.
pub const AT_SNAPSHOTS: usize = 60;
/// `snapshots_offset`.
pub const AT_SNAPSHOTS_OFFSET: usize = 64;
/// `incompatible_features`.
pub const AT_INCOMPATIBLE: usize = 72;
/// `compatible_features`.
pub const AT_COMPATIBLE: usize = 80;
/// `autoclear_features`.
pub const AT_AUTOCLEAR: usize = 88;
/// `refcount_order`.
pub const AT_REFCOUNT_ORDER: usize = 96;
/// `header_length`.
pub const AT_HEADER_LENGTH: usize = 100;
/// `compression_type`, "Additional fields".
pub const AT_COMPRESSION: usize = 104;

// qcow2 specification, "Header", feature bits.

/// Incompatible bit 0: refcounts may be wrong.
pub const DIRTY: u64 = 1;
/// Incompatible bit 1: do not write without a repair.
pub const CORRUPT: u64 = 1 << 1;
/// Incompatible bit 2: guest data is in another file.
pub const EXTERNAL_DATA: u64 = 1 << 2;
/// Incompatible bit 3: `compression_type` is not zlib.
pub const COMPRESSION: u64 = 1 << 3;
/// Incompatible bit 4: L2 entries have a bitmap of subclusters.
pub const EXTENDED_L2: u64 = 1 << 4;
/// Every incompatible bit that we know.
pub const INCOMPATIBLE_KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;
/// Compatible bit 0: refcounts may be updated late, with the dirty bit set.
pub const LAZY_REFCOUNTS: u64 = 1;
/// Autoclear bit 0: the bitmaps extension is right.
pub const BITMAPS_VALID: u64 = 1;
/// Autoclear bit 1: the external data file is a valid raw image by itself.
pub const RAW_EXTERNAL: u64 = 1 << 1;

// qcow2 specification, "Header extensions".

/// End of the extensions.
pub const EXT_END: u32 = 0;
/// Backing file format name.
pub const EXT_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Feature name table.
pub const EXT_FEATURE_NAMES: u32 = 0x6803_f857;
/// Bitmaps extension.
pub const EXT_BITMAPS: u32 = 0x2385_2875;
/// Full disk encryption header pointer.
pub const EXT_LUKS: u32 = 0x0537_be77;
/// External data file name.
pub const EXT_DATA_FILE: u32 = 0x4441_5441;
/// Longest backing file name.
pub const BACKING_NAME_MAX: usize = 1023;

// qcow2 specification, "Cluster mapping": L1 and L2 entries.

/// L1 and L2: the refcount is exactly one, so it may be written in place.
pub const COPIED: u64 = 1 << 63;
/// L2: the cluster is compressed.
pub const COMPRESSED: u64 = 1 << 62;
/// L2, standard cluster descriptor, version 3: reads as zeroes.
pub const ZERO: u64 = 1;
/// L1 and L2: bits 9-55, a host offset.
pub const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// L1: bits that must be zero.
pub const L1_RESERVED: u64 = !(COPIED | OFFSET_MASK);
/// L2 standard descriptor: bits that must be zero.
pub const L2_RESERVED: u64 = !(COPIED | COMPRESSED | OFFSET_MASK | ZERO);
/// Subclusters in a cluster, qcow2 specification, "Extended L2 Entries".
pub const SUBCLUSTERS: u64 = 32;
/// Compressed data is counted in sectors of so many bytes, qcow2 specification, "Compressed Clusters Descriptor".
pub const COMPRESSED_SECTOR: u64 = 512;

// qcow2 specification, "Reference counts".

/// Refcount table: bits 9-63, the host offset of a refcount block.
pub const REFTABLE_OFFSET_MASK: u64 = !0x1ff;

// qcow2 specification, "Snapshots": byte offsets within a table entry.

/// Fixed part of an entry.
pub const SNAPSHOT_FIXED: usize = 40;
/// Length of the extra data that we write: VM state size, disk size, icount.
pub const SNAPSHOT_EXTRA: usize = 24;
/// An icount of -1: there is none.
pub const ICOUNT_NONE: u64 = u64::MAX;

// qcow2 specification, "Bitmaps".

/// Length of the extension's data.
pub const BITMAP_EXT_LENGTH: usize = 24;
/// Fixed part of a directory entry.
pub const BITMAP_DIR_FIXED: usize = 24;
/// Directory entry flag: it was in use and is not right.
pub const BITMAP_IN_USE: u32 = 1;
/// Directory entry flag: it records writes.
pub const BITMAP_AUTO: u32 = 1 << 1;
/// Directory entry type: dirty tracking bitmap.
pub const BITMAP_DIRTY_TRACKING: u8 = 1;
/// Bitmap table entry without a cluster: every bit is one.
pub const BITMAP_ALL_ONES: u64 = 1;
/// Longest bitmap name.
pub const BITMAP_NAME_MAX: usize = 1023;

// Limits of ours, at QEMU's values: what is beyond them is refused, so that memory stays bounded.

/// Largest L1 table in bytes.
pub const L1_BYTES_MAX: u64 = 32 << 20;
/// Largest refcount table in bytes.
pub const REFTABLE_BYTES_MAX: u64 = 8 << 20;
/// Most snapshots.
pub const SNAPSHOTS_MAX: u32 = 65536;
/// Largest snapshot table in bytes.
pub const SNAPSHOT_TABLE_MAX: u64 = 64 << 20;
/// Most bitmaps.
pub const BITMAPS_MAX: u32 = 65535;
/// Largest bitmap directory in bytes.
pub const BITMAP_DIRECTORY_MAX: u64 = 64 << 20;
