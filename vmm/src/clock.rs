//! The machine's clock: the host's, less the time that the machine was not running.
//!
//! Monotonic time comes from CLOCK_MONOTONIC (`Instant`), so that neither a set host clock nor a leap
//! second moves it; it does not count while the host sleeps, so a guest does not see a jump. The wall
//! clock is CLOCK_REALTIME: a guest that was paused wakes up to the right date.

use kezhan_device::{Clock, Nanoseconds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Value of `frozen` while the clock runs.
const RUNNING: u64 = u64::MAX;

/// Virtual time that follows the host's while the machine runs. Made at rest, at zero.
///
/// Many read it; only the state driver stops and starts it, while no vCPU runs.
#[derive(Debug)]
pub struct VirtualClock {
    origin: Instant,
    /// Host time since `origin` minus virtual time, while running.
    behind: AtomicU64,
    /// Virtual time while at rest.
    frozen: AtomicU64,
}

impl VirtualClock {
    /// A clock at rest, at zero.
    pub fn new() -> VirtualClock {
        VirtualClock {
            origin: Instant::now(),
            behind: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
        }
    }

    fn host(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(RUNNING - 1)
    }

    /// Lets time run on from where it stands.
    pub fn start(&self) {
        let frozen = self.frozen.load(Ordering::SeqCst);
        if frozen != RUNNING {
            self.behind.store(self.host().wrapping_sub(frozen), Ordering::SeqCst);
            self.frozen.store(RUNNING, Ordering::SeqCst);
        }
    }

    /// Stops time.
    pub fn stop(&self) {
        self.frozen.store(self.now(), Ordering::SeqCst);
    }

    /// Sets a clock at rest to `now`.
    pub fn set(&self, now: Nanoseconds) {
        self.frozen.store(now.min(RUNNING - 1), Ordering::SeqCst);
    }
}

impl Default for VirtualClock {
    fn default() -> VirtualClock {
        VirtualClock::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Nanoseconds {
        match self.frozen.load(Ordering::SeqCst) {
            RUNNING => self.host().wrapping_sub(self.behind.load(Ordering::SeqCst)),
            frozen => frozen,
        }
    }

    fn wall(&self) -> (i64, u32) {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
            // A host clock before 1970 is one that was never set.
            Err(_) => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_clock_stands_at_zero_until_it_is_started() {
        let clock = VirtualClock::new();
        assert_eq!(clock.now(), 0);
        clock.start();
        let first = clock.now();
        while clock.now() == first {}
        assert!(clock.now() > first);
    }

    #[test]
    fn time_stands_still_while_stopped_and_goes_on_from_there() {
        let clock = VirtualClock::new();
        clock.start();
        while clock.now() < 1000 {}
        clock.stop();
        let stopped = clock.now();
        let host = Instant::now();
        while host.elapsed().as_micros() < 2000 {}
        assert_eq!(clock.now(), stopped);
        clock.start();
        assert!(clock.now() < stopped + 1_000_000_000, "the pause is not made up for");
    }

    #[test]
    fn a_restored_clock_goes_on_from_the_saved_time_even_beyond_the_hosts() {
        let clock = VirtualClock::new();
        clock.set(1 << 60);
        clock.start();
        assert!(clock.now() >= 1 << 60);
        clock.stop();
        clock.set(5);
        clock.start();
        assert!(clock.now() < 10_000_000_000);
    }

    #[test]
    fn the_wall_clock_is_this_centurys() {
        assert!(VirtualClock::new().wall().0 > 1_700_000_000);
    }
}
