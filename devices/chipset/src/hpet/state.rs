//! Saved state of the HPET.

use super::spec::{TIMERS, configuration, timer};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "hpet";
/// Its version.
pub const VERSION: u32 = 1;

/// Version 1: one timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimerState {
    /// The writable bits of its configuration.
    pub configuration: u64,
    /// The comparator.
    pub comparator: u64,
    /// What is added to the comparator in periodic mode.
    pub period: u64,
    /// FSB route: data below, address above.
    pub fsb: u64,
    /// When the comparator matches next, in virtual nanoseconds.
    pub due: Option<u64>,
}

/// Version 1: the block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HpetState {
    /// General configuration.
    pub configuration: u64,
    /// General interrupt status.
    pub status: u64,
    /// The counter when it last stopped or was set.
    pub base: u64,
    /// Virtual nanoseconds since when it has run from there.
    pub since: Option<u64>,
    /// The timers.
    pub timers: [TimerState; TIMERS],
}

impl Default for TimerState {
    /// Power-on: comparators are all-ones (HPET 1.0a §2.3.9).
    fn default() -> TimerState {
        TimerState { configuration: 0, comparator: u64::MAX, period: 0, fsb: 0, due: None }
    }
}

impl HpetState {
    /// Refuses what the block cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let foreign = self.configuration & !configuration::ALL
            | self.status >> TIMERS
            | self.timers.iter().fold(0, |bits, t| bits | t.configuration & !timer::WRITABLE);
        let runs = self.configuration & configuration::ENABLE != 0;
        if foreign != 0 || runs != self.since.is_some() {
            return Err(RestoreError::invalid(KIND, "a register has bits that do not fit"));
        }
        Ok(())
    }
}
