//! Image locking: two writers never share an image.
//!
//! The kernel's open-file-description locks on single bytes of the file, in the layout that QEMU uses too,
//! so that each refuses an image that the other has open:
//!
//! ```text
//!   byte 100 + p   read-locked: "I use permission p"
//!   byte 200 + p   read-locked: "I do not want others to use permission p"
//! ```
//!
//! Whoever opens takes its own read locks, then asks (without taking) whether a write lock on the opposite
//! bytes would be possible. A reader uses permission 0 and forbids permission 1 (write) unless it was
//! told to share; a writer uses 0, 1 and 3 and forbids 1 and 3. Locks vanish with the descriptor, also when
//! the process is killed.

use crate::{BlockError, Result};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io;
use std::time::Duration;

const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
const USED: i64 = 100;
const UNSHARED: i64 = 200;

/// A process that was forked off has its parent's descriptors, and so the locks, until it executes its own
/// program: a lock that is held only so long is waited for.
const TRIES: u32 = 10;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the locks of a writer, or of a reader.
///
/// # Errors
/// [`BlockError::InUse`] when another process has the image open in a way that excludes it.
pub(super) fn lock(file: &File, name: &str, writable: bool) -> Result<()> {
    for _ in 1..TRIES {
        match try_lock(file, name, writable) {
            Err(BlockError::InUse { .. }) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    try_lock(file, name, writable)
}

fn try_lock(file: &File, name: &str, writable: bool) -> Result<()> {
    let uses: &[i64] =
        if writable { &[CONSISTENT_READ, WRITE, RESIZE] } else { &[CONSISTENT_READ] };
    let forbids: &[i64] = &[WRITE, RESIZE];
    let bytes = uses.iter().map(|p| USED + p).chain(forbids.iter().map(|p| UNSHARED + p));
    for byte in bytes {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc_type(false), byte))) {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {
                return Err(in_use(name, "exclusive"));
            }
            // File systems without locks (some network mounts): nothing to hold on to.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOLCK) => return Ok(()),
            Err(errno) => return Err(BlockError::io(name, "lock")(io::Error::from(errno))),
        }
    }
    for permission in uses {
        if held(file, name, UNSHARED + permission)? {
            return Err(in_use(name, "it does not share"));
        }
    }
    for permission in forbids {
        if held(file, name, USED + permission)? {
            return Err(in_use(name, "open for writing"));
        }
    }
    Ok(())
}

fn held(file: &File, name: &str, byte: i64) -> Result<bool> {
    let mut probe = range(libc_type(true), byte);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))
        .map_err(|errno| BlockError::io(name, "ask for locks")(io::Error::from(errno)))?;
    Ok(probe.l_type != nix::libc::F_UNLCK as i16)
}

fn libc_type(exclusive: bool) -> i16 {
    (if exclusive { nix::libc::F_WRLCK } else { nix::libc::F_RDLCK }) as i16
}

fn range(kind: i16, byte: i64) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn in_use(name: &str, how: &'static str) -> BlockError {
    BlockError::InUse { name: name.to_owned(), how }
}
