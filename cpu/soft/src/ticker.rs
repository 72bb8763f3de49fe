//! The ticker: makes vCPUs in translated code look at the clock when their timers are due.
//!
//! Translated code looks at one byte only, its bell. Interrupts of other vCPUs and devices ring it; the
//! vCPU's own timer does not ring by itself. So each vCPU tells the time at which its timer fires
//! ([`crate::mailbox::Mailbox::set_deadline`]), and a thread sleeps until the first of them and rings. A vCPU
//! that sleeps wakes itself in time; when all sleep, so does the ticker.
//!
//! ```text
//!   plan: the first deadline of a running vCPU, a HORIZON from now at most
//!     │
//!     ▼
//!   sleep ──► ring at those that are due ──► plan …          nobody runs: sleep without end
//!     ▲
//!     └── a vCPU has a deadline that is earlier than the plan by more than LATENESS: wakes the thread
//! ```
//!
//! A timer of a busy vCPU is thereby late by [`LATENESS`] at most, beside what the host's scheduler adds. Busy
//! vCPUs of a kernel that ticks every 4 ms are rung at every 4 ms, without a system call of theirs.
//!
//! Rejected: a POSIX timer for each vCPU (a signal each, and a system call whenever the guest sets its timer);
//! counting superblocks (a memory cell that every loop would have to wait for); ringing at all every half
//! millisecond, which took 6 % of a core where the host is itself a guest.

use crate::apic::Clock;
use crate::code::Shared;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// How late, in nanoseconds, a timer may be rather than that its vCPU wakes the thread.
const LATENESS: u64 = 400_000;
/// The longest plan while a vCPU runs, in nanoseconds.
const HORIZON: u64 = 4_000_000;
/// No deadline at all, and no plan.
pub const NEVER: u64 = u64::MAX;

/// Wakes the thread.
#[derive(Debug)]
pub struct Ticker {
    started: OnceLock<()>,
    nap: Arc<Nap>,
}

/// The thread's sleep.
#[derive(Debug)]
struct Nap {
    /// When the thread looks next, in nanoseconds of guest time.
    plan: AtomicU64,
    lock: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    /// The plan is to be made anew.
    anew: bool,
    over: bool,
}

impl Default for Ticker {
    fn default() -> Ticker {
        let nap = Nap {
            plan: AtomicU64::new(NEVER),
            lock: Mutex::new(Wishes::default()),
            changed: Condvar::new(),
        };
        Ticker { started: OnceLock::new(), nap: Arc::new(nap) }
    }
}

impl Ticker {
    /// Starts the thread, once.
    pub fn start(&self, shared: &Arc<Shared>, clock: &Arc<Clock>) {
        self.started.get_or_init(|| {
            let (shared, clock, nap) = (Arc::downgrade(shared), clock.clone(), self.nap.clone());
            // Without the thread timers are late by as much as the guest stays away from its devices.
            let _handle = std::thread::Builder::new()
                .name("kezhan-tick".to_owned())
                .spawn(move || tick(&shared, &clock, &nap));
        });
    }

    /// A running vCPU has a deadline, in nanoseconds of guest time, which its mailbox shows already.
    #[inline]
    pub fn heed(&self, deadline: u64) {
        if deadline.saturating_add(LATENESS) < self.nap.plan.load(Ordering::SeqCst) {
            self.nap.wish().anew = true;
            self.nap.changed.notify_all();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.nap.wish().over = true;
        self.nap.changed.notify_all();
    }
}

impl Nap {
    fn wish(&self) -> MutexGuard<'_, Wishes> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for a time, without end for `None`, or until a wish; false when it is all over.
    fn sleep(&self, time: Option<Duration>) -> bool {
        let none = |wishes: &mut Wishes| !wishes.anew && !wishes.over;
        let wishes = self.wish();
        let mut wishes = match time {
            Some(time) => {
                let waited = self.changed.wait_timeout_while(wishes, time, none);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(wishes, none).unwrap_or_else(PoisonError::into_inner),
        };
        wishes.anew = false;
        !wishes.over
    }
}

/// Rings at running vCPUs whose deadline has come; the next deadline of the others, `None` when nobody runs.
fn ring(shared: &Shared, now: u64) -> Option<u64> {
    let mut next = None;
    for mailbox in shared.mailboxes.iter().filter(|mailbox| mailbox.running()) {
        let mut deadline = mailbox.deadline();
        if deadline <= now {
            // The vCPU tells the next one when it has seen to this.
            mailbox.forget_deadline(deadline);
            mailbox.call();
            deadline = NEVER;
        }
        next = Some(next.unwrap_or(NEVER).min(deadline));
    }
    next
}

/// Rings, and plans until the plan holds.
fn plan(shared: &Shared, clock: &Clock, nap: &Nap) -> Option<u64> {
    loop {
        let now = clock.now();
        let next = ring(shared, now).map(|next| next.min(now + HORIZON));
        nap.plan.store(next.unwrap_or(NEVER), Ordering::SeqCst);
        // Whoever saw the plan of before has its deadline seen here.
        let again = ring(shared, now).map(|next| next.min(now + HORIZON));
        if again.unwrap_or(NEVER) >= next.unwrap_or(NEVER) {
            return next;
        }
    }
}

fn tick(shared: &Weak<Shared>, clock: &Clock, nap: &Nap) {
    loop {
        let Some(now) = shared.upgrade() else { return };
        let next = plan(&now, clock, nap);
        drop(now);
        let time = next.map(|next| Duration::from_nanos(next.saturating_sub(clock.now())));
        if !nap.sleep(time) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Ram;
    use kezhan_device::GuestMemory;
    use vm_memory::GuestAddress;

    fn three() -> Shared {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
        Shared::new(Ram::new(Arc::new(memory)), 3)
    }

    #[test]
    fn running_vcpus_are_rung_at_when_their_timers_are_due() {
        let shared = three();
        for (mailbox, deadline) in shared.mailboxes.iter().zip([1000, 3000, 500]) {
            mailbox.set_deadline(deadline);
        }
        assert_eq!(ring(&shared, 5000), None, "nobody runs");
        shared.mailboxes[0].set_running(true);
        shared.mailboxes[1].set_running(true);
        assert_eq!(ring(&shared, 999), Some(1000));
        assert_eq!(ring(&shared, 1000), Some(3000));
        let rung = shared.mailboxes.iter().map(|mailbox| mailbox.wants_attention());
        assert_eq!(rung.collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(shared.mailboxes[0].deadline(), NEVER, "is told once");
    }

    #[test]
    fn a_plan_is_the_first_deadline_or_the_horizon() {
        let (shared, clock) = (three(), Clock::new(1_000_000));
        clock.pause();
        let now = clock.now();
        assert_eq!(plan(&shared, &clock, &shared.ticker.nap), None);
        shared.mailboxes[1].set_running(true);
        assert_eq!(plan(&shared, &clock, &shared.ticker.nap), Some(now + HORIZON));
        shared.mailboxes[1].set_deadline(now + 7000);
        assert_eq!(plan(&shared, &clock, &shared.ticker.nap), Some(now + 7000));
        assert_eq!(shared.ticker.nap.plan.load(Ordering::SeqCst), now + 7000);
    }

    #[test]
    fn only_a_deadline_long_before_the_plan_wakes_the_thread() {
        let ticker = Ticker::default();
        ticker.nap.plan.store(10 * LATENESS, Ordering::SeqCst);
        ticker.heed(9 * LATENESS);
        ticker.heed(NEVER);
        assert!(!ticker.nap.wish().anew);
        ticker.heed(9 * LATENESS - 1);
        assert!(ticker.nap.wish().anew);
        assert!(ticker.nap.sleep(None), "does not sleep");
    }
}
