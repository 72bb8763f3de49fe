//! Virtual time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds of virtual time since the machine was made.
pub type Nanoseconds = u64;

/// One second of virtual time.
pub const SECOND: Nanoseconds = 1_000_000_000;

/// The machine's virtual clock: monotonic, at rest while the machine is paused.
pub trait Clock: Send + Sync {
    /// Virtual nanoseconds since the machine was made.
    fn now(&self) -> Nanoseconds;

    /// The wall clock in UTC: seconds and nanoseconds since 1970-01-01. Only the real-time clock asks.
    fn wall(&self) -> (i64, u32);
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
}

impl ManualClock {
    /// Moves virtual time forward.
    pub fn advance(&self, by: Nanoseconds) {
        self.now.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanoseconds {
        self.now.load(Ordering::SeqCst)
    }

    /// 2026-01-01 00:00:00 UTC plus virtual time.
    fn wall(&self) -> (i64, u32) {
        let now = self.now();
        (1_767_225_600 + (now / SECOND) as i64, (now % SECOND) as u32)
    }
}
