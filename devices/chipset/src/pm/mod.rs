//! ACPI fixed hardware: events, sleep, the power management timer, and the reset register.
//!
//! ```text
//!   power button ─► PM1 status ∧ PM1 enable ─┐
//!   timer bit 31 ─► (TIMER)                  ├─► SCI (level)
//!   hot-plug …   ─► GPE0 status ∧ enable ────┘
//!   PM1 control: SLP_EN with S5's type ─► MachineEvent::PowerOff
//!   reset register: RST_CPU            ─► MachineEvent::Reset
//! ```
//! The machine is always in ACPI mode: `SCI_EN` reads 1, and the FADT names no SMI command port. Only S5 is
//! offered as a sleep state; other sleep types do nothing.
//!
//! The timer is read off the virtual clock. Its status bit is set when bit 31 changes, every ten
//! minutes; the chip asks to be woken for that only while the guest has enabled it.

mod spec;
pub mod state;
#[cfg(test)]
mod tests;

pub use spec::{GPE0_LENGTH, S5_SLEEP_TYPE, reset::ACPI_VALUE as ACPI_RESET_VALUE};

use crate::ticks::{ticks_at, time_of};
use kezhan_device::{
    Access, Clock, Device, LineInterrupt, MachineControl, MachineEvent, Nanoseconds, Region,
    RegionIndex, RestoreError, SavedState, Space, read_bytes, write_bytes,
};
use spec::{pm1_control, pm1_enable, pm1_status, reset, timer};
use state::{KIND, PmState, VERSION};
use std::sync::Arc;

const EVENT: usize = 0;
const CONTROL: usize = 1;
const TIMER: usize = 2;
const GPE0: usize = 3;
const RESET: usize = 4;

/// The power management block. See the module.
pub struct Pm {
    name: String,
    clock: Arc<dyn Clock>,
    sci: LineInterrupt,
    control: Arc<dyn MachineControl>,
    state: PmState,
}

impl Pm {
    /// A block called `name` that interrupts by `sci`.
    pub fn new(
        name: &str,
        clock: Arc<dyn Clock>,
        sci: LineInterrupt,
        control: Arc<dyn MachineControl>,
    ) -> Pm {
        let mut pm = Pm { name: name.to_owned(), clock, sci, control, state: PmState::default() };
        pm.reset();
        pm
    }

    /// Presses and releases the power button (ACPI 6.5 §4.8.2.2.1).
    pub fn press_power_button(&mut self) {
        self.state.status |= pm1_status::POWER_BUTTON;
        self.drive();
    }

    /// Raises general-purpose event `number`, 0 to 15; the guest runs its `_Lxx` or `_Exx` method.
    pub fn raise_event(&mut self, number: u8) {
        self.state.gpe_status |= 1_u16.checked_shl(number.into()).unwrap_or(0);
        self.drive();
    }

    fn ticks(&self) -> u64 {
        ticks_at(self.clock.now(), timer::FREQUENCY)
    }

    /// Sets the timer's status if its top bit has changed since the last look.
    fn look_at_timer(&mut self) {
        let half_turns = self.ticks() >> (timer::WIDTH - 1);
        if half_turns != self.state.half_turns {
            self.state.half_turns = half_turns;
            self.state.status |= pm1_status::TIMER;
        }
    }

    fn drive(&self) {
        let pm1 = self.state.status & self.state.enable;
        let gpe = self.state.gpe_status & self.state.gpe_enable;
        self.sci.set(pm1 | gpe != 0);
    }

    fn read_register(&self, region: usize, offset: u64) -> Option<u8> {
        let state = &self.state;
        let [s0, s1] = state.status.to_le_bytes();
        let [e0, e1] = state.enable.to_le_bytes();
        let [c0, c1] = (state.control | pm1_control::SCI_ENABLE).to_le_bytes();
        let [gs0, gs1] = state.gpe_status.to_le_bytes();
        let [ge0, ge1] = state.gpe_enable.to_le_bytes();
        let at = |bytes: &[u8]| bytes.get(usize::try_from(offset).ok()?).copied();
        match region {
            EVENT => at(&[s0, s1, e0, e1]),
            CONTROL => at(&[c0, c1]),
            GPE0 => at(&[gs0, gs1, ge0, ge1]),
            RESET => at(&[state.reset_control]),
            _ => None,
        }
    }

    fn write_register(&mut self, region: usize, offset: u64, value: u8) -> bool {
        let shift = (offset & 1) as u32 * 8;
        let wide = u16::from(value) << shift;
        let lane = 0xff << shift;
        let state = &mut self.state;
        match (region, offset) {
            (EVENT, 0..2) => state.status &= !wide,
            (EVENT, 2..4) => {
                state.enable = (state.enable & !lane) | (wide & lane & pm1_enable::ALL);
            }
            (GPE0, 0..2) => state.gpe_status &= !wide,
            (GPE0, 2..4) => state.gpe_enable = (state.gpe_enable & !lane) | (wide & lane),
            (CONTROL, 0..2) => self.write_control(wide, lane),
            (RESET, 0) => self.write_reset(value),
            (TIMER, 0..4) => {}
            _ => return false,
        }
        true
    }

    fn write_control(&mut self, value: u16, lane: u16) {
        let kept = (self.state.control & !lane) | (value & lane);
        self.state.control = kept & pm1_control::KEPT;
        let sleep_type = kept >> pm1_control::SLEEP_TYPE_SHIFT & 7;
        if value & pm1_control::SLEEP_ENABLE != 0 && sleep_type == u16::from(S5_SLEEP_TYPE) {
            self.control.request(MachineEvent::PowerOff);
        }
    }

    fn write_reset(&mut self, value: u8) {
        self.state.reset_control = value & reset::KEPT;
        if value & reset::RESET_CPU != 0 {
            self.control.request(MachineEvent::Reset);
        }
    }
}

impl Device for Pm {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        [("event", 4), ("control", 2), ("timer", 4), ("gpe0", GPE0_LENGTH), ("reset", 1)]
            .map(|(name, length)| Region { name, space: Space::Port, length })
            .to_vec()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        self.look_at_timer();
        let timer = (self.ticks() as u32).to_le_bytes();
        let access = read_bytes(offset, data, |offset| match region.0 {
            TIMER => timer.get(usize::try_from(offset).ok()?).copied(),
            region => self.read_register(region, offset),
        });
        self.drive();
        access
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        self.look_at_timer();
        let access =
            write_bytes(offset, data, |offset, value| self.write_register(region.0, offset, value));
        self.drive();
        access
    }

    fn deadline(&self) -> Option<Nanoseconds> {
        let wanted = self.state.enable & !self.state.status & pm1_status::TIMER != 0;
        wanted.then(|| {
            let next =
                self.state.half_turns.saturating_add(1).saturating_mul(1 << (timer::WIDTH - 1));
            time_of(next, timer::FREQUENCY)
        })
    }

    fn wake(&mut self, _now: Nanoseconds) {
        self.look_at_timer();
        self.drive();
    }

    fn reset(&mut self) {
        let half_turns = self.ticks() >> (timer::WIDTH - 1);
        self.state = PmState { half_turns, ..PmState::default() };
        self.drive();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &self.state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: PmState = saved.open(KIND, VERSION)?;
        state.check()?;
        self.state = state;
        self.drive();
        Ok(())
    }
}

impl std::fmt::Debug for Pm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pm({}, {:?})", self.name, self.state)
    }
}
