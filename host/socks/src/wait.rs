//! Waiting for sockets, with an end: every wait of a session also watches the listener's stop signal.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Set once, seen by all.
#[derive(Debug)]
pub(crate) struct Stop(OwnedFd);

impl Stop {
    pub(crate) fn new() -> io::Result<Stop> {
        Ok(Stop(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Nobody reads the descriptor, so that it stays readable for all.
    pub(crate) fn set(&self) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).ok();
    }

    pub(crate) fn is_set(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

/// What a wait watches: a descriptor, and for what.
pub(crate) type Interest<'a> = (BorrowedFd<'a>, PollFlags);

/// Waits until something can be done; what is ready, in the order of the interests.
///
/// # Errors
/// `TimedOut` at the deadline, `Interrupted` when stopped, otherwise `poll`'s own.
pub(crate) fn wait(
    interests: &[Interest<'_>],
    stop: &Stop,
    deadline: Option<Instant>,
) -> io::Result<Vec<PollFlags>> {
    let mut fds: Vec<PollFd<'_>> = interests
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .chain([PollFd::from_borrowed_fd(stop.0.as_fd(), PollFlags::IN)])
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    match ready.pop() {
        Some(stopped) if stopped.is_empty() => Ok(ready),
        _ => Err(io::ErrorKind::Interrupted.into()),
    }
}
