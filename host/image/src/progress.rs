//! Progress on standard output, in qemu-img's form, and a limit to the rate.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts bytes done; any thread may count.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    total: u64,
    done: AtomicU64,
    last: Mutex<u64>,
    rate: Option<u64>,
    start: Instant,
}

impl Progress {
    /// Of `total` bytes, at most `rate` a second; printed when `shown`.
    pub fn new(shown: bool, total: u64, rate: Option<u64>) -> Progress {
        let progress = Progress {
            shown,
            total: total.max(1),
            done: AtomicU64::new(0),
            last: Mutex::new(u64::MAX),
            rate: rate.filter(|rate| *rate > 0),
            start: Instant::now(),
        };
        progress.add(0);
        progress
    }

    /// So many bytes more are done. Waits when that is above the rate.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(done as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
        if !self.shown {
            return;
        }
        let hundredths = (done.min(self.total) as u128 * 10_000 / self.total as u128) as u64;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == u64::MAX || hundredths / 100 != *last / 100 {
            *last = hundredths;
            print!("    ({}.{:02}/100%)\r", hundredths / 100, hundredths % 100);
            let _ = std::io::stdout().flush();
        }
    }

    /// All is done.
    pub fn finish(&self) {
        if self.shown {
            println!("    (100.00/100%)");
        }
    }
}
