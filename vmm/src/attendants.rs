//! Threads of devices that have one of their own: disks and network cards.
//!
//! ```text
//!   Board::new ── bell(name) ─► a bell (eventfd)          start(attendance) ─► thread: wait, serve, wait …
//!                                  ▲                                             ▲
//!      vCPU, KVM, port's threads ──┴─────────────────────────────────────────────┘
//! ```
//! A thread sleeps on its bell's event descriptor. It ends when it is told to stop and rung once more; [`Attendants`]
//! does so when it is dropped, and waits for it.
//!
//! How a thread that was called goes on looking by itself is told in [`look`].

mod look;

use crate::VmmError;
use kezhan_board::{Attendance, Bell, Staff};
use look::{Gathering, Looking};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::thread::set_current_timer_slack;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A bell that a thread sleeps on.
#[derive(Debug)]
struct EventBell {
    event: OwnedFd,
    stop: AtomicBool,
}

impl EventBell {
    /// Sleeps until it rings; false when it was the last time.
    fn wait(&self) -> bool {
        // Interrupted by a signal it looks in vain, which does no harm.
        rustix::io::read(&self.event, &mut [0_u8; 8]).ok();
        self.goes_on()
    }

    /// The same for at most `time`; whether it has rung.
    fn wait_for(&self, time: Duration) -> bool {
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        let rung = poll(&mut [PollFd::new(&self.event, PollFlags::IN)], Some(&time)) == Ok(1);
        if rung {
            rustix::io::read(&self.event, &mut [0_u8; 8]).ok();
        }
        rung
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }
}

impl Bell for EventBell {
    fn ring(&self) {
        // Blocks only at 2^64 - 2 rings that nobody heard.
        rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The threads.
#[derive(Debug, Default)]
pub(crate) struct Attendants(Mutex<BTreeMap<String, Attendant>>);

#[derive(Debug)]
struct Attendant {
    bell: Arc<EventBell>,
    thread: Option<JoinHandle<()>>,
}

impl Attendants {
    /// Starts the thread of a device that was given a bell.
    ///
    /// # Errors
    /// [`VmmError::Host`] when the host makes no thread.
    pub(crate) fn start(&self, work: Attendance) -> Result<(), VmmError> {
        let mut all = self.lock();
        let Some(attendant) = all.get_mut(work.name()) else { return Ok(()) };
        let (bell, name) = (attendant.bell.clone(), work.name().to_owned());
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || attend(&bell, &work))
            .map_err(|error| VmmError::Host { call: "a device's thread".to_owned(), error })?;
        attendant.thread = Some(thread);
        Ok(())
    }

    /// Ends the thread of a device that is gone.
    pub(crate) fn end(&self, name: &str) {
        let attendant = self.lock().remove(name);
        drop(attendant);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Attendant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attend(bell: &EventBell, work: &Attendance) {
    // The host may else be 50 µs late each time. Where it refuses, that is what we live with.
    set_current_timer_slack(NonZeroU64::new(1)).ok();
    let (mut gathering, mut looking) = (Gathering::default(), Looking::default());
    while bell.wait() {
        gathering.gather(work);
        work.serve();
        if work.watch(true) {
            looking.look(bell, work);
            work.watch(false);
            if work.is_called() {
                work.serve();
            }
        }
    }
}

impl Staff for Attendants {
    fn bell(&self, name: &str) -> Option<Arc<dyn Bell>> {
        let event = eventfd(0, EventfdFlags::CLOEXEC).ok()?;
        let bell = Arc::new(EventBell { event, stop: AtomicBool::new(false) });
        let attendant = Attendant { bell: bell.clone(), thread: None };
        self.lock().insert(name.to_owned(), attendant);
        Some(bell)
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.bell.stop.store(true, Ordering::SeqCst);
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so already.
            thread.join().ok();
        }
    }
}
