//! Opens and makes qcow2 images.

use crate::create::create;
use crate::encrypt::open_encrypted;
use crate::header::Header;
use crate::image::Qcow2;
use crate::spec;
use kezhan_block::{
    BlockError, CreateRequest, FormatDriver, OpenContext, Opened, Reference, ReferenceKind, Result,
    Storage,
};
use std::sync::Arc;

/// The driver.
#[derive(Debug)]
pub struct Qcow2Driver;

impl FormatDriver for Qcow2Driver {
    fn name(&self) -> &'static str {
        "qcow2"
    }

    fn probe(&self, head: &[u8], _length: u64) -> u8 {
        let magic = head.starts_with(&spec::MAGIC.to_be_bytes());
        let version = head.get(4..8).map(|v| u32::from_be_bytes([v[0], v[1], v[2], v[3]]));
        if magic && version.is_some_and(|version| version >= 2) { 100 } else { 0 }
    }

    fn open(&self, file: Arc<dyn Storage>, context: &OpenContext<'_>) -> Result<Opened> {
        let header = Header::read(&*file)?;
        let name = file.name().to_owned();
        if header.incompatible & spec::CORRUPT != 0 && context.writable && !context.for_check {
            let what = "is marked corrupt; repair it with `kezhan image check -r all`";
            return Err(BlockError::unsupported(&name, what));
        }
        let data = open_data(&file, &header, context)?;
        let backing = header.backing_file.clone().map(|target| Reference {
            named_by: name,
            kind: ReferenceKind::Backing,
            target,
            format: header.name_extension(spec::EXT_BACKING_FORMAT),
        });
        let dirty = header.incompatible & spec::DIRTY != 0;
        let image = Qcow2::open(file, data, header, context.writable)?;
        if context.writable && !context.for_check {
            image.prepare_for_writing(dirty)?;
        }
        Ok(Opened { format: Box::new(image), backing })
    }

    fn create(&self, file: Arc<dyn Storage>, request: &CreateRequest) -> Result<()> {
        create(file, request)
    }
}

fn open_data(
    file: &Arc<dyn Storage>,
    header: &Header,
    context: &OpenContext<'_>,
) -> Result<Arc<dyn Storage>> {
    if header.crypt_method != spec::CRYPT_NONE {
        return open_encrypted(file, header, context);
    }
    if !header.layout().external {
        return Ok(file.clone());
    }
    let Some(target) = header.name_extension(spec::EXT_DATA_FILE) else {
        return Err(BlockError::corrupt(file.name(), "its external data file has no name"));
    };
    let reference = Reference {
        named_by: file.name().to_owned(),
        kind: ReferenceKind::Data,
        target,
        format: Some("raw".to_owned()),
    };
    context.gate.open(&reference, context.writable)
}

impl Qcow2 {
    /// Repairs what an interrupted snapshot left, and clears the autoclear bits that we do not keep right.
    fn prepare_for_writing(&self, dirty: bool) -> Result<()> {
        if dirty {
            let report = self.check(crate::Repair::All)?;
            if report.corruptions > 0 || report.errors > 0 {
                let what = "was not closed properly and repairs itself only in part; see `kezhan image check`";
                return Err(BlockError::unsupported(self.name(), what));
            }
            self.mark_dirty(false)?;
        }
        let known = spec::BITMAPS_VALID | spec::RAW_EXTERNAL;
        let clear = {
            let mut state = self.state();
            let unknown = state.header.autoclear & !known != 0;
            state.header.autoclear &= known;
            state.header_dirty |= unknown;
            unknown
        };
        if clear {
            self.flush_metadata()?;
        }
        self.begin_tracking()
    }
}
