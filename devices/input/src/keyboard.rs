//! The keyboard (PS/2 HITR, "Keyboard"): commands in, scan codes out.

use crate::keys::{KeyEvent, set_2, to_set_1};
use crate::spec::{answer, device_command, keyboard};
use crate::state::{KeyboardState, QUEUE};

impl KeyboardState {
    /// A key goes down or up. False when it cannot be told now: the keyboard is off, does not have the key,
    /// or has no room for all of its bytes.
    pub(crate) fn key(&mut self, event: KeyEvent) -> bool {
        let mut bytes = set_2(event);
        if self.set == 1 {
            bytes = translated(&bytes);
        }
        let fits = self.queue.len() + bytes.len() <= QUEUE / 2;
        let told = self.scanning && !bytes.is_empty() && fits;
        if told {
            self.queue.extend(bytes);
        }
        told
    }

    /// The next byte to send.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// A byte from the controller.
    pub(crate) fn write(&mut self, value: u8) {
        match self.command.take() {
            // A command in place of a parameter ends the wait (HITR, keyboard, "Commands from the System").
            Some(command) if value < keyboard::SET_LEDS => self.parameter(command, value),
            _ => self.execute(value),
        }
    }

    fn execute(&mut self, command: u8) {
        match command {
            keyboard::SET_LEDS | keyboard::SCAN_CODE_SET | device_command::SET_RATE => {
                self.command = Some(command);
                self.answer(&[answer::ACK]);
            }
            keyboard::ECHO => self.answer(&[keyboard::ECHO]),
            device_command::READ_ID => {
                let [first, second] = keyboard::ID;
                self.answer(&[answer::ACK, first, second]);
            }
            device_command::ENABLE => self.start(true),
            device_command::DISABLE => self.start(false),
            device_command::DEFAULTS => self.start(self.scanning),
            device_command::RESEND => self.answer(&[self.last]),
            device_command::RESET => {
                *self = KeyboardState::default();
                self.answer(&[answer::ACK, answer::TEST_PASSED]);
            }
            first if (keyboard::SET_3.0..=keyboard::SET_3.1).contains(&first) => {
                self.answer(&[answer::ACK]);
            }
            _ => self.answer(&[answer::RESEND]),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        match (command, value) {
            (keyboard::SET_LEDS, _) => self.leds = value & 7,
            (device_command::SET_RATE, _) => self.typematic = value & 0x7f,
            (_, 0) => return self.answer(&[answer::ACK, self.set]),
            (_, 1 | 2) => self.set = value,
            // There is no set 3 here, as on many keyboards.
            _ => return self.answer(&[answer::RESEND]),
        }
        self.answer(&[answer::ACK]);
    }

    /// Empties the buffer and sets defaults; then reports keys, or does not.
    fn start(&mut self, scanning: bool) {
        let (set, leds) = (self.set, self.leds);
        *self = KeyboardState { scanning, set, leds, ..KeyboardState::default() };
        self.answer(&[answer::ACK]);
    }

    /// Answers come at once: keys that were not read yet are behind them no longer.
    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() > QUEUE {
            self.queue.clear();
        }
        self.queue.extend(bytes);
    }
}

/// A sequence of set 2 in set 1.
fn translated(bytes: &[u8]) -> Vec<u8> {
    let mut up = 0;
    let mut codes = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match *byte {
            keyboard::BREAK => up = 0x80,
            code => codes.push(to_set_1(code) | std::mem::take(&mut up)),
        }
    }
    codes
}
