//! Persistent dirty bitmaps (qcow2 specification, "Bitmaps").
//!
//! ```text
//!   header extension ─► directory ─► bitmap table ─► clusters of bits, one bit a granule
//! ```
//!
//! A change writes new tables and a new directory, and the header then points to them; the old ones are
//! freed. Bits are kept in memory as bytes, bit `n % 8` of byte `n / 8`.

use crate::bytes::{bytes, put, u16_at, u32_at, u64_at, words};
use crate::image::Qcow2;
use crate::refcount::Run;
use crate::spec;
use kezhan_block::{BlockError, HostOffset, Result};

/// Largest bitmap that is taken into memory, in bytes of bits.
const BITS_MAX: u64 = 256 << 20;

/// What the directory says of a bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// A bit stands for `1 << granularity_bits` bytes.
    pub granularity_bits: u8,
    /// [`spec::BITMAP_IN_USE`] and [`spec::BITMAP_AUTO`].
    pub flags: u32,
    table_at: u64,
    table_size: u32,
    directory_bytes: u64,
}

/// A bitmap in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name.
    pub name: String,
    /// A bit stands for `1 << granularity_bits` bytes.
    pub granularity_bits: u8,
    /// [`spec::BITMAP_IN_USE`] and [`spec::BITMAP_AUTO`].
    pub flags: u32,
    /// The bits.
    pub bits: Vec<u8>,
}

impl Bitmap {
    /// A clear bitmap for a disk of `size` bytes that records writes.
    ///
    /// # Errors
    /// A granularity that is not from 512 bytes to 2 GiB, or a name that is empty or too long.
    pub fn new(name: &str, granularity: u64, size: u64) -> Result<Bitmap> {
        if !granularity.is_power_of_two() || !(512..=1 << 31).contains(&granularity) {
            let option = format!("granularity={granularity}");
            return Err(BlockError::option(option, "give a power of two from 512 to 2G"));
        }
        if name.is_empty() || name.len() > spec::BITMAP_NAME_MAX {
            return Err(BlockError::option("bitmap", "give a name of 1 to 1023 bytes"));
        }
        let bits = vec![0; size.div_ceil(granularity).div_ceil(8) as usize];
        let granularity_bits = granularity.trailing_zeros() as u8;
        Ok(Bitmap { name: name.to_owned(), granularity_bits, flags: spec::BITMAP_AUTO, bits })
    }

    /// Clears every bit.
    pub fn clear(&mut self) {
        self.bits.fill(0);
    }

    /// Sets each bit that is set in `other`, whatever its granularity.
    pub fn merge(&mut self, other: &Bitmap) {
        let unit = 1u64 << other.granularity_bits;
        for index in (0..other.bits.len() as u64 * 8).filter(|index| other.is_set(*index)) {
            self.mark(index * unit, unit);
        }
    }

    /// Marks a range of the disk.
    pub fn mark(&mut self, offset: u64, length: u64) {
        let unit = 1u64 << self.granularity_bits;
        for index in offset / unit..(offset + length).div_ceil(unit) {
            if let Some(byte) = self.bits.get_mut((index / 8) as usize) {
                *byte |= 1 << (index % 8);
            }
        }
    }

    /// Whether a bit is set.
    pub fn is_set(&self, index: u64) -> bool {
        self.bits.get((index / 8) as usize).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

impl Qcow2 {
    /// The directory; empty when there is none or it is not to be trusted.
    ///
    /// # Errors
    /// The storage's; a directory that is not valid.
    pub fn bitmap_list(&self) -> Result<Vec<BitmapInfo>> {
        let header = self.header();
        let Some(extension) = header.extension(spec::EXT_BITMAPS) else { return Ok(Vec::new()) };
        let (count, length) = (u32_at(extension, 0), u64_at(extension, 8));
        let bad = |what: String| BlockError::corrupt(self.name(), what);
        if count > spec::BITMAPS_MAX || length > spec::BITMAP_DIRECTORY_MAX {
            return Err(bad(format!("bitmap directory of {count} in {length} bytes is too large")));
        }
        let mut directory = vec![0; length as usize];
        self.file.read_at(HostOffset(u64_at(extension, 16)), &mut directory)?;
        let (mut all, mut at) = (Vec::new(), 0);
        for index in 0..count {
            let entry = directory.get(at..).unwrap_or(&[]);
            let Some((info, used)) = parse_entry(entry) else {
                return Err(bad(format!("bitmap directory entry {index} is not valid")));
            };
            all.push(info);
            at += used;
        }
        Ok(all)
    }

    /// Reads a bitmap's bits.
    ///
    /// # Errors
    /// The storage's; tables that are not valid.
    pub fn load_bitmap(&self, info: &BitmapInfo) -> Result<Bitmap> {
        let length = self.size_now().div_ceil(1 << info.granularity_bits).div_ceil(8);
        let cluster = self.layout.cluster();
        if length > BITS_MAX || u64::from(info.table_size) < length.div_ceil(cluster) {
            let what = format!("bitmap '{}' is too large, or its table too short", info.name);
            return Err(BlockError::corrupt(self.name(), what));
        }
        let mut bits = vec![0; length as usize];
        let table = self.bitmap_table(info)?;
        for (entry, piece) in table.iter().zip(bits.chunks_mut(cluster as usize)) {
            match entry & spec::OFFSET_MASK {
                0 if entry & spec::BITMAP_ALL_ONES != 0 => piece.fill(0xff),
                0 => {}
                host => self.file.read_at(HostOffset(host), piece)?,
            }
        }
        let BitmapInfo { name, granularity_bits, flags, .. } = info.clone();
        Ok(Bitmap { name, granularity_bits, flags, bits })
    }

    fn bitmap_table(&self, info: &BitmapInfo) -> Result<Vec<u64>> {
        let bytes = u64::from(info.table_size) * 8;
        if bytes > spec::BITMAP_DIRECTORY_MAX
            || !info.table_at.is_multiple_of(self.layout.cluster())
        {
            let what = format!("bitmap table of '{}' is not valid", info.name);
            return Err(BlockError::corrupt(self.name(), what));
        }
        let mut table = vec![0; bytes as usize];
        self.file.read_at(HostOffset(info.table_at), &mut table)?;
        Ok(words(&table))
    }

    /// All bitmaps with their bits.
    ///
    /// # Errors
    /// As [`Qcow2::load_bitmap`].
    pub fn load_bitmaps(&self) -> Result<Vec<Bitmap>> {
        self.bitmap_list()?.iter().map(|info| self.load_bitmap(info)).collect()
    }

    /// Replaces all bitmaps. Run it within [`kezhan_block::Image::alone`].
    ///
    /// # Errors
    /// A version 2 image; no space; the storage's.
    pub fn store_bitmaps(&self, bitmaps: &[Bitmap]) -> Result<()> {
        self.check_writable()?;
        if !self.layout.v3 {
            let what = "bitmaps need a version 3 image; convert it with compat=1.1";
            return Err(BlockError::unsupported(self.name(), what));
        }
        let old = self.bitmap_clusters()?;
        let mut directory = Vec::new();
        for bitmap in bitmaps {
            let (table_at, table_size) = self.store_bits(bitmap)?;
            directory.extend(encode_entry(bitmap, table_at, table_size));
        }
        let extension = if bitmaps.is_empty() {
            None
        } else {
            let at = self.store_table(&directory)?;
            let mut data = vec![0; spec::BITMAP_EXT_LENGTH];
            put(&mut data, 0, &(bitmaps.len() as u32).to_be_bytes());
            put(&mut data, 8, &(directory.len() as u64).to_be_bytes());
            put(&mut data, 16, &at.to_be_bytes());
            Some(data)
        };
        {
            let mut state = self.state();
            state.header.autoclear &= !spec::BITMAPS_VALID;
            state.header.autoclear |= if extension.is_some() { spec::BITMAPS_VALID } else { 0 };
            state.header.set_extension(spec::EXT_BITMAPS, extension);
            state.header_dirty = true;
            old.into_iter().for_each(|run| state.free_run(run));
        }
        self.flush_metadata()?;
        self.recycle_clusters()?;
        self.flush_metadata()?;
        self.track(bitmaps.to_vec());
        Ok(())
    }

    /// Sets the mark "in use" in the directory, at once, for each bitmap that `which` picks.
    pub(crate) fn mark_bitmaps_in_use(&self, which: impl Fn(&BitmapInfo) -> bool) -> Result<()> {
        let header = self.header();
        let Some(extension) = header.extension(spec::EXT_BITMAPS) else { return Ok(()) };
        let mut at = u64_at(extension, 16);
        for info in self.bitmap_list()? {
            if which(&info) {
                let flags = info.flags | spec::BITMAP_IN_USE;
                self.file.write_at(HostOffset(at + 12), &flags.to_be_bytes())?;
            }
            at += info.directory_bytes;
        }
        self.file.flush()
    }

    fn store_bits(&self, bitmap: &Bitmap) -> Result<(u64, u32)> {
        let cluster = self.layout.cluster() as usize;
        let mut table = Vec::new();
        for piece in bitmap.bits.chunks(cluster) {
            if kezhan_block::is_zero(piece) {
                table.push(0);
            } else {
                table.push(self.store_table(piece)?);
            }
        }
        if table.is_empty() {
            table.push(0);
        }
        Ok((self.store_table(&bytes(&table))?, table.len() as u32))
    }

    /// Writes bytes to new clusters.
    fn store_table(&self, content: &[u8]) -> Result<u64> {
        let clusters = self.layout.clusters(content.len() as u64);
        let run = self.state().refcounts.allocate_exactly(&*self.file, clusters)?;
        let at = run.first * self.layout.cluster();
        let mut padded = content.to_vec();
        padded.resize((clusters * self.layout.cluster()) as usize, 0);
        self.file.write_at(HostOffset(at), &padded)?;
        Ok(at)
    }

    /// The clusters that directory, tables and bits take.
    pub(crate) fn bitmap_clusters(&self) -> Result<Vec<Run>> {
        let header = self.header();
        let Some(extension) = header.extension(spec::EXT_BITMAPS) else { return Ok(Vec::new()) };
        let size = self.layout.cluster();
        let run =
            |at: u64, bytes: u64| Run { first: at / size, count: self.layout.clusters(bytes) };
        let mut all = vec![run(u64_at(extension, 16), u64_at(extension, 8))];
        for info in self.bitmap_list()? {
            all.push(run(info.table_at, u64::from(info.table_size) * 8));
            let hosts =
                self.bitmap_table(&info)?.into_iter().map(|entry| entry & spec::OFFSET_MASK);
            all.extend(hosts.filter(|host| *host != 0).map(|host| run(host, size)));
        }
        Ok(all)
    }
}

fn parse_entry(entry: &[u8]) -> Option<(BitmapInfo, usize)> {
    let fixed = entry.get(..spec::BITMAP_DIR_FIXED)?;
    let (name_length, extra) = (u16_at(fixed, 18) as usize, u32_at(fixed, 20) as usize);
    let name_at = spec::BITMAP_DIR_FIXED.checked_add(extra)?;
    let name = entry.get(name_at..name_at + name_length)?;
    let info = BitmapInfo {
        name: String::from_utf8_lossy(name).into_owned(),
        granularity_bits: fixed[17],
        flags: u32_at(fixed, 12),
        table_at: u64_at(fixed, 0),
        table_size: u32_at(fixed, 8),
        directory_bytes: (name_at + name_length).next_multiple_of(8) as u64,
    };
    let valid =
        fixed[16] == spec::BITMAP_DIRTY_TRACKING && (9..=31).contains(&info.granularity_bits);
    valid.then_some((info, (name_at + name_length).next_multiple_of(8)))
}

fn encode_entry(info: &Bitmap, table_at: u64, table_size: u32) -> Vec<u8> {
    let mut out = vec![0; spec::BITMAP_DIR_FIXED];
    put(&mut out, 0, &table_at.to_be_bytes());
    put(&mut out, 8, &table_size.to_be_bytes());
    put(&mut out, 12, &info.flags.to_be_bytes());
    put(&mut out, 16, &[spec::BITMAP_DIRTY_TRACKING, info.granularity_bits]);
    put(&mut out, 18, &(info.name.len() as u16).to_be_bytes());
    out.extend(info.name.as_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
    out
}
