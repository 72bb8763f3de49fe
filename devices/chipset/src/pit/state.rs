//! Saved state of the PIT.

use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "pit-8254";
/// Its version.
pub const VERSION: u32 = 1;

/// Which bytes of a count an access carries (8254, figure 7, RW1 and RW0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bytes {
    /// The least significant only.
    Low,
    /// The most significant only.
    High,
    /// The least significant first, then the most significant.
    #[default]
    Both,
}

/// A count that waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The count.
    pub count: u32,
    /// When it is taken, in ticks counted; `u64::MAX` is at the next trigger.
    pub at: u64,
}

/// Version 1: one counter. Ticks are those of the PIT's clock since the machine was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterState {
    /// Mode, 0 to 5.
    pub mode: u8,
    /// Counts in decimal.
    pub bcd: bool,
    /// Which bytes an access carries.
    pub bytes: Bytes,
    /// The count, once one was written; 1 to 65 536.
    pub count: Option<u32>,
    /// A new count that waits.
    pub pending: Option<Pending>,
    /// The first byte of a count of two.
    pub first_byte: Option<u8>,
    /// The next byte read is the second of two.
    pub second_read: bool,
    /// The count latched.
    pub latched: Option<u16>,
    /// The status latched.
    pub latched_status: Option<u8>,
    /// The gate.
    pub gate: bool,
    /// The tick since which it counts, unless it rests.
    pub since: Option<u64>,
    /// Ticks counted before that.
    pub counted: u64,
}

/// Version 1: the chip and port 0x61.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PitState {
    /// The counters.
    pub counters: [CounterState; 3],
    /// The bits of port 0x61 that a guest writes.
    pub speaker: u8,
    /// Interrupts of counter 0 given since its count was loaded.
    pub ticked: u64,
    /// When the next is due, in virtual nanoseconds.
    pub next: Option<u64>,
    /// The level of the interrupt line.
    pub line: bool,
}

impl PitState {
    /// Refuses what the chip cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let in_range = |count: u32| (1..=65_536).contains(&count);
        for counter in &self.counters {
            let counts = counter.count.into_iter().chain(counter.pending.map(|p| p.count));
            if counter.mode > 5 || !counts.into_iter().all(in_range) {
                return Err(RestoreError::invalid(KIND, "a mode or a count is out of range"));
            }
        }
        Ok(())
    }
}
