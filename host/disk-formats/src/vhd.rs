//! VHD, the older format of Microsoft's virtual machines ("vpc").
//!
//! ```text
//!   fixed:    data │ footer
//!   dynamic:  footer copy │ dynamic header │ block allocation table │ (bitmap, block)… │ footer
//! ```
//!
//! Source: "Virtual Hard Disk Image Format Specification", version 1.0. Big-endian.

use crate::blocks::{Blocks, Place, Places, Table, Writes, read_table};
use crate::little::{put, random_uuid};
use kezhan_block::{
    BlockError, CreateRequest, Format, FormatDriver, FormatInfo, GuestOffset, HostOffset, Mapping,
    MappingKind, OpenContext, Opened, Result, Span, Storage, Ticket, WritePlan,
};
use std::any::Any;
use std::sync::Arc;

/// "Hard Disk Footer Format", "Dynamic Disk Header Format".
mod spec {
    pub const COOKIE: &[u8] = b"conectix";
    pub const SPARSE_COOKIE: &[u8] = b"cxsparse";
    pub const FOOTER: u64 = 512;
    pub const HEADER: u64 = 1024;
    pub const AT_FEATURES: usize = 8;
    pub const AT_VERSION: usize = 12;
    pub const AT_DATA_OFFSET: usize = 16;
    pub const AT_CREATOR: usize = 28;
    pub const AT_CREATOR_OS: usize = 36;
    pub const AT_ORIGINAL_SIZE: usize = 40;
    pub const AT_SIZE: usize = 48;
    pub const AT_CYLINDERS: usize = 56;
    pub const AT_HEADS: usize = 58;
    pub const AT_SECTORS: usize = 59;
    pub const AT_TYPE: usize = 60;
    pub const AT_CHECKSUM: usize = 64;
    pub const AT_UUID: usize = 68;
    pub const FIXED: u32 = 2;
    pub const DYNAMIC: u32 = 3;
    pub const AT_TABLE: usize = 16;
    pub const AT_HEADER_VERSION: usize = 24;
    pub const AT_ENTRIES: usize = 28;
    pub const AT_BLOCK: usize = 32;
    pub const AT_HEADER_CHECKSUM: usize = 36;
    pub const UNUSED: u32 = 0xffff_ffff;
    pub const VERSION: u32 = 0x0001_0000;
    pub const BLOCK: u64 = 2 << 20;
    /// Largest disk, "Hard Disk Footer Format": 2040 GiB.
    pub const SIZE_MAX: u64 = 2040 << 30;
    /// Creators whose sizes are exact; others mean what cylinders, heads and sectors say.
    pub const EXACT: [&[u8]; 5] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"vs  "];
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    crate::little::u32_at(bytes, at).swap_bytes()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    crate::little::u64_at(bytes, at).swap_bytes()
}

#[derive(Debug)]
struct Vhd {
    footer: Vec<u8>,
    table_at: u64,
    bitmap: u64,
}

impl Table for Vhd {
    fn format_name(&self) -> &'static str {
        "vpc"
    }

    fn entry(&self, index: usize, place: Place) -> Writes {
        let at = HostOffset(self.table_at + index as u64 * 4);
        match place {
            Place::At(host) => {
                let block = host - self.bitmap;
                let sector = (block / 512) as u32;
                // Every sector of the block counts.
                let bitmap = vec![0xff; self.bitmap as usize];
                vec![(HostOffset(block), bitmap), (at, sector.to_be_bytes().to_vec())]
            }
            _ => vec![(at, spec::UNUSED.to_be_bytes().to_vec())],
        }
    }

    fn after_growth(&self, end: u64, _allocated: usize) -> Writes {
        vec![(HostOffset(end), self.footer.clone())]
    }

    fn gap(&self) -> u64 {
        self.bitmap
    }
}

/// A fixed disk: the file without its footer.
#[derive(Debug)]
struct Fixed {
    file: Arc<dyn Storage>,
    size: u64,
    writable: bool,
}

impl Format for Fixed {
    fn format_name(&self) -> &'static str {
        "vpc"
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn info(&self) -> FormatInfo {
        FormatInfo::default()
    }

    fn locate(&self, offset: GuestOffset, length: u64) -> Result<Mapping<'_>> {
        let kind = MappingKind::Data { storage: &*self.file, offset: HostOffset(offset.get()) };
        Ok(Mapping { kind, length })
    }

    fn prepare_write(&self, offset: GuestOffset, length: u64) -> Result<WritePlan<'_>> {
        if !self.writable {
            return Err(BlockError::ReadOnly { name: self.file.name().to_owned() });
        }
        let offset = HostOffset(offset.get());
        Ok(WritePlan::InPlace { storage: &*self.file, offset, length })
    }

    fn commit_write(&self, _ticket: Ticket) -> Result<()> {
        Ok(())
    }

    fn abort_write(&self, _ticket: Ticket) {}

    fn discard(&self, _range: Span) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.file.flush()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Opens and makes VHD images.
#[derive(Debug)]
pub struct VhdDriver;

impl FormatDriver for VhdDriver {
    fn name(&self) -> &'static str {
        "vpc"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        // A fixed disk starts with what its guest wrote: that one must be named.
        if head.starts_with(spec::COOKIE) { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let length = file.size()?;
        let mut footer = vec![0; 512];
        file.read_at(HostOffset(0), &mut footer)?;
        if !footer.starts_with(spec::COOKIE) {
            let at = length.saturating_sub(spec::FOOTER);
            file.read_at(HostOffset(at), &mut footer)?;
        }
        let what = match () {
            () if !footer.starts_with(spec::COOKIE) => Some("it has no footer"),
            () if u32_at(&footer, spec::AT_CHECKSUM) != sum(&footer, spec::AT_CHECKSUM) => {
                Some("the checksum of its footer is wrong")
            }
            () => None,
        };
        if let Some(what) = what {
            let (name, what) = (file.name().to_owned(), what.to_owned());
            return Err(BlockError::WrongFormat { name, format: "vpc", what });
        }
        let size = disk_size(&footer);
        match u32_at(&footer, spec::AT_TYPE) {
            spec::FIXED => {
                let size = size.min(length.saturating_sub(spec::FOOTER));
                let format = Box::new(Fixed { file, size, writable: context.writable });
                Ok(Opened { format, backing: None })
            }
            spec::DYNAMIC => open_dynamic(file, footer, size, context.writable),
            kind => {
                let what = format!("VHD type {kind} is not fixed or dynamic; merge it first");
                Err(BlockError::unsupported(file.name(), what))
            }
        }
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        request.expect_only("vpc", &["subformat", "force_size", "size"])?;
        if request.backing_file.is_some() {
            return Err(BlockError::option("backing_file", "vpc images have none here; use qcow2"));
        }
        let size = request.size.next_multiple_of(512);
        if size > spec::SIZE_MAX {
            return Err(BlockError::option(format!("size={size}"), "vpc holds up to 2040G"));
        }
        match request.option("subformat") {
            None | Some("dynamic") => create_dynamic(&*file, size),
            Some("fixed") => {
                file.set_size(size)?;
                file.write_at(HostOffset(size), &footer(size, spec::FIXED, u64::MAX))?;
                file.flush()
            }
            Some(other) => {
                Err(BlockError::option(format!("subformat={other}"), "give dynamic or fixed"))
            }
        }
    }
}

fn disk_size(footer: &[u8]) -> u64 {
    let chs = u64::from(u32_at(footer, spec::AT_CYLINDERS) >> 16)
        * u64::from(footer[spec::AT_HEADS])
        * u64::from(footer[spec::AT_SECTORS])
        * 512;
    let creator = &footer[spec::AT_CREATOR..spec::AT_CREATOR + 4];
    // The largest geometry means "more than a geometry can say".
    let exact = spec::EXACT.contains(&creator) || chs >= 65535 * 16 * 255 * 512;
    if exact || chs == 0 { u64_at(footer, spec::AT_SIZE) } else { chs }
}

fn open_dynamic(
    file: Arc<dyn Storage>,
    footer: Vec<u8>,
    size: u64,
    writable: bool,
) -> Result<Opened> {
    let at = u64_at(&footer, spec::AT_DATA_OFFSET);
    let header = read_table(&*file, at, spec::HEADER, "dynamic header")?;
    let (entries, block) = (u32_at(&header, spec::AT_ENTRIES), u32_at(&header, spec::AT_BLOCK));
    let valid = header.starts_with(spec::SPARSE_COOKIE)
        && block.is_power_of_two()
        && (512..=256 << 20).contains(&block)
        && size <= spec::SIZE_MAX
        && size.div_ceil(u64::from(block)) <= u64::from(entries);
    if !valid || u32_at(&header, spec::AT_HEADER_CHECKSUM) != sum(&header, spec::AT_HEADER_CHECKSUM)
    {
        let what = format!("dynamic header with {entries} blocks of {block} is not valid");
        return Err(BlockError::corrupt(file.name(), what));
    }
    let block = u64::from(block);
    let bitmap = (block / 512).div_ceil(8).next_multiple_of(512);
    let table_at = u64_at(&header, spec::AT_TABLE);
    let count = size.div_ceil(block);
    let map = read_table(&*file, table_at, count * 4, "block allocation table")?;
    let mut end = table_at + (u64::from(entries) * 4).next_multiple_of(512);
    let mut places = Places::default();
    for index in 0..count as usize {
        places.push(match u32_at(&map, index * 4) {
            spec::UNUSED => Place::None,
            sector => {
                let host = u64::from(sector) * 512 + bitmap;
                end = end.max(host + block);
                Place::At(host)
            }
        });
    }
    let table = Vhd { footer, table_at, bitmap };
    let format = Blocks::new(file, table, (size, block), (places, end), writable);
    Ok(Opened { format: Box::new(format), backing: None })
}

fn create_dynamic(file: &dyn Storage, size: u64) -> Result<()> {
    let footer = footer(size, spec::DYNAMIC, 512);
    let entries = size.div_ceil(spec::BLOCK);
    let mut header = vec![0; spec::HEADER as usize];
    put(&mut header, 0, spec::SPARSE_COOKIE);
    put(&mut header, 8, &u64::MAX.to_be_bytes());
    put(&mut header, spec::AT_TABLE, &1536u64.to_be_bytes());
    put(&mut header, spec::AT_HEADER_VERSION, &spec::VERSION.to_be_bytes());
    put(&mut header, spec::AT_ENTRIES, &(entries as u32).to_be_bytes());
    put(&mut header, spec::AT_BLOCK, &(spec::BLOCK as u32).to_be_bytes());
    let checksum = sum(&header, spec::AT_HEADER_CHECKSUM);
    put(&mut header, spec::AT_HEADER_CHECKSUM, &checksum.to_be_bytes());
    let table = vec![0xff; ((entries * 4).next_multiple_of(512)) as usize];
    file.write_at(HostOffset(512), &header)?;
    file.write_at(HostOffset(1536), &table)?;
    file.write_at(HostOffset(1536 + table.len() as u64), &footer)?;
    file.write_at(HostOffset(0), &footer)?;
    file.flush()
}

fn footer(size: u64, kind: u32, data_offset: u64) -> Vec<u8> {
    let (cylinders, heads, sectors) = geometry(size / 512);
    let mut footer = vec![0; 512];
    put(&mut footer, 0, spec::COOKIE);
    put(&mut footer, spec::AT_FEATURES, &2u32.to_be_bytes());
    put(&mut footer, spec::AT_VERSION, &spec::VERSION.to_be_bytes());
    put(&mut footer, spec::AT_DATA_OFFSET, &data_offset.to_be_bytes());
    put(&mut footer, spec::AT_CREATOR, spec::EXACT[1]);
    put(&mut footer, spec::AT_CREATOR_OS, b"Wi2k");
    put(&mut footer, spec::AT_ORIGINAL_SIZE, &size.to_be_bytes());
    put(&mut footer, spec::AT_SIZE, &size.to_be_bytes());
    put(&mut footer, spec::AT_CYLINDERS, &cylinders.to_be_bytes());
    put(&mut footer, spec::AT_HEADS, &[heads, sectors]);
    put(&mut footer, spec::AT_TYPE, &kind.to_be_bytes());
    put(&mut footer, spec::AT_UUID, &random_uuid());
    let checksum = sum(&footer, spec::AT_CHECKSUM);
    put(&mut footer, spec::AT_CHECKSUM, &checksum.to_be_bytes());
    footer
}

/// One's complement of the sum of all bytes but the checksum's own ("Checksum").
fn sum(bytes: &[u8], checksum_at: usize) -> u32 {
    let own = checksum_at..checksum_at + 4;
    let counted = bytes.iter().enumerate().filter(|(at, _)| !own.contains(at));
    !counted.map(|(_, byte)| u32::from(*byte)).fold(0, u32::wrapping_add)
}

/// Cylinders, heads and sectors ("Appendix: CHS Calculation").
fn geometry(total: u64) -> (u16, u8, u8) {
    let total = total.min(65535 * 16 * 255);
    let (mut sectors, mut heads, mut tracks) = (17, 0, total / 17);
    if total >= 65535 * 16 * 63 {
        (sectors, heads, tracks) = (255, 16, total / 255);
    } else {
        heads = heads.max(tracks.div_ceil(1024)).max(4);
        if tracks >= heads * 1024 || heads > 16 {
            (sectors, heads, tracks) = (31, 16, total / 31);
        }
        if tracks >= heads * 1024 {
            (sectors, heads, tracks) = (63, 16, total / 63);
        }
    }
    ((tracks / heads) as u16, heads as u8, sectors as u8)
}
