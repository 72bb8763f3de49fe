//! A person at the terminal, as `make run` leaves them.

use crate::guest::{Guest, PLAIN};
use libtest_mimic::{Failed, Trial};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Child;

/// At the most, what a guest writes before the words that are waited for.
const LIMIT: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "a person gets a shell, works in it, and leaving it powers the machine off",
            || a_session(PLAIN),
        ),
        Trial::test("a person gets Debian's bash on the full kernel", || {
            a_session(Guest { kernel: "full", userland: "debian", ..PLAIN })
        }),
    ]
}

fn a_session(guest: Guest) -> Result<(), Failed> {
    let mut desk = Desk::sit_down(guest)?;
    desk.wait_for("powers the machine off.")?;
    desk.wait_for("# ")?;
    // The answer is not in the line as typed, which the terminal echoes.
    desk.enter("echo $((6 * 7))-$(uname -s)-$(cat /proc/sys/kernel/hostname)")?;
    desk.wait_for("42-Linux-kezhan")?;
    // Typed before the command runs, Ctrl-C would be a key of the shell's line editor.
    desk.enter("echo sleep''ing; sleep 1000")?;
    desk.wait_for("sleeping")?;
    desk.press("\x03")?;
    desk.wait_for("# ")?;
    desk.enter("echo inter''rupted: $?")?;
    desk.wait_for("interrupted: 130")?;
    desk.enter("exit")?;
    desk.wait_for("reboot: Power down")?;
    match desk.child.wait()?.code() {
        Some(0) => Ok(()),
        other => Err(format!("exit status {other:?}").into()),
    }
}

/// A terminal with a machine in its foreground.
struct Desk {
    person: File,
    child: Child,
    read: Vec<u8>,
}

impl Desk {
    fn sit_down(guest: Guest) -> Result<Desk, Failed> {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let name = ptsname(&person, Vec::new())?;
        let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        let mut command = guest.command("")?;
        command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
        Ok(Desk { person: File::from(person), child: command.spawn()?, read: Vec::new() })
    }

    fn enter(&mut self, line: &str) -> Result<(), Failed> {
        self.press(&format!("{line}\r"))
    }

    fn press(&mut self, keys: &str) -> Result<(), Failed> {
        Ok(self.person.write_all(keys.as_bytes())?)
    }

    /// Reads on until the words come; what was read before them is done with.
    fn wait_for(&mut self, words: &str) -> Result<(), Failed> {
        let mut bytes = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some(at) = text.find(words) {
                self.read = text.as_bytes()[at + words.len()..].to_vec();
                return Ok(());
            }
            // When nobody holds the other end any more, reading fails.
            let n = self.person.read(&mut bytes).unwrap_or(0);
            if n == 0 || self.read.len() > LIMIT {
                return Err(format!("`{words}` did not come; instead:\n{text}").into());
            }
            self.read.extend_from_slice(&bytes[..n]);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
