//! How long to wait for an acknowledgement (RFC 6298).

use std::time::Duration;

/// Before anything was measured (RFC 6298 §2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// The shortest and the longest wait. The RFC recommends a second (§2.4), which is far from what a link
/// without cable needs; guests wait up to 200 ms themselves before they acknowledge.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// The estimate, and the segment that is being timed.
#[derive(Debug)]
pub(super) struct Rtt {
    smooth: Option<Duration>,
    variation: Duration,
    backoff: u32,
}

impl Rtt {
    pub(super) fn new() -> Rtt {
        Rtt { smooth: None, variation: Duration::ZERO, backoff: 0 }
    }

    /// RFC 6298 §2.2 and §2.3.
    pub(super) fn measured(&mut self, sample: Duration) {
        match self.smooth {
            None => {
                self.smooth = Some(sample);
                self.variation = sample / 2;
            }
            Some(smooth) => {
                self.variation = (self.variation * 3 + smooth.abs_diff(sample)) / 4;
                self.smooth = Some((smooth * 7 + sample) / 8);
            }
        }
        self.backoff = 0;
    }

    /// RFC 6298 §5.5.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(12);
    }

    pub(super) fn forgive(&mut self) {
        self.backoff = 0;
    }

    /// The time to wait now.
    pub(super) fn timeout(&self) -> Duration {
        let plain = self.smooth.map_or(INITIAL, |smooth| smooth + self.variation * 4);
        let factor = 1 << self.backoff;
        plain.max(SHORTEST).saturating_mul(factor).min(LONGEST)
    }
}
