//! How a machine came to its end.

use crate::error::status;
use crate::signals;

/// SIGPIPE's number (signal(7)).
const BROKEN_PIPE: u8 = 13;

/// How a machine came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The guest powered off.
    PowerOff,
    /// A person quit from the menu.
    Quit,
    /// The guest says that it panicked.
    Panicked,
    /// The guest reset, and `--no-reboot` was given.
    Reset,
    /// The guest asked for this status (isa-debug-exit).
    Exit(u8),
    /// So many seconds of `--timeout` passed.
    TimedOut(u64),
    /// This signal came.
    Signal(i32),
    /// Nobody reads standard output any more.
    OutputClosed,
    /// The engine could not go on; whether the host's KVM is to blame, and what it said.
    Failed {
        /// A host facility failed, rather than we.
        host: bool,
        /// What happened, and what to do.
        message: String,
    },
}

impl Ending {
    /// The exit status of `run`.
    pub fn status(&self) -> u8 {
        match self {
            Ending::PowerOff | Ending::Quit => status::OK,
            Ending::Panicked | Ending::Reset => status::GUEST_FAILED,
            Ending::Exit(status) => *status,
            Ending::TimedOut(_) => status::TIMED_OUT,
            Ending::Signal(number) => {
                status::SIGNALLED.saturating_add(u8::try_from(*number).unwrap_or(0))
            }
            Ending::OutputClosed => status::SIGNALLED + BROKEN_PIPE,
            Ending::Failed { host: true, .. } => status::UNAVAILABLE,
            Ending::Failed { host: false, .. } => status::SOFTWARE,
        }
    }

    /// What to tell the person, where the status alone would not explain itself.
    pub fn message(&self) -> Option<String> {
        Some(match self {
            Ending::PowerOff | Ending::Quit | Ending::Exit(_) => return None,
            Ending::Panicked => "the guest panicked; its console tells why".to_owned(),
            Ending::Reset => "the guest reset; --no-reboot ends the machine here".to_owned(),
            Ending::TimedOut(seconds) => {
                format!("--timeout {seconds}: the time is over, the machine is switched off")
            }
            Ending::Signal(number) => {
                format!("{}: the machine is switched off", signals::name(*number))
            }
            Ending::OutputClosed => "standard output is closed, the machine is switched off; \
                 use --serial none or file=PATH to run without it"
                .to_owned(),
            Ending::Failed { message, .. } => message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_manual() {
        let failed = |host| Ending::Failed { host, message: String::new() };
        let all = [
            (Ending::PowerOff, 0),
            (Ending::Quit, 0),
            (Ending::Panicked, 1),
            (Ending::Reset, 1),
            (Ending::Exit(33), 33),
            (failed(true), 69),
            (failed(false), 70),
            (Ending::TimedOut(5), 124),
            (Ending::Signal(2), 130),
            (Ending::OutputClosed, 141),
            (Ending::Signal(15), 143),
        ];
        for (ending, status) in all {
            assert_eq!(ending.status(), status, "{ending:?}");
        }
    }

    #[test]
    fn a_signal_is_called_by_its_name() {
        assert!(Ending::Signal(15).message().unwrap().starts_with("SIGTERM: "));
    }
}
