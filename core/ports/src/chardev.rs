//! Character devices: two byte streams, one each way.
//!
//! # Life
//! 1. `vmm/` makes the back-end and hands it to the device's constructor.
//! 2. The chassis calls [`CharDevice::set_waker`] once; from then on the back-end wakes it when bytes
//!    can be read, or when writing becomes possible again after a short write.
//! 3. The chassis answers a wake by calling the device's `poll`, which reads what it has room for.
//! 4. At the end of the input [`CharDevice::read`] goes on giving 0 and no wake follows.

use std::sync::Arc;

/// A byte stream pair. See the module for the contract.
pub trait CharDevice: Send {
    /// Takes up to `data.len()` bytes that came in; 0 when there are none now.
    fn read(&mut self, data: &mut [u8]) -> usize;

    /// Accepts up to `data.len()` bytes to go out; fewer when the receiver is slow. A receiver that has
    /// gone away accepts everything (and the back-end tells the machine by its own means).
    fn write(&mut self, data: &[u8]) -> usize;

    /// Whom to wake; called once, before the machine runs.
    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>);
}

/// A character device with nothing behind it: no input, output accepted and dropped.
#[derive(Debug, Default)]
pub struct NullCharDevice;

impl CharDevice for NullCharDevice {
    fn read(&mut self, _data: &mut [u8]) -> usize {
        0
    }

    fn write(&mut self, data: &[u8]) -> usize {
        data.len()
    }

    fn set_waker(&mut self, _wake: Arc<dyn Fn() + Send + Sync>) {}
}
