//! The I/O APIC: 24 inputs, each with a redirection entry that makes a message of it.
//!
//! ```text
//!   line ──► pin ──► redirection entry ──► MsiInterrupt ──► local APICs
//!                        ▲      │ changes
//!   EOI (vector) ────────┘      └──► RouteTarget (what the engine must know in advance)
//! ```
//! An edge sends one message. A level sends one and sets *remote IRR*; the end-of-interrupt for its vector
//! clears it, and if the line is still high another message follows. Polarity is not modelled: `true` of
//! a line means "asserted", and guests program the polarity that ACPI told them. They may read it back.
//!
//! # Sharing and locks
//! Lines come from every device's thread and EOIs from vCPUs, so the chip is shared and has its own lock.
//! Messages and routes are collected under the lock and sent after it is released. Routes change only by
//! guest writes, reset and restore, which the chassis makes one at a time: they arrive in order.
//!
//! # What was rejected
//! An EOI that always asks the engine which pins it concerns: vectors are few, a scan of 24 is cheaper.

mod chip;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

use crate::wires::{Wires, lock};
use chip::{Delivery, is_level, message_of};
use kezhan_device::{
    Access, Device, LineTarget, MsiInterrupt, MsiMessage, Region, RegionIndex, RestoreError,
    SavedState, Space,
};
use spec::{PINS, entry, window};
use state::{IoapicState, KIND, VERSION};
use std::sync::{Arc, Mutex};

/// Told what each pin's message is, whenever it changes: an engine in the kernel must know it to report
/// the end-of-interrupts of level pins.
pub trait RouteTarget: Send + Sync {
    /// Pin `pin` now sends `message`, or nothing while it is masked; `level` when it is served by level.
    fn route(&self, pin: u32, message: Option<MsiMessage>, level: bool);
}

/// A handle to the I/O APIC; clones share it. It is a [`LineTarget`] with pins 0 to 23.
#[derive(Clone)]
pub struct SharedIoapic(Arc<Shared>);

struct Shared {
    name: String,
    msi: MsiInterrupt,
    routes: Option<Arc<dyn RouteTarget>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    chip: IoapicState,
    wires: Wires<PINS>,
}

impl SharedIoapic {
    /// An I/O APIC called `name` that sends by `msi` and tells `routes` of its entries.
    pub fn new(
        name: &str,
        msi: MsiInterrupt,
        routes: Option<Arc<dyn RouteTarget>>,
    ) -> SharedIoapic {
        let inner = Mutex::default();
        SharedIoapic(Arc::new(Shared { name: name.to_owned(), msi, routes, inner }))
    }

    /// A local APIC has ended an interrupt with this vector (the EOI broadcast, Intel SDM vol. 3A
    /// §11.8.5).
    pub fn end_of_interrupt(&self, vector: u8) {
        let deliveries = lock(&self.0.inner).chip.end_of_interrupt(vector);
        self.send(deliveries);
    }

    fn send(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            if !self.0.msi.signal(delivery.message) {
                lock(&self.0.inner).chip.not_taken(delivery);
            }
        }
    }

    fn tell_route(&self, pin: usize) {
        let Some(value) = lock(&self.0.inner).chip.entries.get(pin).copied() else { return };
        if let Some(routes) = &self.0.routes {
            let message = (value & entry::MASKED == 0).then(|| message_of(value));
            routes.route(pin as u32, message, is_level(value));
        }
    }

    fn write_data(&self, value: u32) {
        let changed = lock(&self.0.inner).chip.write_selected(value);
        if let Some(pin) = changed {
            // The engine knows the route before the first message by it.
            self.tell_route(pin);
            let delivery = lock(&self.0.inner).chip.reconsider(pin);
            self.send(delivery);
        }
    }
}

impl LineTarget for SharedIoapic {
    fn set_line(&self, pin: u32, high: bool) {
        let delivery = {
            let mut inner = lock(&self.0.inner);
            let Some(level) = inner.wires.set(pin, high) else { return };
            inner.chip.set_line(pin as usize, level)
        };
        self.send(delivery);
    }
}

impl Device for SharedIoapic {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "registers", space: Space::Memory, length: window::LENGTH }]
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        let value = match (region.0, offset) {
            (0, window::SELECT) => lock(&self.0.inner).chip.select.into(),
            (0, window::DATA) => lock(&self.0.inner).chip.read_selected(),
            _ => return Access::BadRegister,
        };
        match data.len() {
            1 | 2 | 4 => data.copy_from_slice(&value.to_le_bytes()[..data.len()]),
            _ => return Access::BadSize,
        }
        Access::Done
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        let (value, whole) = match *data {
            [a] => (u32::from(a), false),
            [a, b, c, d] => (u32::from_le_bytes([a, b, c, d]), true),
            _ => return Access::BadSize,
        };
        match (region.0, offset) {
            (0, window::SELECT) => lock(&self.0.inner).chip.select = value as u8,
            (0, window::EOI) => self.end_of_interrupt(value as u8),
            (0, window::DATA) if whole => self.write_data(value),
            (0, window::DATA) => return Access::BadSize,
            _ => return Access::BadRegister,
        }
        Access::Done
    }

    fn reset(&mut self) {
        {
            let mut inner = lock(&self.0.inner);
            let lines = inner.wires.levels();
            inner.chip = IoapicState { lines, ..IoapicState::default() };
        }
        (0..PINS).for_each(|pin| self.tell_route(pin));
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, VERSION, &lock(&self.0.inner).chip)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<(), RestoreError> {
        let chip: IoapicState = saved.open(KIND, VERSION)?;
        chip.check()?;
        lock(&self.0.inner).chip = chip;
        (0..PINS).for_each(|pin| self.tell_route(pin));
        Ok(())
    }
}

impl std::fmt::Debug for SharedIoapic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedIoapic({})", self.0.name)
    }
}
