//! Ports: what a device asks of the host.
//!
//! A port is the line between a device (front-end, `devices/`) and a back-end (`host/`); neither side
//! sees the other, only `vmm/` joins them. Each port is a small trait with the contract in its module.
//!
//! | port | device side | back-ends |
//! |---|---|---|
//! | [`chardev`] | UART, virtio-console, debug port | terminal, file, socket, null, buffer (testkit) |
//! | [`nic`] | virtio-net, e1000 | user-mode network, tap, null, buffer (testkit) |
//! | [`disk`] | virtio-blk, AHCI, NVMe, floppy | image files and chains of them, block devices, NBD, memory (testkit) |
//! | [`entropy`] | virtio-rng | the host's generator, a seeded one |
//!
//! Displays and audio come with the first device that asks for them.
//!
//! # Rules that hold for every port
//! 1. Calls do not block: a back-end that cannot go on says so and wakes the device later.
//! 2. The device owns its buffers; a back-end keeps none after the call returns. Where work outlives the
//!    call (disks), the buffer itself moves with the request and comes back with its completion.
//! 3. A host error is a value, given once; after it the port is at rest.
//! 4. Debug aids (trace, delay, fault) are wrappers behind the same trait.

mod buffer;
pub mod chardev;
pub mod disk;
pub mod entropy;
mod lent;
pub mod nic;
pub mod testkit;

pub use buffer::Buffer;
pub use chardev::CharDevice;
pub use disk::{Disk, DiskCompletion, DiskError, DiskInfo, DiskOperation, DiskRequest};
pub use entropy::Entropy;
pub use lent::{LentMemory, LentPart};
pub use nic::Nic;
