//! Threads of devices that have one of their own: disks and network cards.
//!
//! ```text
//!   Board::new ── bell(name) ─► a bell (eventfd)          start(attendance) ─► thread: wait, serve, wait …
//!                                  ▲                                             ▲
//!      vCPU, KVM, port's threads ──┴─────────────────────────────────────────────┘
//! ```
//! A thread sleeps in read(2) of its bell's event descriptor. It ends when it is told to stop and rung once
//! more; [`Attendants`] does so when it is dropped, and waits for it.

use crate::VmmError;
use kezhan_board::{Attendance, Bell, Staff};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::BTreeMap;
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
    let mut gathering = Gathering::default();
    while bell.wait() {
        gathering.gather(work);
        work.serve();
    }
}

/// Lets a guest that has more to say say it, before it is answered.
///
/// A guest with many requests in flight hands them over one by one; each costs it a notification, and an interrupt
/// when it is answered, if we are quick. Both cost a guest more than the request costs us. So we wait for as
/// long as it goes on adding. A guest with one request in flight would only lose by that: when nothing was added
/// we answer the next ones at once, and try it ever more seldom.
#[derive(Debug, Default)]
struct Gathering {
    /// Rings that are to be answered at once.
    at_once: u32,
    /// How many the next failure is worth.
    patience: u32,
}

impl Gathering {
    /// Between two glances.
    const GLANCE: Duration = Duration::from_micros(50);
    /// Glances at most.
    const GLANCES: u32 = 20;
    /// With so many requests there is enough to do.
    const ENOUGH: u32 = 16;
    /// Rings after a failure at most.
    const PATIENCE: u32 = 256;

    fn gather(&mut self, work: &Attendance) {
        let mut waiting = work.waiting();
        if waiting == 0 {
            return;
        }
        if waiting == 1 && self.at_once > 0 {
            self.at_once -= 1;
            return;
        }
        for _ in 0..Gathering::GLANCES {
            if waiting >= Gathering::ENOUGH {
                break;
            }
            std::thread::sleep(Gathering::GLANCE);
            let now = work.waiting();
            if now <= waiting {
                break;
            }
            waiting = now;
        }
        if waiting > 1 {
            (self.at_once, self.patience) = (0, 0);
        } else {
            self.patience = (self.patience * 2).clamp(4, Gathering::PATIENCE);
            self.at_once = self.patience;
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
