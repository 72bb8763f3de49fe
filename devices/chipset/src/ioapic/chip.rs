//! The chip itself: registers, inputs, and which messages they cause. It sends nothing.

use super::spec::{ID_SHIFT, PINS, VERSION, entry, index, message};
use super::state::IoapicState;
use kezhan_device::MsiMessage;

/// A message that an input causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) pin: usize,
    pub(super) message: MsiMessage,
}

/// Whether an entry is served by level: only fixed and lowest priority can be.
pub(super) fn is_level(value: u64) -> bool {
    value & entry::LEVEL != 0 && value & entry::DELIVERY_MODE <= entry::LOWEST_PRIORITY
}

/// The message that an entry stands for (82093AA §3.2.4; Intel SDM vol. 3A §11.11).
pub(super) fn message_of(value: u64) -> MsiMessage {
    let mut address =
        message::BASE | (value >> entry::DESTINATION_SHIFT) << message::DESTINATION_SHIFT;
    if value & entry::LOGICAL != 0 {
        address |= message::LOGICAL;
    }
    let mut data = (value & (entry::VECTOR | entry::DELIVERY_MODE)) as u32 | message::ASSERT;
    if is_level(value) {
        data |= message::LEVEL;
    }
    MsiMessage { address, data }
}

impl IoapicState {
    /// Input `pin` has the level `high`.
    pub(super) fn set_line(&mut self, pin: usize, high: bool) -> Option<Delivery> {
        let before = self.lines;
        self.lines = if high { before | 1 << pin } else { before & !(1 << pin) };
        let value = *self.entries.get(pin)?;
        if is_level(value) {
            return self.serve_level(pin);
        }
        // An edge that comes while masked is lost (82093AA §3.2.4, interrupt mask).
        let edge = self.lines & !before != 0;
        (edge && value & entry::MASKED == 0).then(|| Delivery { pin, message: message_of(value) })
    }

    /// Serves a level input that asks and is not being served.
    fn serve_level(&mut self, pin: usize) -> Option<Delivery> {
        let asks = self.lines >> pin & 1 != 0;
        let value = self.entries.get_mut(pin)?;
        if !asks || !is_level(*value) || *value & (entry::MASKED | entry::REMOTE_IRR) != 0 {
            return None;
        }
        *value |= entry::REMOTE_IRR;
        Some(Delivery { pin, message: message_of(*value) })
    }

    /// A local APIC has ended `vector`: every level entry with it may ask again.
    pub(super) fn end_of_interrupt(&mut self, vector: u8) -> Vec<Delivery> {
        (0..PINS)
            .filter_map(|pin| {
                let value = self.entries.get_mut(pin)?;
                if *value & entry::VECTOR != u64::from(vector) || *value & entry::REMOTE_IRR == 0 {
                    return None;
                }
                *value &= !entry::REMOTE_IRR;
                self.serve_level(pin)
            })
            .collect()
    }

    /// Nobody took the message: the input is not being served after all.
    pub(super) fn not_taken(&mut self, delivery: Delivery) {
        if let Some(value) = self.entries.get_mut(delivery.pin)
            && message_of(*value) == delivery.message
        {
            *value &= !entry::REMOTE_IRR;
        }
    }

    /// The selected register.
    pub(super) fn read_selected(&self) -> u32 {
        match self.select {
            index::ID | index::ARBITRATION => u32::from(self.id) << ID_SHIFT,
            index::VERSION => VERSION,
            index::REDIRECTION..index::END => {
                let (pin, shift) = locate(self.select);
                self.entries.get(pin).map_or(0, |value| (value >> shift) as u32)
            }
            _ => 0,
        }
    }

    /// Writes the selected register; gives the pin whose entry changed.
    pub(super) fn write_selected(&mut self, value: u32) -> Option<usize> {
        match self.select {
            index::ID => self.id = (value >> ID_SHIFT & 0xf) as u8,
            index::REDIRECTION..index::END => {
                let (pin, shift) = locate(self.select);
                self.write_entry(pin, u64::from(value) << shift, 0xffff_ffff << shift);
                return Some(pin);
            }
            _ => {}
        }
        None
    }

    fn write_entry(&mut self, pin: usize, value: u64, written: u64) {
        let writable = written & entry::ALL & !entry::REMOTE_IRR;
        if let Some(old) = self.entries.get_mut(pin) {
            *old = (*old & !writable) | (value & writable);
            if !is_level(*old) {
                *old &= !entry::REMOTE_IRR;
            }
        }
    }

    /// After a change of its entry, an input that asks may be served.
    pub(super) fn reconsider(&mut self, pin: usize) -> Option<Delivery> {
        self.serve_level(pin)
    }
}

/// Which entry a register belongs to, and which half of it.
fn locate(select: u8) -> (usize, u32) {
    let offset = select - index::REDIRECTION;
    (usize::from(offset / 2), u32::from(offset % 2) * 32)
}
