//! For tests of formats: storages that fail, and QEMU's tool to compare with.

mod crash;
mod fault;
mod peer;
mod random;

pub use crash::CrashStorage;
pub use fault::FaultStorage;
pub use peer::{PeerOutput, qemu_img, qemu_img_ok, qemu_img_version};
pub use random::Random;
