//! Rate limits: token buckets for bytes and for operations.
//!
//! A bucket fills at its rate up to its burst. A request takes its tokens at once, also when that leaves the
//! bucket in debt, and waits until the debt is paid: large requests are delayed, never refused.

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// One rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens a second; not 0.
    pub per_second: u64,
    /// Tokens that may be taken at once after a rest.
    pub burst: u64,
}

/// The limits of a disk; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes read and written.
    pub bytes: Option<Rate>,
    /// Reads, writes, discards and zero-writes.
    pub operations: Option<Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: Rate,
    /// Tokens times [`SECOND`]; below zero is debt.
    level: i128,
    last: u64,
}

impl Bucket {
    fn new(rate: Rate, now: u64) -> Bucket {
        let rate = Rate { per_second: rate.per_second.max(1), ..rate };
        Bucket { rate, level: (u128::from(rate.burst) * SECOND) as i128, last: now }
    }

    /// Takes tokens; nanoseconds until they are paid for.
    fn take(&mut self, tokens: u64, now: u64) -> u64 {
        let full = (u128::from(self.rate.burst) * SECOND) as i128;
        let per_second = i128::from(self.rate.per_second);
        let gained = i128::from(now.saturating_sub(self.last)) * per_second;
        self.last = self.last.max(now);
        self.level = (self.level + gained).min(full) - (u128::from(tokens) * SECOND) as i128;
        let debt = (-self.level).max(0);
        u64::try_from((debt + per_second - 1) / per_second).unwrap_or(u64::MAX)
    }
}

/// The buckets of a disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Throttle {
    /// Full buckets at time `now`, in nanoseconds of any monotonic clock.
    pub fn new(limits: Limits, now: u64) -> Throttle {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Throttle { bytes: bucket(limits.bytes), operations: bucket(limits.operations) }
    }

    /// Whether nothing ever waits.
    pub fn is_open(&self) -> bool {
        self.bytes.is_none() && self.operations.is_none()
    }

    /// Takes one operation of so many bytes; how many nanoseconds it has to wait.
    pub fn take(&mut self, bytes: u64, now: u64) -> u64 {
        let take = |bucket: &mut Option<Bucket>, tokens| {
            bucket.as_mut().map_or(0, |bucket| bucket.take(tokens, now))
        };
        take(&mut self.bytes, bytes).max(take(&mut self.operations, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_second: u64, burst: u64) -> Throttle {
        let bytes = Some(Rate { per_second, burst });
        Throttle::new(Limits { bytes, operations: None }, 0)
    }

    #[test]
    fn a_burst_passes_and_what_follows_waits_for_the_rate() {
        let mut throttle = throttle(1000, 500);
        assert_eq!(throttle.take(500, 0), 0);
        assert_eq!(throttle.take(100, 0), 100_000_000);
        assert_eq!(throttle.take(100, 200_000_000), 0);
    }

    #[test]
    fn a_rest_fills_the_bucket_no_higher_than_the_burst() {
        let mut throttle = throttle(1000, 500);
        assert_eq!(throttle.take(1500, 3_600_000_000_000), 1_000_000_000);
    }

    #[test]
    fn the_stricter_of_two_limits_holds() {
        let limits = Limits {
            bytes: Some(Rate { per_second: 1_000_000, burst: 0 }),
            operations: Some(Rate { per_second: 10, burst: 1 }),
        };
        let mut throttle = Throttle::new(limits, 0);
        assert_eq!(throttle.take(1000, 0), 1_000_000);
        assert_eq!(throttle.take(0, 0), 100_000_000);
    }

    #[test]
    fn giant_requests_and_clocks_that_go_back_do_no_harm() {
        let mut throttle = throttle(u64::MAX, u64::MAX);
        throttle.take(u64::MAX, 5);
        throttle.take(u64::MAX, 0);
    }
}
