//! Who drives IRQ 0 and IRQ 8: the PIT and the RTC, or in legacy replacement mode HPET timers 0 and 1
//! (HPET 1.0a §2.3.5).

use crate::wires::lock;
use kezhan_device::{LineInterrupt, LineTarget};
use std::sync::{Arc, Mutex};

/// Two switches. The board ends the PIT's line at pin 0 and the RTC's at pin 1; the gate drives the lines
/// that go on to the controllers. It belongs to the wiring: a controller never calls it, so it drives
/// its outputs with its lock held, which keeps them in order.
#[derive(Debug)]
pub struct LegacyGate {
    outputs: [LineInterrupt; 2],
    switches: Mutex<Switches>,
}

#[derive(Debug, Default)]
struct Switches {
    legacy: bool,
    chips: [bool; 2],
    timers: [bool; 2],
}

impl LegacyGate {
    /// A gate that drives `irq0` and `irq8`.
    pub fn new(irq0: LineInterrupt, irq8: LineInterrupt) -> Arc<LegacyGate> {
        Arc::new(LegacyGate { outputs: [irq0, irq8], switches: Mutex::default() })
    }

    fn drive(&self, switches: &Switches) {
        let levels = if switches.legacy { switches.timers } else { switches.chips };
        self.outputs.iter().zip(levels).for_each(|(output, level)| output.set(level));
    }

    /// The HPET's mode and the levels of its timers 0 and 1.
    pub(super) fn set_timers(&self, legacy: bool, timers: [bool; 2]) {
        let mut switches = lock(&self.switches);
        (switches.legacy, switches.timers) = (legacy, timers);
        self.drive(&switches);
    }

    /// An edge of timer 0 or 1, when they are switched through.
    pub(super) fn pulse(&self, timer: usize) {
        let switches = lock(&self.switches);
        if let Some(output) = self.outputs.get(timer).filter(|_| switches.legacy) {
            output.pulse();
        }
    }
}

impl LineTarget for LegacyGate {
    fn set_line(&self, pin: u32, high: bool) {
        let mut switches = lock(&self.switches);
        if let Some(chip) = switches.chips.get_mut(pin as usize) {
            *chip = high;
            self.drive(&switches);
        }
    }
}
