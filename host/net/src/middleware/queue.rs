//! One direction of a line that takes time: frames that come out when they have travelled.
//!
//! ```text
//!   push(now) ── waits for those before it (rate) ── travels (delay) ──► pop(now)
//! ```
//! Pure: the time comes in as a parameter.

use kezhan_ports::nic::Packet;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes that may be on the line; one more frame than fits is taken.
const BYTES: usize = 4 << 20;
/// Frames that may be on the line.
const FRAMES: usize = 4096;

/// How a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineRates {
    /// How long a frame travels.
    pub delay: Duration,
    /// How many bits enter in a second; as many as come when `None`.
    pub rate: Option<u64>,
}

/// A frame on the line.
#[derive(Debug)]
pub(super) struct Travelling {
    pub(super) due: Duration,
    pub(super) frame: Vec<u8>,
    pub(super) packet: Packet,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Queue {
    rates: LineRates,
    frames: VecDeque<Travelling>,
    bytes: usize,
    /// When the last frame has entered.
    entered: Duration,
}

impl Queue {
    pub(super) fn new(rates: LineRates) -> Queue {
        Queue { rates, frames: VecDeque::new(), bytes: 0, entered: Duration::ZERO }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < BYTES && self.frames.len() < FRAMES
    }

    /// Sends a frame on its way, whether there is room or not.
    pub(super) fn push(&mut self, now: Duration, frame: Vec<u8>, packet: Packet) {
        self.entered = self.entered.max(now) + self.time_of(frame.len());
        self.bytes += frame.len();
        self.frames.push_back(Travelling { due: self.entered + self.rates.delay, frame, packet });
    }

    fn time_of(&self, length: usize) -> Duration {
        let Some(rate) = self.rates.rate else { return Duration::ZERO };
        let nanoseconds = length as u128 * 8 * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The next frame that has arrived.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Travelling> {
        let frame = self.frames.pop_front_if(|first| first.due <= now)?;
        self.bytes -= frame.frame.len();
        Some(frame)
    }

    /// Puts back what [`Queue::pop`] gave.
    pub(super) fn put_back(&mut self, frame: Travelling) {
        self.bytes += frame.frame.len();
        self.frames.push_front(frame);
    }

    /// Whether a frame has arrived.
    pub(super) fn has_arrived(&self, now: Duration) -> bool {
        self.frames.front().is_some_and(|first| first.due <= now)
    }

    /// When the next frame arrives that has not arrived yet.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        // Frames arrive in order.
        let place = self.frames.partition_point(|frame| frame.due <= now);
        self.frames.get(place).map(|frame| frame.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_frame_arrives_when_it_has_entered_and_travelled() {
        // 1000 bytes enter in 8 ms.
        let rates = LineRates { delay: milliseconds(20), rate: Some(1_000_000) };
        let mut queue = Queue::new(rates);
        for _ in 0..3 {
            queue.push(milliseconds(100), vec![0; 1000], Packet::default());
        }
        assert_eq!(queue.next_due(milliseconds(100)), Some(milliseconds(128)));
        assert!(!queue.has_arrived(milliseconds(127)));
        assert!(queue.pop(milliseconds(128)).is_some());
        assert!(queue.pop(milliseconds(128)).is_none());
        assert_eq!(queue.next_due(milliseconds(140)), Some(milliseconds(144)));
        assert_eq!(queue.next_due(milliseconds(144)), None, "all have arrived");
    }

    #[test]
    fn a_line_that_was_idle_owes_nothing() {
        let mut queue = Queue::new(LineRates { rate: Some(8000), ..LineRates::default() });
        queue.push(milliseconds(0), vec![0; 1], Packet::default());
        queue.push(milliseconds(500), vec![0; 1], Packet::default());
        assert!(queue.pop(milliseconds(1)).is_some());
        assert!(queue.pop(milliseconds(501)).is_some());
    }

    #[test]
    fn a_line_holds_only_so_much() {
        let mut queue = Queue::new(LineRates::default());
        let mut taken = 0;
        while queue.has_room() {
            queue.push(Duration::ZERO, vec![0; 65_000], Packet::default());
            taken += 1;
        }
        assert_eq!(taken, BYTES.div_ceil(65_000));
        let first = queue.pop(Duration::ZERO).unwrap();
        assert!(queue.has_room());
        queue.put_back(first);
        assert!(!queue.has_room());
    }
}
