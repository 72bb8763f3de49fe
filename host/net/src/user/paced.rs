//! Datagrams for the guest, no faster than it can use them.
//!
//! ```text
//!   push ──► waits (bounded) ──► pop(now): a few at once, then one for each interval
//! ```
//! A burst that is longer than the buffer of the guest's program is lost in the guest, which has paid for each of its
//! datagrams by then, and is idle afterwards. So a guest whose CPU is known to be slow is given them evenly. What
//! waits too long is lost here, where it costs little. The clock is that of a leaky bucket (ITU-T I.371 annex A): the
//! time at which the next datagram is due, which may lie a burst ahead of now.

use super::frame::Frame;
use std::collections::VecDeque;
use std::time::Duration;

/// Datagrams that may follow each other at once.
const BURST: u32 = 32;

/// Datagrams that may wait.
const WAITING: usize = 1024;

/// Those that wait, and when the next may go.
#[derive(Debug, Default)]
pub(super) struct Paced {
    frames: VecDeque<Frame>,
    /// Zero for no limit.
    interval: Duration,
    due: Duration,
}

impl Paced {
    /// Sets the limit.
    pub(super) fn limit(&mut self, a_second: Option<u32>) {
        let interval = a_second.map(|most| Duration::from_secs(1) / most.max(1));
        self.interval = interval.unwrap_or_default();
    }

    /// Whether there was room.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        let room = self.frames.len() < WAITING;
        if room {
            self.frames.push_back(frame);
        }
        room
    }

    /// The next one, if it may go.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Frame> {
        if self.due > now + self.interval * BURST {
            return None;
        }
        let frame = self.frames.pop_front()?;
        self.due = self.due.max(now) + self.interval;
        Some(frame)
    }

    /// When the next may go; `None` when none waits.
    pub(super) fn next(&self) -> Option<Duration> {
        let soonest = self.due.saturating_sub(self.interval * BURST);
        (!self.frames.is_empty()).then_some(soonest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millisecond(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    fn full(a_second: Option<u32>) -> Paced {
        let mut paced = Paced::default();
        paced.limit(a_second);
        while paced.push(Frame::default()) {}
        paced
    }

    fn passing(paced: &mut Paced, now: Duration) -> usize {
        std::iter::from_fn(|| paced.pop(now)).count()
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_evenly() {
        let mut paced = full(Some(1000));
        assert_eq!(passing(&mut paced, millisecond(50)), BURST as usize + 1);
        assert_eq!(paced.next(), Some(millisecond(51)));
        assert_eq!(passing(&mut paced, millisecond(51)), 1);
        assert_eq!(passing(&mut paced, millisecond(61)), 10);
    }

    #[test]
    fn what_is_not_used_is_not_saved_up() {
        let mut paced = full(Some(1000));
        passing(&mut paced, millisecond(0));
        assert_eq!(passing(&mut paced, millisecond(900)), BURST as usize + 1);
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let mut paced = full(None);
        assert_eq!(passing(&mut paced, Duration::ZERO), WAITING);
        assert_eq!(paced.next(), None);
    }
}
