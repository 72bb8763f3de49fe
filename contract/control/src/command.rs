//! What a machine's driver can be asked to do, in words: [`Request::Command`](crate::Request::Command).
//!
//! | command | does |
//! |---|---|
//! | `status` | tells state, time, engine, size |
//! | `resize DISK SIZE` | changes a disk's size; the guest is told |
//! | `balloon SIZE` | asks the guest to give all its memory but SIZE back |
//! | `attach FILE[,key=value…]` | puts a disk into a free hot-plug slot; answers with its name |
//! | `detach DISK` | asks the guest to let go of such a disk; answers when it has |
//! | `fail DISK reads\|writes\|everything\|nothing` | lets such requests to a disk fail, as broken hardware does |
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
    /// Let requests to a disk fail.
    Fail {
        /// The disk.
        disk: String,
        /// Which.
        requests: FailingRequests,
    },
    /// Press the power button.
    PowerButton,
    /// Reset the machine.
    Reset,
    /// Switch it off at once.
    Quit,
}

/// Requests to a disk that fail with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailingRequests {
    /// None: the disk is whole again.
    Nothing,
    /// Those that read.
    Reads,
    /// Those that write.
    Writes,
    /// All.
    Everything,
}

impl FailingRequests {
    const ALL: [(FailingRequests, &str); 4] = [
        (FailingRequests::Nothing, "nothing"),
        (FailingRequests::Reads, "reads"),
        (FailingRequests::Writes, "writes"),
        (FailingRequests::Everything, "everything"),
    ];

    /// Whether requests that read fail.
    pub fn reads(self) -> bool {
        matches!(self, FailingRequests::Reads | FailingRequests::Everything)
    }

    /// Whether requests that write fail.
    pub fn writes(self) -> bool {
        matches!(self, FailingRequests::Writes | FailingRequests::Everything)
    }

    fn name(self) -> &'static str {
        FailingRequests::ALL.iter().find(|(one, _)| *one == self).map_or("", |(_, name)| name)
    }

    fn read(name: &str) -> Option<FailingRequests> {
        FailingRequests::ALL.iter().find(|(_, known)| *known == name).map(|(one, _)| *one)
    }
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a command.
    #[error(
        "{0}: no such command; there are status, resize, balloon, attach, detach, fail, power-button, reset and quit"
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
            "fail" => fail(rest),
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

fn fail(rest: &str) -> Result<Command, CommandError> {
    let usage = CommandError::Words {
        command: "fail",
        usage: "the disk's name, and one of reads, writes, everything and nothing",
    };
    let mut words = rest.split_whitespace();
    match (words.next(), words.next().and_then(FailingRequests::read), words.next()) {
        (Some(disk), Some(requests), None) => Ok(Command::Fail { disk: disk.to_owned(), requests }),
        _ => Err(usage),
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
            Command::Fail { disk, requests } => write!(f, "fail {disk} {}", requests.name()),
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
            "fail disk0 reads",
            "fail disk1 nothing",
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
            ("fail disk0", "reads, writes, everything and nothing"),
            ("fail disk0 often", "reads, writes, everything and nothing"),
        ] {
            let error = line.parse::<Command>().unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
