//! The mouse (PS/2 HITR, "Auxiliary Device"), with a wheel when the driver knocks for it.
//!
//! Movement is collected and sent as packets while there is room; what does not fit in a packet waits for
//! the next, so that a slow guest loses no movement.

use crate::spec::{answer, device_command, mouse};
use crate::state::{MouseState, QUEUE};

/// The mouse moves, or buttons change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MouseEvent {
    /// To the right, in counts.
    pub right: i16,
    /// Down the screen, in counts.
    pub down: i16,
    /// Wheel towards the user, in clicks.
    pub wheel: i8,
    /// Buttons down now: bit 0 left, bit 1 right, bit 2 middle.
    pub buttons: u8,
}

/// Movement is not collected beyond this.
const FARTHEST: i32 = 4096;

impl MouseState {
    /// The mouse moves.
    pub(crate) fn event(&mut self, event: MouseEvent) {
        let steps = [event.right.into(), -i32::from(event.down), event.wheel.into()];
        for (moved, step) in self.moved.iter_mut().zip(steps) {
            *moved = (*moved + step).clamp(-FARTHEST, FARTHEST);
        }
        self.buttons = event.buttons & 7;
        self.report();
    }

    /// Puts packets in the queue while something has changed and there is room.
    fn report(&mut self) {
        while self.reporting
            && !self.remote
            && (self.moved != [0; 3] || self.buttons != self.sent_buttons)
            && self.queue.len() < QUEUE / 2
        {
            self.packet();
        }
    }

    fn packet(&mut self) {
        let [x, y] = [0, 1].map(|axis| take(self.moved.get_mut(axis), 255));
        let wheel = take(self.moved.get_mut(2), 7);
        let signs = u8::from(x < 0) << 4 | u8::from(y < 0) << 5;
        self.sent_buttons = self.buttons;
        self.queue.extend([mouse::PACKET | self.buttons | signs, x as u8, y as u8]);
        if self.wheel {
            self.queue.push_back(wheel as u8);
        }
    }

    /// The next byte to send.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        self.report();
        Some(byte)
    }

    /// A byte from the controller.
    pub(crate) fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, mouse::UNWRAP | device_command::RESET) {
            return self.answer(&[value]);
        }
        match self.command.take() {
            Some(command) => self.parameter(command, value),
            None => self.execute(value),
        }
    }

    fn parameter(&mut self, command: u8, value: u8) {
        if command == mouse::RESOLUTION {
            self.resolution = value & 3;
        } else {
            let [_, second, third] = self.rates;
            (self.rate, self.rates) = (value, [second, third, value]);
            self.wheel |= self.rates == mouse::WHEEL_KNOCK;
        }
        self.answer(&[answer::ACK]);
    }

    fn execute(&mut self, command: u8) {
        match command {
            mouse::SCALE_1 => self.scaled = false,
            mouse::SCALE_2 => self.scaled = true,
            mouse::RESOLUTION | device_command::SET_RATE => self.command = Some(command),
            mouse::STREAM => self.remote = false,
            mouse::REMOTE => self.remote = true,
            mouse::WRAP => self.wrap = true,
            mouse::UNWRAP => self.wrap = false,
            device_command::ENABLE => self.reporting = true,
            device_command::DISABLE => self.reporting = false,
            device_command::DEFAULTS => self.defaults(),
            mouse::STATUS => {
                let (status, resolution, rate) = (self.status(), self.resolution, self.rate);
                return self.answer(&[answer::ACK, status, resolution, rate]);
            }
            mouse::READ => {
                self.answer(&[answer::ACK]);
                return self.packet();
            }
            device_command::READ_ID => {
                let id = if self.wheel { mouse::ID_WHEEL } else { 0 };
                return self.answer(&[answer::ACK, id]);
            }
            device_command::RESEND => return self.answer(&[self.last]),
            device_command::RESET => {
                *self = MouseState::default();
                return self.answer(&[answer::ACK, answer::TEST_PASSED, 0]);
            }
            _ => return self.answer(&[answer::RESEND]),
        }
        self.answer(&[answer::ACK]);
    }

    fn defaults(&mut self) {
        let wheel = self.wheel;
        *self = MouseState { wheel, ..MouseState::default() };
    }

    /// The first byte of the status (HITR, auxiliary device, "Status Request").
    fn status(&self) -> u8 {
        let (left, right, middle) =
            (self.buttons & 1, self.buttons >> 1 & 1, self.buttons >> 2 & 1);
        let modes =
            u8::from(self.remote) << 6 | u8::from(self.reporting) << 5 | u8::from(self.scaled) << 4;
        modes | left << 2 | middle << 1 | right
    }

    /// An answer takes the place of packets that were not read (HITR, auxiliary device: a command
    /// empties the buffer).
    fn answer(&mut self, bytes: &[u8]) {
        if self.queue.len() + bytes.len() > QUEUE - 4 {
            self.queue.clear();
        }
        self.queue.extend(bytes);
    }
}

/// Takes up to `most` of a movement.
fn take(moved: Option<&mut i32>, most: i32) -> i32 {
    moved.map_or(0, |moved| {
        let part = (*moved).clamp(-most, most);
        *moved -= part;
        part
    })
}
