//! A limit of bytes a second: credit that grows with time and is spent by frames.
//!
//! A frame is let through while there is any credit, and may overdraw it: large segments pass whole, and the
//! debt is waited for. What waits stays where it is, so that nothing is lost for a limit's sake.

use std::time::Duration;

/// How much may be saved up: this much time's worth, and two large segments at least.
const SAVED: Duration = Duration::from_millis(50);
const LEAST: u64 = 128 * 1024;

/// One direction's limit.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    credit: i64,
    at: Duration,
}

impl Pace {
    /// So many bytes a second; `None` for no limit, and 0 is taken as 1.
    pub(super) fn new(rate: Option<u64>) -> Pace {
        Pace { rate: rate.map(|rate| rate.clamp(1, 1 << 40)), credit: 0, at: Duration::ZERO }
    }

    /// Whether a frame may pass now.
    pub(super) fn may(&mut self, now: Duration) -> bool {
        let Some(rate) = self.rate else { return true };
        let gained = u128::from(rate) * now.saturating_sub(self.at).as_micros() / 1_000_000;
        let most = i64::try_from((rate * SAVED.as_millis() as u64 / 1000).max(LEAST));
        if gained > 0 {
            self.at = now;
            let gained = i64::try_from(gained).unwrap_or(i64::MAX);
            self.credit = self.credit.saturating_add(gained).min(most.unwrap_or(i64::MAX));
        }
        self.credit > 0
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.credit = self.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// When the next frame may pass.
    pub(super) fn next(&self) -> Duration {
        let owed = u128::from(self.credit.min(0).unsigned_abs()) + 1;
        let wait = self.rate.map_or(0, |rate| owed * 1_000_000 / u128::from(rate) + 1);
        self.at + Duration::from_micros(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_passes_what_it_may_and_no_more() {
        for (rate, frame) in [(1_000_000, 1500), (100_000, 65_536), (10_000_000, 9000)] {
            let mut pace = Pace::new(Some(rate));
            let (mut now, mut passed) = (Duration::from_secs(5), 0);
            let end = now + Duration::from_secs(10);
            while now < end {
                while pace.may(now) {
                    pace.spend(frame);
                    passed += frame as u64;
                }
                assert!(pace.next() > now);
                now = pace.next();
            }
            let expected = rate * 10;
            assert!(
                passed >= expected - 70_000 && passed <= expected + LEAST.max(rate / 20) + 70_000,
                "{rate}: {passed}"
            );
        }
        assert!(Pace::new(None).may(Duration::ZERO));
    }
}
