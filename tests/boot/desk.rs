//! A terminal with a machine in its foreground.

use libtest_mimic::Failed;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};

/// At the most, what a guest writes before the words that are waited for.
const LIMIT: usize = 1 << 20;

/// A person's end of the terminal.
pub struct Desk {
    person: File,
    child: Child,
    read: Vec<u8>,
}

impl Desk {
    /// Starts `command` on a new terminal.
    pub fn sit_down(mut command: Command) -> Result<Desk, Failed> {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&person)?;
        unlockpt(&person)?;
        let name = ptsname(&person, Vec::new())?;
        let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
        command.stdin(terminal.try_clone()?).stdout(terminal.try_clone()?).stderr(terminal);
        Ok(Desk { person: File::from(person), child: command.spawn()?, read: Vec::new() })
    }

    /// The machine's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub fn enter(&mut self, line: &str) -> Result<(), Failed> {
        self.press(&format!("{line}\r"))
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<(), Failed> {
        Ok(self.person.write_all(keys.as_bytes())?)
    }

    /// Reads on until the words come; what was read before them is done with.
    pub fn wait_for(&mut self, words: &str) -> Result<(), Failed> {
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

    /// Waits for the machine's end, which is to be that of a guest that powered off.
    pub fn see_the_power_go_off(&mut self) -> Result<(), Failed> {
        self.wait_for("reboot: Power down")?;
        match self.child.wait()?.code() {
            Some(0) => Ok(()),
            other => Err(format!("exit status {other:?}").into()),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
