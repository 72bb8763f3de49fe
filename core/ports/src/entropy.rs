//! Entropy: random bytes for the guest.
//!
//! The host's generator never runs dry and never makes a caller wait, so there is nothing to wake.

/// A source of random bytes.
pub trait Entropy: Send {
    /// Fills `data`. Does not block.
    fn fill(&mut self, data: &mut [u8]);
}
