//! Devices that the kvm-unit-tests programs test a machine with. A machine has them only when asked.
//!
//! * [`PcTestdev`]: a register that remembers, ports that drive any interrupt input, and a piece of
//!   memory that is reached by emulation only.
//! * [`PciTestdev`]: a function whose BARs count the writes that the program makes to them.

mod isa;
mod pci;
mod spec;
#[cfg(test)]
mod tests;

pub use isa::PcTestdev;
pub use pci::PciTestdev;
