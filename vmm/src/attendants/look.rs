//! How the thread of a device waits for more, after it was called.
//!
//! To call a thread costs a guest microseconds, and the thread is late when it comes. So it goes on looking by itself
//! for as long as that pays. How depends on what the guest does:
//!
//! ```text
//!   asleep ── bell ─► serve ─┬─ one request at a time ─► spins for a window ── found ─► serve, once more
//!      ▲                     │                              │ not found
//!      ├─────────────────────┼──────────────────────────────┘
//!      └── nothing for LOOKS └─ several in flight ─► looks every SHORT to LONG ── found, no more added ─► serve
//! ```
//! A guest with one request in flight is soonest served by a thread that spins: it finds the request while the guest
//! has not even come to halt. The window is as that of a vCPU that halts: it grows when it pays, goes when it does not,
//! and then there is none for a while, since the host has no core for it.
//!
//! A guest with several in flight loses nothing when it is let say all that it has to say, and gains by fewer
//! interrupts; if it halts, its vCPU serves the first part itself (the board's `attend`), and the rest rings.

use super::EventBell;
use kezhan_board::Attendance;
use std::time::{Duration, Instant};

/// Looks in vain after which a thread sleeps until it is called.
const LOOKS: u32 = 16;
/// Between two looks when the last one found something.
const SHORT: Duration = Duration::from_micros(50);
/// The longest time between two looks.
const LONG: Duration = Duration::from_millis(1);

/// How long a thread spins at most.
const WINDOW: Duration = Duration::from_micros(80);
/// Windows in a row without anything, after which there are none for a while.
const IN_VAIN: u32 = 4;
/// So many calls without a window.
const REST: u32 = 200;
/// Requests that came alone, after which a guest has one in flight.
const ALONE: u32 = 8;

/// What is known of a guest's ways.
#[derive(Debug, Default)]
pub(super) struct Looking {
    /// The guest has several requests in flight.
    several: bool,
    in_vain: u32,
    rest: u32,
}

impl Looking {
    /// Goes on until there is nothing to do, or the bell has rung for the last time.
    pub(super) fn look(&mut self, bell: &EventBell, work: &Attendance) {
        while bell.goes_on() {
            let goes_on =
                if self.several { self.now_and_then(bell, work) } else { self.spin(work) };
            if !goes_on {
                return;
            }
        }
    }

    /// Spins for one request, and serves it; false when none came.
    fn spin(&mut self, work: &Attendance) -> bool {
        if self.rest > 0 {
            self.rest -= 1;
            return false;
        }
        let start = Instant::now();
        while !work.is_called() {
            if start.elapsed() >= WINDOW {
                self.in_vain += 1;
                if self.in_vain >= IN_VAIN {
                    (self.in_vain, self.rest) = (0, REST);
                }
                return false;
            }
            std::hint::spin_loop();
        }
        self.in_vain = 0;
        self.several = work.waiting() > 1;
        if !self.several {
            work.serve();
        }
        true
    }

    /// Looks now and then; false when there was nothing for a while.
    fn now_and_then(&mut self, bell: &EventBell, work: &Attendance) -> bool {
        let (mut in_vain, mut time, mut waiting) = (0, SHORT, 0);
        let mut before = work.served_idly();
        let mut seen = before.all;
        while in_vain < LOOKS && bell.goes_on() {
            let called = bell.wait_for(time);
            let rung = work.is_called();
            let now = if rung && !called { work.waiting() } else { 0 };
            if called || rung && (now <= waiting || enough(now, work)) {
                work.serve();
                (in_vain, time, waiting) = (0, SHORT, 0);
            } else if rung {
                (in_vain, time, waiting) = (0, SHORT, now);
            } else {
                let after = work.served_idly();
                in_vain = if after.all == seen { in_vain + 1 } else { 0 };
                (time, seen) = ((2 * time).min(LONG), after.all);
                if after.several != before.several {
                    before = after;
                } else if after.all.wrapping_sub(before.all) >= ALONE {
                    self.several = false;
                    return true;
                }
            }
        }
        self.several = false;
        false
    }
}

/// Whether there is enough to do.
fn enough(waiting: u32, work: &Attendance) -> bool {
    waiting.saturating_mul(work.weight()) >= Gathering::ENOUGH
}

/// Lets a guest that has more to say say it, before it is answered.
///
/// A guest with many requests in flight hands them over one by one; each costs it a notification, and an interrupt
/// when it is answered, if we are quick. Both cost a guest more than the request costs us. So we wait for as
/// long as it goes on adding. A guest with one request in flight would only lose by that: when nothing was added
/// we answer the next ones at once, and try it ever more seldom.
#[derive(Debug, Default)]
pub(super) struct Gathering {
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
    /// With so many requests, as they weigh, there is enough to do.
    const ENOUGH: u32 = 16;
    /// Rings after a failure at most.
    const PATIENCE: u32 = 256;

    pub(super) fn gather(&mut self, work: &Attendance) {
        let mut waiting = work.waiting();
        if waiting == 0 {
            return;
        }
        if waiting == 1 && self.at_once > 0 {
            self.at_once -= 1;
            return;
        }
        for _ in 0..Gathering::GLANCES {
            if enough(waiting, work) {
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
