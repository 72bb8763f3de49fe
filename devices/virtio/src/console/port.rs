//! One port: what waits on its way in and out.

use super::{ConsolePort, KIND};
use crate::device::Rings;
use kezhan_device::RestoreError;
use kezhan_ports::CharDevice;
use serde::{Deserialize, Serialize};

/// Bytes read from the host at once.
const PORTION: usize = 4096;
/// Bytes taken from one buffer to transmit; drivers send a page or a few. What is beyond them is lost.
const BUFFER_LIMIT: u64 = 1 << 20;

/// A port's part of the saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortState {
    open: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A port.
pub(super) struct Port {
    name: String,
    device: Box<dyn CharDevice>,
    /// A program of the guest's has it open.
    open: bool,
    /// From the host, not yet in a buffer of the guest's.
    input: Vec<u8>,
    /// From the guest, not yet taken by the receiver.
    output: Vec<u8>,
}

impl Port {
    pub(super) fn new(port: ConsolePort) -> Port {
        let ConsolePort { name, device } = port;
        Port { name, device, open: false, input: Vec::new(), output: Vec::new() }
    }

    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// Moves what the host has into the guest's buffers; a port that has to be opened, only when it is.
    pub(super) fn receive(&mut self, queue: usize, rings: &mut Rings<'_>, needs_open: bool) {
        while self.open || !needs_open {
            if self.input.is_empty() && !self.refill() {
                return;
            }
            let Some(chain) = rings.pop(queue) else { return };
            let count = self.input.len().min(chain.writable_length().min(PORTION as u64) as usize);
            let part = self.input.get(..count).unwrap_or_default();
            let written = chain.write_at(rings.memory(), 0, part).map_or(0, |()| count);
            self.input.drain(..written);
            rings.complete(queue, &chain, written as u32);
        }
    }

    /// Whether the host had something.
    fn refill(&mut self) -> bool {
        let mut bytes = [0; PORTION];
        let count = self.device.read(&mut bytes);
        self.input.extend_from_slice(bytes.get(..count).unwrap_or_default());
        count > 0
    }

    /// Moves what the guest has to the receiver, as far as that takes it.
    pub(super) fn transmit(&mut self, queue: usize, rings: &mut Rings<'_>) {
        while self.flush()
            && let Some(chain) = rings.pop(queue)
        {
            let length = chain.readable_length().min(BUFFER_LIMIT) as usize;
            self.output.resize(length, 0);
            if chain.read_at(rings.memory(), 0, &mut self.output).is_err() {
                self.output.clear();
            }
            rings.complete(queue, &chain, 0);
        }
    }

    /// Whether the receiver has taken everything.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            let taken = self.device.write(&self.output).min(self.output.len());
            if taken == 0 {
                return false;
            }
            self.output.drain(..taken);
        }
        true
    }

    /// The driver is gone; what it has sent still goes out.
    pub(super) fn forget(&mut self) {
        self.open = false;
        self.input.clear();
    }

    pub(super) fn save(&self) -> PortState {
        PortState { open: self.open, input: self.input.clone(), output: self.output.clone() }
    }

    pub(super) fn restore(&mut self, state: PortState) -> Result<(), RestoreError> {
        if state.input.len() > PORTION || state.output.len() as u64 > BUFFER_LIMIT {
            return Err(RestoreError::invalid(KIND, "more waits than the device lets wait"));
        }
        (self.open, self.input, self.output) = (state.open, state.input, state.output);
        Ok(())
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Port({}, open {})", self.name, self.open)
    }
}
