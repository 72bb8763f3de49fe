//! One counter of the 8254: where it stands is computed from the tick, never counted.
//!
//! ```text
//!   load ── next clock ──► counting: elapsed = counted + (tick − since)
//!                             │ gate low (modes 0, 2, 3, 4)      since = None, at rest
//!                             │ gate rises: go on (0, 4), start anew (1, 2, 3, 5)
//!   OUT, count = functions of mode, count and elapsed (8254, "Mode Definitions")
//! ```

use super::spec::{control, status};
use super::state::{Bytes, CounterState, Pending};

impl CounterState {
    /// A counter at power-on with its gate at `gate`.
    pub(super) fn with_gate(gate: bool) -> CounterState {
        CounterState { gate, ..CounterState::default() }
    }

    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    fn is_triggered(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    fn count(&self) -> u64 {
        self.count.unwrap_or(1).max(1).into()
    }

    /// Ticks counted at `tick`.
    pub(super) fn elapsed(&self, tick: u64) -> u64 {
        let running = self.since.map_or(0, |since| tick.saturating_sub(since));
        self.counted.saturating_add(running)
    }

    /// The period in ticks, while it runs periodically.
    pub(super) fn period(&self) -> Option<u64> {
        (self.is_periodic() && self.since.is_some()).then(|| self.count())
    }

    /// Takes a waiting count whose moment has passed; true when it did.
    pub(super) fn settle(&mut self, tick: u64) -> bool {
        let (Some(pending), Some(since)) = (self.pending, self.since) else { return false };
        if self.elapsed(tick) < pending.at {
            return false;
        }
        self.since = Some(since.saturating_add(pending.at.saturating_sub(self.counted)));
        (self.counted, self.count, self.pending) = (0, Some(pending.count), None);
        true
    }

    /// A control word for this counter that is no command (8254, "Programming the 8254").
    pub(super) fn control(&mut self, word: u8) {
        let mode = word >> control::MODE_SHIFT & 7;
        *self = CounterState {
            // Modes 6 and 7 are 2 and 3: the top bit is not decoded for them.
            mode: if mode > 5 { mode - 4 } else { mode },
            bcd: word & control::BCD != 0,
            bytes: match word >> control::ACCESS_SHIFT & 3 {
                1 => Bytes::Low,
                2 => Bytes::High,
                _ => Bytes::Both,
            },
            gate: self.gate,
            ..CounterState::default()
        };
    }

    /// A byte of a count; true when the count is complete.
    pub(super) fn write(&mut self, value: u8, tick: u64) -> bool {
        let count = match (self.bytes, self.first_byte.take()) {
            (Bytes::Low, _) => u16::from(value),
            (Bytes::High, _) => u16::from(value) << 8,
            (Bytes::Both, Some(low)) => u16::from_le_bytes([low, value]),
            (Bytes::Both, None) => {
                self.first_byte = Some(value);
                if self.mode == 0 {
                    // The first byte stops the count and lowers OUT (8254, mode 0).
                    (self.count, self.since, self.counted) = (None, None, 0);
                }
                return false;
            }
        };
        self.load(self.decode(count), tick);
        true
    }

    fn load(&mut self, count: u32, tick: u64) {
        match self.count {
            Some(_) if self.is_triggered() => {
                self.pending = Some(Pending { count, at: u64::MAX });
            }
            Some(_) if self.since.is_some() && self.is_periodic() => {
                let periods = self.elapsed(tick) / self.count() + 1;
                self.pending = Some(Pending { count, at: periods.saturating_mul(self.count()) });
            }
            _ => {
                self.count = Some(count);
                self.counted = 0;
                let starts = self.gate && !self.is_triggered();
                self.since = starts.then(|| tick.saturating_add(1));
            }
        }
    }

    /// The gate is now at `high`.
    pub(super) fn set_gate(&mut self, high: bool, tick: u64) {
        let rises = high && !self.gate;
        let falls = self.gate && !high;
        self.gate = high;
        if self.count.is_none() || !(rises || falls) {
            return;
        }
        match self.mode {
            0 | 4 if falls => (self.counted, self.since) = (self.elapsed(tick), None),
            0 | 4 => self.since = Some(tick),
            2 | 3 if falls => (self.counted, self.since) = (0, None),
            _ if rises => {
                if let Some(pending) = self.pending.take() {
                    self.count = Some(pending.count);
                }
                (self.counted, self.since) = (0, Some(tick.saturating_add(1)));
            }
            _ => {}
        }
    }

    /// The OUT pin (8254, "Mode Definitions").
    pub(super) fn out(&self, tick: u64) -> bool {
        let (count, elapsed) = (self.count(), self.elapsed(tick));
        let at_rest = self.since.is_none();
        match self.mode {
            0 => self.count.is_some() && elapsed >= count,
            1 => at_rest || elapsed >= count,
            2 => at_rest || elapsed % count != count - 1,
            3 => at_rest || elapsed % count < count.div_ceil(2),
            _ => at_rest || elapsed != count,
        }
    }

    /// How often OUT has risen since the count was loaded.
    pub(super) fn rises(&self, tick: u64) -> u64 {
        let (count, elapsed) = (self.count(), self.elapsed(tick));
        match self.mode {
            _ if self.since.is_none() => 0,
            2 | 3 => elapsed / count,
            4 | 5 => (elapsed > count).into(),
            _ => (elapsed >= count).into(),
        }
    }

    /// The tick at which OUT rises for the `number`th time, if it does.
    pub(super) fn tick_of_rise(&self, number: u64) -> Option<u64> {
        let since = self.since?;
        let elapsed = match self.mode {
            2 | 3 => self.count().saturating_mul(number),
            _ if number > 1 => return None,
            4 | 5 => self.count() + 1,
            _ => self.count(),
        };
        Some(since.saturating_add(elapsed.saturating_sub(self.counted)))
    }

    /// The counting element as it would be read, in binary or decimal.
    fn reading(&self, tick: u64) -> u16 {
        let (count, elapsed) = (self.count(), self.elapsed(tick));
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                // It counts by two through each half (8254, mode 3).
                let (phase, half) = (elapsed % count, count.div_ceil(2));
                let within = if phase < half { phase } else { phase - half };
                (count & !1).saturating_sub(2 * within)
            }
            _ => {
                // One-shot modes count on through zero.
                let turn = if self.bcd { 10_000 } else { 65_536 };
                (count % turn + turn - elapsed % turn) % turn
            }
        };
        self.encode(value)
    }

    fn decode(&self, raw: u16) -> u32 {
        let digits = [12, 8, 4, 0].map(|shift| u32::from(raw >> shift & 0xf));
        match raw {
            0 if self.bcd => 10_000,
            0 => 65_536,
            _ if self.bcd => digits.iter().fold(0, |value, digit| value * 10 + digit),
            _ => raw.into(),
        }
    }

    fn encode(&self, value: u64) -> u16 {
        if !self.bcd {
            return value as u16;
        }
        let digits = [1000, 100, 10, 1].map(|unit| (value / unit % 10) as u16);
        digits.iter().fold(0, |raw, digit| raw << 4 | digit)
    }

    /// The counter latch command: a latch that is not yet read stays.
    pub(super) fn latch_count(&mut self, tick: u64) {
        if self.latched.is_none() {
            self.latched = Some(self.reading(tick));
        }
    }

    /// The read-back command's latch of the status.
    pub(super) fn latch_status(&mut self, tick: u64) {
        if self.latched_status.is_some() {
            return;
        }
        let bytes = match self.bytes {
            Bytes::Low => 1,
            Bytes::High => 2,
            Bytes::Both => 3,
        };
        let mut value = bytes << control::ACCESS_SHIFT | self.mode << control::MODE_SHIFT;
        value |= u8::from(self.bcd);
        if self.out(tick) {
            value |= status::OUT;
        }
        if self.count.is_none() || self.pending.is_some() {
            value |= status::NULL_COUNT;
        }
        self.latched_status = Some(value);
    }

    /// A read: the status if latched, else the count, latched or live.
    pub(super) fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched.unwrap_or_else(|| self.reading(tick)).to_le_bytes();
        let second = match self.bytes {
            Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => self.second_read,
        };
        if self.bytes == Bytes::Both && !second {
            self.second_read = true;
            return low;
        }
        self.second_read = false;
        self.latched = None;
        if second { high } else { low }
    }
}
