//! Why a command failed.

use kezhan_block::BlockError;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, ImageError>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// An image could not be read, written or understood.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// An argument is wrong; starts with the argument.
    #[error("{0}")]
    Usage(String),
    /// A file that is not an image, or standard output, could not be used.
    #[error("{name}: {source}")]
    Io {
        /// The file.
        name: String,
        /// What the host said.
        source: std::io::Error,
    },
}

impl ImageError {
    /// An [`ImageError::Usage`].
    pub fn usage(text: impl Into<String>) -> ImageError {
        ImageError::Usage(text.into())
    }
}
