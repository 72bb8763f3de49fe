//! Bitmaps that record writes while the image is open (qcow2 specification, "Bitmaps", flags `in_use` and `auto`).
//!
//! ```text
//!   open: bits are read ── first write: marked in use on the disk ── writes set bits in memory ──►
//!   ──► close: bits are stored, the mark is cleared
//! ```
//!
//! After a crash the mark is still there: the bits are then known to be incomplete, and nobody takes an
//! incremental backup for a whole one.

use crate::bitmap::Bitmap;
use crate::image::Qcow2;
use crate::spec;
use kezhan_block::{Format, Result, Span};
use std::sync::{MutexGuard, PoisonError};

/// The bitmaps of an open image.
#[derive(Debug, Default)]
pub struct Tracking {
    /// All of them, also those that record nothing.
    bitmaps: Vec<Bitmap>,
    /// The disk says that they are in use.
    marked: bool,
}

impl Tracking {
    fn records(bitmap: &Bitmap) -> bool {
        bitmap.flags & (spec::BITMAP_AUTO | spec::BITMAP_IN_USE) == spec::BITMAP_AUTO
    }
}

impl Qcow2 {
    fn tracking(&self) -> MutexGuard<'_, Tracking> {
        self.tracking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to record; called when the image is opened for writing.
    pub(crate) fn begin_tracking(&self) -> Result<()> {
        if self.header().autoclear & spec::BITMAPS_VALID != 0 {
            self.track(self.load_bitmaps()?);
        }
        Ok(())
    }

    /// Records from now on in these bitmaps, which are what the disk has.
    pub(crate) fn track(&self, bitmaps: Vec<Bitmap>) {
        *self.tracking() = Tracking { bitmaps, marked: false };
    }

    /// A range is about to change.
    pub(crate) fn note_change(&self, range: Span) -> Result<()> {
        let mut tracking = self.tracking();
        if !tracking.bitmaps.iter().any(Tracking::records) {
            return Ok(());
        }
        if !tracking.marked {
            self.mark_bitmaps_in_use(|info| info.flags & spec::BITMAP_AUTO != 0)?;
            tracking.marked = true;
        }
        for bitmap in tracking.bitmaps.iter_mut().filter(|bitmap| Tracking::records(bitmap)) {
            bitmap.mark(range.start.get(), range.length);
        }
        Ok(())
    }

    /// Stores what was recorded, for the end or for a moment at which the disk must be right.
    pub(crate) fn store_tracking(&self) -> Result<()> {
        let bitmaps = {
            let tracking = self.tracking();
            if !tracking.marked {
                return Ok(());
            }
            tracking.bitmaps.clone()
        };
        self.store_bitmaps(&bitmaps)
    }

    /// The bitmaps as they are now, those that record included.
    ///
    /// # Errors
    /// As [`Qcow2::load_bitmap`].
    pub fn current_bitmaps(&self) -> Result<Vec<Bitmap>> {
        let tracking = self.tracking();
        if tracking.marked { Ok(tracking.bitmaps.clone()) } else { self.load_bitmaps() }
    }

    /// Bitmaps for a disk of another size: those of the old size, longer or shorter.
    pub(crate) fn resized_bitmaps(&self, size: u64) -> Result<Vec<Bitmap>> {
        let mut bitmaps = self.current_bitmaps()?;
        for bitmap in &mut bitmaps {
            let bits = size.div_ceil(1 << bitmap.granularity_bits);
            bitmap.bits.resize(bits.div_ceil(8) as usize, 0);
        }
        Ok(bitmaps)
    }

    /// The whole disk, for changes that are not told by ranges.
    pub(crate) fn whole(&self) -> Span {
        Span { start: kezhan_block::GuestOffset(0), length: self.size() }
    }
}
