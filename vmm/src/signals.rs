//! Signals that end the process, as something to poll.
//!
//! They are blocked in the main thread before any other thread is made, so that every thread inherits
//! the mask and none is ever interrupted by one; the state driver reads them from a signalfd and ends
//! the machine in the ordinary way, terminal restored.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// The signals that are taken: four that end the machine, and one after which the terminal must be made
/// raw again.
const TAKEN: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCONT];

/// A signal that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// The process is to end; the signal's number.
    End(i32),
    /// The process was stopped and goes on.
    Continued,
}

/// The source of signals.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in this thread, and in those that it makes from now on.
    pub(crate) fn block() -> std::io::Result<Signals> {
        let mask: SigSet = TAKEN.into_iter().collect();
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&mask, flags)?))
    }

    /// What to poll for reading.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next one that has come in.
    pub(crate) fn next(&self) -> Option<Arrived> {
        let info = self.0.read_signal().ok().flatten()?;
        let number = info.ssi_signo as i32;
        Some(if number == Signal::SIGCONT as i32 {
            Arrived::Continued
        } else {
            Arrived::End(number)
        })
    }
}

/// The name of a signal, for messages.
pub(crate) fn name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |s| s.as_str().to_owned())
}
