//! VHDX, the newer format of Microsoft's virtual machines.
//!
//! ```text
//!   0      identifier      64 K  header 1     128 K  header 2     192 K, 256 K  region tables
//!   1 M    log             2 M   metadata     3 M    block allocation table     then blocks
//! ```
//!
//! Of the two headers the valid one with the larger sequence number counts. A log that is not empty is replayed
//! before anything else ([`log`]). We write table entries without the log: one sector with one entry more is valid
//! before and after.
//!
//! Source: "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format", revision 8.

mod log;

use crate::blocks::{Blocks, Place, Places, Table, Writes, read_table};
use crate::little::{put, random_uuid, u16_at, u32_at, u64_at};
use kezhan_block::{
    BlockError, CreateRequest, FormatDriver, HostOffset, OpenContext, Opened, Result, Storage,
};
use log::Log;
use std::sync::Arc;

/// Layouts and identifiers; sections are those of [MS-VHDX].
mod spec {
    /// §2.2.1, File Type Identifier.
    pub const IDENTIFIER: &[u8] = b"vhdxfile";
    /// §2.2.2, Headers.
    pub const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
    pub const HEADER: usize = 4096;
    pub const HEADER_SIGNATURE: &[u8] = b"head";
    pub const AT_SEQUENCE: usize = 8;
    pub const AT_FILE_WRITE: usize = 16;
    pub const AT_DATA_WRITE: usize = 32;
    pub const AT_LOG_ID: usize = 48;
    pub const AT_VERSION: usize = 66;
    pub const AT_LOG_LENGTH: usize = 68;
    pub const AT_LOG_OFFSET: usize = 72;
    /// §2.2.3, Region Table.
    pub const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
    pub const REGION_TABLE: usize = 64 << 10;
    pub const REGION_SIGNATURE: &[u8] = b"regi";
    pub const BAT: [u8; 16] = id(0x2dc2_7766, 0xf623, 0x4200, *b"\x9d\x64\x11\x5e\x9b\xfd\x4a\x08");
    pub const METADATA: [u8; 16] =
        id(0x8b7c_a206, 0x4790, 0x4b9a, *b"\xb8\xfe\x57\x5f\x05\x0f\x88\x6e");
    /// §2.6.1.1, Metadata Table Header.
    pub const METADATA_SIGNATURE: &[u8] = b"metadata";
    /// §2.6.2, Known Metadata Items.
    pub const FILE_PARAMETERS: [u8; 16] =
        id(0xcaa1_6737, 0xfa36, 0x4d43, *b"\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b");
    pub const DISK_SIZE: [u8; 16] =
        id(0x2fa5_4224, 0xcd1b, 0x4876, *b"\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8");
    pub const PAGE_83: [u8; 16] =
        id(0xbeca_12ab, 0xb2e6, 0x4523, *b"\x93\xef\xc3\x09\xe0\x00\xc7\x46");
    pub const LOGICAL_SECTOR: [u8; 16] =
        id(0x8141_bf1d, 0xa96f, 0x4709, *b"\xba\x47\xf2\x33\xa8\xfa\xab\x5f");
    pub const PHYSICAL_SECTOR: [u8; 16] =
        id(0xcda3_48c7, 0x445d, 0x4471, *b"\x9c\xc9\xe9\x88\x52\x51\xc5\x56");
    pub const HAS_PARENT: u32 = 2;
    /// §2.5.1.1, Payload BAT Entry States.
    pub const NOT_PRESENT: u64 = 0;
    pub const UNDEFINED: u64 = 1;
    pub const ZERO: u64 = 2;
    pub const UNMAPPED: u64 = 3;
    pub const FULLY_PRESENT: u64 = 6;
    /// §2.5, BAT: blocks between two sector bitmap entries, times the block size.
    pub const CHUNK_SECTORS: u64 = 1 << 23;
    pub const MEGABYTE: u64 = 1 << 20;
    /// §2.6.2.2, Virtual Disk Size: 64 TiB.
    pub const SIZE_MAX: u64 = 64 << 40;

    /// An identifier in its mixed byte order.
    const fn id(a: u32, b: u16, c: u16, rest: [u8; 8]) -> [u8; 16] {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        [
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], rest[0], rest[1], rest[2], rest[3],
            rest[4], rest[5], rest[6], rest[7],
        ]
    }
}

#[derive(Debug)]
struct Vhdx {
    table_at: u64,
    chunk: u64,
}

impl Vhdx {
    /// Byte offset of a block's entry: sector bitmap entries stand between those of chunks.
    fn entry_at(&self, index: u64) -> u64 {
        (index + index / self.chunk) * 8
    }
}

impl Table for Vhdx {
    fn format_name(&self) -> &'static str {
        "vhdx"
    }

    fn entry(&self, index: usize, place: Place) -> Writes {
        let word = match place {
            Place::At(host) => host | spec::FULLY_PRESENT,
            Place::Zero => spec::ZERO,
            Place::None | Place::Compressed(_) => spec::NOT_PRESENT,
        };
        let at = HostOffset(self.table_at + self.entry_at(index as u64));
        vec![(at, word.to_le_bytes().to_vec())]
    }

    fn after_growth(&self, _end: u64, _allocated: usize) -> Writes {
        Writes::new()
    }

    fn alignment(&self) -> u64 {
        spec::MEGABYTE
    }
}

/// Opens and makes VHDX images.
#[derive(Debug)]
pub struct VhdxDriver;

impl FormatDriver for VhdxDriver {
    fn name(&self) -> &'static str {
        "vhdx"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        if head.starts_with(spec::IDENTIFIER) { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let mut identifier = [0; 8];
        file.read_at(HostOffset(0), &mut identifier)?;
        if identifier != *spec::IDENTIFIER {
            let (name, what) = (file.name().to_owned(), "its identifier is missing".to_owned());
            return Err(BlockError::WrongFormat { name, format: "vhdx", what });
        }
        let (_, header) = current_header(&*file)?;
        let file = replay(file, &header, context.writable)?;
        let (table, metadata) = regions(&*file)?;
        let disk = Disk::read(&*file, metadata)?;
        let (places, end) = disk.places(&*file, table)?;
        let vhdx = Vhdx { table_at: table.0, chunk: disk.chunk() };
        if context.writable && !context.for_check {
            let (which, header) = current_header(&*file)?;
            take_over(&*file, which, header)?;
        }
        let end = end.max(table.0 + table.1).max(metadata.0 + metadata.1);
        let format =
            Blocks::new(file, vhdx, (disk.size, disk.block), (places, end), context.writable);
        Ok(Opened { format: Box::new(format), backing: None })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        let known = ["block_size", "subformat", "log_size", "block_state_zero", "size"];
        request.expect_only("vhdx", &known)?;
        if request.backing_file.is_some() {
            return Err(BlockError::option(
                "backing_file",
                "vhdx images have none here; use qcow2",
            ));
        }
        let fixed = match request.option("subformat").unwrap_or("dynamic") {
            "dynamic" => false,
            "fixed" => true,
            _ => return Err(BlockError::option("subformat", "give 'dynamic' or 'fixed'")),
        };
        let size = request.size.next_multiple_of(512);
        if size > spec::SIZE_MAX {
            return Err(BlockError::option(format!("size={size}"), "vhdx holds up to 64T"));
        }
        let block = match request.number("block_size", 0)? {
            0 if size > 32 << 40 => 64 << 20,
            0 if size > 100 << 30 => 32 << 20,
            0 if size > 1 << 30 => 16 << 20,
            0 => 8 << 20,
            block if block.is_power_of_two() && (1 << 20..=256 << 20).contains(&block) => block,
            block => {
                let option = format!("block_size={block}");
                return Err(BlockError::option(option, "give a power of two from 1M to 256M"));
            }
        };
        let disk = Disk { size, block, sector: 512 };
        let zeroes = request.flag("block_state_zero", false)?;
        let state = if zeroes { spec::ZERO } else { spec::NOT_PRESENT };
        write_new(&*file, disk, if fixed { spec::FULLY_PRESENT } else { state })
    }
}

/// What the metadata says (§2.6.2).
#[derive(Clone, Copy, Debug)]
struct Disk {
    size: u64,
    block: u64,
    sector: u64,
}

impl Disk {
    fn chunk(&self) -> u64 {
        spec::CHUNK_SECTORS * self.sector / self.block
    }

    fn entries(&self) -> u64 {
        let blocks = self.size.div_ceil(self.block);
        blocks + blocks.saturating_sub(1) / self.chunk()
    }

    fn read(file: &dyn Storage, (at, length): (u64, u64)) -> Result<Disk> {
        let region = read_table(file, at, length.min(spec::MEGABYTE), "metadata region")?;
        let bad = |what: String| BlockError::corrupt(file.name(), what);
        if !region.starts_with(spec::METADATA_SIGNATURE) {
            return Err(bad("the metadata table has no signature".into()));
        }
        let item = |wanted: &[u8; 16]| {
            let entries = region.get(32..)?.chunks_exact(32).take(u16_at(&region, 10).into());
            let entry = entries.into_iter().find(|entry| entry.starts_with(wanted))?;
            region.get(u32_at(entry, 16) as usize..)
        };
        let missing = || bad("a required metadata item is missing".into());
        let parameters = item(&spec::FILE_PARAMETERS).ok_or_else(missing)?;
        let disk = Disk {
            size: u64_at(item(&spec::DISK_SIZE).ok_or_else(missing)?, 0),
            block: u64::from(u32_at(parameters, 0)),
            sector: u64::from(u32_at(item(&spec::LOGICAL_SECTOR).ok_or_else(missing)?, 0)),
        };
        if u32_at(parameters, 4) & spec::HAS_PARENT != 0 {
            let what = "VHDX images with parents are not supported; merge it first";
            return Err(BlockError::unsupported(file.name(), what));
        }
        let block = disk.block.is_power_of_two() && (1 << 20..=256 << 20).contains(&disk.block);
        if !block || ![512, 4096].contains(&disk.sector) || disk.size > spec::SIZE_MAX {
            return Err(bad(format!("disk of {} in blocks of {}", disk.size, disk.block)));
        }
        Ok(disk)
    }

    /// The table of a new image whose blocks are in `state`, those that are present one behind the other from `data` on.
    fn table(&self, state: u64, data: u64) -> Vec<u8> {
        let layout = Vhdx { table_at: 0, chunk: self.chunk() };
        let mut table = vec![0; (self.entries() * 8) as usize];
        for index in 0..self.size.div_ceil(self.block) {
            let host = if state == spec::FULLY_PRESENT { data + index * self.block } else { 0 };
            put(&mut table, layout.entry_at(index) as usize, &(host | state).to_le_bytes());
        }
        table
    }

    /// The places of all blocks and the end of the last.
    fn places(&self, file: &dyn Storage, (at, length): (u64, u64)) -> Result<(Places, u64)> {
        let bytes = self.entries() * 8;
        if bytes > length {
            let what =
                format!("block allocation table of {length} bytes is too short: {bytes} needed");
            return Err(BlockError::corrupt(file.name(), what));
        }
        let map = read_table(file, at, bytes, "block allocation table")?;
        let layout = Vhdx { table_at: at, chunk: self.chunk() };
        let (mut places, mut end) = (Places::default(), 0);
        for index in 0..self.size.div_ceil(self.block) {
            let word = u64_at(&map, layout.entry_at(index) as usize);
            let host = word & !(spec::MEGABYTE - 1);
            places.push(match word & 7 {
                spec::NOT_PRESENT | spec::UNDEFINED => Place::None,
                spec::ZERO | spec::UNMAPPED => Place::Zero,
                spec::FULLY_PRESENT if host != 0 && host < 1 << 62 => {
                    end = end.max(host + self.block);
                    Place::At(host)
                }
                state => {
                    let what = format!("block {index} has state {state} at {host:#x}");
                    return Err(BlockError::corrupt(file.name(), what));
                }
            });
        }
        Ok((places, end))
    }
}

/// The header that counts and its number (§2.2.2).
fn current_header(file: &dyn Storage) -> Result<(usize, Vec<u8>)> {
    let mut best: Option<(usize, Vec<u8>)> = None;
    for (which, at) in spec::HEADERS.iter().enumerate() {
        let mut header = vec![0; spec::HEADER];
        file.read_at(HostOffset(*at), &mut header)?;
        let newer = best.as_ref().is_none_or(|(_, other)| {
            u64_at(&header, spec::AT_SEQUENCE) > u64_at(other, spec::AT_SEQUENCE)
        });
        if header.starts_with(spec::HEADER_SIGNATURE) && is_sound(&header) && newer {
            best = Some((which, header));
        }
    }
    let Some((which, header)) = best else {
        return Err(BlockError::corrupt(file.name(), "both headers are damaged"));
    };
    if u16_at(&header, spec::AT_VERSION) != 1 {
        return Err(BlockError::unsupported(file.name(), "VHDX version is not 1"));
    }
    Ok((which, header))
}

/// The file with the changes of its log: in it when it is `writable`, else over it.
fn replay(file: Arc<dyn Storage>, header: &[u8], writable: bool) -> Result<Arc<dyn Storage>> {
    let id = header.get(spec::AT_LOG_ID..).and_then(|rest| rest.first_chunk::<16>());
    let Some(id) = id.copied().filter(|id| *id != [0; 16]) else { return Ok(file) };
    let length = u64::from(u32_at(header, spec::AT_LOG_LENGTH));
    let log = Log { id, at: u64_at(header, spec::AT_LOG_OFFSET), length };
    let changes = log.changes(&*file)?;
    if !writable {
        return Ok(changes.laid_over(file));
    }
    changes.write(&*file)?;
    // The log is empty from here on, in both headers: whichever counts next.
    let (mut which, mut header) = current_header(&*file)?;
    for _ in spec::HEADERS {
        put(&mut header, spec::AT_LOG_ID, &[0; 16]);
        take_over(&*file, which, header)?;
        (which, header) = current_header(&*file)?;
    }
    Ok(file)
}

/// Whoever changes an image says so first, in the header that does not count yet (§2.2.2.1).
fn take_over(file: &dyn Storage, which: usize, mut header: Vec<u8>) -> Result<()> {
    let sequence = u64_at(&header, spec::AT_SEQUENCE) + 1;
    put(&mut header, spec::AT_SEQUENCE, &sequence.to_le_bytes());
    put(&mut header, spec::AT_FILE_WRITE, &random_uuid());
    put(&mut header, spec::AT_DATA_WRITE, &random_uuid());
    seal(&mut header);
    file.write_at(HostOffset(spec::HEADERS[1 - which]), &header)?;
    file.flush()
}

/// Place and length of the block allocation table and of the metadata (§2.2.3).
fn regions(file: &dyn Storage) -> Result<((u64, u64), (u64, u64))> {
    for at in spec::REGIONS {
        let mut table = vec![0; spec::REGION_TABLE];
        file.read_at(HostOffset(at), &mut table)?;
        if !table.starts_with(spec::REGION_SIGNATURE) || !is_sound(&table) {
            continue;
        }
        let find = |wanted: &[u8; 16]| {
            let entries = table[16..].chunks_exact(32).take(u32_at(&table, 8) as usize);
            let entry = entries.into_iter().find(|entry| entry.starts_with(wanted))?;
            Some((u64_at(entry, 16), u64::from(u32_at(entry, 24))))
        };
        if let (Some(map), Some(metadata)) = (find(&spec::BAT), find(&spec::METADATA)) {
            return Ok((map, metadata));
        }
    }
    Err(BlockError::corrupt(file.name(), "both region tables are damaged"))
}

/// A new image, all of whose blocks have `state`.
fn write_new(file: &dyn Storage, disk: Disk, state: u64) -> Result<()> {
    let map_length = (disk.entries() * 8).max(1).next_multiple_of(spec::MEGABYTE);
    let mut identifier = vec![0; 512];
    put(&mut identifier, 0, spec::IDENTIFIER);
    let creator: Vec<u8> = "kezhan".encode_utf16().flat_map(u16::to_le_bytes).collect();
    put(&mut identifier, 8, &creator);
    let mut header = vec![0; spec::HEADER];
    put(&mut header, 0, spec::HEADER_SIGNATURE);
    put(&mut header, spec::AT_FILE_WRITE, &random_uuid());
    put(&mut header, spec::AT_DATA_WRITE, &random_uuid());
    put(&mut header, spec::AT_VERSION, &1u16.to_le_bytes());
    put(&mut header, spec::AT_LOG_LENGTH, &(spec::MEGABYTE as u32).to_le_bytes());
    put(&mut header, spec::AT_LOG_OFFSET, &spec::MEGABYTE.to_le_bytes());
    let mut regions = vec![0; spec::REGION_TABLE];
    put(&mut regions, 0, spec::REGION_SIGNATURE);
    put(&mut regions, 8, &2u32.to_le_bytes());
    let region = |id: &[u8; 16], at: u64, length: u64| {
        let mut entry = id.to_vec();
        entry.extend(at.to_le_bytes());
        entry.extend((length as u32).to_le_bytes());
        entry.extend(1u32.to_le_bytes());
        entry
    };
    put(&mut regions, 16, &region(&spec::BAT, 3 * spec::MEGABYTE, map_length));
    put(&mut regions, 48, &region(&spec::METADATA, 2 * spec::MEGABYTE, spec::MEGABYTE));
    seal(&mut regions);
    let data = 3 * spec::MEGABYTE + map_length;
    let blocks = if state == spec::FULLY_PRESENT { disk.size.div_ceil(disk.block) } else { 0 };
    file.set_size(data + blocks * disk.block)?;
    if state != spec::NOT_PRESENT {
        file.write_at(HostOffset(3 * spec::MEGABYTE), &disk.table(state, data))?;
    }
    file.write_at(HostOffset(2 * spec::MEGABYTE), &metadata(disk))?;
    for at in spec::REGIONS {
        file.write_at(HostOffset(at), &regions)?;
    }
    for (sequence, at) in spec::HEADERS.into_iter().enumerate() {
        put(&mut header, spec::AT_SEQUENCE, &(sequence as u64).to_le_bytes());
        seal(&mut header);
        file.write_at(HostOffset(at), &header)?;
    }
    file.write_at(HostOffset(0), &identifier)?;
    file.flush()
}

/// The metadata region of a new disk (§2.6).
fn metadata(disk: Disk) -> Vec<u8> {
    /// Items lie after the table, which is 64 KiB long.
    const ITEMS: usize = 64 << 10;
    let parameters = [(disk.block as u32).to_le_bytes(), [0; 4]].concat();
    let items: [(&[u8; 16], Vec<u8>, u32); 5] = [
        (&spec::FILE_PARAMETERS, parameters, 4),
        (&spec::DISK_SIZE, disk.size.to_le_bytes().to_vec(), 6),
        (&spec::PAGE_83, random_uuid().to_vec(), 6),
        (&spec::LOGICAL_SECTOR, (disk.sector as u32).to_le_bytes().to_vec(), 6),
        (&spec::PHYSICAL_SECTOR, 4096u32.to_le_bytes().to_vec(), 6),
    ];
    let mut region = vec![0; ITEMS + 4096];
    put(&mut region, 0, spec::METADATA_SIGNATURE);
    put(&mut region, 10, &(items.len() as u16).to_le_bytes());
    let mut at = ITEMS;
    for (index, (id, value, flags)) in items.iter().enumerate() {
        let entry = 32 + index * 32;
        put(&mut region, entry, *id);
        put(&mut region, entry + 16, &(at as u32).to_le_bytes());
        put(&mut region, entry + 20, &(value.len() as u32).to_le_bytes());
        put(&mut region, entry + 24, &flags.to_le_bytes());
        put(&mut region, at, value);
        at += value.len();
    }
    region
}

/// Whether the checksum of a header or region table is right: CRC-32C with the field itself as zeroes.
fn is_sound(table: &[u8]) -> bool {
    u32_at(table, 4) == checksum(table)
}

fn seal(table: &mut [u8]) {
    let sum = checksum(table);
    put(table, 4, &sum.to_le_bytes());
}

fn checksum(table: &[u8]) -> u32 {
    let bytes = table.iter().enumerate().map(|(at, b)| if (4..8).contains(&at) { 0 } else { *b });
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}
