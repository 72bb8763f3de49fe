//! The high precision event timer: a 64-bit counter at 100 MHz and three comparators.
//!
//! ```text
//!   clock ─► counter ─► comparator n matches ─► edge, level (status bit), or message
//!                           │ periodic: comparator += period
//!                           ▼
//!      legacy replacement: timers 0, 1 ─► LegacyGate ─► IRQ 0, IRQ 8
//!      otherwise:          the I/O APIC input that the guest chose among those wired
//! ```
//! The counter is computed from virtual time; each timer knows when its comparator matches next, and the
//! earliest is the chip's deadline. A periodic timer that is late makes up for up to `BACKLOG` periods, one by
//! one at eight times its rate, and goes on at its old phase, so the counter a guest reads and its interrupts
//! never drift apart: on a busy host Linux still counts the ticks by which it judges its timer. Periods shorter
//! than `SPACING` are served at that pace.
//!
//! In periodic mode a write of the comparator sets the period, and the comparator itself too if `SET_VALUE`
//! is set, which the write clears (HPET 1.0a §2.3.9.2.2). That holds while the counter stands as well:
//! Linux sets comparator and period so, one after the other.

mod gate;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

pub use gate::LegacyGate;

use crate::aml::{Hid, Resource, node};
use kezhan_device::{
    Access, Clock, Device, LineInterrupt, MsiInterrupt, MsiMessage, Nanoseconds, Placement, Region,
    RegionIndex, RestoreError, SavedState, Space,
};
use spec::{CAPABILITIES, LENGTH, TICK, TIMERS, configuration, register, timer};
use state::{HpetState, KIND, TimerState, VERSION};
use std::sync::Arc;

/// The least time between two interrupts of a periodic timer, in nanoseconds.
const SPACING: Nanoseconds = 10_000;

/// How many overdue periods are made up for.
const BACKLOG: u64 = 16;

/// Ticks until a 32-bit comparator matches again.
const TURN_32: u64 = 1 << 32;

/// Where the HPET's interrupts go.
#[derive(Debug)]
pub struct HpetWires {
    /// IRQ 0 and IRQ 8, shared with the PIT and the RTC.
    pub gate: Arc<LegacyGate>,
    /// The I/O APIC inputs (0 to 31) that timers may be routed to, each with its line.
    pub routes: Vec<(u32, LineInterrupt)>,
    /// Messages, if timers may send them.
    pub msi: Option<MsiInterrupt>,
}

/// The timer block. See the module.
pub struct Hpet {
    name: String,
    clock: Arc<dyn Clock>,
    wires: HpetWires,
    state: HpetState,
}

impl TimerState {
    fn has(&self, bit: u64) -> bool {
        self.configuration & bit != 0
    }

    fn route(&self) -> u32 {
        ((self.configuration & timer::ROUTE) >> timer::ROUTE_SHIFT) as u32
    }

    /// Ticks by which `counter` is past the comparator.
    fn late(&self, counter: u64) -> u64 {
        let late = counter.wrapping_sub(self.comparator);
        if self.has(timer::MODE_32) { late & (TURN_32 - 1) } else { late }
    }

    /// Ticks from `counter` to the next interrupt: a period that is overdue follows soon.
    fn wait(&self, counter: u64) -> u64 {
        let late = self.late(counter);
        let backlog = self.period.saturating_mul(BACKLOG + 1);
        if self.has(timer::PERIODIC) && late != 0 && late <= backlog {
            return self.period / 8;
        }
        self.distance(counter)
    }

    /// Ticks from `counter` to the comparator's match.
    fn distance(&self, counter: u64) -> u64 {
        let distance = self.comparator.wrapping_sub(counter);
        if self.has(timer::MODE_32) { distance & (TURN_32 - 1) } else { distance }
    }

    /// After a match at `counter`: moves a periodic comparator on; gives the ticks to the
    /// next match.
    fn advance(&mut self, counter: u64) -> Option<u64> {
        if self.has(timer::PERIODIC) && self.period != 0 {
            let missed = self.late(counter) / self.period;
            // Who does not interrupt has nothing to make up for.
            let backlog = if self.has(timer::INTERRUPT) { BACKLOG } else { 0 };
            let periods = missed.saturating_sub(backlog) + 1;
            self.comparator = self.comparator.wrapping_add(periods.wrapping_mul(self.period));
            if self.has(timer::MODE_32) {
                self.comparator &= TURN_32 - 1;
            }
            return Some(self.wait(counter));
        }
        // A one-shot comparator matches again when the counter comes round.
        self.has(timer::MODE_32).then(|| match self.distance(counter) {
            0 => TURN_32,
            distance => distance,
        })
    }
}

impl Hpet {
    /// An HPET called `name`.
    pub fn new(name: &str, clock: Arc<dyn Clock>, wires: HpetWires) -> Hpet {
        Hpet { name: name.to_owned(), clock, wires, state: HpetState::default() }
    }

    fn counter(&self) -> u64 {
        let run = self.state.since.map_or(0, |since| self.clock.now().saturating_sub(since) / TICK);
        self.state.base.wrapping_add(run)
    }

    /// The virtual time at which the counter, now at `counter`, will be `ticks` further.
    fn time_after(&self, counter: u64, ticks: u64) -> Option<Nanoseconds> {
        let run = counter.wrapping_sub(self.state.base).checked_add(ticks)?;
        self.state.since?.checked_add(run.checked_mul(TICK)?)
    }

    /// Computes anew when timer `index` matches.
    fn arm(&mut self, index: usize) {
        let counter = self.counter();
        let distance = self.state.timers.get(index).map(|timer| timer.wait(counter));
        let due = distance.and_then(|distance| self.time_after(counter, distance));
        if let Some(timer) = self.state.timers.get_mut(index) {
            timer.due = due;
        }
    }

    /// Serves the timers whose time has come.
    fn run(&mut self) {
        let (now, counter) = (self.clock.now(), self.counter());
        for index in 0..TIMERS {
            let Some(timer) = self.state.timers.get_mut(index) else { continue };
            if timer.due.is_none_or(|due| due > now) {
                continue;
            }
            let periodic = timer.has(timer::PERIODIC);
            let ticks = timer.advance(counter);
            let due = ticks.and_then(|ticks| self.time_after(counter, ticks));
            if let Some(timer) = self.state.timers.get_mut(index) {
                let soonest = if periodic { now.saturating_add(SPACING) } else { 0 };
                timer.due = due.map(|due| due.max(soonest));
            }
            self.fire(index);
        }
        self.drive();
    }

    /// Timer `index` has matched.
    fn fire(&mut self, index: usize) {
        let Some(timer) = self.state.timers.get(index) else { return };
        if timer.has(timer::LEVEL) {
            self.state.status |= 1 << index;
        } else if !timer.has(timer::INTERRUPT) {
            // It matches silently.
        } else if let (true, Some(msi)) = (timer.has(timer::FSB), &self.wires.msi) {
            msi.signal(MsiMessage { address: timer.fsb >> 32, data: timer.fsb as u32 });
        } else if self.is_legacy(index) {
            self.wires.gate.pulse(index);
        } else if let Some((_, line)) = self.wires.routes.iter().find(|(r, _)| *r == timer.route())
        {
            line.pulse();
        }
    }

    fn is_legacy(&self, index: usize) -> bool {
        self.state.configuration & configuration::LEGACY != 0 && index < 2
    }

    /// Whether timer `index` holds its line high: a level that is active and enabled.
    fn asserts(&self, index: usize) -> bool {
        let enabled = timer::LEVEL | timer::INTERRUPT;
        self.state.status >> index & 1 != 0
            && self.state.since.is_some()
            && self.state.timers.get(index).is_some_and(|t| t.configuration & enabled == enabled)
    }

    fn drive(&self) {
        let legacy = self.state.configuration & configuration::LEGACY != 0;
        self.wires.gate.set_timers(legacy, [self.asserts(0), self.asserts(1)]);
        for (route, line) in &self.wires.routes {
            let high = (0..).zip(&self.state.timers).any(|(index, timer)| {
                timer.route() == *route && !self.is_legacy(index) && self.asserts(index)
            });
            line.set(high);
        }
    }

    fn capabilities_of_timers(&self) -> u64 {
        let routes = self.wires.routes.iter().filter(|(route, _)| *route < 32);
        let mask = routes.fold(0_u64, |mask, (route, _)| mask | 1 << route);
        let message = if self.wires.msi.is_some() { timer::CAN_FSB } else { 0 };
        mask << timer::ROUTES_SHIFT | timer::CAN_BE_PERIODIC | timer::IS_64_BIT | message
    }

    /// The timer and the register within it at `offset`.
    fn locate(offset: u64) -> Option<(usize, u64)> {
        let within = offset.checked_sub(register::TIMER)?;
        let index = usize::try_from(within / register::TIMER_STRIDE).ok()?;
        (index < TIMERS).then_some((index, within % register::TIMER_STRIDE))
    }

    fn read_register(&self, offset: u64) -> u64 {
        match offset {
            register::CAPABILITIES => CAPABILITIES,
            register::CONFIGURATION => self.state.configuration,
            register::STATUS => self.state.status,
            register::COUNTER => self.counter(),
            _ => Hpet::locate(offset).map_or(0, |(index, within)| self.read_timer(index, within)),
        }
    }

    fn read_timer(&self, index: usize, within: u64) -> u64 {
        let Some(timer) = self.state.timers.get(index) else { return 0 };
        match within {
            register::TIMER_CONFIGURATION => {
                timer.configuration & !timer::SET_VALUE | self.capabilities_of_timers()
            }
            register::TIMER_COMPARATOR => timer.comparator,
            register::TIMER_FSB => timer.fsb,
            _ => 0,
        }
    }

    /// Writes the bits of `mask` of the register at `offset`.
    fn write_register(&mut self, offset: u64, value: u64, mask: u64) {
        match offset {
            register::CONFIGURATION => {
                self.configure(self.state.configuration & !mask | value & mask);
            }
            register::STATUS => self.state.status &= !(value & mask),
            // The counter may be written only while it stands (HPET 1.0a §2.3.7).
            register::COUNTER if self.state.since.is_none() => {
                self.state.base = self.state.base & !mask | value & mask;
            }
            _ => {
                if let Some((index, within)) = Hpet::locate(offset) {
                    self.write_timer(index, within, (value, mask));
                    self.arm(index);
                }
            }
        }
    }

    fn configure(&mut self, value: u64) {
        let runs = value & configuration::ENABLE != 0;
        if runs != self.state.since.is_some() {
            self.state.base = self.counter();
            self.state.since = runs.then(|| self.clock.now());
            (0..TIMERS).for_each(|index| self.arm(index));
        }
        self.state.configuration = value & configuration::ALL;
    }

    fn write_timer(&mut self, index: usize, within: u64, (value, mask): (u64, u64)) {
        let capabilities = self.capabilities_of_timers();
        let Some(timer) = self.state.timers.get_mut(index) else { return };
        let merge = |old: u64| old & !mask | value & mask;
        match within {
            register::TIMER_CONFIGURATION => {
                let wanted = merge(timer.configuration) & timer::WRITABLE;
                timer.configuration = possible(wanted, timer.configuration, capabilities);
            }
            register::TIMER_COMPARATOR => {
                if timer.has(timer::PERIODIC) {
                    timer.period = merge(timer.period);
                }
                if !timer.has(timer::PERIODIC) || timer.has(timer::SET_VALUE) {
                    timer.comparator = merge(timer.comparator);
                }
                timer.configuration &= !timer::SET_VALUE;
            }
            register::TIMER_FSB => timer.fsb = merge(timer.fsb),
            _ => {}
        }
    }
}

/// Of a configuration what the timer can do: an input that is not wired does not take (HPET 1.0a §2.3.8).
fn possible(wanted: u64, old: u64, capabilities: u64) -> u64 {
    let route = (wanted & timer::ROUTE) >> timer::ROUTE_SHIFT;
    let mut value = wanted;
    if capabilities >> timer::ROUTES_SHIFT >> route & 1 == 0 {
        value = value & !timer::ROUTE | old & timer::ROUTE;
    }
    if capabilities & timer::CAN_FSB == 0 {
        value &= !timer::FSB;
    }
    value
}

/// The register, shift and mask of an access: 32 or 64 bits, aligned (HPET 1.0a §2.3.1).
fn lane(region: RegionIndex, offset: u64, size: usize) -> Result<(u64, u32, u64), Access> {
    match (region.0, size, offset % 8) {
        (0, ..) if offset >= LENGTH => Err(Access::BadRegister),
        (0, 8, 0) => Ok((offset, 0, u64::MAX)),
        (0, 4, 0) => Ok((offset, 0, u64::MAX >> 32)),
        (0, 4, 4) => Ok((offset - 4, 32, u64::MAX << 32)),
        (0, 4 | 8, _) => Err(Access::Unaligned),
        (0, ..) => Err(Access::BadSize),
        _ => Err(Access::BadRegister),
    }
}

impl Device for Hpet {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "registers", space: Space::Memory, length: LENGTH }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let (register, shift, _) = match lane(region, offset, data.len()) {
            Ok(lane) => lane,
            Err(access) => return access,
        };
        self.run();
        let value = self.read_register(register) >> shift;
        data.iter_mut().zip(value.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        Access::Done
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let (register, shift, mask) = match lane(region, offset, data.len()) {
            Ok(lane) => lane,
            Err(access) => return access,
        };
        self.run();
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(data).for_each(|(byte, value)| *byte = *value);
        self.write_register(register, u64::from_le_bytes(bytes) << shift, mask);
        self.drive();
        Access::Done
    }

    fn deadline(&self) -> Option<Nanoseconds> {
        // Without an interrupt a match shows only in registers, and each access brings those up to date.
        // Linux leaves the periodic timer of its start running so.
        let heard = self.state.timers.iter().filter(|timer| timer.has(timer::INTERRUPT));
        heard.filter_map(|timer| timer.due).min()
    }

    fn wake(&mut self, _now: Nanoseconds) {
        self.run();
    }

    fn reset(&mut self) {
        self.state = HpetState::default();
        self.drive();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &self.state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: HpetState = saved.open(KIND, VERSION)?;
        state.check()?;
        self.state = state;
        self.drive();
        Ok(())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let base = u32::try_from(*placed.bases.first()?).ok()?;
        let resources = [Resource::Memory(base, LENGTH as u32)];
        Some(node("HPET", &Hid::Eisa("PNP0103"), &resources))
    }
}

impl std::fmt::Debug for Hpet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hpet({}, counter {})", self.name, self.counter())
    }
}
