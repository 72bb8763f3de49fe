//! The terminal: standard input and output as the guest's serial port.
//!
//! Two halves. The [`TerminalPort`] goes to the device. The [`Terminal`] stays with the main loop, which
//! polls [`Terminal::input`] and calls [`Terminal::take_input`]; dropping it restores the terminal.
//!
//! * Input that is no terminal (a pipe, a file) passes byte by byte, with no menu; its end is the end of
//!   the guest's input, not of the machine.
//! * A terminal of which we are not in the foreground is neither read nor altered: either would stop
//!   the process (POSIX.1-2017 §11.1.4).

use crate::inlet::Inlet;
use crate::outlet::{Outlet, OutletEnd};
use crate::raw::RawMode;
use crate::{BUFFER_SIZE, ChardevError, EscapeMenu, MenuCommand, Waker};
use kezhan_ports::CharDevice;
use rustix::io::Errno;
use rustix::termios::{isatty, tcgetpgrp};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The two ends: where input comes from and output goes to.
#[derive(Debug)]
pub struct TerminalEnds {
    /// Read from here.
    pub input: OwnedFd,
    /// Write to here.
    pub output: OwnedFd,
}

impl TerminalEnds {
    /// Standard input and output.
    ///
    /// # Errors
    /// [`ChardevError::Terminal`] when one of them is closed.
    pub fn standard() -> Result<TerminalEnds, ChardevError> {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(ChardevError::Terminal);
        Ok(TerminalEnds {
            input: copy(std::io::stdin().as_fd())?,
            output: copy(std::io::stdout().as_fd())?,
        })
    }
}

/// The main loop's half.
#[derive(Debug)]
pub struct Terminal {
    input: Option<OwnedFd>,
    inlet: Inlet,
    end: OutletEnd,
    menu: Option<EscapeMenu>,
    raw: Option<RawMode>,
}

/// The device's half.
#[derive(Debug)]
pub struct TerminalPort {
    inlet: Inlet,
    outlet: Outlet,
}

impl Terminal {
    /// Opens it; a terminal becomes raw and shows `title` as its window's. `gone` is told when nobody
    /// reads the output any more, from another thread.
    ///
    /// # Errors
    /// [`ChardevError::Terminal`] when the modes of a terminal cannot be set.
    pub fn open(
        ends: TerminalEnds,
        title: &str,
        gone: impl FnOnce() + Send + 'static,
    ) -> Result<(Terminal, TerminalPort), ChardevError> {
        let person = isatty(&ends.input);
        let usable = !person || in_foreground(ends.input.as_fd());
        let screen = shows_titles(ends.output.as_fd()).then_some((ends.output.as_fd(), title));
        let raw = if person && usable {
            let raw = RawMode::enter(ends.input.as_fd(), screen);
            Some(raw.map_err(ChardevError::Terminal)?)
        } else {
            None
        };
        let inlet = Inlet::default();
        let outlet = Outlet::new(ends.output, Box::new(move |_| gone()));
        let terminal = Terminal {
            input: usable.then_some(ends.input),
            inlet: inlet.clone(),
            end: outlet.end(),
            menu: raw.is_some().then(EscapeMenu::default),
            raw,
        };
        Ok((terminal, TerminalPort { inlet, outlet }))
    }

    /// Whether a person sits there: the terminal is raw, Ctrl-] opens the menu.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// `wake` is called when [`Terminal::input`] gives a descriptor again after the device has made room.
    pub fn set_room_waker(&self, wake: Waker) {
        self.inlet.set_feeder_waker(wake);
    }

    /// What to poll for input; `None` at the end of the input and while the device has no room.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        let input = self.input.as_ref()?;
        (self.inlet.room() > 0).then(|| input.as_fd())
    }

    /// Takes what has come in (the descriptor was readable), and gives the commands among it.
    pub fn take_input(&mut self) -> Vec<MenuCommand> {
        let Some(input) = &self.input else { return Vec::new() };
        let mut data = [0; BUFFER_SIZE / 4];
        let room = self.inlet.room().min(data.len());
        let typed = match rustix::io::read(input, &mut data[..room]) {
            Ok(count) if count > 0 => &data[..count],
            Err(Errno::INTR | Errno::AGAIN) => return Vec::new(),
            // The end, or a terminal that was hung up.
            Ok(_) | Err(_) => {
                self.input = None;
                return Vec::new();
            }
        };
        let Some(menu) = &mut self.menu else {
            self.inlet.feed(typed);
            return Vec::new();
        };
        let mut pass = Vec::new();
        let commands = menu.feed(typed, &mut pass);
        self.inlet.feed(&pass);
        commands
    }

    /// The process goes on after having been stopped: raw again.
    pub fn continued(&self) {
        if let Some(raw) = &self.raw {
            raw.again();
        }
    }

    /// A message for the person, on standard error.
    pub fn say(&self, text: &str) {
        let end = if self.is_raw() { "\r\n" } else { "\n" };
        let lines: String = text.lines().flat_map(|line| [line, end]).collect();
        rustix::io::write(std::io::stderr().as_fd(), lines.as_bytes()).ok();
    }

    /// Waits until the output is written, at most so long, and restores the terminal.
    pub fn finish(self, patience: Duration) {
        self.end.finish(patience);
    }
}

/// Not so only for a terminal that controls us and has another foreground process group.
fn in_foreground(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

/// Whether an OSC sequence is safe to send: the Linux console and simple terminals would print it.
fn shows_titles(screen: BorrowedFd<'_>) -> bool {
    let plain = |term: &str| matches!(term, "" | "dumb" | "linux" | "vt100" | "vt220");
    isatty(screen) && std::env::var("TERM").is_ok_and(|term| !plain(&term))
}

impl CharDevice for TerminalPort {
    fn read(&mut self, data: &mut [u8]) -> usize {
        self.inlet.take(data)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        self.outlet.write(data)
    }

    fn set_waker(&mut self, wake: Waker) {
        self.inlet.set_device_waker(wake.clone());
        self.outlet.set_waker(wake);
    }
}

#[cfg(test)]
mod tests;
