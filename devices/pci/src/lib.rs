//! PCI: configuration space, functions, the host bridge and its configuration mechanisms.
//!
//! | item | shape |
//! |---|---|
//! | [`ConfigSpace`] | the 256 bytes of a function's header: write masks, BARs, capabilities |
//! | [`PciFunction`] | a [`kezhan_device::Device`] with a configuration space; its first regions are its BARs |
//! | [`HostBridge`] | `HostBridge::new(name)`: the function 00:00.0 |
//! | [`RootPort`] | `RootPort::new(name, slot number)`: a port with a hot-plug slot, and its [`SlotHandle`] |
//! | [`PciHost`] | `PciHost::new(name, buses, target: Arc<dyn BarTarget>)`: device with the regions `config` (8 ports) and `ecam` (`buses` MiB of memory) |
//! | [`Msix`] | table, pending bits and masks of message-signalled interrupts |
//! | [`BarTarget`] | told where the guest has put which BAR: the board moves the function's region |
//!
//! A function is shared as `Arc<Mutex<F>>`: once as `dyn Device` with the chassis, once as
//! `dyn PciFunction` with [`PciHost::plug`].
//!
//! There is one root. A function behind a [`RootPort`] is plugged in at a bus number of its own, which stays; the
//! number that the guest gave the bus leads to it while the port lets it.

mod address;
mod bridge;
mod config;
mod function;
mod host;
mod msix;
mod port;
mod spec;
#[cfg(test)]
mod tests;

pub use address::PciAddress;
pub use bridge::HostBridge;
pub use config::{Bar, BarKind, ConfigSpace, ConfigState, Identity};
pub use function::PciFunction;
pub use host::{BarTarget, PciHost, PlugError};
pub use msix::{FunctionState, MSIX_REGION, Msix, MsixState};
pub use port::{RootPort, SlotHandle};
