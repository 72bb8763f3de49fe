//! Saved state of the real-time clock.

use super::calendar::TimeBytes;
use super::spec::{BANK, c};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "rtc-mc146818";
/// Its version.
pub const VERSION: u32 = 1;

/// Version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtcState {
    /// The address selected in the standard bank.
    pub index: u8,
    /// The address selected in the extended bank.
    pub extended_index: u8,
    /// The standard bank; the places of the time and of C and D are unused.
    pub ram: Vec<u8>,
    /// The extended bank.
    pub extended: Vec<u8>,
    /// Seconds by which the guest's clock is ahead of the host's UTC.
    pub offset: i64,
    /// The registers of the time while updates are stopped.
    pub held: Option<TimeBytes>,
    /// Flags of register C.
    pub flags: u8,
    /// The second up to which update and alarm were looked at.
    pub seen_second: i64,
    /// The period of the periodic interrupt up to which it was looked at.
    pub seen_period: u64,
}

impl RtcState {
    /// Refuses what the clock cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let banks = [(&self.ram, self.index), (&self.extended, self.extended_index)];
        let odd = banks.iter().any(|(bank, at)| bank.len() != BANK || usize::from(*at) >= BANK);
        if odd || self.flags & !c::FLAGS != 0 {
            return Err(RestoreError::invalid(KIND, "a bank or a flag is out of range"));
        }
        if self.offset.unsigned_abs() > 1 << 40 || self.seen_second.unsigned_abs() > 1 << 40 {
            return Err(RestoreError::invalid(KIND, "its time is tens of thousands of years away"));
        }
        Ok(())
    }
}
