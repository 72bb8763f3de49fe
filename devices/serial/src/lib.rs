//! The 16550A UART: a PC's serial port.
//!
//! `Uart16550::new(name, port, irq)`; region `registers` (8 ports); one line.
//!
//! ```text
//!   guest ── THR ─► transmit FIFO ──► CharDevice::write      line = cause ∧ IER ∧ MCR.OUT2
//!   guest ◄─ RBR ── receive FIFO  ◄── CharDevice::read       IIR  = the highest cause
//!                        ▲
//!                        └── loopback: THR goes here, the port is cut off
//! ```
//!
//! # Time
//! Characters take no time on the wire: a character written goes to the port in the same access, and
//! the transmitter is empty again unless the port is full. Then characters stay in the FIFO with THRE
//! low until the port wakes the device. Input is taken only as far as there is room in the receive
//! FIFO, so that nothing from the port is ever lost to overrun; overrun exists in loopback only. The
//! four character times of the receive timeout are over at once.
//!
//! # The transmitter interrupt
//! It is an event, not a level: it becomes pending when the transmitter *becomes* empty, or when
//! its enable bit goes from 0 to 1 while it is empty (drivers probe for this, and Windows relies on
//! it). Reading IIR clears it if IIR named it; so does writing a character (PC16550D §8.6).
//!
//! # What was rejected
//! A character clock: it would make output slower without a guest that could notice. An interrupt pin
//! without OUT2: every PC driver sets OUT2, and the probe for a shared line needs the gate.

mod spec;
pub mod state;
#[cfg(test)]
mod tests;

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device as AmlDevice, EISAName, IO, Interrupt, Name, Path, ResourceTemplate,
};
use kezhan_device::{
    Access, Device, LineInterrupt, Placement, Region, RegionIndex, RestoreError, SavedState, Space,
    read_bytes, write_bytes,
};
use kezhan_ports::CharDevice;
use spec::{DIVISOR_9600, FIFO_DEPTH, fcr, ier, iir, lcr, lsr, mcr, msr, register};
use state::UartState;
use std::collections::VecDeque;

/// A 16550A. See the crate for its behaviour.
pub struct Uart16550 {
    // Glue.
    name: String,
    port: Box<dyn CharDevice>,
    irq: LineInterrupt,
    // Registers.
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    msr_delta: u8,
    scr: u8,
    divisor: u16,
    overrun: bool,
    transmit_interrupt: bool,
    // FIFOs.
    receive: VecDeque<u8>,
    transmit: VecDeque<u8>,
}

impl Uart16550 {
    /// A UART called `name` (its trailing digit, if any, is its ACPI `_UID`) on `port`, interrupting by `irq`.
    pub fn new(name: &str, port: Box<dyn CharDevice>, irq: LineInterrupt) -> Uart16550 {
        Uart16550 {
            name: name.to_owned(),
            port,
            irq,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            msr_delta: 0,
            scr: 0,
            divisor: DIVISOR_9600,
            overrun: false,
            transmit_interrupt: false,
            receive: VecDeque::with_capacity(FIFO_DEPTH),
            transmit: VecDeque::with_capacity(FIFO_DEPTH),
        }
    }

    fn depth(&self) -> usize {
        if self.fcr & fcr::ENABLE != 0 { FIFO_DEPTH } else { 1 }
    }

    fn divisor_access(&self) -> bool {
        self.lcr & lcr::DLAB != 0
    }

    fn loopback(&self) -> bool {
        self.mcr & mcr::LOOP != 0
    }

    fn read_register(&mut self, offset: u64) -> Option<u8> {
        let [low, high] = self.divisor.to_le_bytes();
        Some(match offset {
            register::DATA if self.divisor_access() => low,
            register::IER if self.divisor_access() => high,
            register::DATA => self.take_received(),
            register::IER => self.ier,
            register::IIR_FCR => self.identify_interrupt(),
            register::LCR => self.lcr,
            register::MCR => self.mcr,
            register::LSR => self.take_line_status(),
            register::MSR => self.modem_levels() | std::mem::take(&mut self.msr_delta),
            register::SCR => self.scr,
            _ => return None,
        })
    }

    fn write_register(&mut self, offset: u64, value: u8) -> bool {
        let [low, high] = self.divisor.to_le_bytes();
        match offset {
            register::DATA if self.divisor_access() => {
                self.divisor = u16::from_le_bytes([value, high]);
            }
            register::IER if self.divisor_access() => {
                self.divisor = u16::from_le_bytes([low, value]);
            }
            register::DATA => self.send(value),
            register::IER => self.enable_interrupts(value & ier::ALL),
            register::IIR_FCR => self.control_fifos(value),
            register::LCR => self.lcr = value,
            register::MCR => self.control_modem(value & mcr::ALL),
            register::SCR => self.scr = value,
            // LSR and MSR are written in factory tests only (PC16550D §8.4).
            register::LSR | register::MSR => {}
            _ => return false,
        }
        true
    }

    fn take_received(&mut self) -> u8 {
        let byte = self.receive.pop_front().unwrap_or(0);
        self.fill();
        byte
    }

    /// Takes input while there is room.
    fn fill(&mut self) {
        while !self.loopback() && self.receive.len() < self.depth() {
            let mut byte = [0];
            if self.port.read(&mut byte) == 0 {
                return;
            }
            self.receive.push_back(byte[0]);
        }
    }

    fn send(&mut self, byte: u8) {
        self.transmit_interrupt = false;
        if self.loopback() {
            self.receive_looped(byte);
            self.transmit_interrupt = self.transmit.is_empty();
            return;
        }
        if self.transmit.len() >= self.depth() {
            // The holding register is written over, as the chip does.
            self.transmit.pop_back();
        }
        self.transmit.push_back(byte);
        self.drain();
    }

    fn receive_looped(&mut self, byte: u8) {
        if self.receive.len() < self.depth() {
            self.receive.push_back(byte);
            return;
        }
        self.overrun = true;
        if self.depth() == 1 {
            self.receive.clear();
            self.receive.push_back(byte);
        }
    }

    /// Gives the port what it will take; the moment the FIFO runs empty is an interrupt.
    fn drain(&mut self) {
        if self.transmit.is_empty() {
            return;
        }
        let taken = self.port.write(self.transmit.make_contiguous()).min(self.transmit.len());
        self.transmit.drain(..taken);
        self.transmit_interrupt |= self.transmit.is_empty();
    }

    fn enable_interrupts(&mut self, value: u8) {
        let newly = value & !self.ier;
        self.ier = value;
        if newly & ier::TRANSMIT_EMPTY != 0 && self.transmit.is_empty() {
            self.transmit_interrupt = true;
        }
    }

    fn control_fifos(&mut self, value: u8) {
        // Switching the FIFOs on or off empties them (PC16550D §8.5).
        let switched = (self.fcr ^ value) & fcr::ENABLE != 0;
        self.fcr = if value & fcr::ENABLE != 0 { value & fcr::KEPT } else { 0 };
        if switched || value & fcr::CLEAR_RECEIVE != 0 {
            self.receive.clear();
        }
        if (switched || value & fcr::CLEAR_TRANSMIT != 0) && !self.transmit.is_empty() {
            self.transmit.clear();
            self.transmit_interrupt = true;
        }
        self.fill();
    }

    fn control_modem(&mut self, value: u8) {
        let before = self.modem_levels();
        self.mcr = value;
        let after = self.modem_levels();
        let changed = (before ^ after) & !(msr::RI & after);
        self.msr_delta |= changed >> 4;
        self.fill();
    }

    /// The four input lines: a connected terminal, or in loopback our own outputs (PC16550D §8.8).
    fn modem_levels(&self) -> u8 {
        if !self.loopback() {
            return msr::CTS | msr::DSR | msr::DCD;
        }
        [(mcr::RTS, msr::CTS), (mcr::DTR, msr::DSR), (mcr::OUT1, msr::RI), (mcr::OUT2, msr::DCD)]
            .iter()
            .filter(|(output, _)| self.mcr & output != 0)
            .fold(0, |levels, (_, input)| levels | input)
            & msr::LEVELS
    }

    fn take_line_status(&mut self) -> u8 {
        let mut status = 0;
        if !self.receive.is_empty() {
            status |= lsr::DATA_READY;
        }
        if std::mem::take(&mut self.overrun) {
            status |= lsr::OVERRUN;
        }
        if self.transmit.is_empty() {
            status |= lsr::TRANSMIT_EMPTY | lsr::IDLE;
        }
        status
    }

    /// The highest enabled cause (PC16550D §8.6, table IV).
    fn cause(&self) -> u8 {
        let trigger = match self.depth() {
            1 => 1,
            _ => fcr::TRIGGER.get(usize::from(self.fcr >> 6)).copied().unwrap_or(1),
        };
        if self.ier & ier::LINE_STATUS != 0 && self.overrun {
            iir::LINE_STATUS
        } else if self.ier & ier::RECEIVED != 0 && self.receive.len() >= trigger {
            iir::RECEIVED
        } else if self.ier & ier::RECEIVED != 0 && !self.receive.is_empty() {
            iir::TIMEOUT
        } else if self.ier & ier::TRANSMIT_EMPTY != 0 && self.transmit_interrupt {
            iir::TRANSMIT_EMPTY
        } else if self.ier & ier::MODEM_STATUS != 0 && self.msr_delta != 0 {
            iir::MODEM_STATUS
        } else {
            iir::NONE
        }
    }

    fn identify_interrupt(&mut self) -> u8 {
        let cause = self.cause();
        if cause == iir::TRANSMIT_EMPTY {
            self.transmit_interrupt = false;
        }
        cause | if self.depth() > 1 { iir::FIFO_ON } else { 0 }
    }

    fn drive(&self) {
        let connected = self.mcr & mcr::OUT2 != 0 && !self.loopback();
        self.irq.set(connected && self.cause() != iir::NONE);
    }

    /// The digit at the end of the name, for `_UID`.
    fn unit(&self) -> u8 {
        self.name.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0')
    }
}

impl Device for Uart16550 {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "registers", space: Space::Port, length: register::COUNT }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        if region != RegionIndex(0) {
            return Access::BadRegister;
        }
        let access = read_bytes(offset, data, |offset| self.read_register(offset));
        self.drive();
        access
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        if region != RegionIndex(0) {
            return Access::BadRegister;
        }
        let access = write_bytes(offset, data, |offset, value| self.write_register(offset, value));
        self.drive();
        access
    }

    fn poll(&mut self) {
        self.drain();
        self.fill();
        self.drive();
    }

    fn resume(&mut self) {
        self.poll();
    }

    fn reset(&mut self) {
        let port =
            std::mem::replace(&mut self.port, Box::new(kezhan_ports::chardev::NullCharDevice));
        *self = Uart16550::new(&self.name, port, self.irq.clone());
        self.drive();
    }

    fn save(&self) -> SavedState {
        let state = UartState {
            ier: self.ier,
            fcr: self.fcr,
            lcr: self.lcr,
            mcr: self.mcr,
            msr_delta: self.msr_delta,
            scr: self.scr,
            divisor: self.divisor,
            overrun: self.overrun,
            transmit_interrupt: self.transmit_interrupt,
            receive: self.receive.iter().copied().collect(),
            transmit: self.transmit.iter().copied().collect(),
        };
        SavedState::new(state::KIND, state::VERSION, &state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: UartState = saved.open(state::KIND, state::VERSION)?;
        state.check()?;
        self.ier = state.ier;
        self.fcr = state.fcr;
        self.lcr = state.lcr;
        self.mcr = state.mcr;
        self.msr_delta = state.msr_delta;
        self.scr = state.scr;
        self.divisor = state.divisor;
        self.overrun = state.overrun;
        self.transmit_interrupt = state.transmit_interrupt;
        self.receive = state.receive.into();
        self.transmit = state.transmit.into();
        self.drive();
        Ok(())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let base = u16::try_from(*placed.bases.first()?).ok()?;
        let gsi = *placed.interrupts.first()?;
        let unit = self.unit();
        let mut bytes = Vec::new();
        AmlDevice::new(
            Path::new(&format!("COM{unit}")),
            vec![
                &Name::new("_HID".into(), &EISAName::new("PNP0501")),
                &Name::new("_UID".into(), &unit),
                &Name::new("_STA".into(), &0x0f_u8),
                &Name::new(
                    "_CRS".into(),
                    &ResourceTemplate::new(vec![
                        &IO::new(base, base, 1, 8),
                        &Interrupt::new(true, true, false, false, gsi),
                    ]),
                ),
            ],
        )
        .to_aml_bytes(&mut bytes);
        Some(bytes)
    }
}

impl std::fmt::Debug for Uart16550 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (waiting, unsent) = (self.receive.len(), self.transmit.len());
        write!(f, "Uart16550({}, {waiting} received, {unsent} to send)", self.name)
    }
}
