//! MSI-X: a table of messages in a BAR (PCI Local Bus 3.0 §6.8.2).
//!
//! ```text
//!   function: signal(vector) ──► enabled? masked? ──► MsiInterrupt
//!                                          │ yes
//!                                          └──► pending bit, sent when the mask is taken away
//! ```
//! The function gives accesses to its table region to [`Msix::read`] and [`Msix::write`], and calls
//! [`Msix::config_written`] after each write to configuration space, where the capability lives.

use crate::spec::msix::{
    CAPABILITY, CONTROL_BITS, ENABLE, ENTRY_BYTES, FUNCTION_MASK, MASKED, PENDING_OFFSET,
    REGION_BYTES, VECTOR_LIMIT,
};
use crate::{ConfigSpace, ConfigState};
use kezhan_device::{Access, MsiInterrupt, MsiMessage, RestoreError};
use serde::{Deserialize, Serialize};

const KIND: &str = "pci-msix";

/// Length of the region that holds table and pending bits.
pub const MSIX_REGION: u64 = REGION_BYTES;

/// A row of the table (§6.8.2.6 to 6.8.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    message: MsiMessage,
    control: u32,
    pending: bool,
}

const POWER_ON: Entry =
    Entry { message: MsiMessage { address: 0, data: 0 }, control: MASKED, pending: false };

/// Saved form of the table; version 1. The capability's own bits are in the [`ConfigState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsixState {
    entries: Vec<Entry>,
}

/// Table, pending bits and the switches of the capability. See the module.
#[derive(Debug)]
pub struct Msix {
    target: MsiInterrupt,
    entries: Vec<Entry>,
    capability: Option<u8>,
    control: u16,
}

impl Msix {
    /// `vectors` messages (1 to 128) in the region behind base address register `bar`; adds the capability to
    /// `config`. A configuration space without room for it gets none, and the guest sees no MSI-X.
    pub fn new(vectors: u16, bar: u8, config: &mut ConfigSpace, target: MsiInterrupt) -> Msix {
        let vectors = vectors.clamp(1, VECTOR_LIMIT);
        let mut body = Vec::with_capacity(10);
        body.extend((vectors - 1).to_le_bytes());
        body.extend(u32::from(bar & 7).to_le_bytes());
        body.extend((PENDING_OFFSET as u32 | u32::from(bar & 7)).to_le_bytes());
        let capability = config.add_capability(CAPABILITY, &body, &CONTROL_BITS.to_le_bytes());
        Msix { target, entries: vec![POWER_ON; vectors.into()], capability, control: 0 }
    }

    /// Whether the guest uses it: then INTx# is not driven (§6.8.2.3).
    pub fn is_enabled(&self) -> bool {
        self.control & ENABLE != 0
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Sends the message of a vector, or keeps it pending while it is masked. A vector that does not exist,
    /// or any while MSI-X is off, is dropped.
    pub fn signal(&mut self, vector: u16) {
        let masked = self.control & FUNCTION_MASK != 0;
        if self.control & ENABLE == 0 {
            return;
        }
        if let Some(entry) = self.entries.get_mut(usize::from(vector)) {
            entry.pending = true;
            entry.deliver(masked, &self.target);
        }
    }

    /// The guest has written to configuration space: the capability's switches may have moved.
    pub fn config_written(&mut self, config: &ConfigSpace) {
        self.control =
            self.capability.map_or(0, |at| config.word(usize::from(at) + 2)) & CONTROL_BITS;
        self.deliver_pending();
    }

    fn deliver_pending(&mut self) {
        if self.control & ENABLE != 0 {
            let masked = self.control & FUNCTION_MASK != 0;
            self.entries.iter_mut().for_each(|entry| entry.deliver(masked, &self.target));
        }
    }

    /// A read of the region: doublewords and quadwords only (§6.8.2).
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Access {
        if let Some(access) = refuse(offset, data.len()) {
            return access;
        }
        for (index, word) in data.chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&self.word(offset + index as u64 * 4).to_le_bytes());
        }
        Access::Done
    }

    fn word(&self, offset: u64) -> u32 {
        if let Some(bit) = offset.checked_sub(PENDING_OFFSET) {
            let rows = self.entries.iter().skip(bit as usize * 8).take(32);
            return rows.enumerate().map(|(at, entry)| u32::from(entry.pending) << at).sum();
        }
        let Some(entry) = self.entries.get((offset / ENTRY_BYTES) as usize) else { return 0 };
        match offset % ENTRY_BYTES {
            0 => entry.message.address as u32,
            4 => (entry.message.address >> 32) as u32,
            8 => entry.message.data,
            _ => entry.control,
        }
    }

    /// A write of the region. Pending bits are read-only.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Access {
        if let Some(access) = refuse(offset, data.len()) {
            return access;
        }
        for (index, word) in data.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes(word.try_into().unwrap_or_default());
            self.set_word(offset + index as u64 * 4, value);
        }
        self.deliver_pending();
        Access::Done
    }

    fn set_word(&mut self, offset: u64, value: u32) {
        let Some(entry) = self.entries.get_mut((offset / ENTRY_BYTES) as usize) else { return };
        let address = entry.message.address;
        match offset % ENTRY_BYTES {
            // The low two bits are always zero (§6.8.2.7).
            0 => entry.message.address = address & !0xffff_ffff | u64::from(value & !3),
            4 => entry.message.address = address & 0xffff_ffff | u64::from(value) << 32,
            8 => entry.message.data = value,
            _ => entry.control = value & MASKED,
        }
    }

    /// Back to the power-on state; the capability's switches go with the configuration space.
    pub fn reset(&mut self) {
        self.entries.fill(POWER_ON);
        self.control = 0;
    }

    /// The state to save.
    pub fn save(&self) -> MsixState {
        MsixState { entries: self.entries.clone() }
    }

    /// Takes over a saved state, `config` restored before. Nothing is sent.
    ///
    /// # Errors
    /// [`RestoreError::Invalid`] when the table has another length or reserved bits.
    pub fn restore(&mut self, state: &MsixState, config: &ConfigSpace) -> Result<(), RestoreError> {
        let same = state.entries.len() == self.entries.len();
        let clean = |entry: &Entry| entry.control & !MASKED == 0 && entry.message.address & 3 == 0;
        if !same || !state.entries.iter().all(clean) {
            return Err(RestoreError::invalid(KIND, "the table is of another function"));
        }
        self.entries.clone_from(&state.entries);
        self.control =
            self.capability.map_or(0, |at| config.word(usize::from(at) + 2)) & CONTROL_BITS;
        Ok(())
    }
}

impl Entry {
    fn deliver(&mut self, function_masked: bool, target: &MsiInterrupt) {
        if self.pending && !function_masked && self.control & MASKED == 0 {
            self.pending = false;
            target.signal(self.message);
        }
    }
}

fn refuse(offset: u64, size: usize) -> Option<Access> {
    match size {
        4 | 8 if !offset.is_multiple_of(size as u64) => Some(Access::Unaligned),
        4 | 8 if offset >= REGION_BYTES => Some(Access::BadRegister),
        4 | 8 => None,
        _ => Some(Access::BadSize),
    }
}

/// Saved form of a function with MSI-X: its configuration space and its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionState {
    /// Configuration space.
    pub config: ConfigState,
    /// The MSI-X table.
    pub msix: MsixState,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use kezhan_device::testkit::Recorder;
    use std::sync::Arc;

    fn bench() -> (Arc<Recorder>, ConfigSpace, Msix) {
        let recorder = Arc::new(Recorder::default());
        let mut config = ConfigSpace::endpoint(Identity::default());
        let msix = Msix::new(3, 1, &mut config, MsiInterrupt::new(recorder.clone()));
        (recorder, config, msix)
    }

    fn control(config: &mut ConfigSpace, msix: &mut Msix, value: u16) {
        config.write(0x42, &value.to_le_bytes());
        msix.config_written(config);
    }

    fn message(n: u32) -> MsiMessage {
        MsiMessage { address: 0xfee0_0000 + u64::from(n) * 0x1000, data: 0x40 + n }
    }

    fn program(msix: &mut Msix, vector: u32) {
        let at = u64::from(vector) * 16;
        msix.write(at, &message(vector).address.to_le_bytes());
        msix.write(at + 8, &message(vector).data.to_le_bytes());
        msix.write(at + 12, &[0; 4]);
    }

    #[test]
    fn the_capability_tells_size_bar_and_places() {
        let (_, config, _) = bench();
        let mut data = [0; 12];
        config.read(0x40, &mut data);
        assert_eq!(data, [0x11, 0, 2, 0, 1, 0, 0, 0, 1, 8, 0, 0]);
    }

    #[test]
    fn a_vector_sends_its_message_only_while_enabled() {
        let (recorder, mut config, mut msix) = bench();
        program(&mut msix, 1);
        msix.signal(1);
        assert_eq!(recorder.take_messages(), []);
        control(&mut config, &mut msix, ENABLE);
        msix.signal(1);
        msix.signal(3);
        msix.signal(0xffff);
        assert_eq!(recorder.take_messages(), [message(1)]);
    }

    #[test]
    fn what_is_masked_waits_and_is_sent_once() {
        let (recorder, mut config, mut msix) = bench();
        program(&mut msix, 2);
        control(&mut config, &mut msix, ENABLE | FUNCTION_MASK);
        msix.signal(2);
        msix.signal(2);
        let mut pending = [0; 4];
        msix.read(PENDING_OFFSET, &mut pending);
        assert_eq!((pending, recorder.take_messages()), ([4, 0, 0, 0], vec![]));
        control(&mut config, &mut msix, ENABLE);
        assert_eq!(recorder.take_messages(), [message(2)]);
        msix.write(2 * 16 + 12, &[1, 0, 0, 0]);
        msix.signal(2);
        assert_eq!(recorder.take_messages(), []);
        msix.write(2 * 16 + 12, &[0; 4]);
        assert_eq!(recorder.take_messages(), [message(2)]);
    }

    #[test]
    fn a_state_comes_back_and_one_of_another_table_does_not() {
        let (_, config, mut msix) = bench();
        program(&mut msix, 0);
        let saved = msix.save();
        msix.reset();
        msix.restore(&saved, &config).unwrap();
        assert_eq!(msix.save(), saved);
        assert!(msix.restore(&MsixState { entries: vec![POWER_ON] }, &config).is_err());
    }
}
