//! Tells a flush that has something to do from one that has not.
//!
//! A flush costs milliseconds on many disks, and formats ask for one between all that must not be reordered, also
//! where nothing was written since the last.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was changed and what of it is durable.
#[derive(Debug)]
pub(super) struct Changes {
    /// Changes that are over.
    done: AtomicU64,
    /// As many of them are durable.
    durable: AtomicU64,
}

/// Before the first flush, which is also for what others left.
const UNKNOWN: u64 = u64::MAX;

impl Changes {
    pub(super) fn new() -> Changes {
        Changes { done: AtomicU64::new(0), durable: AtomicU64::new(UNKNOWN) }
    }

    /// One is over, whether it went well or not. Never to be called before it is: a flush in the middle of it would
    /// count it.
    pub(super) fn count(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// What [`Changes::settle`] is to be told after a flush; `None` when there is nothing to flush.
    pub(super) fn pending(&self) -> Option<u64> {
        let done = self.done.load(Ordering::SeqCst);
        (self.durable.load(Ordering::SeqCst) != done).then_some(done)
    }

    /// A flush that began after [`Changes::pending`] has gone well.
    pub(super) fn settle(&self, pending: u64) {
        self.durable.store(pending, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_over_before_a_flush_is_durable_after_it() {
        let changes = Changes::new();
        let first = changes.pending().expect("what others left");
        changes.count();
        changes.settle(first);
        let second = changes.pending().expect("the change during the first flush");
        changes.settle(second);
        assert_eq!(changes.pending(), None);
        changes.count();
        assert!(changes.pending().is_some());
        // The flush failed: nobody settles.
        assert!(changes.pending().is_some());
    }
}
