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
//! It looks only while the host has a core for it: fewer other vCPUs run than there are cores. Where other programs
//! have the cores nevertheless, looks are in vain: after [`IN_VAIN`] of them in a row it sleeps [`REST`] times at
//! once. The window of a guest that does nothing is soon none. Linux does much the same for KVM's vCPUs
//! (halt_poll_ns).

use crate::mailbox::Mailbox;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The first window.
const FIRST: Duration = Duration::from_micros(10);
/// The longest window.
const LONGEST: Duration = Duration::from_micros(60);

/// Looks in a row without a note, after which there are none for a while.
const IN_VAIN: u32 = 6;
/// Halts without a look.
const REST: u32 = 100;

/// The wait of one vCPU.
#[derive(Debug, Default)]
pub struct Halt {
    window: Duration,
    in_vain: u32,
    rest: u32,
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
        let window = self.window_now(running);
        if !window.is_zero() {
            if look(mailbox, start, at_most.unwrap_or(window).min(window)) {
                self.in_vain = 0;
                return true;
            }
            self.in_vain += 1;
        }
        let left = at_most.map(|time| time.saturating_sub(start.elapsed()));
        mailbox.sleep(left);
        self.learn(start.elapsed());
        false
    }

    fn window_now(&mut self, running: usize) -> Duration {
        if self.in_vain >= IN_VAIN {
            (self.in_vain, self.rest) = (0, REST);
        }
        if self.rest != 0 {
            self.rest -= 1;
            return Duration::ZERO;
        }
        if running < cores() { self.window } else { Duration::ZERO }
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
        let mut halt = Halt { window: LONGEST, ..Halt::default() };
        mailbox.post(|notes| notes.nmis = 1);
        assert!(halt.wait(&mailbox, None, 0));
    }

    #[test]
    fn the_time_ends_the_wait() {
        let mut halt = Halt { window: LONGEST, ..Halt::default() };
        assert!(!halt.wait(&Mailbox::default(), Some(Duration::from_micros(5)), 0));
    }

    #[test]
    fn looks_in_vain_end_for_a_while() {
        let mut halt = Halt { window: LONGEST, in_vain: IN_VAIN - 1, rest: 0 };
        assert_eq!(halt.window_now(0), LONGEST);
        halt.in_vain += 1;
        let windows: Vec<Duration> = (0..=REST).map(|_| halt.window_now(0)).collect();
        assert!(windows[..REST as usize].iter().all(Duration::is_zero));
        assert_eq!(windows[REST as usize], LONGEST);
    }
}
