//! What vCPUs have to do with each other, counted for `kezhan run --stats`.

use std::time::Duration;

/// Of one vCPU.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Interrupts sent to others or to itself.
    pub sent: u64,
    /// Interrupts taken out of the mailbox.
    pub received: u64,
    /// Halts in which a note came before the thread slept, and those in which it slept.
    pub looked: u64,
    /// See `looked`.
    pub slept: u64,
    /// Time in halts.
    pub halted: Duration,
    /// Pages that got their first code, and how long their writers were waited for.
    pub first_code: u64,
    /// See `first_code`.
    pub waited: Duration,
    /// Times that write entries were dropped because others asked.
    pub dropped: u64,
    /// Pages whose blocks were dropped because their bytes changed.
    pub stale: u64,
    /// Times that PAUSE let the host run somebody else.
    pub yields: u64,
}

impl Traffic {
    /// For people.
    pub fn line(&self, cpu: usize) -> String {
        format!(
            "cpu {cpu}: {} interrupts sent, {} received; halted {} ms in {} sleeps and {} looks, {} yields; \
             {} pages of first code, {} ms until settled, {} times asked; {} pages of code changed",
            self.sent,
            self.received,
            self.halted.as_millis(),
            self.slept,
            self.looked,
            self.yields,
            self.first_code,
            self.waited.as_millis(),
            self.dropped,
            self.stale
        )
    }
}
