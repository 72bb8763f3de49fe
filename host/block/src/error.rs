//! What can go wrong with an image.

use std::io;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, BlockError>;

/// Why an operation on an image failed. Each message starts with the image that the user named.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The host refused an operation on the file.
    #[error("{name}: cannot {action}: {source}")]
    Io {
        /// The file.
        name: String,
        /// What was tried, in the imperative.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The image contradicts itself.
    #[error("{name}: {what}; `kezhan image check` tells more, a copy from a backup is safest")]
    Corrupt {
        /// The image.
        name: String,
        /// What is wrong, with values.
        what: String,
    },
    /// It is not an image of the format named.
    #[error("{name}: not a {format} image: {what}; name its true format with -f")]
    WrongFormat {
        /// The file.
        name: String,
        /// The format that was named.
        format: &'static str,
        /// Why it is not one.
        what: String,
    },
    /// Valid, but beyond what we do.
    #[error("{name}: {what}")]
    Unsupported {
        /// The image.
        name: String,
        /// What is not done, and what to do instead.
        what: String,
    },
    /// An image names another file and the caller does not allow it.
    #[error("{name}: names the file '{target}', which is not opened: {why}")]
    Refused {
        /// The image that names.
        name: String,
        /// The file that is named.
        target: String,
        /// The reason, and what to do.
        why: String,
    },
    /// Beyond the end of the disk.
    #[error("{name}: bytes {offset} to {end} lie outside the disk of {size} bytes; stay within it")]
    OutOfRange {
        /// The image.
        name: String,
        /// First byte asked for.
        offset: u64,
        /// First byte after.
        end: u64,
        /// The disk's size.
        size: u64,
    },
    /// A write to an image opened for reading.
    #[error("{name}: opened read-only; open it for writing to change it")]
    ReadOnly {
        /// The image.
        name: String,
    },
    /// Somebody else uses it in a way that does not go together with ours.
    #[error("{name}: in use by another process ({how}); stop it first, or give -U to read anyway")]
    InUse {
        /// The image.
        name: String,
        /// Which use.
        how: &'static str,
    },
    /// An option or a value that the format does not take.
    #[error("option '{option}': {what}")]
    Option {
        /// The option, with its value where it has one.
        option: String,
        /// What is wrong, and what to give instead.
        what: String,
    },
}

impl BlockError {
    /// An [`BlockError::Io`] maker for `map_err`.
    pub fn io(name: &str, action: &'static str) -> impl FnOnce(io::Error) -> BlockError {
        move |source| BlockError::Io { name: name.to_owned(), action, source }
    }

    /// A [`BlockError::Corrupt`].
    pub fn corrupt(name: &str, what: impl Into<String>) -> BlockError {
        BlockError::Corrupt { name: name.to_owned(), what: what.into() }
    }

    /// A [`BlockError::Unsupported`].
    pub fn unsupported(name: &str, what: impl Into<String>) -> BlockError {
        BlockError::Unsupported { name: name.to_owned(), what: what.into() }
    }

    /// A [`BlockError::Option`].
    pub fn option(option: impl Into<String>, what: impl Into<String>) -> BlockError {
        BlockError::Option { option: option.into(), what: what.into() }
    }

    /// Whether making room on the host would help.
    pub fn is_no_space(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, BlockError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}
