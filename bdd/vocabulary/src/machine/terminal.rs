//! The terminal at which a machine sits, and the threads that read what it says.
//!
//! ```text
//! keys -----> our end  =  its end <---- kezhan run (serial port)          kezhan run ----> stderr
//!                |                                                                         |
//!          read_console ----> Transcript                              read_messages ----> bytes
//! ```

use super::console::Transcript;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A pseudo-terminal: our end and the machine's.
pub(super) fn terminal() -> std::io::Result<(File, OwnedFd)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let its = rustix::fs::open(name, flags, Mode::empty())?;
    // Until the machine makes it raw, the terminal would echo what is typed.
    let mut modes = tcgetattr(&its)?;
    modes.make_raw();
    tcsetattr(&its, OptionalActions::Now, &modes)?;
    Ok((File::from(ours), its))
}

/// Reads a console until it closes.
pub(super) fn read_console(
    mut pipe: impl Read + Send + 'static,
    transcript: Arc<Transcript>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            transcript.push(chunk.get(..count).unwrap_or_default());
        }
        transcript.close();
    })
}

/// The most of kezhan's messages that is kept, in bytes.
const MAX_MESSAGES: usize = 1 << 20;

/// Reads messages, and drops what is too many.
pub(super) fn read_messages(
    mut pipe: impl Read + Send + 'static,
    messages: Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_MESSAGES.saturating_sub(messages.len()).min(count);
            messages.extend_from_slice(chunk.get(..room).unwrap_or_default());
        }
    })
}
