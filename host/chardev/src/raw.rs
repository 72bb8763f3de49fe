//! Raw mode that is always undone.
//!
//! A guest that draws its own line editing needs the terminal raw; a person needs it back whatever
//! happens. [`RawMode`] is a guard that undoes on drop. Beside it, the process keeps a list of what is
//! to be undone, so that a panic hook can call [`restore_terminals`] from any thread. Signals that end
//! the process are turned into an ordinary end of the machine by `vmm/`, which drops the guard; only
//! SIGKILL cannot be answered.
//!
//! The window title is part of it: set to the machine's name, and the old one brought back with the
//! terminal's own stack of titles (xterm control sequences, "Window manipulation", 22 and 23).

use crate::lock;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

/// Terminals to be restored, each under its guard's number.
static ALTERED: Mutex<Vec<(u64, Altered)>> = Mutex::new(Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Altered {
    terminal: OwnedFd,
    before: Termios,
    titled: Option<OwnedFd>,
}

impl Altered {
    /// At once, without waiting for output: a terminal that is stopped with Ctrl-S must not hold us.
    fn restore(&self) {
        if let Some(screen) = &self.titled {
            rustix::io::write(screen, b"\x1b[23;2t").ok();
        }
        tcsetattr(&self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// While it lives, a terminal is raw.
#[derive(Debug)]
pub struct RawMode {
    number: u64,
}

impl RawMode {
    /// Makes the terminal `terminal` raw. With a `title`, sets it on `screen`.
    ///
    /// # Errors
    /// What the host said to reading or setting the modes; nothing is altered then.
    pub fn enter(
        terminal: BorrowedFd<'_>,
        title: Option<(BorrowedFd<'_>, &str)>,
    ) -> std::io::Result<RawMode> {
        let terminal = terminal.try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut titled = None;
        make_raw(terminal.as_fd(), &before)?;
        if let Some((screen, name)) = title {
            let screen = screen.try_clone_to_owned()?;
            rustix::io::write(&screen, format!("\x1b[22;2t\x1b]2;{name}\x07").as_bytes()).ok();
            titled = Some(screen);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&ALTERED).push((number, Altered { terminal, before, titled }));
        Ok(RawMode { number })
    }

    /// Makes it raw again, after a shell has put its own modes back (SIGCONT).
    pub fn again(&self) {
        if let Some((_, altered)) = lock(&ALTERED).iter().find(|(n, _)| *n == self.number) {
            make_raw(altered.terminal.as_fd(), &altered.before).ok();
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let mut all = lock(&ALTERED);
        if let Some(at) = all.iter().position(|(number, _)| *number == self.number) {
            all.swap_remove(at).1.restore();
        }
    }
}

fn make_raw(terminal: BorrowedFd<'_>, before: &Termios) -> std::io::Result<()> {
    let mut raw = before.clone();
    raw.make_raw();
    Ok(tcsetattr(terminal, OptionalActions::Now, &raw)?)
}

/// Restores every terminal that this process has made raw: for a panic hook, from any thread.
pub fn restore_terminals() {
    let mut all = match ALTERED.try_lock() {
        Ok(all) => all,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // The holder is about to restore, or has just begun to alter; it must not be waited for here.
        Err(TryLockError::WouldBlock) => return,
    };
    for (_, altered) in all.drain(..) {
        altered.restore();
    }
}
