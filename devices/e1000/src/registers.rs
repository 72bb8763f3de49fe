//! The registers as they are kept: most are only that, and the datapath reads them where it needs them.

use crate::spec::{control, register};
use serde::{Deserialize, Serialize};

const COUNT: usize = register::END as usize / 4;

/// Every register below [`register::END`].
#[derive(Clone, Debug)]
pub(crate) struct Registers(Box<[u32; COUNT]>);

/// Those that are not zero, by offset: saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RegistersState(Vec<(u32, u32)>);

impl Registers {
    /// As after power-on or CTRL.RST, the first receive address read from the EEPROM (SDM §13.5.2).
    pub(crate) fn power_on(mac: [u8; 6]) -> Registers {
        let mut registers = Registers(Box::new([0; COUNT]));
        let [a, b, c, d, e, f] = mac;
        registers.set(register::RAL, u32::from_le_bytes([a, b, c, d]));
        registers.set(register::RAL + 4, u32::from_le_bytes([e, f, 0, 0x80]));
        registers.set(register::CTRL, control::POWER_ON);
        registers.set(register::PBA, 0x10_0030);
        registers
    }

    pub(crate) fn get(&self, offset: u32) -> u32 {
        self.0.get(offset as usize / 4).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, offset: u32, value: u32) {
        if let Some(register) = self.0.get_mut(offset as usize / 4) {
            *register = value;
        }
    }

    /// Counts in a statistic, which stays at its highest (SDM §13.7).
    pub(crate) fn count(&mut self, offset: u32, more: u32) {
        self.set(offset, self.get(offset).saturating_add(more));
    }

    pub(crate) fn save(&self) -> RegistersState {
        let all = (0_u32..).step_by(4).zip(self.0.iter().copied());
        RegistersState(all.filter(|(_, value)| *value != 0).collect())
    }

    /// `None` when an offset is none.
    pub(crate) fn restored(state: &RegistersState) -> Option<Registers> {
        let mut registers = Registers(Box::new([0; COUNT]));
        for (offset, value) in &state.0 {
            if !offset.is_multiple_of(4) {
                return None;
            }
            *registers.0.get_mut(*offset as usize / 4)? = *value;
        }
        Some(registers)
    }
}

/// A ring of descriptors: where it is, how many there are, head and tail (SDM §3.2.6, §3.4). A tail or head
/// outside is one that the guest got wrong; nothing is done then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub(crate) base: u64,
    pub(crate) count: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl Ring {
    /// The ring whose first register is at `offset`.
    pub(crate) fn of(registers: &Registers, offset: u32) -> Ring {
        let at = |more| registers.get(offset + more);
        Ring {
            base: u64::from(at(0) & !0xf) | u64::from(at(4)) << 32,
            count: (at(8) & 0xf_ff80) / 16,
            head: at(0x10) & 0xffff,
            tail: at(0x18) & 0xffff,
        }
    }

    /// Descriptors that are the card's.
    pub(crate) fn owned(&self) -> u32 {
        if self.head >= self.count || self.tail >= self.count {
            return 0;
        }
        (self.tail + self.count - self.head) % self.count
    }

    /// Where the descriptor at the head is.
    pub(crate) fn place(&self) -> u64 {
        self.base.wrapping_add(u64::from(self.head) * crate::spec::DESCRIPTOR)
    }

    /// Moves the head on.
    pub(crate) fn advance(&mut self) {
        self.head = (self.head + 1) % self.count.max(1);
    }
}
