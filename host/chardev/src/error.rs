//! Why a back-end could not be opened.

use std::io;
use std::path::PathBuf;

/// An error of opening a character back-end.
#[derive(Debug, thiserror::Error)]
pub enum ChardevError {
    /// The terminal's modes could not be read or set.
    #[error("--serial stdio: {0}; use --serial none, file=PATH or socket=PATH")]
    Terminal(io::Error),
    /// The file could not be opened for appending.
    #[error("--serial file={}: {error}; name a file that you may write", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The socket could not be made.
    #[error("--serial socket={}: {error}; name a path in a directory that you may write", path.display())]
    Socket {
        /// The path.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// Another process listens there.
    #[error("--serial socket={}: another process listens there; name another path", path.display())]
    SocketInUse {
        /// The path.
        path: PathBuf,
    },
}
