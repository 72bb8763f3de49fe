//! Virtio: queues, one transport core, its PCI adapter, and the devices.
//!
//! | item | shape |
//! |---|---|
//! | [`VirtioDevice`] | what a device is: features, queues, configuration, and work for each queue |
//! | [`Rings`] | lent to a device while it works: take buffers, give them back |
//! | [`VirtioPci`] | `VirtioPci::new(name, device, memory, msi)`: a PCI function with the regions `msix` and `virtio` |
//! | [`Block`] | virtio-blk on a [`kezhan_ports::Disk`] |
//! | [`Net`] | virtio-net on a [`kezhan_ports::Nic`] for each pair of queues |
//! | [`VirtioMmio`] | the same behind memory-mapped registers, for machines without PCI |
//! | [`Console`] | virtio-console with ports on [`kezhan_ports::CharDevice`]s |
//! | [`Balloon`] | virtio-balloon with free-page reporting, on a [`kezhan_device::MemoryReclaim`] |
//! | [`Rng`] | virtio-rng on a [`kezhan_ports::Entropy`] |
//!
//! ```text
//!   vCPU ── write notify ──► VirtioPci ─► Core ─► VirtioDevice::process ─► Disk::submit   (does not block)
//!   chassis ── poll ───────►     "          "     VirtioDevice::poll ────► Disk::complete
//!                                │
//!                                └─ MSI-X for each queue with used buffers, once a batch
//! ```
//!
//! # Where work is done
//! A notification is served on the vCPU's thread under the device's lock: taking descriptors, copying what
//! is written and handing it to the port, all of which is bounded and never waits. What takes time is done
//! by the port's own threads; they wake the chassis, which calls `poll`. A thread for each device
//! was rejected: it adds a switch to each request, and the port's workers are there already.
//!
//! # Reset
//! A request in flight owns its buffers, so nothing of it can reach the guest after a reset; but an old
//! write must not land on the disk after a new one. So a reset by the driver is done when the port is at
//! rest: until then the status reads as it was, as virtio 1.2 §4.1.4.3.2 lets the driver expect.

mod balloon;
mod block;
mod chain;
mod console;
mod core;
mod device;
mod mmio;
mod net;
mod pci;
mod queue;
mod rng;
mod spec;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

pub use balloon::{Balloon, BalloonHandle, BalloonStatistics};
pub use block::{Block, BlockOptions};
pub use chain::{Chain, OutsideMemory};
pub use console::{Console, ConsolePort};
pub use device::{Identity, Rings, VirtioDevice};
pub use mmio::VirtioMmio;
pub use net::Net;
pub use pci::VirtioPci;
pub use rng::Rng;
