//! The controller: ports, commands, the output buffer.

use crate::keys::to_set_1;
use crate::spec::{command, config, keyboard, output_port, status, system_control};
use crate::state::{I8042State, KIND, QUEUE, Source, VERSION};
use crate::{KeyEvent, MouseEvent};
use acpi_tables::Aml;
use acpi_tables::aml::{Device as AmlDevice, EISAName, IO, Interrupt, Name, ResourceTemplate};
use kezhan_device::{
    Access, Device, LineInterrupt, MachineControl, MachineEvent, Placement, Region, RegionIndex,
    RestoreError, SavedState, Space, read_bytes, write_bytes,
};
use std::sync::Arc;

const DATA: usize = 0;
const COMMAND: usize = 1;
const SYSTEM_CONTROL: usize = 2;

/// Where the controller's outputs go.
pub struct I8042Wires {
    /// IRQ 1.
    pub keyboard: LineInterrupt,
    /// IRQ 12.
    pub mouse: LineInterrupt,
    /// Receiver of resets.
    pub control: Arc<dyn MachineControl>,
}

/// The keyboard controller. See the crate.
pub struct I8042 {
    name: String,
    wires: I8042Wires,
    state: I8042State,
}

impl I8042 {
    /// A controller called `name`.
    pub fn new(name: &str, wires: I8042Wires) -> I8042 {
        I8042 { name: name.to_owned(), wires, state: I8042State::default() }
    }

    /// A key goes down or up. False when the keyboard cannot tell it now; the caller may try again later.
    pub fn key(&mut self, event: KeyEvent) -> bool {
        let told = self.state.keyboard.key(event);
        self.fill();
        told
    }

    /// The mouse moves or its buttons change.
    pub fn mouse(&mut self, event: MouseEvent) {
        self.state.mouse.event(event);
        self.fill();
    }

    /// The keyboard's LEDs: bit 0 Scroll Lock, bit 1 Num Lock, bit 2 Caps Lock.
    pub fn leds(&self) -> u8 {
        self.state.keyboard.leds
    }

    /// Whether the guest has opened the A20 gate.
    pub fn a20(&self) -> bool {
        self.state.a20
    }

    fn has(&self, bit: u8) -> bool {
        self.state.config & bit != 0
    }

    /// Fills the output buffer if it is empty and somebody has a byte; drives the lines.
    fn fill(&mut self) {
        if self.state.full.is_none()
            && let Some((byte, source)) = self.next_byte()
        {
            (self.state.output, self.state.full) = (byte, Some(source));
        }
        self.drive();
    }

    /// The next byte for the buffer: the controller's answers first, then the keyboard, then the mouse.
    fn next_byte(&mut self) -> Option<(u8, Source)> {
        if let Some(answer) = self.state.answers.pop_front() {
            return Some(answer);
        }
        while !self.has(config::KEYBOARD_DISABLED)
            && let Some(byte) = self.state.keyboard.take()
        {
            if let Some(byte) = self.translate(byte) {
                return Some((byte, Source::Keyboard));
            }
        }
        if self.has(config::MOUSE_DISABLED) {
            return None;
        }
        self.state.mouse.take().map(|byte| (byte, Source::Mouse))
    }

    /// A byte of the keyboard's as the controller passes it on; the prefix of a release is kept back and
    /// goes into the code that follows.
    fn translate(&mut self, byte: u8) -> Option<u8> {
        if !self.has(config::TRANSLATE) {
            self.state.breaking = false;
            return Some(byte);
        }
        if byte == keyboard::BREAK {
            self.state.breaking = true;
            return None;
        }
        let up = if std::mem::take(&mut self.state.breaking) { 0x80 } else { 0 };
        Some(to_set_1(byte) | up)
    }

    fn drive(&self) {
        let full = self.state.full;
        let interrupt = |source, bit| full == Some(source) && self.has(bit);
        self.wires.keyboard.set(interrupt(Source::Keyboard, config::KEYBOARD_INTERRUPT));
        self.wires.mouse.set(interrupt(Source::Mouse, config::MOUSE_INTERRUPT));
    }

    fn read_register(&mut self, region: usize, offset: u64) -> Option<u8> {
        match (region, offset) {
            (DATA, 0) => {
                self.state.full = None;
                let byte = self.state.output;
                self.drive();
                Some(byte)
            }
            (COMMAND, 0) => Some(self.status()),
            (SYSTEM_CONTROL, 0) => Some(if self.state.a20 { system_control::A20 } else { 0 }),
            _ => None,
        }
    }

    fn status(&self) -> u8 {
        let mut value = status::UNLOCKED | self.state.config & config::SYSTEM;
        if self.state.wrote_command {
            value |= status::COMMAND;
        }
        value
            | match self.state.full {
                None => 0,
                Some(Source::Keyboard) => status::OUTPUT_FULL,
                Some(Source::Mouse) => status::OUTPUT_FULL | status::AUXILIARY,
            }
    }

    fn write_register(&mut self, region: usize, offset: u64, value: u8) -> bool {
        match (region, offset) {
            (DATA, 0) => self.write_data(value),
            (COMMAND, 0) => self.execute(value),
            (SYSTEM_CONTROL, 0) => {
                self.state.a20 = value & system_control::A20 != 0;
                if value & system_control::RESET != 0 {
                    self.reset_machine();
                }
            }
            _ => return false,
        }
        true
    }

    fn write_data(&mut self, value: u8) {
        self.state.wrote_command = false;
        match self.state.command.take() {
            Some(command::WRITE_CONFIG) => self.state.config = value,
            Some(command::WRITE_OUTPUT_PORT) => self.write_output_port(value),
            Some(command::LOOP_KEYBOARD) => self.answer(value, Source::Keyboard),
            Some(command::LOOP_MOUSE) => self.answer(value, Source::Mouse),
            Some(command::WRITE_MOUSE) => {
                // Sending to a device enables it (HITR, controller, "Command D4").
                self.state.config &= !config::MOUSE_DISABLED;
                self.state.mouse.write(value);
            }
            // The rest of RAM holds nothing that we use.
            Some(_) => {}
            None => {
                self.state.config &= !config::KEYBOARD_DISABLED;
                self.state.keyboard.write(value);
            }
        }
    }

    fn execute(&mut self, value: u8) {
        self.state.wrote_command = true;
        self.state.command = None;
        match value {
            command::READ_CONFIG..=command::READ_RAM_LAST => {
                let byte = if value == command::READ_CONFIG { self.state.config } else { 0 };
                self.answer(byte, Source::Keyboard);
            }
            command::WRITE_CONFIG..=command::WRITE_RAM_LAST => self.state.command = Some(value),
            command::WRITE_OUTPUT_PORT
            | command::LOOP_KEYBOARD
            | command::LOOP_MOUSE
            | command::WRITE_MOUSE => self.state.command = Some(value),
            command::DISABLE_MOUSE => self.state.config |= config::MOUSE_DISABLED,
            command::ENABLE_MOUSE => self.state.config &= !config::MOUSE_DISABLED,
            command::DISABLE_KEYBOARD => self.state.config |= config::KEYBOARD_DISABLED,
            command::ENABLE_KEYBOARD => self.state.config &= !config::KEYBOARD_DISABLED,
            command::TEST_MOUSE | command::TEST_KEYBOARD => {
                self.answer(command::LINES_GOOD, Source::Keyboard);
            }
            command::SELF_TEST => {
                self.state.config |= config::SYSTEM;
                self.answer(command::SELF_TEST_PASSED, Source::Keyboard);
            }
            command::READ_INPUT_PORT => {
                self.answer(command::INPUT_PORT_UNLOCKED, Source::Keyboard);
            }
            command::READ_TEST_INPUTS => self.answer(0, Source::Keyboard),
            command::READ_OUTPUT_PORT => self.answer(self.output_port(), Source::Keyboard),
            command::DISABLE_A20 => self.state.a20 = false,
            command::ENABLE_A20 => self.state.a20 = true,
            command::PULSE.. if value & output_port::NOT_RESET == 0 => self.reset_machine(),
            _ => {}
        }
    }

    /// An answer of the controller's own; a guest that never reads them gets no more than so many.
    fn answer(&mut self, byte: u8, source: Source) {
        if self.state.answers.len() < QUEUE {
            self.state.answers.push_back((byte, source));
        }
    }

    fn output_port(&self) -> u8 {
        let interrupts = match self.state.full {
            None => 0,
            Some(Source::Keyboard) => output_port::KEYBOARD_INTERRUPT,
            Some(Source::Mouse) => output_port::MOUSE_INTERRUPT,
        };
        let a20 = if self.state.a20 { output_port::A20 } else { 0 };
        output_port::NOT_RESET | a20 | interrupts
    }

    fn write_output_port(&mut self, value: u8) {
        self.state.a20 = value & output_port::A20 != 0;
        if value & output_port::NOT_RESET == 0 {
            self.reset_machine();
        }
    }

    fn reset_machine(&self) {
        self.wires.control.request(MachineEvent::Reset);
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        ["data", "command", "system-control"]
            .map(|name| Region { name, space: Space::Port, length: 1 })
            .to_vec()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let access = read_bytes(offset, data, |offset| self.read_register(region.0, offset));
        self.fill();
        access
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let access =
            write_bytes(offset, data, |offset, value| self.write_register(region.0, offset, value));
        self.fill();
        access
    }

    fn reset(&mut self) {
        self.state = I8042State::default();
        self.drive();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &self.state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: I8042State = saved.open(KIND, VERSION)?;
        state.check()?;
        self.state = state;
        self.drive();
        Ok(())
    }

    /// Two nodes: the keyboard (PNP0303) with the ports and IRQ 1, the mouse (PNP0F13) with IRQ 12.
    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let port = |index: usize| u16::try_from(*placed.bases.get(index)?).ok();
        let line = |index: usize| {
            Some(Interrupt::new(true, true, false, false, *placed.interrupts.get(index)?))
        };
        let (data, command) = (port(DATA)?, port(COMMAND)?);
        let (keyboard, mouse) = (line(0)?, line(1)?);
        let ports = [IO::new(data, data, 1, 1), IO::new(command, command, 1, 1)];
        let mut bytes = node("KBD_", "PNP0303", vec![&ports[0], &ports[1], &keyboard]);
        bytes.extend(node("MOU_", "PNP0F13", vec![&mouse]));
        Some(bytes)
    }
}

fn node(name: &str, id: &str, resources: Vec<&dyn Aml>) -> Vec<u8> {
    let mut bytes = Vec::new();
    AmlDevice::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new(id)),
            &Name::new("_STA".into(), &0x0f_u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(resources)),
        ],
    )
    .to_aml_bytes(&mut bytes);
    bytes
}

impl std::fmt::Debug for I8042Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I8042Wires({:?}, {:?})", self.keyboard, self.mouse)
    }
}

impl std::fmt::Debug for I8042 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "I8042({}, buffer {:?})", self.name, self.state.full)
    }
}
