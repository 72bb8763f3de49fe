//! Saved state of the UART.

use crate::spec::{FIFO_DEPTH, fcr, ier, mcr};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};

/// Kind of the saved state.
pub const KIND: &str = "serial-16550";
/// Its version.
pub const VERSION: u32 = 1;

/// Version 1: the registers as the guest could read them, and both FIFOs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UartState {
    /// Interrupt enable.
    pub ier: u8,
    /// FIFO control, the bits that stay.
    pub fcr: u8,
    /// Line control.
    pub lcr: u8,
    /// Modem control.
    pub mcr: u8,
    /// Modem status: deltas not yet read.
    pub msr_delta: u8,
    /// Scratch.
    pub scr: u8,
    /// Divisor latch.
    pub divisor: u16,
    /// An overrun not yet read.
    pub overrun: bool,
    /// The "transmitter empty" interrupt is pending.
    pub transmit_interrupt: bool,
    /// Characters received and not yet read.
    pub receive: Vec<u8>,
    /// Characters written and not yet taken by the port.
    pub transmit: Vec<u8>,
}

impl UartState {
    /// Refuses what a UART cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let reason = if self.receive.len() > FIFO_DEPTH || self.transmit.len() > FIFO_DEPTH {
            "a FIFO holds more than 16 characters"
        } else if self.ier & !ier::ALL != 0
            || self.mcr & !mcr::ALL != 0
            || self.fcr & !fcr::KEPT != 0
        {
            "a register has bits that do not exist"
        } else {
            return Ok(());
        };
        Err(RestoreError::invalid(KIND, reason))
    }
}
