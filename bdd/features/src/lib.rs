//! Feature files on disk.
//!
//! [`load`] turns names of files and folders into parsed features and faults; a file with faults never keeps the
//! others from being read. [`format`] gives a file its usual layout.

mod format;
mod load;

pub use format::{FormatError, format};
pub use load::{Feature, Loaded, Problem, load};
