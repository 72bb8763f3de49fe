//! The way out: bytes that the device has written and the host has yet to take.
//!
//! ```text
//!   write() ──► pending (16 KiB) ──► chunk (16 KiB, the writer thread's) ──► descriptor
//! ```
//!
//! The writer thread takes all that is pending at once, so that a burst of single bytes, as a UART
//! writes them, becomes few system calls. It ends when the descriptor's reader has gone, or at
//! [`Outlet::finish`].

use crate::{BUFFER_SIZE, Waker, lock};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Called once, from the writer thread, when nobody takes the output any more.
pub(crate) type GoneHook = Box<dyn FnOnce(Errno) + Send>;

/// Stack of a writer thread: it calls `write` and little else.
const STACK_SIZE: usize = 64 * 1024;

/// A bounded queue of bytes with a thread that writes them.
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    idle: Option<(OwnedFd, GoneHook)>,
}

/// A handle to wait for the end of the output.
#[derive(Clone)]
pub(crate) struct OutletEnd(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pending: VecDeque<u8>,
    wake: Option<Waker>,
    /// A write was cut short: wake the device once there is room.
    short: bool,
    /// The writer sleeps for want of bytes.
    waiting: bool,
    /// Nothing pending and nothing in the writer's hands.
    drained: bool,
    gone: bool,
    closing: bool,
}

impl Outlet {
    /// An outlet to `to`; the thread is made with the first byte.
    pub(crate) fn new(to: OwnedFd, gone: GoneHook) -> Outlet {
        let state = State { drained: true, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        Outlet { shared, idle: Some((to, gone)) }
    }

    pub(crate) fn end(&self) -> OutletEnd {
        OutletEnd(self.shared.clone())
    }

    pub(crate) fn set_waker(&self, wake: Waker) {
        lock(&self.shared.state).wake = Some(wake);
    }

    /// Accepts what fits; everything when the reader has gone.
    pub(crate) fn write(&mut self, data: &[u8]) -> usize {
        if data.is_empty() || (self.idle.is_some() && !self.start()) {
            return data.len();
        }
        let mut state = lock(&self.shared.state);
        if state.gone {
            return data.len();
        }
        let count = data.len().min(BUFFER_SIZE - state.pending.len().min(BUFFER_SIZE));
        state.pending.extend(&data[..count]);
        state.short |= count < data.len();
        state.drained &= count == 0;
        if std::mem::take(&mut state.waiting) {
            self.shared.changed.notify_all();
        }
        count
    }

    /// Makes the writer thread. Without one (the host has no more threads) the output is as good as gone.
    fn start(&mut self) -> bool {
        let Some((to, gone)) = self.idle.take() else { return true };
        let shared = self.shared.clone();
        let work = move || write_out(&shared, to.as_fd(), gone);
        let made = std::thread::Builder::new()
            .name("chardev-out".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(work);
        lock(&self.shared.state).gone |= made.is_err();
        made.is_ok()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        lock(&self.shared.state).closing = true;
        self.shared.changed.notify_all();
    }
}

impl OutletEnd {
    /// Waits until everything is written, or the reader has gone, or `patience` is over. Says whether
    /// nothing is left.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = lock(&self.0.state);
        while !state.drained && !state.gone {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .0
                .changed
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
        true
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outlet({} bytes)", lock(&self.shared.state).pending.len())
    }
}

impl std::fmt::Debug for OutletEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OutletEnd")
    }
}

fn write_out(shared: &Shared, to: BorrowedFd<'_>, gone: GoneHook) {
    let mut chunk = Vec::with_capacity(BUFFER_SIZE);
    while next_chunk(shared, &mut chunk) {
        if let Err(error) = write_all(to, &chunk) {
            let mut state = lock(&shared.state);
            state.gone = true;
            state.pending = VecDeque::new();
            let wake = state.wake.take().filter(|_| state.short);
            drop(state);
            shared.changed.notify_all();
            gone(error);
            if let Some(wake) = wake {
                wake();
            }
            return;
        }
    }
}

/// Waits for bytes and moves them into `chunk`; false at the end.
fn next_chunk(shared: &Shared, chunk: &mut Vec<u8>) -> bool {
    chunk.clear();
    let mut state = lock(&shared.state);
    while state.pending.is_empty() {
        state.drained = true;
        shared.changed.notify_all();
        if state.closing {
            return false;
        }
        state.waiting = true;
        state = wait(shared, state);
    }
    let (front, back) = state.pending.as_slices();
    chunk.extend_from_slice(front);
    chunk.extend_from_slice(back);
    state.pending.clear();
    let relieved = std::mem::take(&mut state.short);
    let wake = if relieved { state.wake.clone() } else { None };
    drop(state);
    if let Some(wake) = wake {
        wake();
    }
    true
}

fn wait<'a>(shared: &Shared, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// Writes everything, also to a descriptor that somebody else has made non-blocking.
fn write_all(to: BorrowedFd<'_>, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::write(to, data) {
            Ok(count) => data = data.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None).ok();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::pipe::pipe;
    use std::sync::mpsc;

    fn read_until(from: &OwnedFd, length: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut data = [0; 4096];
        while all.len() < length {
            let count = rustix::io::read(from, &mut data).unwrap();
            all.extend_from_slice(&data[..count]);
        }
        all
    }

    #[test]
    fn bytes_come_out_in_order() {
        let (reader, writer) = pipe().unwrap();
        let mut outlet = Outlet::new(writer, Box::new(|_| {}));
        assert_eq!(outlet.write(b"hello "), 6);
        assert_eq!(outlet.write(b"guest"), 5);
        assert!(outlet.end().finish(Duration::from_secs(10)));
        assert_eq!(read_until(&reader, 11), b"hello guest");
    }

    /// Fills a pipe, so that the next write to it waits; gives how much it holds.
    fn fill(pipe: &OwnedFd) -> usize {
        fcntl_setfl(pipe, OFlags::NONBLOCK).unwrap();
        let mut total = 0;
        while let Ok(count) = rustix::io::write(pipe, &[b'-'; 512]) {
            total += count;
        }
        fcntl_setfl(pipe, OFlags::empty()).unwrap();
        total
    }

    #[test]
    fn a_reader_that_stands_still_makes_writes_short_and_its_going_on_wakes_the_device() {
        let (reader, writer) = pipe().unwrap();
        let before = fill(&writer);
        let mut outlet = Outlet::new(writer, Box::new(|_| {}));
        let (woken, wakes) = mpsc::channel();
        outlet.set_waker(Arc::new(move || {
            woken.send(()).ok();
        }));
        // The writer thread may have taken a part of this already, so there is room for some more.
        let accepted = outlet.write(&[b'x'; BUFFER_SIZE]);
        assert_eq!(accepted, BUFFER_SIZE);
        let more = outlet.write(&[b'y'; 2 * BUFFER_SIZE]);
        assert!(more < 2 * BUFFER_SIZE);
        assert!(!outlet.end().finish(Duration::ZERO));
        let all = before + accepted + more;
        assert_eq!(read_until(&reader, all).len(), all);
        wakes.recv_timeout(Duration::from_secs(10)).expect("woken");
        assert_eq!(outlet.write(b"z"), 1);
        assert!(outlet.end().finish(Duration::from_secs(10)));
    }

    #[test]
    fn a_reader_that_goes_is_told_once_and_then_everything_is_accepted() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let (told, gone) = mpsc::channel();
        let mut outlet = Outlet::new(
            writer,
            Box::new(move |error| {
                told.send(error).ok();
            }),
        );
        outlet.write(b"into the void");
        assert_eq!(gone.recv_timeout(Duration::from_secs(10)), Ok(Errno::PIPE));
        assert_eq!(outlet.write(&vec![0; 4 * BUFFER_SIZE]), 4 * BUFFER_SIZE);
        assert!(outlet.end().finish(Duration::from_secs(10)));
    }
}
