//! Storages that fail, for tests of formats.

mod crash;
mod fault;
mod random;

pub use crash::CrashStorage;
pub use fault::FaultStorage;
pub use random::Random;
