//! `kezhan image bitmap`

use crate::error::{ImageError, Result};
use crate::open::{Open, close, qcow2};
use crate::size;
use kezhan_qcow2::{Bitmap, spec};
use std::process::ExitCode;

/// Granularity of a new bitmap in bytes.
const GRANULARITY: u64 = 64 << 10;

/// Add, remove, clear, enable, disable or merge bitmaps that record changes.
#[derive(Clone, Debug, clap::Args)]
pub struct BitmapArgs {
    /// Add the bitmap
    #[arg(long)]
    add: bool,
    /// Remove it
    #[arg(long)]
    remove: bool,
    /// Clear all its bits
    #[arg(long)]
    clear: bool,
    /// Let it record writes
    #[arg(long)]
    enable: bool,
    /// Let it record no writes
    #[arg(long)]
    disable: bool,
    /// Set the bits that this bitmap has set
    #[arg(long, value_name = "SOURCE")]
    merge: Vec<String>,
    /// Image that the bitmaps to merge are in
    #[arg(short, value_name = "FILE")]
    backing_source: Option<String>,
    /// Format of that image
    #[arg(short = 'F', value_name = "FMT")]
    source_format: Option<String>,
    /// Bytes that a bit stands for
    #[arg(short, value_name = "SIZE", value_parser = |text: &str| size::parse(text).map_err(|e| e.to_string()))]
    granularity: Option<u64>,
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// The image
    file: String,
    /// The bitmap
    bitmap: String,
}

impl BitmapArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !(self.add || self.remove || self.clear || self.enable || self.disable)
            && self.merge.is_empty()
        {
            return Err(ImageError::usage(
                "bitmap: give --add, --remove, --clear, --enable, --disable or --merge",
            ));
        }
        let image = Open::write(self.format.as_deref()).alone().open(&self.file)?;
        let format = qcow2(&image, "bitmaps")?;
        let mut all = format.load_bitmaps()?;
        if self.add {
            self.add_to(&mut all, image.size())?;
        }
        if self.remove {
            self.position(&all)?;
            all.retain(|bitmap| bitmap.name != self.bitmap);
        } else {
            self.change(&mut all)?;
        }
        image.alone(|_| format.store_bitmaps(&all))?;
        close(image)?;
        Ok(ExitCode::SUCCESS)
    }

    fn add_to(&self, all: &mut Vec<Bitmap>, size: u64) -> Result<()> {
        if all.iter().any(|bitmap| bitmap.name == self.bitmap) {
            let text =
                format!("{}: has a bitmap '{}' already; remove it first", self.file, self.bitmap);
            return Err(ImageError::usage(text));
        }
        let mut bitmap = Bitmap::new(&self.bitmap, self.granularity.unwrap_or(GRANULARITY), size)?;
        if self.disable {
            bitmap.flags = 0;
        }
        all.push(bitmap);
        Ok(())
    }

    fn position(&self, all: &[Bitmap]) -> Result<usize> {
        all.iter().position(|bitmap| bitmap.name == self.bitmap).ok_or_else(|| {
            ImageError::usage(format!("{}: has no bitmap '{}'", self.file, self.bitmap))
        })
    }

    fn change(&self, all: &mut [Bitmap]) -> Result<()> {
        let index = self.position(all)?;
        if self.clear {
            all[index].clear();
        }
        if self.enable {
            all[index].flags |= spec::BITMAP_AUTO;
        }
        if self.disable {
            all[index].flags &= !spec::BITMAP_AUTO;
        }
        for name in &self.merge {
            let source = self.source(all, name)?;
            all[index].merge(&source);
        }
        Ok(())
    }

    fn source(&self, all: &[Bitmap], name: &str) -> Result<Bitmap> {
        let missing = |file: &str| ImageError::usage(format!("{file}: has no bitmap '{name}'"));
        let Some(file) = &self.backing_source else {
            let found = all.iter().find(|bitmap| bitmap.name == name);
            return found.cloned().ok_or_else(|| missing(&self.file));
        };
        let image = Open::read(self.source_format.as_deref(), false).alone().open(file)?;
        let bitmaps = qcow2(&image, "bitmaps")?.load_bitmaps()?;
        bitmaps.into_iter().find(|bitmap| bitmap.name == name).ok_or_else(|| missing(file))
    }
}
