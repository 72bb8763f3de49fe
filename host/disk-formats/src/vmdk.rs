//! VMDK, the format of VMware.
//!
//! A disk is described by a text, the descriptor, either in a file of its own or within its only extent:
//!
//! ```text
//!   RW 204800 SPARSE "disk-s001.vmdk"     sparse extent: directory ─► tables ─► grains
//!   RW 204800 FLAT "disk-f001.vmdk" 0     as it is
//!   RW 204800 ZERO
//! ```
//!
//! Source: "Virtual Disk Format 5.0" (VMware). Little-endian; sizes in sectors of 512 bytes.

mod create;
mod describe;
mod extents;
mod sparse;

pub use describe::{VmdkDescription, VmdkExtent, describe};

use kezhan_block::{
    BlockError, CreateRequest, FormatDriver, HostOffset, OpenContext, Opened, Reference,
    ReferenceKind, Result, Storage,
};
use std::sync::Arc;

/// Longest descriptor, in bytes.
const DESCRIPTOR_MAX: u64 = 1 << 20;

/// Most extents of a disk.
const EXTENTS_MAX: usize = 8192;

/// A line that names an extent ("The Extent Description").
#[derive(Clone, Debug, PartialEq, Eq)]
struct ExtentLine {
    sectors: u64,
    kind: String,
    file: String,
    offset: u64,
}

/// A descriptor ("The Text Descriptor").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Descriptor {
    kind: String,
    parent: Option<String>,
    extents: Vec<ExtentLine>,
}

impl Descriptor {
    fn parse(text: &str) -> Option<Descriptor> {
        let mut descriptor = Descriptor::default();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=') {
                let value = value.trim().trim_matches('"').to_owned();
                match key.trim() {
                    "createType" => descriptor.kind = value,
                    "parentFileNameHint" => descriptor.parent = Some(value),
                    _ => {}
                }
            } else if ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access))
            {
                descriptor.extents.push(ExtentLine::parse(line)?);
            }
        }
        Some(descriptor).filter(|d| !d.kind.is_empty() && d.extents.len() <= EXTENTS_MAX)
    }
}

impl ExtentLine {
    fn parse(line: &str) -> Option<ExtentLine> {
        let (_, rest) = line.split_once(' ')?;
        let (sectors, rest) = rest.split_once(' ')?;
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (file, rest) = match rest.trim().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => ("", ""),
        };
        Some(ExtentLine {
            sectors: sectors.parse().ok().filter(|sectors| *sectors < 1 << 40)?,
            kind: kind.to_owned(),
            file: file.to_owned(),
            offset: rest.trim().parse().unwrap_or(0),
        })
    }
}

/// Opens and makes VMDK images.
#[derive(Debug)]
pub struct VmdkDriver;

impl FormatDriver for VmdkDriver {
    fn name(&self) -> &'static str {
        "vmdk"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        let text =
            head.starts_with(b"# Disk DescriptorFile") || head.starts_with(b"# Disk Descriptor");
        if head.starts_with(sparse::MAGIC) || text { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let mut head = [0; 4];
        file.read_at(HostOffset(0), &mut head)?;
        if head == *sparse::MAGIC {
            let text = sparse::embedded_descriptor(&*file)?;
            let parent = text.as_deref().and_then(Descriptor::parse).and_then(|d| d.parent);
            let backing = parent.map(|target| parent_reference(&*file, target));
            let format = sparse::open(file, context.writable)?;
            return Ok(Opened { format: Box::new(format), backing });
        }
        let mut text = vec![0; file.size()?.min(DESCRIPTOR_MAX) as usize];
        file.read_at(HostOffset(0), &mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let Some(descriptor) = Descriptor::parse(&text).filter(|d| !d.extents.is_empty()) else {
            let (name, what) = (file.name().to_owned(), "it has no descriptor".to_owned());
            return Err(BlockError::WrongFormat { name, format: "vmdk", what });
        };
        let backing = descriptor.parent.clone().map(|target| parent_reference(&*file, target));
        let format = extents::Extents::open(&file, &descriptor.extents, context)?;
        Ok(Opened { format: Box::new(format), backing })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        create::create(&*file, request)
    }
}

fn parent_reference(file: &dyn Storage, target: String) -> Reference {
    Reference {
        named_by: file.name().to_owned(),
        kind: ReferenceKind::Backing,
        target,
        format: Some("vmdk".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_names_its_extents_and_its_parent() {
        let text = "# Disk DescriptorFile\nversion=1\ncreateType=\"twoGbMaxExtentFlat\"\n\
                    parentFileNameHint=\"base.vmdk\"\n\nRW 4192256 FLAT \"a b-f001.vmdk\" 128\nRW 100 ZERO\n";
        let descriptor = Descriptor::parse(text).unwrap();
        assert_eq!(descriptor.parent.as_deref(), Some("base.vmdk"));
        let extent = |sectors, kind: &str, file: &str, offset| ExtentLine {
            sectors,
            kind: kind.to_owned(),
            file: file.to_owned(),
            offset,
        };
        let wanted = [extent(4_192_256, "FLAT", "a b-f001.vmdk", 128), extent(100, "ZERO", "", 0)];
        assert_eq!(descriptor.extents, wanted);
    }

    #[test]
    fn a_descriptor_with_a_broken_extent_is_none() {
        for line in ["RW", "RW x FLAT \"f\" 0", "RW 5 FLAT \"f", "RW 99999999999999999 ZERO"] {
            let text = format!("createType=\"custom\"\n{line} \n");
            let parsed = Descriptor::parse(&text);
            assert!(parsed.is_none_or(|d| d.extents.is_empty()), "{line}");
        }
    }
}
