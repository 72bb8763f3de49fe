//! VDI, the format of VirtualBox.
//!
//! ```text
//!   header, 512 bytes │ block map: u32 for each block │ blocks of 1 MiB
//! ```
//!
//! Source: the header `VDICore.h` of VirtualBox as described in its forum article "All about VDIs", and
//! what QEMU's block driver "vdi" accepts.

use crate::blocks::{Blocks, Place, Places, Table, Writes, read_table};
use crate::little::{put, random_uuid, u32_at, u64_at};
use kezhan_block::{
    BlockError, CreateRequest, FormatDriver, HostOffset, OpenContext, Opened, Preallocation,
    Result, Storage,
};
use std::sync::Arc;

/// Offsets and values of the header ("VDIHEADER1PLUS").
mod spec {
    pub const SIGNATURE: u32 = 0xbeda_107f;
    pub const VERSION: u32 = 0x0001_0001;
    pub const TEXT: &[u8] = b"<<< Oracle VM VirtualBox Disk Image >>>\n";
    pub const HEADER: usize = 512;
    pub const AT_SIGNATURE: usize = 0x40;
    pub const AT_VERSION: usize = 0x44;
    pub const AT_HEADER_SIZE: usize = 0x48;
    pub const AT_TYPE: usize = 0x4c;
    pub const AT_MAP: usize = 0x154;
    pub const AT_DATA: usize = 0x158;
    pub const AT_SECTOR: usize = 0x168;
    pub const AT_DISK_SIZE: usize = 0x170;
    pub const AT_BLOCK_SIZE: usize = 0x178;
    pub const AT_BLOCKS: usize = 0x180;
    pub const AT_ALLOCATED: usize = 0x184;
    pub const AT_UUID: usize = 0x188;
    pub const AT_UUID_SNAPSHOT: usize = 0x198;
    pub const AT_UUID_LINK: usize = 0x1a8;
    pub const AT_UUID_PARENT: usize = 0x1b8;
    pub const DYNAMIC: u32 = 1;
    pub const STATIC: u32 = 2;
    pub const BLOCK: u64 = 1 << 20;
    pub const UNALLOCATED: u32 = 0xffff_ffff;
    pub const DISCARDED: u32 = 0xffff_fffe;
    pub const BLOCKS_MAX: u32 = 0x3fff_ffff;
}

/// Where map and data are.
#[derive(Debug)]
struct Vdi {
    map_at: u64,
    data_at: u64,
}

impl Table for Vdi {
    fn format_name(&self) -> &'static str {
        "vdi"
    }

    fn entry(&self, index: usize, place: Place) -> Writes {
        let number = match place {
            Place::At(host) => ((host - self.data_at) / spec::BLOCK) as u32,
            Place::Zero => spec::DISCARDED,
            Place::None | Place::Compressed(_) => spec::UNALLOCATED,
        };
        vec![(HostOffset(self.map_at + index as u64 * 4), number.to_le_bytes().to_vec())]
    }

    fn after_growth(&self, _end: u64, allocated: usize) -> Writes {
        vec![(HostOffset(spec::AT_ALLOCATED as u64), (allocated as u32).to_le_bytes().to_vec())]
    }
}

/// Opens and makes VDI images.
#[derive(Debug)]
pub struct VdiDriver;

impl FormatDriver for VdiDriver {
    fn name(&self) -> &'static str {
        "vdi"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        if u32_at(head, spec::AT_SIGNATURE) == spec::SIGNATURE { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let mut header = vec![0; spec::HEADER];
        file.read_at(HostOffset(0), &mut header)?;
        check(file.name(), &header)?;
        let table = Vdi {
            map_at: u64::from(u32_at(&header, spec::AT_MAP)),
            data_at: u64::from(u32_at(&header, spec::AT_DATA)),
        };
        let count = u32_at(&header, spec::AT_BLOCKS);
        let map = read_table(&*file, table.map_at, u64::from(count) * 4, "block map")?;
        let (mut places, mut end) = (Places::default(), table.data_at);
        for index in 0..count as usize {
            places.push(match u32_at(&map, index * 4) {
                spec::UNALLOCATED => Place::None,
                spec::DISCARDED => Place::Zero,
                number => {
                    let host = table.data_at + u64::from(number) * spec::BLOCK;
                    end = end.max(host + spec::BLOCK);
                    Place::At(host)
                }
            });
        }
        let size = u64_at(&header, spec::AT_DISK_SIZE);
        let sizes = (size, spec::BLOCK);
        let format = Blocks::new(file, table, sizes, (places, end), context.writable);
        Ok(Opened { format: Box::new(format), backing: None })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        request.expect_only("vdi", &["preallocation", "static", "size"])?;
        if request.backing_file.is_some() {
            return Err(BlockError::option("backing_file", "vdi images have none; use qcow2"));
        }
        let size = request.size.next_multiple_of(512);
        let blocks = size.div_ceil(spec::BLOCK);
        if blocks > u64::from(spec::BLOCKS_MAX) {
            return Err(BlockError::option(format!("size={size}"), "too large for vdi"));
        }
        let fixed = match request.preallocation()? {
            Preallocation::Off => request.flag("static", false)?,
            Preallocation::Metadata => true,
            _ => return Err(BlockError::option("preallocation", "give off or metadata")),
        };
        write_new(&*file, size, blocks as u32, fixed)
    }
}

fn check(name: &str, header: &[u8]) -> Result<()> {
    let bad = |what: String| Err(BlockError::unsupported(name, what));
    if u32_at(header, spec::AT_SIGNATURE) != spec::SIGNATURE {
        let what = "its signature is missing".to_owned();
        return Err(BlockError::WrongFormat { name: name.to_owned(), format: "vdi", what });
    }
    let (version, block) = (u32_at(header, spec::AT_VERSION), u32_at(header, spec::AT_BLOCK_SIZE));
    if version != spec::VERSION {
        return bad(format!("VDI version {version:#x} is not 1.1"));
    }
    if u64::from(block) != spec::BLOCK || u32_at(header, spec::AT_SECTOR) != 512 {
        return bad(format!("VDI block size {block} is not 1 MiB with sectors of 512 bytes"));
    }
    let ids = &header[spec::AT_UUID_LINK..spec::AT_UUID_PARENT + 16];
    if ids.iter().any(|byte| *byte != 0) {
        return bad("VDI images with parents are not supported; merge its snapshots first".into());
    }
    let (blocks, size) = (u32_at(header, spec::AT_BLOCKS), u64_at(header, spec::AT_DISK_SIZE));
    let covered = u64::from(blocks) * spec::BLOCK;
    let offsets = u32_at(header, spec::AT_MAP) | u32_at(header, spec::AT_DATA);
    if blocks > spec::BLOCKS_MAX || size > covered || !offsets.is_multiple_of(512) {
        let what = format!("{blocks} blocks for a disk of {size} bytes are not valid");
        return Err(BlockError::corrupt(name, what));
    }
    Ok(())
}

fn write_new(file: &dyn Storage, size: u64, blocks: u32, fixed: bool) -> Result<()> {
    let map_bytes = (u64::from(blocks) * 4).next_multiple_of(512);
    let data_at = spec::HEADER as u64 + map_bytes;
    let mut header = vec![0; spec::HEADER];
    let words = [
        (spec::AT_SIGNATURE, spec::SIGNATURE),
        (spec::AT_VERSION, spec::VERSION),
        (spec::AT_HEADER_SIZE, 0x180),
        (spec::AT_TYPE, if fixed { spec::STATIC } else { spec::DYNAMIC }),
        (spec::AT_MAP, spec::HEADER as u32),
        (spec::AT_DATA, data_at as u32),
        (spec::AT_SECTOR, 512),
        (spec::AT_BLOCK_SIZE, spec::BLOCK as u32),
        (spec::AT_BLOCKS, blocks),
        (spec::AT_ALLOCATED, if fixed { blocks } else { 0 }),
    ];
    words.iter().for_each(|(at, word)| put(&mut header, *at, &word.to_le_bytes()));
    put(&mut header, 0, spec::TEXT);
    put(&mut header, spec::AT_DISK_SIZE, &size.to_le_bytes());
    put(&mut header, spec::AT_UUID, &random_uuid());
    put(&mut header, spec::AT_UUID_SNAPSHOT, &random_uuid());
    let entry = |index| if fixed { index } else { spec::UNALLOCATED };
    let mut map: Vec<u8> = (0..blocks).flat_map(|index| entry(index).to_le_bytes()).collect();
    map.resize(map_bytes as usize, 0);
    file.write_at(HostOffset(spec::HEADER as u64), &map)?;
    file.write_at(HostOffset(0), &header)?;
    if fixed {
        file.set_size(data_at + u64::from(blocks) * spec::BLOCK)?;
    }
    file.flush()
}
