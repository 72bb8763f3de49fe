//! The gate: no file is opened because an image says so.
//!
//! An image may name other files: its backing image, its data file, its extents. A hostile image names
//! `/etc/shadow`. Whoever opens an image passes a gate that decides on each such reference.

use crate::format::directory_of;
use crate::storage::{FileOptions, FileStorage, Storage};
use crate::{BlockError, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a file is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// The image that this one is a change of.
    Backing,
    /// The file that holds the guest's data.
    Data,
    /// A part of the disk.
    Extent,
}

/// A file that an image names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The image that names it.
    pub named_by: String,
    /// Why.
    pub kind: ReferenceKind,
    /// The name, as written in the image.
    pub target: String,
    /// The format, when the image says it.
    pub format: Option<String>,
}

impl Reference {
    /// The path meant: relative names are relative to the image that names them.
    pub fn path(&self) -> PathBuf {
        let target = Path::new(self.target.strip_prefix("file:").unwrap_or(&self.target));
        if target.is_absolute() {
            return target.to_owned();
        }
        directory_of(&self.named_by).join(target)
    }

    /// A refusal of this reference.
    pub fn refuse(&self, why: &str) -> BlockError {
        BlockError::Refused {
            name: self.named_by.clone(),
            target: self.target.clone(),
            why: why.to_owned(),
        }
    }
}

/// Decides on references, and opens them.
pub trait Gate: Sync {
    /// Opens what an image names.
    ///
    /// # Errors
    /// [`BlockError::Refused`], or the host's.
    fn open(&self, reference: &Reference, writable: bool) -> Result<Arc<dyn Storage>>;
}

/// Opens nothing.
#[derive(Clone, Copy, Debug)]
pub struct DenyAll;

impl Gate for DenyAll {
    fn open(&self, reference: &Reference, _writable: bool) -> Result<Arc<dyn Storage>> {
        Err(reference.refuse("files named by images are not allowed here; name it yourself"))
    }
}

/// Opens local files, as `kezhan image` does for its user's own images.
#[derive(Clone, Copy, Debug)]
pub struct FollowFiles {
    /// Whether to take locks on what is opened.
    pub lock: bool,
}

impl Gate for FollowFiles {
    fn open(&self, reference: &Reference, writable: bool) -> Result<Arc<dyn Storage>> {
        let scheme = reference.target.split_once(':').map(|(scheme, _)| scheme);
        if scheme.is_some_and(|s| s != "file" && !s.contains('/')) && !reference.path().exists() {
            return Err(
                reference.refuse("only local files are followed; open the address yourself")
            );
        }
        let options = FileOptions { writable, lock: self.lock, ..FileOptions::READ };
        Ok(Arc::new(FileStorage::open(&reference.path(), options)?))
    }
}
