//! What a command ends with when it does not do what was asked: one line and a status.

use clap::error::ErrorKind;
use kezhan_control::ControlError;
use kezhan_networks::NetworkError;
use kezhan_vmm::{VmmError, status, tell};
use std::io;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is not understood, or asks for help.
    Usage(clap::Error),
    /// The machine.
    Machine(VmmError),
    /// A machine that runs, or is asked for and does not.
    Control(ControlError),
    /// The runtime folder.
    Runtime(NetworkError),
    /// Standard output.
    Output(io::Error),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Failure {
        Failure::Control(error)
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Failure {
        Failure::Runtime(error)
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Failure {
        Failure::Usage(error)
    }
}

impl From<VmmError> for Failure {
    fn from(error: VmmError) -> Failure {
        Failure::Machine(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl Failure {
    /// Tells the person, and gives the exit status.
    pub(crate) fn report(self) -> u8 {
        match self {
            Failure::Usage(error) if is_answer(&error) => {
                // Somebody who pipes the help into a pager may leave it early.
                error.print().ok();
                error.exit_code().try_into().unwrap_or(status::USAGE)
            }
            Failure::Usage(error) => {
                tell(&one_line(&error));
                status::USAGE
            }
            Failure::Machine(error) => {
                tell(&error.to_string());
                error.status()
            }
            Failure::Control(error) => {
                tell(&error.to_string());
                match error {
                    ControlError::Socket { .. } | ControlError::Strange(_) => status::UNAVAILABLE,
                    _ => status::USAGE,
                }
            }
            Failure::Runtime(error) => {
                tell(&error.to_string());
                status::UNAVAILABLE
            }
            // The reader has what it wanted.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => status::OK,
            Failure::Output(error) => {
                tell(&format!("standard output: {error}"));
                status::UNAVAILABLE
            }
        }
    }
}

/// Whether this "error" is text that was asked for, or that a bare command asks for.
fn is_answer(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// clap's message without its usage block, in one line.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let message = text.split("\n\nUsage:").next().unwrap_or(text);
    let message = message.split("\n\nFor more information").next().unwrap_or(message);
    let words: Vec<_> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("{}; --help tells what there is", words.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Kezhan;
    use clap::Parser;

    fn message(arguments: &[&str]) -> String {
        let arguments = [&["kezhan"], arguments].concat();
        one_line(&Kezhan::try_parse_from(arguments).unwrap_err())
    }

    #[test]
    fn an_unknown_option_is_told_in_one_line() {
        let message = message(&["run", "--kernle", "x"]);
        assert!(message.starts_with("unexpected argument '--kernle' found"), "{message}");
        assert!(message.contains("--kernel") && !message.contains('\n'), "{message}");
    }

    #[test]
    fn a_bad_value_is_told_with_what_is_possible() {
        let message = message(&["run", "--engine", "qemu"]);
        assert!(message.contains("engines are auto, kvm and soft"), "{message}");
    }
}
