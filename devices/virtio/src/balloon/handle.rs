//! What the host sees of a balloon and asks of it.

use crate::spec::balloon as numbers;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// Shared by the device and the host.
#[derive(Default)]
pub(super) struct Figures {
    target: AtomicU32,
    actual: AtomicU32,
    /// Buffers of statistics still to be looked at.
    wanted: AtomicU32,
    statistics: Mutex<BalloonStatistics>,
    wake: Mutex<Option<Wake>>,
}

/// What a guest says of its memory, in bytes; `None` for what it does not tell (virtio 1.2 §5.5.6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonStatistics {
    /// Not used for anything.
    pub free: Option<u64>,
    /// All that the guest has.
    pub total: Option<u64>,
    /// What it could use without swapping.
    pub available: Option<u64>,
    /// Held as a cache of files.
    pub caches: Option<u64>,
}

impl Figures {
    pub(super) fn target(&self) -> u32 {
        self.target.load(Ordering::SeqCst)
    }

    pub(super) fn set_target(&self, pages: u32) {
        self.target.store(pages, Ordering::SeqCst);
    }

    pub(super) fn actual(&self) -> u32 {
        self.actual.load(Ordering::SeqCst)
    }

    pub(super) fn set_actual(&self, pages: u32) {
        self.actual.store(pages, Ordering::SeqCst);
    }

    /// Whether a buffer of statistics is wanted.
    pub(super) fn wants_statistics(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > 0
    }

    /// Tags of 16 bits and values of 64, packed (§5.5.6.3).
    pub(super) fn set_statistics(&self, bytes: &[u8]) {
        let mut all = BalloonStatistics::default();
        for entry in bytes.chunks_exact(numbers::STATISTIC_BYTES) {
            let Some((tag, value)) = entry.split_first_chunk::<2>() else { continue };
            let value = Some(u64::from_le_bytes(value.try_into().unwrap_or_default()));
            match u16::from_le_bytes(*tag) {
                numbers::STATISTIC_FREE => all.free = value,
                numbers::STATISTIC_TOTAL => all.total = value,
                numbers::STATISTIC_AVAILABLE => all.available = value,
                numbers::STATISTIC_CACHES => all.caches = value,
                _ => {}
            }
        }
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = all;
        self.wanted.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake(&self) {
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// The host's hand on a balloon, while the machine has the device.
#[derive(Clone)]
pub struct BalloonHandle(Arc<Figures>);

impl BalloonHandle {
    pub(super) fn new(figures: Arc<Figures>) -> BalloonHandle {
        BalloonHandle(figures)
    }

    /// Whom to wake so that the device is polled; set by whoever builds it.
    pub fn set_waker(&self, wake: Wake) {
        *self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Asks the guest to give `pages` pages of 4 KiB, in all.
    pub fn set_target(&self, pages: u32) {
        self.0.set_target(pages);
        self.0.wake();
    }

    /// The pages that it has given.
    pub fn actual(&self) -> u32 {
        self.0.actual()
    }

    /// Asks for new statistics: two buffers, of which the second is made after the question.
    pub fn ask(&self) {
        self.0.wanted.store(2, Ordering::SeqCst);
        self.0.wake();
    }

    /// The last statistics, once the guest has answered what was asked.
    pub fn statistics(&self) -> Option<BalloonStatistics> {
        let answered = !self.0.wants_statistics();
        answered.then(|| *self.0.statistics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for BalloonHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BalloonHandle({} of {} pages)", self.0.actual(), self.0.target())
    }
}
