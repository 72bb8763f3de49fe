//! A person at a terminal.

use crate::{Place, guest, read_until, signal};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

/// A terminal with a machine in its foreground.
struct Desk {
    person: File,
    terminal: OwnedFd,
    child: Child,
}

impl Desk {
    fn new(place: &Place, options: &[&str]) -> Desk {
        let person =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let terminal =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let end = || terminal.try_clone().unwrap();
        let run = place.run(options);
        // A session of its own with this terminal in control, as a shell in a window has it.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(run.get_program()).args(run.get_args());
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm");
        let child = command.spawn().unwrap();
        let mut desk = Desk { person: File::from(person), terminal, child };
        desk.read_until("ready\n");
        desk
    }

    fn type_in(&mut self, text: &[u8]) {
        self.person.write_all(text).unwrap();
    }

    fn read_until(&mut self, wanted: &str) -> String {
        read_until(&mut self.person, wanted)
    }

    fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn ends_with(mut self, status: i32) {
        assert_eq!(self.child.wait().unwrap().code(), Some(status));
        assert!(self.is_as_before(), "the terminal is as it was");
    }
}

#[test]
fn the_menu_quits_and_the_terminal_is_as_before() {
    let mut desk = Desk::new(&Place::new(), &[]);
    assert!(!desk.is_as_before());
    desk.type_in(b"\x1dq");
    desk.ends_with(0);
}

#[test]
fn ctrl_c_and_ctrl_z_go_to_the_guest() {
    let mut desk = Desk::new(&Place::new(), &[]);
    desk.type_in(b"\x03\x1a");
    desk.read_until("\x03\x1a");
    desk.type_in(b"o");
    desk.ends_with(0);
}

#[test]
fn the_menu_shows_help_and_state_and_resets() {
    let mut desk = Desk::new(&Place::new(), &["--name", "inn"]);
    desk.type_in(b"\x1d?");
    desk.read_until("send Ctrl-] to the guest\r\n");
    desk.type_in(b"\x1ds");
    let status = desk.read_until("process");
    assert!(status.contains("inn: running") && status.contains("16M memory"), "{status}");
    desk.type_in(b"\x1dr");
    desk.read_until("ready\n");
    desk.type_in(b"\x1d\x1d");
    desk.read_until("\x1d");
    desk.type_in(b"o");
    desk.ends_with(0);
}

#[test]
fn a_signal_and_a_timeout_leave_the_terminal_as_before() {
    let desk = Desk::new(&Place::new(), &[]);
    signal(&desk.child, Signal::TERM);
    desk.ends_with(143);
    Desk::new(&Place::new(), &["--timeout", "1"]).ends_with(124);
}

#[test]
fn a_window_that_closes_ends_the_machine() {
    let mut desk = Desk::new(&Place::new(), &[]);
    drop((desk.person, desk.terminal));
    assert_eq!(desk.child.wait().unwrap().code(), Some(129));
}

#[test]
fn an_error_after_the_terminal_was_altered_restores_it() {
    let place = Place::new();
    let mut desk = Desk::new(&place, &[]);
    // The kernel is damaged while the machine runs; the reset finds it so.
    let kernel = guest::kernel();
    std::fs::write(place.path("guest.bin"), &kernel[..8]).unwrap();
    desk.type_in(b"r");
    desk.read_until("kezhan: --kernel ");
    desk.ends_with(2);
}
