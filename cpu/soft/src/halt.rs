//! How a halted vCPU waits for its next note.
//!
//! Another vCPU often answers within microseconds, less than the host takes to put a thread to sleep and to wake
//! it. So a halted vCPU looks for notes a while before it sleeps, as long as that has paid:
//!
//! ```text
//!   halted ──► looks for `window` ──► note: goes on
//!                    │ none
//!                    ▼
//!                 sleeps ──► woken before LONGEST: the window doubles, from FIRST up to LONGEST
//!                        └─► later: a quarter of it is left, or none
//! ```
//!
//! It looks only while the host has a core for it: fewer other vCPUs run than there are cores. The window of a guest
//! that does nothing is soon none. Linux does the same for KVM's vCPUs (halt_poll_ns).

use crate::mailbox::Mailbox;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The first window.
const FIRST: Duration = Duration::from_micros(10);
/// The longest window.
const LONGEST: Duration = Duration::from_micros(60);

/// The wait of one vCPU.
#[derive(Debug, Default)]
pub struct Halt {
    window: Duration,
}

/// Cores of the host that this process may use.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl Halt {
    /// Waits until a note arrives or the time is over. `running` is the number of other vCPUs in guest code. True
    /// when the host was not asked to put the thread to sleep.
    pub fn wait(&mut self, mailbox: &Mailbox, at_most: Option<Duration>, running: usize) -> bool {
        let start = Instant::now();
        let window = if running < cores() { self.window } else { Duration::ZERO };
        if !window.is_zero() && look(mailbox, start, at_most.unwrap_or(window).min(window)) {
            return true;
        }
        let left = at_most.map(|time| time.saturating_sub(start.elapsed()));
        mailbox.sleep(left);
        self.learn(start.elapsed());
        false
    }

    fn learn(&mut self, waited: Duration) {
        self.window = if waited > LONGEST {
            if self.window > FIRST { self.window / 4 } else { Duration::ZERO }
        } else {
            (self.window * 2).clamp(FIRST, LONGEST)
        };
    }
}

/// Looks for a note; whether there is one.
fn look(mailbox: &Mailbox, start: Instant, window: Duration) -> bool {
    while !mailbox.wants_attention() {
        if start.elapsed() >= window {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_short_waits_and_goes_with_long_ones() {
        let mut halt = Halt::default();
        for _ in 0..8 {
            halt.learn(Duration::from_micros(20));
        }
        assert_eq!(halt.window, LONGEST);
        for _ in 0..8 {
            halt.learn(Duration::from_millis(4));
        }
        assert_eq!(halt.window, Duration::ZERO);
    }

    #[test]
    fn a_note_that_is_there_needs_no_sleep() {
        let mailbox = Mailbox::default();
        let mut halt = Halt { window: LONGEST };
        mailbox.post(|notes| notes.nmis = 1);
        assert!(halt.wait(&mailbox, None, 0));
    }

    #[test]
    fn the_time_ends_the_wait() {
        let mut halt = Halt { window: LONGEST };
        assert!(!halt.wait(&Mailbox::default(), Some(Duration::from_micros(5)), 0));
    }
}
