//! What can go wrong between a client and a machine.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why something was not answered.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No such machine.
    #[error("machine {0}: none of that name runs; `ps` shows each as 'kezhan: NAME'")]
    Unknown(String),
    /// More than one machine.
    #[error("machine {name}: {} run by that name: say which, {}", choices.len(), choices.join(" or "))]
    Several {
        /// What was asked for.
        name: String,
        /// Names with the processes' numbers.
        choices: Vec<String>,
    },
    /// The socket.
    #[error("{}: {error}", path.display())]
    Socket {
        /// The file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// The machine said no.
    #[error("machine {name}: {reason}")]
    Refused {
        /// The machine.
        name: String,
        /// Why.
        reason: String,
    },
    /// The machine said something else than an answer to what was asked.
    #[error("machine {0}: it answers in a way of its own; is it of another version?")]
    Strange(String),
}
