//! Guest time: nanoseconds that stand still while the partition is paused, and the TSC made of them.
//!
//! All vCPUs count by one TSC, and differ by what the guest has put into their IA32_TSC_ADJUST and nothing else
//! (Intel SDM vol. 3B §17.17.3): states are set one after the other, and would come apart by the time between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The clock of a partition.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    khz: u32,
    /// Time lost in pauses; the top bit says that the clock stands at `frozen`.
    state: AtomicU64,
    frozen: Mutex<Option<u64>>,
    /// What the TSC is ahead of the nanoseconds, in its ticks.
    ahead: AtomicU64,
}

impl Clock {
    /// A clock whose TSC runs at `khz`.
    pub fn new(khz: u32) -> Clock {
        Clock {
            start: Instant::now(),
            khz,
            state: AtomicU64::new(0),
            frozen: Mutex::new(None),
            ahead: AtomicU64::new(0),
        }
    }

    fn host(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Nanoseconds of guest time.
    pub fn now(&self) -> u64 {
        let lost = self.state.load(Ordering::Acquire);
        if lost >> 63 != 0
            && let Some(at) = *self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
        {
            return at;
        }
        self.host().saturating_sub(lost & (u64::MAX >> 1))
    }

    /// Stops.
    pub fn pause(&self) {
        let now = self.now();
        *self.frozen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        self.state.fetch_or(1 << 63, Ordering::AcqRel);
    }

    /// Goes on.
    pub fn resume(&self) {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = frozen.take() {
            self.state.store(self.host().saturating_sub(at), Ordering::Release);
        }
    }

    /// TSC frequency in kHz.
    pub fn khz(&self) -> u32 {
        self.khz
    }

    /// The TSC of a vCPU whose IA32_TSC_ADJUST is 0.
    pub fn tsc(&self, now: u64) -> u64 {
        let ticks = (u128::from(now) * u128::from(self.khz) / 1_000_000) as u64;
        ticks.wrapping_add(self.ahead.load(Ordering::Relaxed))
    }

    /// Makes the TSC show a value now.
    pub fn set_tsc(&self, value: u64) {
        let by = value.wrapping_sub(self.tsc(self.now()));
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }

    /// The nanosecond at which [`Clock::tsc`] is `value`, rounded up; 0 when that is before the start of time.
    pub fn time_of(&self, value: u64) -> u64 {
        let ticks = value.wrapping_sub(self.ahead.load(Ordering::Relaxed));
        if ticks > u64::MAX / 2 {
            return 0;
        }
        (u128::from(ticks) * 1_000_000).div_ceil(u128::from(self.khz)) as u64
    }
}
