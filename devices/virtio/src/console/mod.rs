//! virtio-console: character ports, each a queue in and a queue out (virtio 1.2 §5.3).
//!
//! ```text
//!   CharDevice ── read ──► input ─► receive queue ──► driver
//!   CharDevice ◄─ write ── output ◄─ transmit queue ◄─ driver
//!                            ports 1, 2 … with MULTIPORT only, and two control queues to agree on them
//! ```
//! Port 0 is a console (`hvc0` under Linux), the others are named ports (`/dev/virtio-ports/NAME`).
//!
//! # What waits
//! A buffer to transmit is copied and given back at once; what the receiver does not take waits in `output`, and
//! while anything waits there no more is taken from the queue. Input is read from the host only when the one
//! before is in the guest's hands. So nothing but those two, both small, is in flight at a pause.
//!
//! # A port that the guest has not opened
//! Its input stays with the host, but for port 0: before the driver agrees on ports it is all there is.
//!
//! # What was rejected
//! Emergency writes (a configuration field that prints; the serial port serves early consoles), and telling the
//! size of a terminal, which no port of the host knows.

mod port;

use crate::device::{Identity, Rings, VirtioDevice};
use crate::spec::console as numbers;
use crate::spec::device_id;
use kezhan_device::RestoreError;
use kezhan_ports::CharDevice;
use port::Port;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const KIND: &str = "virtio-console";
const QUEUE_SIZE: u16 = 64;
const CONTROL_IN: usize = 2;
const CONTROL_OUT: usize = 3;
/// Ports at most: their queues and the control queues are 64.
const PORT_LIMIT: usize = 31;
/// Messages to the driver that wait for buffers. A driver that asks on and on and gives none loses the rest.
const MESSAGE_LIMIT: usize = 4 * PORT_LIMIT;

/// A character port of the guest's.
pub struct ConsolePort {
    /// Name by which the guest finds it; not needed for the first, which is the console.
    pub name: String,
    /// What is behind it.
    pub device: Box<dyn CharDevice>,
}

/// A message on a control queue (§5.3.6.2): port, event, value, and the name that may follow.
type Message = (u32, u16, u16);

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsoleState {
    ports: Vec<port::PortState>,
    messages: Vec<Message>,
}

/// The console device. See the module.
#[derive(Debug)]
pub struct Console {
    ports: Vec<Port>,
    multiport: bool,
    messages: VecDeque<Message>,
}

impl Console {
    /// A device with these ports, at most 31, the first of them the console.
    pub fn new(ports: Vec<ConsolePort>) -> Console {
        let ports = ports.into_iter().take(PORT_LIMIT).map(Port::new).collect();
        Console { ports, multiport: false, messages: VecDeque::new() }
    }

    fn send(&mut self, message: Message) {
        if self.messages.len() < MESSAGE_LIMIT {
            self.messages.push_back(message);
        }
    }

    /// Ports that the driver knows of.
    fn known(&self) -> usize {
        if self.multiport { self.ports.len() } else { self.ports.len().min(1) }
    }

    /// Reads the driver's messages (§5.3.6.2).
    fn hear(&mut self, rings: &mut Rings<'_>) {
        while let Some(chain) = rings.pop(CONTROL_OUT) {
            let mut bytes = [0; numbers::MESSAGE_BYTES];
            if chain.read_at(rings.memory(), 0, &mut bytes).is_ok() {
                let value = u64::from_le_bytes(bytes);
                self.answer(value as u32, (value >> 32) as u16, (value >> 48) as u16);
            }
            rings.complete(CONTROL_OUT, &chain, 0);
        }
    }

    fn answer(&mut self, id: u32, event: u16, value: u16) {
        match event {
            numbers::DEVICE_READY if value == 1 => {
                for id in 0..self.ports.len() as u32 {
                    self.send((id, numbers::PORT_ADD, 1));
                }
            }
            numbers::PORT_READY if value == 1 && (id as usize) < self.ports.len() => {
                if id == 0 {
                    self.send((id, numbers::CONSOLE_PORT, 1));
                } else {
                    self.send((id, numbers::PORT_NAME, 1));
                }
                self.send((id, numbers::PORT_OPEN, 1));
            }
            numbers::PORT_OPEN => {
                if let Some(port) = self.ports.get_mut(id as usize) {
                    port.set_open(value == 1);
                }
            }
            _ => {}
        }
    }

    /// Puts messages into the driver's buffers.
    fn tell(&mut self, rings: &mut Rings<'_>) {
        while self.multiport
            && let Some((id, event, value)) = self.messages.front().copied()
            && let Some(chain) = rings.pop(CONTROL_IN)
        {
            self.messages.pop_front();
            let header = u64::from(id) | u64::from(event) << 32 | u64::from(value) << 48;
            let mut bytes = header.to_le_bytes().to_vec();
            if event == numbers::PORT_NAME
                && let Some(port) = self.ports.get(id as usize)
            {
                bytes.extend(port.name());
            }
            let written = chain.write_at(rings.memory(), 0, &bytes);
            rings.complete(CONTROL_IN, &chain, written.map_or(0, |()| bytes.len() as u32));
        }
    }
}

/// The receive queue of a port (§5.3.2); its transmit queue is the next.
fn receive_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 * port + 2 }
}

impl VirtioDevice for Console {
    fn identity(&self) -> Identity {
        // Class: other communication device (PCI 3.0 appendix D).
        Identity { kind: KIND, id: device_id::CONSOLE, class: 0x07_8000 }
    }

    fn features(&self) -> u64 {
        numbers::MULTIPORT
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2 + 2 * self.ports.len()]
    }

    /// Columns and rows, which are not told, then the number of ports (§5.3.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let value = (self.ports.len() as u64) << 32;
        crate::device::read_fields(&value.to_le_bytes(), offset, data);
    }

    fn start(&mut self, features: u64) {
        self.multiport = features & numbers::MULTIPORT != 0;
    }

    fn process(&mut self, queue: usize, rings: &mut Rings<'_>) {
        if self.multiport && matches!(queue, CONTROL_IN | CONTROL_OUT) {
            self.hear(rings);
            self.tell(rings);
            return;
        }
        let index = if queue < 2 { 0 } else { (queue - 2) / 2 };
        if index < self.known()
            && let Some(port) = self.ports.get_mut(index)
        {
            let input = receive_queue(index);
            port.receive(input, rings, self.multiport && index > 0);
            port.transmit(input + 1, rings);
        }
    }

    fn poll(&mut self, rings: &mut Rings<'_>) {
        self.tell(rings);
        for index in 0..self.known() {
            self.process(receive_queue(index), rings);
        }
    }

    fn forget(&mut self) -> bool {
        self.messages.clear();
        self.ports.iter_mut().for_each(Port::forget);
        true
    }

    fn save(&self) -> serde_json::Value {
        let state = ConsoleState {
            ports: self.ports.iter().map(Port::save).collect(),
            messages: self.messages.iter().copied().collect(),
        };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let invalid = |reason: &str| RestoreError::invalid(KIND, reason);
        let state: ConsoleState =
            serde_json::from_value(state.clone()).map_err(|error| invalid(&error.to_string()))?;
        if state.ports.len() != self.ports.len() || state.messages.len() > MESSAGE_LIMIT {
            return Err(invalid("it has another number of ports"));
        }
        self.messages = state.messages.into();
        for (port, saved) in self.ports.iter_mut().zip(state.ports) {
            port.restore(saved)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for ConsolePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConsolePort({})", self.name)
    }
}

#[cfg(test)]
mod tests;
