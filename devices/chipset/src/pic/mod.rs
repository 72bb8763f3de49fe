//! The PC's pair of 8259A interrupt controllers.
//!
//! ```text
//!   IRQ 0,1,3..7 ─► ┌────────┐
//!                   │ master │── INT ──► intr (LINT0 of the boot processor)
//!        ┌── IR2 ─► └────────┘
//!   IRQ 8..15 ─► ┌───────┐
//!                │ slave │ INT
//!                └───────┘      acknowledge() is the INTA cycle: it gives the vector
//! ```
//! `intr` is a level: it is high as long as something can be acknowledged. An acknowledge that finds
//! nothing gives the spurious vector of input 7, as the chip does (8259A, "Interrupt Sequence").
//!
//! # Sharing and locks
//! Lines come from every device's thread, INTA from a vCPU's, so the pair is shared and has its own lock.
//! The lock is never held while `intr` is driven: whoever changes the chips drives the line; if somebody
//! else is at it already, they see the change when they look again. So no thread waits for the
//! engine with the lock held, and the last level driven is always the right one.
//!
//! # What was rejected
//! Driving `intr` under the lock: an engine that acknowledges with a lock of its own would deadlock.

mod chip;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

use crate::aml::{Hid, Resource, node, port};
use crate::wires::{Wires, lock};
use kezhan_device::{
    Access, Device, LineInterrupt, LineTarget, Placement, Region, RegionIndex, RestoreError,
    SavedState, Space, read_bytes, write_bytes,
};
use spec::{CASCADE, ELCR_MASK};
use state::{KIND, PicState, VERSION};
use std::sync::{Arc, Mutex};

const MASTER: usize = 0;
const SLAVE: usize = 1;
const ELCR: usize = 2;

/// A handle to the pair; clones share it. It is a [`LineTarget`] with pins 0 to 15 (2 is the cascade,
/// and ends nowhere).
#[derive(Clone)]
pub struct SharedPic(Arc<Shared>);

struct Shared {
    name: String,
    intr: LineInterrupt,
    pair: Mutex<Pair>,
}

#[derive(Default)]
struct Pair {
    chips: PicState,
    wires: Wires<16>,
    /// Somebody is driving `intr` and will look again.
    driving: bool,
}

impl Pair {
    /// The master's level inputs: the cascade follows the slave's INT output.
    fn master_level(&self) -> u8 {
        self.chips.master.elcr | 1 << CASCADE
    }

    fn slave_interrupt(&self) -> Option<u8> {
        self.chips.slave.interrupt(self.chips.slave.elcr)
    }

    fn cascade(&mut self) {
        let requested = self.slave_interrupt().is_some();
        self.chips.master.set_line(CASCADE, requested);
    }

    fn intr(&self) -> bool {
        self.chips.master.interrupt(self.master_level()).is_some()
    }

    fn set_line(&mut self, pin: u32, high: bool) {
        let Some(level) = self.wires.set(pin, high) else { return };
        match pin {
            0..8 if pin != u32::from(CASCADE) => self.chips.master.set_line(pin as u8, level),
            8..16 => self.chips.slave.set_line(pin as u8 - 8, level),
            _ => {}
        }
    }

    fn acknowledge(&mut self) -> u8 {
        let Some(pin) = self.chips.master.interrupt(self.master_level()) else {
            return self.chips.master.vector(7);
        };
        self.chips.master.acknowledge(pin);
        if pin != CASCADE {
            return self.chips.master.vector(pin);
        }
        let Some(pin) = self.slave_interrupt() else {
            return self.chips.slave.vector(7);
        };
        self.chips.slave.acknowledge(pin);
        self.chips.slave.vector(pin)
    }

    fn read(&mut self, region: usize, offset: u64) -> Option<u8> {
        let (master_level, slave_level) = (self.master_level(), self.chips.slave.elcr);
        match (region, offset) {
            (MASTER, 0..2) => Some(self.chips.master.read(offset, master_level)),
            (SLAVE, 0..2) => Some(self.chips.slave.read(offset, slave_level)),
            (ELCR, 0) => Some(self.chips.master.elcr),
            (ELCR, 1) => Some(self.chips.slave.elcr),
            _ => None,
        }
    }

    fn write(&mut self, region: usize, offset: u64, value: u8) -> bool {
        match (region, offset) {
            (MASTER, 0..2) => self.chips.master.write(offset, value),
            (SLAVE, 0..2) => {
                self.chips.slave.write(offset, value);
                // The mode concerns a chip that has slaves (8259A, "Special Fully Nested Mode").
                self.chips.slave.special_fully_nested = false;
            }
            (ELCR, 0) => self.chips.master.elcr = value & ELCR_MASK[MASTER],
            (ELCR, 1) => self.chips.slave.elcr = value & ELCR_MASK[SLAVE],
            _ => return false,
        }
        true
    }

    /// Power-on: registers clear, lines as they are wired.
    fn reset(&mut self) {
        let [low, high, ..] = self.wires.levels().to_le_bytes();
        self.chips = PicState::default();
        self.chips.master.lines = low & !(1 << CASCADE);
        self.chips.slave.lines = high;
    }
}

impl SharedPic {
    /// A pair called `name` whose INT output is `intr`.
    pub fn new(name: &str, intr: LineInterrupt) -> SharedPic {
        SharedPic(Arc::new(Shared { name: name.to_owned(), intr, pair: Mutex::default() }))
    }

    /// The INTA cycle: the vector of the interrupt that is now in service.
    pub fn acknowledge(&self) -> u8 {
        self.change(Pair::acknowledge)
    }

    /// Changes the chips, then drives `intr` with the lock released. See the module for the scheme.
    fn change<R>(&self, change: impl FnOnce(&mut Pair) -> R) -> R {
        let mut pair = lock(&self.0.pair);
        let result = change(&mut pair);
        pair.cascade();
        if std::mem::replace(&mut pair.driving, true) {
            return result;
        }
        loop {
            let level = pair.intr();
            drop(pair);
            self.0.intr.set(level);
            pair = lock(&self.0.pair);
            if pair.intr() == level {
                pair.driving = false;
                return result;
            }
        }
    }
}

impl LineTarget for SharedPic {
    fn set_line(&self, pin: u32, high: bool) {
        self.change(|pair| pair.set_line(pin, high));
    }
}

impl Device for SharedPic {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn regions(&self) -> Vec<Region> {
        ["master", "slave", "elcr"]
            .map(|name| Region { name, space: Space::Port, length: 2 })
            .to_vec()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        self.change(|pair| read_bytes(offset, data, |offset| pair.read(region.0, offset)))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        self.change(|pair| {
            write_bytes(offset, data, |offset, value| pair.write(region.0, offset, value))
        })
    }

    fn reset(&mut self) {
        self.change(Pair::reset);
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &lock(&self.0.pair).chips)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let chips: PicState = saved.open(KIND, VERSION)?;
        chips.check()?;
        self.change(|pair| pair.chips = chips);
        Ok(())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let ports = [port(placed, MASTER)?, port(placed, SLAVE)?, port(placed, ELCR)?];
        Some(node("PIC_", &Hid::Eisa("PNP0000"), &ports.map(|base| Resource::Ports(base, 2))))
    }
}

impl std::fmt::Debug for SharedPic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedPic({}, {:?})", self.0.name, self.0.intr)
    }
}
