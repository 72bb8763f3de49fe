//! What a machine's driver can be asked to do, in words: [`Request::Command`](crate::Request::Command).
//!
//! | command | does |
//! |---|---|
//! | `status` | tells state, time, engine, size |
//! | `resize DISK SIZE` | changes a disk's size; the guest is told |
//! | `balloon SIZE` | asks the guest to give all its memory but SIZE back |
//! | `attach FILE[,key=value…]` | puts a disk into a free hot-plug slot; answers with its name |
//! | `detach DISK` | asks the guest to let go of such a disk; answers when it has |
//! | `power-button`, `reset`, `quit` | as in the console's menu |
//!
//! Words rather than a message for each: a person types them, and nothing here has structure that words do not
//! give.

use kezhan_machine_spec::{DiskSpec, Size, SpecError};
use std::fmt;
use std::str::FromStr;

/// A command to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What it does.
    Status,
    /// Change a disk's size.
    Resize {
        /// The disk: `disk0`.
        disk: String,
        /// Its new size.
        size: Size,
    },
    /// Leave the guest so much of its memory.
    Balloon(Size),
    /// Put a disk into a free slot.
    Attach(DiskSpec),
    /// Take a disk out of its slot.
    Detach(String),
    /// Press the power button.
    PowerButton,
    /// Reset the machine.
    Reset,
    /// Switch it off at once.
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a command.
    #[error(
        "{0}: no such command; there are status, resize, balloon, attach, detach, power-button, reset and quit"
    )]
    Unknown(String),
    /// Too few or too many words.
    #[error("{command}: give {usage}")]
    Words {
        /// The command.
        command: &'static str,
        /// What comes after it.
        usage: &'static str,
    },
    /// A value that is none.
    #[error(transparent)]
    Value(#[from] SpecError),
}

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Command, CommandError> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let one = |command, usage| match rest {
            "" => Err(CommandError::Words { command, usage }),
            word => Ok(word),
        };
        match name {
            "status" => Ok(Command::Status),
            "power-button" => Ok(Command::PowerButton),
            "reset" => Ok(Command::Reset),
            "quit" => Ok(Command::Quit),
            "balloon" => Ok(Command::Balloon(one("balloon", "a size")?.parse()?)),
            "attach" => Ok(Command::Attach(one("attach", "FILE[,key=value…]")?.parse()?)),
            "detach" => Ok(Command::Detach(one("detach", "the disk's name")?.to_owned())),
            "resize" => {
                let usage = || CommandError::Words {
                    command: "resize",
                    usage: "the disk's name and a size",
                };
                let (disk, size) = rest.split_once(char::is_whitespace).ok_or_else(usage)?;
                Ok(Command::Resize { disk: disk.to_owned(), size: size.trim().parse()? })
            }
            other => Err(CommandError::Unknown(other.to_owned())),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Status => f.write_str("status"),
            Command::Resize { disk, size } => write!(f, "resize {disk} {size}"),
            Command::Balloon(size) => write!(f, "balloon {size}"),
            Command::Attach(disk) => write!(f, "attach {disk}"),
            Command::Detach(disk) => write!(f, "detach {disk}"),
            Command::PowerButton => f.write_str("power-button"),
            Command::Reset => f.write_str("reset"),
            Command::Quit => f.write_str("quit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_is_written() {
        let lines = [
            "status",
            "resize disk0 4G",
            "balloon 256M",
            "attach a disk.qcow2,format=qcow2",
            "detach disk1",
            "power-button",
            "reset",
            "quit",
        ];
        for line in lines {
            assert_eq!(line.parse::<Command>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn what_is_no_command_is_told_with_what_there_is() {
        for (line, part) in [
            ("fly", "no such command; there are status"),
            ("resize disk0", "the disk's name and a size"),
            ("resize disk0 big", "big"),
            ("detach", "the disk's name"),
        ] {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
