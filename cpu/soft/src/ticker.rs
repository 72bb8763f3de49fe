//! The ticker: makes vCPUs in translated code look at the clock.
//!
//! Translated code looks at one byte only, its bell. Interrupts of other vCPUs and devices ring it; the
//! vCPU's own timers do not ring by themselves. So a thread rings at every running vCPU once a
//! [`PERIOD`], which is thereby the most that a timer of a busy vCPU is late. A vCPU that sleeps wakes
//! itself in time; when all sleep, so does the ticker.
//!
//! ```text
//!   some vCPU runs: sleep PERIOD, ring ──► none runs: wait until [`Ticker::wake`]
//! ```
//!
//! Rejected: a POSIX timer for each vCPU (a signal each, and a system call whenever the guest sets its timer);
//! counting superblocks (a memory cell that every loop would have to wait for).

use crate::code::Shared;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// How often vCPUs are made to look.
const PERIOD: Duration = Duration::from_micros(500);

/// Wakes the thread.
#[derive(Debug, Default)]
pub struct Ticker {
    started: OnceLock<()>,
    nap: Arc<Nap>,
}

#[derive(Debug, Default)]
struct Nap {
    asleep: AtomicBool,
    over: AtomicBool,
    lock: Mutex<()>,
    awake: Condvar,
}

impl Ticker {
    /// Starts the thread, once.
    pub fn start(&self, shared: &Arc<Shared>) {
        self.started.get_or_init(|| {
            let (shared, nap) = (Arc::downgrade(shared), self.nap.clone());
            // Without the thread timers are late by as much as the guest stays away from its devices.
            let _handle = std::thread::Builder::new()
                .name("kezhan-tick".to_owned())
                .spawn(move || tick(&shared, &nap));
        });
    }

    /// A vCPU has started to run.
    #[inline]
    pub fn wake(&self) {
        if self.nap.asleep.load(Ordering::SeqCst) {
            self.nap.rouse();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.nap.over.store(true, Ordering::SeqCst);
        self.nap.rouse();
    }
}

impl Nap {
    fn rouse(&self) {
        let _ordered = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(false, Ordering::SeqCst);
        self.awake.notify_all();
    }

    /// Waits for [`Nap::rouse`], unless a vCPU was seen running after sleep was announced.
    fn sleep(&self, shared: Weak<Shared>) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        if shared.upgrade().is_none_or(|shared| ring(&shared)) {
            self.asleep.store(false, Ordering::SeqCst);
            return;
        }
        let asleep = |(): &mut ()| self.asleep.load(Ordering::SeqCst) && !self.is_over();
        drop(self.awake.wait_while(guard, asleep));
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Rings at every running vCPU; false when there is none.
fn ring(shared: &Shared) -> bool {
    let mut any = false;
    for mailbox in shared.mailboxes.iter().filter(|mailbox| mailbox.running()) {
        mailbox.call();
        any = true;
    }
    any
}

fn tick(shared: &Weak<Shared>, nap: &Nap) {
    while !nap.is_over() {
        std::thread::sleep(PERIOD);
        let Some(now) = shared.upgrade() else { return };
        let any = ring(&now);
        drop(now);
        if !any {
            nap.sleep(shared.clone());
        }
    }
}
