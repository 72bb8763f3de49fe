//! Saved state of the controller, the keyboard and the mouse.

use crate::spec::{config, keyboard, mouse};
use kezhan_device::RestoreError;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Kind of the saved state.
pub const KIND: &str = "i8042";
/// Its version.
pub const VERSION: u32 = 1;

/// The most bytes that wait in a device: a line of typing.
pub(crate) const QUEUE: usize = 256;

/// Where the byte in the output buffer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The keyboard or the controller itself.
    Keyboard,
    /// The auxiliary device.
    Mouse,
}

/// Version 1: the keyboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyboardState {
    /// Keys are reported.
    pub scanning: bool,
    /// Scan code set, 1 or 2.
    pub set: u8,
    /// LEDs.
    pub leds: u8,
    /// Typematic rate and delay; the guest's keys repeat at the pace of the host's.
    pub typematic: u8,
    /// A command that waits for its parameter.
    pub command: Option<u8>,
    /// Bytes to send.
    pub queue: VecDeque<u8>,
    /// The last byte sent.
    pub last: u8,
}

impl Default for KeyboardState {
    fn default() -> KeyboardState {
        KeyboardState {
            scanning: true,
            set: 2,
            leds: 0,
            typematic: keyboard::TYPEMATIC,
            command: None,
            queue: VecDeque::new(),
            last: 0,
        }
    }
}

/// Version 1: the mouse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MouseState {
    /// Packets are sent.
    pub reporting: bool,
    /// Only when asked for.
    pub remote: bool,
    /// Everything is echoed.
    pub wrap: bool,
    /// Scaling 2:1.
    pub scaled: bool,
    /// Resolution.
    pub resolution: u8,
    /// Sampling rate.
    pub rate: u8,
    /// The last three rates set.
    pub rates: [u8; 3],
    /// The wheel is on.
    pub wheel: bool,
    /// A command that waits for its parameter.
    pub command: Option<u8>,
    /// Bytes to send.
    pub queue: VecDeque<u8>,
    /// The last byte sent.
    pub last: u8,
    /// Movement not yet sent: right, up, wheel.
    pub moved: [i32; 3],
    /// Buttons now.
    pub buttons: u8,
    /// Buttons as last sent.
    pub sent_buttons: u8,
}

impl Default for MouseState {
    fn default() -> MouseState {
        MouseState {
            reporting: false,
            remote: false,
            wrap: false,
            scaled: false,
            resolution: mouse::DEFAULT_RESOLUTION,
            rate: mouse::DEFAULT_RATE,
            rates: [0; 3],
            wheel: false,
            command: None,
            queue: VecDeque::new(),
            last: 0,
            moved: [0; 3],
            buttons: 0,
            sent_buttons: 0,
        }
    }
}

/// Version 1: all three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I8042State {
    /// Controller command byte.
    pub config: u8,
    /// The command that waits for its parameter.
    pub command: Option<u8>,
    /// The last byte written was a command.
    pub wrote_command: bool,
    /// The byte in the output buffer, or the last that was there.
    pub output: u8,
    /// Whose it is, if the buffer is full.
    pub full: Option<Source>,
    /// Answers of the controller's own that wait for the buffer.
    pub answers: VecDeque<(u8, Source)>,
    /// Translation has seen the prefix of a release.
    pub breaking: bool,
    /// A20 gate.
    pub a20: bool,
    /// The keyboard.
    pub keyboard: KeyboardState,
    /// The mouse.
    pub mouse: MouseState,
}

impl Default for I8042State {
    fn default() -> I8042State {
        I8042State {
            config: config::POWER_ON,
            command: None,
            wrote_command: false,
            output: 0,
            full: None,
            answers: VecDeque::new(),
            breaking: false,
            a20: true,
            keyboard: KeyboardState::default(),
            mouse: MouseState::default(),
        }
    }
}

impl I8042State {
    /// Refuses what the devices cannot hold.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] with the reason.
    pub fn check(&self) -> Result<(), RestoreError> {
        let longest = self.keyboard.queue.len().max(self.mouse.queue.len()).max(self.answers.len());
        if longest > QUEUE || !(1..=2).contains(&self.keyboard.set) {
            return Err(RestoreError::invalid(KIND, "a queue is too long or a set does not exist"));
        }
        Ok(())
    }
}
