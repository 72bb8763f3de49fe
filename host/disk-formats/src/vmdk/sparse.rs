//! Sparse extents ("Hosted Sparse Extents", "Stream-Optimized Compressed Sparse Extents").

use crate::blocks::{Blocks, Place, Places, Table, Writes, read_table};
use crate::little::{put, u16_at, u32_at, u64_at};
use kezhan_block::{BlockError, HostOffset, Result, Storage};
use std::collections::HashSet;
use std::sync::Arc;

/// `KDMV`.
pub const MAGIC: &[u8; 4] = b"KDMV";

/// "Hosted Sparse Extent Header".
mod spec {
    pub const HEADER: usize = 512;
    pub const AT_VERSION: usize = 4;
    pub const AT_FLAGS: usize = 8;
    pub const AT_CAPACITY: usize = 12;
    pub const AT_GRAIN: usize = 20;
    pub const AT_DESCRIPTOR: usize = 28;
    pub const AT_DESCRIPTOR_SIZE: usize = 36;
    pub const AT_TABLE_ENTRIES: usize = 44;
    pub const AT_REDUNDANT: usize = 48;
    pub const AT_DIRECTORY: usize = 56;
    pub const AT_OVERHEAD: usize = 64;
    pub const AT_LINE_ENDS: usize = 73;
    pub const AT_COMPRESSION: usize = 77;
    pub const LINE_ENDS: &[u8; 4] = b"\n \r\n";
    pub const VALID_LINE_ENDS: u32 = 1;
    pub const HAS_REDUNDANT: u32 = 2;
    pub const ZERO_GRAINS: u32 = 4;
    pub const COMPRESSED: u32 = 1 << 16;
    pub const MARKERS: u32 = 1 << 17;
    pub const DEFLATE: u16 = 1;
    pub const DIRECTORY_AT_END: u64 = u64::MAX;
    pub const GRAIN_ZERO: u32 = 1;
    pub const GRAIN: u64 = 128;
    pub const TABLE_ENTRIES: u64 = 512;
    pub const DESCRIPTOR_SECTORS: u64 = 20;
}

/// Most grains: 16 TiB of them at 64 KiB. Tables of nothing take no memory.
const GRAINS_MAX: u64 = 1 << 28;

#[derive(Debug)]
pub struct Sparse {
    /// Byte offsets of each grain table and of its copy (0: none).
    tables: Vec<(u64, u64)>,
    entries: u64,
    compressed: bool,
    missing: bool,
}

impl Table for Sparse {
    fn format_name(&self) -> &'static str {
        "vmdk"
    }

    fn entry(&self, index: usize, place: Place) -> Writes {
        let sector = match place {
            Place::At(host) | Place::Compressed(host) => (host / 512) as u32,
            Place::Zero => spec::GRAIN_ZERO,
            Place::None => 0,
        };
        let (table, entry) = (index as u64 / self.entries, index as u64 % self.entries);
        let (first, second) = self.tables.get(table as usize).copied().unwrap_or((0, 0));
        let copies = [first, second].into_iter().filter(|at| *at != 0);
        copies.map(|at| (HostOffset(at + entry * 4), sector.to_le_bytes().to_vec())).collect()
    }

    fn after_growth(&self, _end: u64, _allocated: usize) -> Writes {
        Writes::new()
    }

    fn read_only(&self) -> Option<&'static str> {
        if self.compressed {
            return Some(
                "stream-optimised VMDK images take whole compressed grains alone; convert it to write",
            );
        }
        self.missing.then_some("has no room for grain tables that are missing; convert it to write")
    }

    fn compresses(&self) -> bool {
        self.compressed && !self.missing
    }

    /// As [`Table::unpack`] reads it, in whole sectors.
    fn pack(&self, at: u64, packed: &[u8]) -> Vec<u8> {
        let mut grain = (at / 512).to_le_bytes().to_vec();
        grain.extend((packed.len() as u32).to_le_bytes());
        grain.extend(packed);
        grain.resize(grain.len().next_multiple_of(512), 0);
        grain
    }

    /// A grain marker, its length, and a zlib stream ("Compressed Grain").
    fn unpack(&self, file: &dyn Storage, at: u64, block: &mut [u8]) -> Result<()> {
        let mut marker = [0; 12];
        file.read_at(HostOffset(at), &mut marker)?;
        let length = u64::from(u32_at(&marker, 8)).min(2 * block.len() as u64);
        let mut packed = vec![0; length as usize];
        file.read_at(HostOffset(at + 12), &mut packed)?;
        let mut inflate = flate2::Decompress::new(true);
        let status = inflate.decompress(&packed, block, flate2::FlushDecompress::Finish);
        if status.is_err() || inflate.total_out() == 0 {
            let what = format!("compressed grain at {at:#x} is damaged");
            return Err(BlockError::corrupt(file.name(), what));
        }
        // The last grain of a disk may be short.
        let filled = inflate.total_out() as usize;
        block[filled..].fill(0);
        Ok(())
    }
}

/// The descriptor within an extent, when there is one.
pub fn embedded_descriptor(file: &dyn Storage) -> Result<Option<String>> {
    let header = read_table(file, 0, spec::HEADER as u64, "header")?;
    let at = u64_at(&header, spec::AT_DESCRIPTOR).saturating_mul(512);
    let length = u64_at(&header, spec::AT_DESCRIPTOR_SIZE).saturating_mul(512);
    if at == 0 || length == 0 || length > super::DESCRIPTOR_MAX {
        return Ok(None);
    }
    let text = read_table(file, at, length, "descriptor")?;
    Ok(Some(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()))
}

/// Bytes of the disk in an extent, bytes of a grain, and whether grains are compressed.
pub fn shape(file: &dyn Storage) -> Result<(u64, u64, bool)> {
    let header = header(file)?;
    let bytes = |at| u64_at(&header, at).saturating_mul(512);
    let compressed = u32_at(&header, spec::AT_FLAGS) & spec::COMPRESSED != 0;
    Ok((bytes(spec::AT_CAPACITY), bytes(spec::AT_GRAIN), compressed))
}

fn header(file: &dyn Storage) -> Result<Vec<u8>> {
    let header = read_table(file, 0, spec::HEADER as u64, "header")?;
    if u64_at(&header, spec::AT_DIRECTORY) != spec::DIRECTORY_AT_END {
        return Ok(header);
    }
    // Streams know their directory only at the end: the last but one sector is the header again.
    let at = file.size()?.saturating_sub(1024);
    read_table(file, at, spec::HEADER as u64, "footer")
}

/// Opens an extent.
pub fn open(file: Arc<dyn Storage>, writable: bool) -> Result<Blocks<Sparse>> {
    let header = header(&*file)?;
    let (capacity, grain) = (u64_at(&header, spec::AT_CAPACITY), u64_at(&header, spec::AT_GRAIN));
    let entries = u64::from(u32_at(&header, spec::AT_TABLE_ENTRIES));
    let grains = if grain == 0 { u64::MAX } else { capacity.div_ceil(grain) };
    let valid = header.starts_with(MAGIC)
        && (1..=3).contains(&u32_at(&header, spec::AT_VERSION))
        && grain.is_power_of_two()
        && (8..=1 << 14).contains(&grain)
        && (1..=512).contains(&entries)
        && u16_at(&header, spec::AT_COMPRESSION) <= 1;
    if !valid || grains > GRAINS_MAX {
        let what =
            format!("sparse extent of {capacity} sectors in grains of {grain} is not valid here");
        return Err(BlockError::corrupt(file.name(), what));
    }
    let flags = u32_at(&header, spec::AT_FLAGS);
    let tables = tables(&*file, &header, grains.div_ceil(entries))?;
    let sparse = Sparse {
        missing: tables.iter().any(|(table, _)| *table == 0),
        tables,
        entries,
        compressed: flags & spec::COMPRESSED != 0,
    };
    let zeroes = flags & spec::ZERO_GRAINS != 0;
    let (places, end) = places(&*file, &sparse, grains, (grain * 512, zeroes))?;
    let end = end.max(u64_at(&header, spec::AT_OVERHEAD).min(1 << 40) * 512);
    let end = end.max(file.size()?).next_multiple_of(512);
    Ok(Blocks::new(file, sparse, (capacity * 512, grain * 512), (places, end), writable))
}

/// The grain tables of both directories.
fn tables(file: &dyn Storage, header: &[u8], count: u64) -> Result<Vec<(u64, u64)>> {
    let directory = |at: u64| -> Result<Vec<u64>> {
        let table = read_table(file, at.saturating_mul(512), count * 4, "grain directory")?;
        Ok((0..count as usize).map(|index| u64::from(u32_at(&table, index * 4)) * 512).collect())
    };
    let first = directory(u64_at(header, spec::AT_DIRECTORY))?;
    let redundant = u32_at(header, spec::AT_FLAGS) & spec::HAS_REDUNDANT != 0;
    let second = match u64_at(header, spec::AT_REDUNDANT) {
        at if redundant && at != 0 && at != spec::DIRECTORY_AT_END => directory(at)?,
        _ => vec![0; count as usize],
    };
    let mut seen = HashSet::new();
    if first.iter().any(|table| *table != 0 && !seen.insert(*table)) {
        return Err(BlockError::corrupt(file.name(), "two grain directory entries are the same"));
    }
    Ok(first.into_iter().zip(second).collect())
}

fn places(
    file: &dyn Storage,
    sparse: &Sparse,
    grains: u64,
    (grain, zeroes): (u64, bool),
) -> Result<(Places, u64)> {
    let (mut places, mut end, mut hole, size) = (Places::default(), 0, 0..0, file.size()?);
    for (index, (at, _)) in sparse.tables.iter().enumerate() {
        let count = (grains - index as u64 * sparse.entries).min(sparse.entries);
        if !hole.contains(at) && *at < size {
            let extent = file.extent(HostOffset(*at), size - at)?;
            hole = if extent.hole { *at..at + extent.length } else { 0..0 };
        }
        // Where the host's file has a hole there is an empty table: of a large disk, nearly all of them.
        if *at == 0 || hole.contains(at) && at + count * 4 <= hole.end {
            places.push_none(count);
            continue;
        }
        let table = read_table(file, *at, count * 4, "grain table")?;
        if table.iter().all(|byte| *byte == 0) {
            places.push_none(count);
            continue;
        }
        for entry in 0..count as usize {
            places.push(match u32_at(&table, entry * 4) {
                0 => Place::None,
                spec::GRAIN_ZERO if zeroes => Place::Zero,
                sector if sparse.compressed => Place::Compressed(u64::from(sector) * 512),
                sector => {
                    end = end.max(u64::from(sector) * 512 + grain);
                    Place::At(u64::from(sector) * 512)
                }
            });
        }
    }
    Ok((places, end))
}

/// What a new extent is like.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// Grains of zeroes are marked as such.
    pub zeroes: bool,
    /// Grains are compressed.
    pub compressed: bool,
}

/// Writes an empty extent of `capacity` sectors with its descriptor: header, descriptor, copy of directory and tables,
/// directory and tables.
///
/// # Errors
/// The storage's; a disk that is too large, a descriptor that is too long.
pub fn create(file: &dyn Storage, capacity: u64, new: &New, descriptor: &str) -> Result<()> {
    let grains = capacity.div_ceil(spec::GRAIN);
    if grains > GRAINS_MAX {
        let option = format!("size={}", capacity * 512);
        return Err(BlockError::option(option, "vmdk holds up to 16T here"));
    }
    if descriptor.len() as u64 > spec::DESCRIPTOR_SECTORS * 512 {
        return Err(BlockError::option("backing_file", "the name is too long for a VMDK image"));
    }
    let count = grains.div_ceil(spec::TABLE_ENTRIES);
    let directory_sectors = (count * 4).div_ceil(512);
    let table_sectors = spec::TABLE_ENTRIES * 4 / 512;
    let redundant = 1 + spec::DESCRIPTOR_SECTORS;
    let directory = redundant + directory_sectors + count * table_sectors;
    let overhead =
        (directory + directory_sectors + count * table_sectors).next_multiple_of(spec::GRAIN);
    let header = header_of(capacity, new, [redundant, directory, overhead]);
    file.set_size(overhead * 512)?;
    for start in [redundant, directory] {
        let first = start + directory_sectors;
        let entries = (0..count).map(|index| (first + index * table_sectors) as u32);
        let bytes: Vec<u8> = entries.flat_map(u32::to_le_bytes).collect();
        file.write_at(HostOffset(start * 512), &bytes)?;
    }
    file.write_at(HostOffset(512), descriptor.as_bytes())?;
    file.write_at(HostOffset(0), &header)?;
    file.flush()
}

/// The header, given where the copy of the directory, the directory and the grains begin.
fn header_of(capacity: u64, new: &New, [redundant, directory, overhead]: [u64; 3]) -> Vec<u8> {
    let mut header = vec![0; spec::HEADER];
    put(&mut header, 0, MAGIC);
    let version = match new {
        New { compressed: true, .. } => 3_u32,
        New { zeroes: true, .. } => 2,
        _ => 1,
    };
    put(&mut header, spec::AT_VERSION, &version.to_le_bytes());
    let mut flags = spec::VALID_LINE_ENDS | spec::HAS_REDUNDANT;
    flags |= if new.zeroes { spec::ZERO_GRAINS } else { 0 };
    if new.compressed {
        flags |= spec::COMPRESSED | spec::MARKERS;
        put(&mut header, spec::AT_COMPRESSION, &spec::DEFLATE.to_le_bytes());
    }
    put(&mut header, spec::AT_FLAGS, &flags.to_le_bytes());
    for (at, value) in [
        (spec::AT_CAPACITY, capacity),
        (spec::AT_GRAIN, spec::GRAIN),
        (spec::AT_DESCRIPTOR, 1),
        (spec::AT_DESCRIPTOR_SIZE, spec::DESCRIPTOR_SECTORS),
        (spec::AT_REDUNDANT, redundant),
        (spec::AT_DIRECTORY, directory),
        (spec::AT_OVERHEAD, overhead),
    ] {
        put(&mut header, at, &value.to_le_bytes());
    }
    put(&mut header, spec::AT_TABLE_ENTRIES, &(spec::TABLE_ENTRIES as u32).to_le_bytes());
    put(&mut header, spec::AT_LINE_ENDS, spec::LINE_ENDS);
    header
}
