//! The 8254 interval timer, with the PC's port 0x61.
//!
//! ```text
//!   clock ─► counter 0 ── OUT ──► IRQ 0        gate always high
//!            counter 1                         gate always high (once: memory refresh)
//!            counter 2 ── OUT ──► port 0x61 bit 5
//!               ▲ gate = port 0x61 bit 0
//! ```
//! Counts and outputs are computed from virtual time when somebody looks; only counter 0 asks to be woken,
//! at each rise of its output.
//!
//! # The interrupt
//! The line falls and rises at each rise of OUT and stays high between. (That OUT of mode 3 is low half of
//! the time is seen in the status byte only; an edge-triggered input cannot tell.)
//!
//! # Lateness
//! The n-th interrupt is due n periods after the count was loaded, however late the ones before were given:
//! the rate is exact in the long run. Interrupts that are overdue follow each other at twice
//! the rate, since edges given at once would be lost in the controller; beyond [`BACKLOG`] they are dropped.
//! Whatever the guest programs, interrupts are never closer than [`SPACING`].

mod counter;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

use crate::aml::{Hid, Resource, node, port};
use crate::ticks::{ticks_at, time_of};
use kezhan_device::{
    Access, Clock, Device, LineInterrupt, Nanoseconds, Placement, Region, RegionIndex,
    RestoreError, SavedState, Space, read_bytes, write_bytes,
};
use spec::{CONTROL, FREQUENCY, control, read_back, speaker};
use state::{CounterState, KIND, PitState, VERSION};
use std::sync::Arc;

/// How many overdue interrupts are made up for.
const BACKLOG: u64 = 4;

/// The least time between two interrupts, in nanoseconds.
const SPACING: Nanoseconds = 10_000;

const COUNTERS: usize = 0;
const SPEAKER: usize = 1;

/// The timer. See the module.
pub struct Pit {
    name: String,
    clock: Arc<dyn Clock>,
    irq0: LineInterrupt,
    state: PitState,
}

fn power_on() -> PitState {
    PitState { counters: [true, true, false].map(CounterState::with_gate), ..PitState::default() }
}

impl Pit {
    /// A timer called `name` whose counter 0 interrupts by `irq0`.
    pub fn new(name: &str, clock: Arc<dyn Clock>, irq0: LineInterrupt) -> Pit {
        Pit { name: name.to_owned(), clock, irq0, state: power_on() }
    }

    fn tick(&self) -> u64 {
        ticks_at(self.clock.now(), FREQUENCY)
    }

    /// Brings counters up to `tick`; a new count of counter 0 starts its interrupts anew.
    fn settle(&mut self, tick: u64) {
        for counter in self.state.counters.iter_mut().skip(1) {
            counter.settle(tick);
        }
        let [counter, ..] = &mut self.state.counters;
        let owed = counter.rises(tick) > self.state.ticked;
        if counter.settle(tick) {
            self.state.ticked = 0;
            if owed {
                self.interrupt();
            }
            self.schedule();
        }
    }

    fn read_register(&mut self, region: usize, offset: u64) -> Option<u8> {
        let tick = self.tick();
        match (region, offset) {
            (COUNTERS, CONTROL) => Some(0xff),
            (COUNTERS, _) => {
                let counter = self.state.counters.get_mut(usize::try_from(offset).ok()?)?;
                Some(counter.read(tick))
            }
            (SPEAKER, 0) => Some(self.read_speaker(tick)),
            _ => None,
        }
    }

    fn read_speaker(&self, tick: u64) -> u8 {
        let [.., counter] = &self.state.counters;
        let mut value = self.state.speaker;
        if counter.out(tick) {
            value |= speaker::OUT;
        }
        if (self.clock.now() / speaker::REFRESH_PERIOD) & 1 != 0 {
            value |= speaker::REFRESH;
        }
        value
    }

    fn write_register(&mut self, region: usize, offset: u64, value: u8) -> bool {
        let tick = self.tick();
        match (region, offset) {
            (COUNTERS, CONTROL) => self.write_control(value, tick),
            (COUNTERS, 0..CONTROL) => self.write_counter(offset as usize, value, tick),
            (SPEAKER, 0) => {
                self.state.speaker = value & speaker::WRITABLE;
                let [.., counter] = &mut self.state.counters;
                counter.set_gate(value & speaker::GATE != 0, tick);
            }
            _ => return false,
        }
        true
    }

    fn write_counter(&mut self, index: usize, value: u8, tick: u64) {
        let Some(counter) = self.state.counters.get_mut(index) else { return };
        let complete = counter.write(value, tick);
        let waits = counter.pending.is_some();
        if index == 0 && !waits {
            self.restart(complete);
        }
    }

    fn write_control(&mut self, word: u8, tick: u64) {
        let index = word >> control::COUNTER_SHIFT;
        if index == control::READ_BACK {
            return self.read_back(word, tick);
        }
        let Some(counter) = self.state.counters.get_mut(usize::from(index)) else { return };
        if word >> control::ACCESS_SHIFT & 3 == 0 {
            return counter.latch_count(tick);
        }
        counter.control(word);
        if index == 0 {
            self.restart(false);
        }
    }

    fn read_back(&mut self, word: u8, tick: u64) {
        for (bit, counter) in (1..).zip(&mut self.state.counters) {
            if word >> bit & 1 == 0 {
                continue;
            }
            if word & read_back::NO_COUNT == 0 {
                counter.latch_count(tick);
            }
            if word & read_back::NO_STATUS == 0 {
                counter.latch_status(tick);
            }
        }
    }

    /// Counter 0 was programmed: its interrupts begin anew, if a count was `loaded`.
    fn restart(&mut self, loaded: bool) {
        self.state.ticked = 0;
        let [counter, ..] = &self.state.counters;
        self.state.line = counter.mode != 0;
        if loaded {
            self.schedule();
        } else {
            self.state.next = None;
        }
    }

    /// One interrupt: an edge.
    fn interrupt(&mut self) {
        self.state.line = true;
        self.irq0.set(false);
        self.irq0.set(true);
    }

    /// When the next interrupt is due, or sooner one that is overdue.
    fn schedule(&mut self) {
        let [counter, ..] = &self.state.counters;
        let (now, tick) = (self.clock.now(), self.tick());
        let overdue = counter.rises(tick) > self.state.ticked;
        let due = counter.tick_of_rise(self.state.ticked.saturating_add(1));
        let half = counter.period().map_or(0, |period| time_of(period / 2, FREQUENCY));
        self.state.next = due.map(|due| {
            let due = if overdue { now.saturating_add(half) } else { time_of(due, FREQUENCY) };
            due.max(now.saturating_add(SPACING))
        });
    }

    fn drive(&self) {
        self.irq0.set(self.state.line);
    }
}

impl Device for Pit {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![
            Region { name: "counters", space: Space::Port, length: 4 },
            Region { name: "speaker", space: Space::Port, length: 1 },
        ]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        self.settle(self.tick());
        read_bytes(offset, data, |offset| self.read_register(region.0, offset))
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        self.settle(self.tick());
        let access =
            write_bytes(offset, data, |offset, value| self.write_register(region.0, offset, value));
        self.drive();
        access
    }

    fn deadline(&self) -> Option<Nanoseconds> {
        self.state.next
    }

    fn wake(&mut self, now: Nanoseconds) {
        self.settle(self.tick());
        if self.state.next.is_none_or(|next| now < next) {
            return;
        }
        let [counter, ..] = &self.state.counters;
        let due = counter.rises(self.tick());
        if due > self.state.ticked {
            self.state.ticked = (self.state.ticked + 1).max(due.saturating_sub(BACKLOG));
            self.interrupt();
        }
        self.schedule();
    }

    fn reset(&mut self) {
        self.state = power_on();
        self.drive();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &self.state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: PitState = saved.open(KIND, VERSION)?;
        state.check()?;
        self.state = state;
        self.drive();
        Ok(())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        Some(node("PIT_", &Hid::Eisa("PNP0100"), &[Resource::Ports(port(placed, COUNTERS)?, 4)]))
    }
}

impl std::fmt::Debug for Pit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pit({}, next {:?})", self.name, self.state.next)
    }
}
