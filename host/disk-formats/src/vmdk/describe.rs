//! What a VMDK image tells of itself, for people and scripts.

use super::{DESCRIPTOR_MAX, Descriptor, sparse};
use kezhan_block::storage::FileOptions;
use kezhan_block::{FileStorage, HostOffset, Result, Storage};
use std::path::Path;

/// A VMDK image's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmdkDescription {
    /// Content identifier, another after each opening that wrote.
    pub cid: u32,
    /// That of the image below when this one was made; all ones without one.
    pub parent_cid: u32,
    /// `monolithicSparse`, `twoGbMaxExtentFlat` and so on.
    pub create_type: String,
    /// The parts of the disk, in order.
    pub extents: Vec<VmdkExtent>,
}

/// A part of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmdkExtent {
    /// The file that has it.
    pub file: String,
    /// `SPARSE`, `FLAT` …; empty when the descriptor is within the extent.
    pub kind: String,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a grain, of a sparse extent.
    pub grain: Option<u64>,
    /// Whether its grains are compressed.
    pub compressed: bool,
}

impl VmdkExtent {
    fn of_sparse(file: &dyn Storage, kind: &str) -> Result<VmdkExtent> {
        let (size, grain, compressed) = sparse::shape(file)?;
        let (file, kind) = (file.name().to_owned(), kind.to_owned());
        Ok(VmdkExtent { file, kind, size, grain: Some(grain), compressed })
    }
}

/// Reads the description of an image; `None` when it has none.
///
/// # Errors
/// The storage's; an extent that is not valid. The files of the other extents are looked for beside the image.
pub fn describe(file: &dyn Storage) -> Result<Option<VmdkDescription>> {
    let mut head = [0; 4];
    file.read_at(HostOffset(0), &mut head)?;
    let alone = head == *sparse::MAGIC;
    let text = match alone {
        true => sparse::embedded_descriptor(file)?.unwrap_or_default(),
        false => {
            let mut text = vec![0; file.size()?.min(DESCRIPTOR_MAX) as usize];
            file.read_at(HostOffset(0), &mut text)?;
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    let Some(descriptor) = Descriptor::parse(&text) else { return Ok(None) };
    let mut extents = Vec::new();
    if alone {
        extents.push(VmdkExtent::of_sparse(file, "")?);
    }
    for line in descriptor.extents.iter().filter(|_| !alone) {
        let path = Path::new(file.name()).with_file_name(&line.file);
        extents.push(if line.kind == "SPARSE" || line.kind == "VMFSSPARSE" {
            let options = FileOptions { lock: false, ..FileOptions::READ };
            VmdkExtent::of_sparse(&FileStorage::open(&path, options)?, &line.kind)?
        } else {
            let (file, kind) = (path.display().to_string(), line.kind.clone());
            VmdkExtent { file, kind, size: line.sectors * 512, ..VmdkExtent::default() }
        });
    }
    let number = |key| u32::from_str_radix(&value(&text, key), 16).unwrap_or(0);
    Ok(Some(VmdkDescription {
        cid: number("CID"),
        parent_cid: number("parentCID"),
        create_type: descriptor.kind,
        extents,
    }))
}

/// The value of a line `key=value`; empty when there is none.
fn value(text: &str, key: &str) -> String {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let found = pairs.into_iter().find(|(name, _)| name.trim() == key);
    found.map_or_else(String::new, |(_, value)| value.trim().trim_matches('"').to_owned())
}
