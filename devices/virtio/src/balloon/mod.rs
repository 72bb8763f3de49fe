//! virtio-balloon: the guest gives memory back to the host (virtio 1.2 §5.5).
//!
//! ```text
//!   host sets a target ─► num_pages ─► driver inflates: page numbers ──► MemoryReclaim::release
//!   guest frees pages by itself ─► reporting queue: ranges ────────────►        "
//!   driver deflates: page numbers, nothing to do: a page comes back when it is touched
//! ```
//! A page that is given back reads as zeroes when the guest uses it again; the host has its memory meanwhile.
//!
//! # Free-page reporting
//! With it (`VIRTIO_BALLOON_F_PAGE_REPORTING`, §5.5.6.7) no target is needed: the guest tells of memory that it
//! does not use, in large ranges, and the machine costs the host about what the guest works with.
//!
//! # Statistics
//! A driver gives one buffer of figures and a new one each time the device gives that back (§5.5.6.3). The
//! buffer is left in the queue until somebody asks, so that none is in flight when the machine is saved.
//!
//! # What a hostile driver cannot do
//! Give back what is not its own: only whole pages of guest RAM are released, and a release is what the
//! guest could do by filling the page with zeroes.
//!
//! # What was rejected
//! Free-page hints (`FREE_PAGE_HINT`, for migration): offered only so that the reporting queue is number 4 for
//! every driver, those too that number the queues they use; no hint is ever asked for.

mod handle;

use crate::chain::Chain;
use crate::device::{Identity, Rings, VirtioDevice, read_fields};
use crate::spec::balloon as numbers;
use crate::spec::device_id;
use handle::Figures;
pub use handle::{BalloonHandle, BalloonStatistics};
use kezhan_device::{MemoryReclaim, RestoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const KIND: &str = "virtio-balloon";
const QUEUE_SIZE: u16 = 128;
/// Bytes of a page as the driver counts them, whatever the guest's own pages (§5.5).
const PAGE: u64 = 4096;
/// Page numbers read at once.
const PORTION: usize = 1024;
/// Statistics read at most: a driver has about ten.
const MOST_STATISTICS: usize = 64;

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BalloonState {
    target: u32,
    actual: u32,
}

/// The balloon device. See the module.
pub struct Balloon {
    reclaim: Arc<dyn MemoryReclaim>,
    figures: Arc<Figures>,
    /// The target that the driver was last told.
    told: u32,
    features: u64,
}

impl Balloon {
    /// A device that gives memory back by `reclaim`.
    pub fn new(reclaim: Arc<dyn MemoryReclaim>) -> Balloon {
        Balloon { reclaim, figures: Arc::default(), told: 0, features: 0 }
    }

    /// The host's hand on it.
    pub fn handle(&self) -> BalloonHandle {
        BalloonHandle::new(self.figures.clone())
    }

    /// Gives back the pages of a buffer of page numbers (§5.5.6). Neighbours go together.
    fn inflate(&self, chain: &Chain, rings: &Rings<'_>) {
        let mut offset = 0;
        let mut run: Option<(u64, u64)> = None;
        let end = chain.readable_length() / 4 * 4;
        while offset < end {
            let mut bytes = [0; PORTION * 4];
            let length = (end - offset).min(bytes.len() as u64);
            let part = bytes.get_mut(..length as usize).unwrap_or_default();
            if chain.read_at(rings.memory(), offset, part).is_err() {
                break;
            }
            for number in part.chunks_exact(4) {
                let number = u32::from_le_bytes(number.try_into().unwrap_or_default());
                run = self.extend(run, u64::from(number) * PAGE);
            }
            offset += length;
        }
        self.release(run);
    }

    /// The run with `page` at its end; what does not touch it is released first.
    fn extend(&self, run: Option<(u64, u64)>, page: u64) -> Option<(u64, u64)> {
        match run {
            Some((start, end)) if end == page => Some((start, end + PAGE)),
            // Linux gives them from the highest down.
            Some((start, end)) if page + PAGE == start => Some((page, end)),
            other => {
                self.release(other);
                Some((page, page + PAGE))
            }
        }
    }

    fn release(&self, run: Option<(u64, u64)>) {
        if let Some((start, end)) = run {
            self.reclaim.release(start, end - start);
        }
    }

    /// Gives back what a guest does not use; the buffer itself is the range (§5.5.6.7).
    fn report(&self, chain: &Chain) {
        for (address, length) in chain.writable_ranges() {
            let start = address.next_multiple_of(PAGE);
            let end = address.saturating_add(length) / PAGE * PAGE;
            if start < end {
                self.reclaim.release(start, end - start);
            }
        }
    }

    /// Answers those who asked for statistics: the buffer in the queue is old, the next is new.
    fn take_statistics(&mut self, rings: &mut Rings<'_>) {
        while self.figures.wants_statistics()
            && let Some(chain) = rings.pop(numbers::STATISTICS)
        {
            let mut bytes = vec![0; MOST_STATISTICS * numbers::STATISTIC_BYTES];
            let length = chain.readable_length().min(bytes.len() as u64) as usize;
            bytes.truncate(length);
            if chain.read_at(rings.memory(), 0, &mut bytes).is_ok() {
                self.figures.set_statistics(&bytes);
            }
            rings.complete(numbers::STATISTICS, &chain, 0);
        }
    }
}

impl VirtioDevice for Balloon {
    fn identity(&self) -> Identity {
        // Class: other memory controller (PCI 3.0 appendix D).
        Identity { kind: KIND, id: device_id::BALLOON, class: 0x05_8000 }
    }

    fn features(&self) -> u64 {
        numbers::STATS_VQ
            | numbers::DEFLATE_ON_OOM
            | numbers::FREE_PAGE_HINT
            | numbers::PAGE_REPORTING
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 5]
    }

    /// Target and actual size in pages, the command of free-page hints (0: stop), the poison (§5.5.4).
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let value = u128::from(self.figures.target()) | u128::from(self.figures.actual()) << 32;
        read_fields(&value.to_le_bytes(), offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if offset == numbers::ACTUAL
            && let Ok(bytes) = <[u8; 4]>::try_from(data)
        {
            self.figures.set_actual(u32::from_le_bytes(bytes));
        }
    }

    fn start(&mut self, features: u64) {
        self.features = features;
        self.told = self.figures.target();
    }

    fn process(&mut self, queue: usize, rings: &mut Rings<'_>) {
        if queue == numbers::STATISTICS {
            self.take_statistics(rings);
            return;
        }
        while let Some(chain) = rings.pop(queue) {
            match queue {
                numbers::INFLATE => self.inflate(&chain, rings),
                numbers::REPORTING => self.report(&chain),
                _ => {}
            }
            rings.complete(queue, &chain, 0);
        }
    }

    fn poll(&mut self, rings: &mut Rings<'_>) {
        let target = self.figures.target();
        if std::mem::replace(&mut self.told, target) != target {
            rings.config_changed();
        }
        self.take_statistics(rings);
    }

    fn forget(&mut self) -> bool {
        self.figures.set_actual(0);
        true
    }

    fn save(&self) -> serde_json::Value {
        let state = BalloonState { target: self.figures.target(), actual: self.figures.actual() };
        serde_json::to_value(state).unwrap_or_default()
    }

    fn restore(&mut self, state: &serde_json::Value) -> Result<(), RestoreError> {
        let state: BalloonState = serde_json::from_value(state.clone())
            .map_err(|error| RestoreError::invalid(KIND, &error.to_string()))?;
        self.figures.set_target(state.target);
        self.figures.set_actual(state.actual);
        Ok(())
    }
}

impl std::fmt::Debug for Balloon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Balloon({} of {} pages)", self.figures.actual(), self.figures.target())
    }
}

#[cfg(test)]
mod tests;
