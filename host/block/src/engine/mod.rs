//! The engine: an image, and what it stands on, as one disk.
//!
//! `read.rs` walks down the chain, `write.rs` allocates and copies on write, `map.rs` tells where things
//! are. What stops everything ([`Image::alone`], the end of [`Image::flush`] when space is to be recycled)
//! takes the activity lock for itself; every request holds it shared.

mod map;
mod plain;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use map::MapEntry;
pub(crate) use plain::Plain;

use crate::storage::Storage;
use crate::units::GuestOffset;
use crate::{BlockError, Format, Reference, Result};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// An image with the chain below it. Every call may come from any thread.
#[derive(Debug)]
pub struct Image {
    name: String,
    file: Arc<dyn Storage>,
    format: Box<dyn Format>,
    backing: Option<Arc<Image>>,
    reference: Option<Reference>,
    writable: bool,
    activity: RwLock<()>,
}

impl Image {
    /// An image with nothing below it. `name` is for people, `file` is what it was opened from.
    pub fn new(
        name: String,
        file: Arc<dyn Storage>,
        format: Box<dyn Format>,
        writable: bool,
    ) -> Image {
        let activity = RwLock::new(());
        Image { name, file, format, backing: None, reference: None, writable, activity }
    }

    /// The same, standing on a backing image.
    #[must_use]
    pub fn on(self, backing: Arc<Image>, reference: Reference) -> Image {
        Image { backing: Some(backing), reference: Some(reference), ..self }
    }

    /// The same, naming a backing image that is not opened: unallocated ranges read as zeroes.
    #[must_use]
    pub fn naming(self, reference: Reference) -> Image {
        Image { reference: Some(reference), ..self }
    }

    /// The name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the image was opened from.
    pub fn file(&self) -> &Arc<dyn Storage> {
        &self.file
    }

    /// The format.
    pub fn format(&self) -> &dyn Format {
        &*self.format
    }

    /// The image below, when it was opened.
    pub fn backing(&self) -> Option<&Arc<Image>> {
        self.backing.as_ref()
    }

    /// The image below, as this one names it.
    pub fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// Size of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.format.size()
    }

    /// Whether it was opened for writing.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Makes every write that has returned durable.
    ///
    /// # Errors
    /// The storage's: then nothing is known of what became durable since the last good flush.
    pub fn flush(&self) -> Result<()> {
        self.format.flush()?;
        if self.format.has_garbage() {
            let _alone = self.activity.write().unwrap_or_else(PoisonError::into_inner);
            self.format.recycle()?;
        }
        Ok(())
    }

    /// The last call: makes everything durable and puts the image away.
    ///
    /// # Errors
    /// As [`Image::flush`].
    pub fn close(&self) -> Result<()> {
        self.flush()?;
        if self.writable { self.alone(|format| format.close()) } else { Ok(()) }
    }

    /// Changes the size of the disk.
    ///
    /// # Errors
    /// The format's.
    pub fn resize(&self, size: u64) -> Result<()> {
        self.check_writable()?;
        self.alone(|format| format.resize(size))
    }

    /// Runs `change` while no request is running.
    ///
    /// # Errors
    /// Whatever `change` gives.
    pub fn alone<T>(&self, change: impl FnOnce(&dyn Format) -> Result<T>) -> Result<T> {
        let _alone = self.activity.write().unwrap_or_else(PoisonError::into_inner);
        change(&*self.format)
    }

    fn busy(&self) -> RwLockReadGuard<'_, ()> {
        self.activity.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(BlockError::ReadOnly { name: self.name.clone() })
    }

    fn check_range(&self, offset: GuestOffset, length: u64) -> Result<()> {
        let (end, size) = (offset.plus(length).get(), self.size());
        if end <= size && end - length == offset.get() {
            return Ok(());
        }
        Err(BlockError::OutOfRange { name: self.name.clone(), offset: offset.get(), end, size })
    }
}
