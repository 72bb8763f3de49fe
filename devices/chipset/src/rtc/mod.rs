//! The real-time clock and CMOS memory: an MC146818A with the PC's second bank.
//!
//! ```text
//!   Clock::wall ─(+ offset)─► time registers     a write of the guest's changes the offset
//!   Clock::now  ─► 32 768 Hz ─► periodic flag ─┐
//!   each second ─► update flag, alarm flag ────┴─ ∧ enables ─► IRQ 8, until C is read
//! ```
//! Nothing ticks: the registers are computed when they are read, and flags are set when somebody looks.
//! The chip asks to be woken only for a flag whose interrupt is enabled and which is not set yet, so an
//! unread interrupt never repeats.
//!
//! While updates are stopped (`SET`, or the divider in reset) the time registers are plain memory; when
//! they go on, the clock goes on from what they hold.
//!
//! # What the battery keeps
//! Memory and the guest's time outlive a reset; interrupts are disabled by it, as on the chip.

mod calendar;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

use crate::aml::{Hid, Resource, node, port};
use crate::ticks::{ticks_at, time_of};
use calendar::{clock_bytes, seconds_of, time_bytes};
use kezhan_device::{
    Access, Clock, Device, LineInterrupt, Nanoseconds, Placement, Region, RegionIndex,
    RestoreError, SECOND, SavedState, Space, read_bytes, write_bytes,
};
use spec::{ALARM_ANY, BANK, D_VALID, FREQUENCY, TIME, UPDATE, a, address, b, c, cmos};
use state::{KIND, RtcState, VERSION};
use std::sync::Arc;

pub use spec::address::CENTURY;

/// The longest time over which a missed alarm is looked for: a day, after which alarms repeat.
const ALARM_SPAN: i64 = 86_400;

/// Memory sizes for firmware to find in CMOS, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CmosMemory {
    /// RAM that lies below 4 GiB.
    pub below_4g: u64,
    /// RAM that lies from 4 GiB.
    pub above_4g: u64,
}

impl CmosMemory {
    fn describe(self, ram: &mut [u8]) {
        let mut put = |at: u8, value: u64, bytes: usize| {
            let value = value.min((1 << (8 * bytes)) - 1).to_le_bytes();
            let cells = ram.iter_mut().skip(at.into()).take(bytes);
            cells.zip(value).for_each(|(cell, byte)| *cell = byte);
        };
        put(cmos::EQUIPMENT.0, cmos::EQUIPMENT.1.into(), 1);
        put(cmos::BASE, 640, 2);
        for at in cmos::EXTENDED {
            put(at, self.below_4g.saturating_sub(1 << 20) >> 10, 2);
        }
        put(cmos::ABOVE_16_MIB, self.below_4g.saturating_sub(16 << 20) >> 16, 2);
        put(cmos::ABOVE_4_GIB, self.above_4g >> 16, 3);
        let (first, last, at) = cmos::CHECKSUM;
        let covered = ram.get(first.into()..=last.into()).unwrap_or_default();
        let sum: u16 = covered.iter().map(|byte| u16::from(*byte)).sum();
        ram.iter_mut().skip(at.into()).zip(sum.to_be_bytes()).for_each(|(cell, byte)| *cell = byte);
    }
}

/// The clock. See the module.
pub struct Rtc {
    name: String,
    clock: Arc<dyn Clock>,
    irq8: LineInterrupt,
    state: RtcState,
}

impl Rtc {
    /// A clock called `name` that interrupts by `irq8` and tells firmware of `memory`.
    pub fn new(name: &str, clock: Arc<dyn Clock>, irq8: LineInterrupt, memory: CmosMemory) -> Rtc {
        let mut ram = vec![0; BANK];
        memory.describe(&mut ram);
        let state = RtcState {
            index: 0,
            extended_index: 0,
            ram,
            extended: vec![0; BANK],
            offset: 0,
            held: None,
            flags: 0,
            seen_second: clock.wall().0,
            seen_period: 0,
        };
        let mut rtc = Rtc { name: name.to_owned(), clock, irq8, state };
        rtc.put(address::A, a::POWER_ON);
        rtc.put(address::B, b::HOURS_24);
        rtc.state.seen_period = rtc.period_now();
        rtc
    }

    fn get(&self, address: u8) -> u8 {
        self.state.ram.get(usize::from(address)).copied().unwrap_or(0)
    }

    fn put(&mut self, address: u8, value: u8) {
        if let Some(cell) = self.state.ram.get_mut(usize::from(address)) {
            *cell = value;
        }
    }

    /// The guest's time in seconds.
    fn second_now(&self) -> i64 {
        self.clock.wall().0.saturating_add(self.state.offset)
    }

    /// The length of the periodic interrupt's period in crystal ticks (MC146818A, table 5).
    fn period(&self) -> Option<u64> {
        match self.get(address::A) & a::RATE {
            0 => None,
            // The two fastest settings of another crystal give 256 and 128 Hz with this one.
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn period_now(&self) -> u64 {
        self.period().map_or(0, |period| ticks_at(self.clock.now(), FREQUENCY) / period)
    }

    /// Sets the flags of what has happened since the last look.
    fn look(&mut self) {
        let second = self.second_now();
        if self.state.held.is_none() && second != self.state.seen_second {
            self.state.flags |= c::UF;
            if self.alarm_within(self.state.seen_second, second) {
                self.state.flags |= c::AF;
            }
            self.state.seen_second = second;
        }
        let period = self.period_now();
        if period != self.state.seen_period {
            self.state.flags |= c::PF;
            self.state.seen_period = period;
        }
    }

    /// Whether the alarm matches a second after `from` up to `to`.
    fn alarm_within(&self, from: i64, to: i64) -> bool {
        let alarm = [address::ALARM_SECONDS, address::ALARM_MINUTES, address::ALARM_HOURS]
            .map(|address| self.get(address));
        let control = self.get(address::B);
        let from = from.max(to.saturating_sub(ALARM_SPAN));
        (from.saturating_add(1)..=to).any(|second| {
            let time = clock_bytes(second, control);
            alarm.iter().zip(time).all(|(alarm, time)| *alarm >= ALARM_ANY || *alarm == time)
        })
    }

    fn drive(&self) {
        self.irq8.set(self.state.flags & self.get(address::B) != 0);
    }

    fn time_now(&self) -> calendar::TimeBytes {
        let computed = || time_bytes(self.second_now(), self.get(address::B));
        self.state.held.unwrap_or_else(computed)
    }

    fn set_time(&mut self, bytes: &calendar::TimeBytes) {
        let second = seconds_of(bytes, self.get(address::B));
        self.state.offset = second.saturating_sub(self.clock.wall().0);
        self.state.seen_second = second;
    }

    fn read_cell(&mut self) -> u8 {
        let index = self.state.index;
        if let Some(place) = TIME.iter().position(|address| *address == index) {
            return self.time_now().get(place).copied().unwrap_or(0);
        }
        match index {
            address::A => self.get(index) | self.update_in_progress(),
            address::C => {
                let active = self.state.flags & self.get(address::B) != 0;
                let flags = std::mem::take(&mut self.state.flags);
                flags | if active { c::IRQF } else { 0 }
            }
            address::D => D_VALID,
            _ => self.get(index),
        }
    }

    fn update_in_progress(&self) -> u8 {
        let late = u64::from(self.clock.wall().1) >= SECOND - u64::from(UPDATE);
        if self.state.held.is_none() && late { a::UIP } else { 0 }
    }

    fn write_cell(&mut self, value: u8) {
        let index = self.state.index;
        if let Some(place) = TIME.iter().position(|address| *address == index) {
            return self.write_time(place, value);
        }
        match index {
            address::A => self.write_control(index, value & !a::UIP),
            // Stopping updates disables their interrupt (MC146818A, "Register B", SET).
            address::B if value & b::SET != 0 => self.write_control(index, value & !b::UIE),
            address::B => self.write_control(index, value),
            address::C | address::D => {}
            _ => self.put(index, value),
        }
    }

    fn write_time(&mut self, place: usize, value: u8) {
        let mut bytes = self.time_now();
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
        if self.state.held.is_some() {
            self.state.held = Some(bytes);
        } else {
            self.set_time(&bytes);
        }
    }

    /// Writes register A or B; the clock may stop or go on.
    fn write_control(&mut self, address: u8, value: u8) {
        let before = self.time_now();
        self.put(address, value);
        let stopped = self.get(address::B) & b::SET != 0
            || self.get(address::A) & a::DIVIDER_RESET == a::DIVIDER_RESET;
        match (self.state.held, stopped) {
            (None, true) => self.state.held = Some(before),
            (Some(bytes), false) => {
                self.state.held = None;
                self.set_time(&bytes);
            }
            _ => {}
        }
        self.state.seen_period = self.period_now();
    }

    fn read_register(&mut self, region: usize, offset: u64) -> Option<u8> {
        match (region, offset) {
            // The standard bank's address is write only on a PC/AT.
            (0, 0) => Some(0xff),
            (0, 1) => Some(self.read_cell()),
            (1, 0) => Some(self.state.extended_index),
            (1, 1) => self.state.extended.get(usize::from(self.state.extended_index)).copied(),
            _ => None,
        }
    }

    fn write_register(&mut self, region: usize, offset: u64, value: u8) -> bool {
        match (region, offset) {
            // Bit 7 masks NMIs, of which this machine has none.
            (0, 0) => self.state.index = value & 0x7f,
            (0, 1) => self.write_cell(value),
            (1, 0) => self.state.extended_index = value & 0x7f,
            (1, 1) => {
                let at = usize::from(self.state.extended_index);
                if let Some(cell) = self.state.extended.get_mut(at) {
                    *cell = value;
                }
            }
            _ => return false,
        }
        true
    }
}

impl Device for Rtc {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        ["index-data", "extended"]
            .map(|name| Region { name, space: Space::Port, length: 2 })
            .to_vec()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        self.look();
        let access = read_bytes(offset, data, |offset| self.read_register(region.0, offset));
        self.drive();
        access
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        self.look();
        let access =
            write_bytes(offset, data, |offset, value| self.write_register(region.0, offset, value));
        self.drive();
        access
    }

    fn deadline(&self) -> Option<Nanoseconds> {
        let wanted = self.get(address::B) & !self.state.flags;
        let second = (wanted & (c::UF | c::AF) != 0 && self.state.held.is_none()).then(|| {
            let left = SECOND.saturating_sub(self.clock.wall().1.into()).max(1);
            self.clock.now().saturating_add(left)
        });
        let period = self.period().filter(|_| wanted & c::PF != 0).map(|period| {
            time_of(self.state.seen_period.saturating_add(1).saturating_mul(period), FREQUENCY)
        });
        second.into_iter().chain(period).min()
    }

    fn wake(&mut self, _now: Nanoseconds) {
        self.look();
        self.drive();
    }

    fn reset(&mut self) {
        self.look();
        self.state.flags = 0;
        self.put(address::B, self.get(address::B) & !b::RESET_CLEARS);
        (self.state.index, self.state.extended_index) = (0, 0);
        self.drive();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &self.state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let state: RtcState = saved.open(KIND, VERSION)?;
        state.check()?;
        self.state = state;
        self.drive();
        Ok(())
    }

    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let resources = [
            Resource::Ports(port(placed, 0)?, 2),
            Resource::Ports(port(placed, 1)?, 2),
            Resource::Edge(*placed.interrupts.first()?),
        ];
        Some(node("RTC_", &Hid::Eisa("PNP0B00"), &resources))
    }
}

impl std::fmt::Debug for Rtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rtc({}, offset {} s)", self.name, self.state.offset)
    }
}
