//! Datagrams for the guest, no faster than it can use them.
//!
//! ```text
//!   push ──► waits (bounded) ──► pop(now): a burst, and the next when the guest is idle, or after a while
//! ```
//! A burst that is longer than the buffer of the guest's program is lost in the guest, which has paid for each of its
//! datagrams by then, and does nothing else meanwhile: its kernel goes before its programs. So a guest whose CPU is
//! known to be slow is given a burst, and the next one when a CPU of it waits for something to do: by then the
//! program has taken the last one. A guest that has other work, and never waits, is given one after each interval.
//!
//! What finds no room here is not read: it waits in the host's socket, and is lost there where it costs nobody
//! anything.
//!
//! Rejected: a rate (a leaky bucket). What a guest can take depends on the host's other work and on the guest's program
//! by a factor of five, and a little too much is worse than far too little.

use super::frame::Frame;
use std::collections::VecDeque;
use std::time::Duration;

/// What a burst may cost; a datagram costs 1, and 1 more for each [`PAGE`] bytes. The usual buffer of a program
/// (212,992 bytes, of which a datagram takes what its memory does) holds half as much again.
const BURST: u32 = 64;
const PAGE: usize = 2048;

/// Datagrams that may wait, and from how many on no more are read from sockets. The rest are for what comes in other
/// ways.
const WAITING: usize = 1024;
const ENOUGH: usize = 2 * BURST as usize;

/// Those that wait, and when the next may go.
#[derive(Debug, Default)]
pub(super) struct Paced {
    frames: VecDeque<Frame>,
    /// How long a burst lasts a guest that does not wait; zero for no limit.
    interval: Duration,
    /// Begin and rest of the present burst.
    began: Duration,
    left: u32,
}

fn cost(frame: &Frame) -> u32 {
    1 + (frame.length() / PAGE) as u32
}

impl Paced {
    /// Limits a guest that never waits to so many datagrams a second.
    pub(super) fn limit(&mut self, a_second: Option<u32>) {
        let interval = a_second.map(|most| Duration::from_secs(1) * BURST / most.max(1));
        self.interval = interval.unwrap_or_default();
        self.left = BURST;
    }

    /// Whether there was room.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        let room = self.frames.len() < WAITING;
        if room {
            self.frames.push_back(frame);
        }
        room
    }

    /// Whether as many wait as it makes sense to have.
    pub(super) fn has_enough(&self) -> bool {
        self.frames.len() >= ENOUGH
    }

    /// Whether a guest that becomes idle is to have more.
    pub(super) fn waits_for_idle(&self) -> bool {
        self.left == 0 && !self.frames.is_empty()
    }

    /// The guest has nothing to do: another burst.
    pub(super) fn idle(&mut self, now: Duration) {
        (self.began, self.left) = (now, BURST);
    }

    /// The next one, if it may go.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Frame> {
        if self.interval.is_zero() {
            return self.frames.pop_front();
        }
        if now >= self.began + self.interval {
            self.idle(now);
        }
        if self.left == 0 {
            return None;
        }
        let frame = self.frames.pop_front()?;
        self.left = self.left.saturating_sub(cost(&frame));
        Some(frame)
    }

    /// When the next may go; `None` when none waits.
    pub(super) fn next(&self) -> Option<Duration> {
        let soonest = if self.left == 0 { self.began + self.interval } else { Duration::ZERO };
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
    fn a_burst_passes_and_the_next_after_its_interval() {
        let mut paced = full(Some(1000));
        assert_eq!(passing(&mut paced, millisecond(100)), BURST as usize);
        assert_eq!(paced.next(), Some(millisecond(164)));
        assert_eq!(passing(&mut paced, millisecond(163)), 0);
        assert_eq!(passing(&mut paced, millisecond(164)), BURST as usize);
    }

    #[test]
    fn a_guest_that_waits_gets_the_next_at_once() {
        let mut paced = full(Some(1000));
        passing(&mut paced, millisecond(100));
        assert!(paced.waits_for_idle());
        paced.idle(millisecond(101));
        assert!(!paced.waits_for_idle());
        assert_eq!(passing(&mut paced, millisecond(101)), BURST as usize);
        assert_eq!(paced.next(), Some(millisecond(165)));
    }

    #[test]
    fn what_is_not_used_is_not_saved_up() {
        let mut paced = full(Some(1000));
        passing(&mut paced, millisecond(100));
        assert_eq!(passing(&mut paced, millisecond(900)), BURST as usize);
        for at in 901..905 {
            paced.idle(millisecond(at));
        }
        assert_eq!(passing(&mut paced, millisecond(905)), BURST as usize);
    }

    #[test]
    fn long_datagrams_are_fewer() {
        let mut paced = Paced::default();
        paced.limit(Some(1000));
        while paced.push(Frame::plain(vec![0; 65_000])) {}
        assert_eq!(passing(&mut paced, millisecond(100)), 2);
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let mut paced = full(None);
        assert_eq!(passing(&mut paced, Duration::ZERO), WAITING);
        assert_eq!(paced.next(), None);
    }

    #[test]
    fn what_is_read_leaves_room_for_the_rest() {
        let mut paced = Paced::default();
        let read = (0..WAITING).take_while(|_| !paced.has_enough() && paced.push(Frame::default()));
        assert_eq!(read.count(), ENOUGH);
        assert!(paced.push(Frame::default()));
    }
}
