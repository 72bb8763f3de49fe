//! One 8259A. Its registers are [`ChipState`]; the cascade is the pair's business.

use super::spec::{CASCADE, POLL_PENDING, icw1, icw4, ocw2, ocw3};
use super::state::{ChipState, Next};

impl ChipState {
    /// Input `pin` has the level `high`; a rising edge is kept until acknowledged.
    ///
    /// The chip proper lets go of a request whose line falls before INTA; keeping it is what allows a
    /// device to signal by a pulse.
    pub(super) fn set_line(&mut self, pin: u8, high: bool) {
        let bit = 1 << (pin & 7);
        if high && self.lines & bit == 0 {
            self.edges |= bit;
        }
        self.lines = if high { self.lines | bit } else { self.lines & !bit };
    }

    /// The request register; inputs in `level` show their line, the others their latched edge.
    fn requests(&self, level: u8) -> u8 {
        (self.edges & !level) | (self.lines & level)
    }

    /// Position in the order of priority of the first of `bits`; 8 when there is none.
    fn position(&self, bits: u8) -> u32 {
        bits.rotate_right(self.highest.into()).trailing_zeros()
    }

    fn input_at(&self, position: u32) -> u8 {
        (self.highest.wrapping_add(position as u8)) & 7
    }

    /// The input to be served now, if the INT output is high (8259A, "Interrupt Sequence").
    pub(super) fn interrupt(&self, level: u8) -> Option<u8> {
        let first = self.position(self.requests(level) & !self.imr);
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        if self.special_fully_nested {
            // Further requests of a slave in service get through ("Special Fully Nested Mode").
            blocking &= !(1 << CASCADE);
        }
        (first < self.position(blocking)).then(|| self.input_at(first))
    }

    /// INTA for `pin`: in service, or at its end at once in automatic EOI mode.
    pub(super) fn acknowledge(&mut self, pin: u8) {
        self.edges &= !(1 << pin);
        if !self.auto_eoi {
            self.isr |= 1 << pin;
        } else if self.rotate_in_auto_eoi {
            self.make_lowest(pin);
        }
    }

    /// The vector of `pin` in 8086 mode.
    pub(super) fn vector(&self, pin: u8) -> u8 {
        self.base | pin
    }

    pub(super) fn read(&mut self, offset: u64, level: u8) -> u8 {
        if std::mem::take(&mut self.poll) {
            return self.answer_poll(level);
        }
        match (offset, self.read_isr) {
            (0, true) => self.isr,
            (0, false) => self.requests(level),
            _ => self.imr,
        }
    }

    fn answer_poll(&mut self, level: u8) -> u8 {
        match self.interrupt(level) {
            Some(pin) => {
                self.acknowledge(pin);
                POLL_PENDING | pin
            }
            None => 7,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u8) {
        match offset {
            0 if value & icw1::MARK != 0 => self.initialise(value),
            0 if value & ocw3::MARK != 0 => self.operate(value),
            0 => self.end_or_rotate(value >> 5, value & 7),
            _ => self.write_sequence(value),
        }
    }

    /// ICW1: everything but the lines and their edge/level control starts anew.
    fn initialise(&mut self, value: u8) {
        *self = ChipState {
            lines: self.lines,
            elcr: self.elcr,
            base: self.base,
            next: Next::Icw2,
            single: value & icw1::SINGLE != 0,
            needs_icw4: value & icw1::NEEDS_ICW4 != 0,
            ..ChipState::default()
        };
    }

    fn write_sequence(&mut self, value: u8) {
        let after_icw3 = if self.needs_icw4 { Next::Icw4 } else { Next::Ocw1 };
        self.next = match self.next {
            Next::Ocw1 => {
                self.imr = value;
                Next::Ocw1
            }
            Next::Icw2 => {
                self.base = value & 0xf8;
                if self.single { after_icw3 } else { Next::Icw3 }
            }
            // The cascade is wired, not programmed.
            Next::Icw3 => after_icw3,
            Next::Icw4 => {
                self.special_fully_nested = value & icw4::SPECIAL_FULLY_NESTED != 0;
                self.auto_eoi = value & icw4::AUTO_EOI != 0;
                Next::Ocw1
            }
        };
    }

    fn operate(&mut self, value: u8) {
        if value & ocw3::ENABLE_SPECIAL_MASK != 0 {
            self.special_mask = value & ocw3::SPECIAL_MASK != 0;
        }
        if value & ocw3::READ_REGISTER != 0 {
            self.read_isr = value & ocw3::READ_ISR != 0;
        }
        self.poll = value & ocw3::POLL != 0;
    }

    fn end_or_rotate(&mut self, command: u8, pin: u8) {
        match command {
            ocw2::ROTATE_IN_AUTO_EOI_CLEAR => self.rotate_in_auto_eoi = false,
            ocw2::ROTATE_IN_AUTO_EOI_SET => self.rotate_in_auto_eoi = true,
            ocw2::SET_PRIORITY => self.make_lowest(pin),
            ocw2::EOI | ocw2::ROTATE_ON_EOI => {
                if let Some(pin) = self.first_in_service() {
                    self.end(pin, command == ocw2::ROTATE_ON_EOI);
                }
            }
            ocw2::SPECIFIC_EOI | ocw2::ROTATE_ON_SPECIFIC_EOI => {
                self.end(pin, command == ocw2::ROTATE_ON_SPECIFIC_EOI);
            }
            _ => {}
        }
    }

    /// What a non-specific EOI ends; in special mask mode masked inputs are passed over.
    fn first_in_service(&self) -> Option<u8> {
        let passed_over = if self.special_mask { self.imr } else { 0 };
        let position = self.position(self.isr & !passed_over);
        (position < 8).then(|| self.input_at(position))
    }

    fn end(&mut self, pin: u8, rotate: bool) {
        self.isr &= !(1 << pin);
        if rotate {
            self.make_lowest(pin);
        }
    }

    fn make_lowest(&mut self, pin: u8) {
        self.highest = (pin + 1) & 7;
    }
}
