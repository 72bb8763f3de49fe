//! Networks of the host's kernel: `kezhan net`, and the tap interfaces behind `--net tap=` and `--net bridge=`.
//!
//! ```text
//!   kezhan net create lan ─► kz-lan (bridge, 10.77.0.1/24) ─ table ip kezhan-lan (masquerade) ─► the host's routes
//!                              │
//!   kezhan run --net bridge=lan ─► tap interface, gone with the process
//! ```
//! # What is ours
//! A network is a bridge that carries our mark in its alias, a table of netfilter rules of its own, and a record
//! under the runtime folder. Deleting takes away these and nothing else: a bridge without the mark is refused.
//! The kernel is spoken to by netlink (rtnetlink(7), and nf_tables' messages), never through other programs.
//!
//! # What a killed process leaves
//! A tap interface ends with the process that opened it. A macvtap interface does not: its mark names the process,
//! and the next command removes it ([`remove_dead`]). A network that was half made is told by its record, and
//! the next `kezhan net` undoes it.
//!
//! # What answers
//! DHCP and names are served by a process for each network ([`service`]); it is part of the network and ended
//! with it.
//!
//! # Privilege
//! Making networks needs CAP_NET_ADMIN. A tap interface that an administrator made for a user
//! (`ip tuntap add dev NAME mode tap user USER`) needs none.
//!
//! # Rejected
//! Making taps persistent: they would outlive a killed process. A daemon that owns the networks: the kernel
//! keeps them as well, and only what answers on them needs a process.

mod bytes;
mod command;
mod error;
mod link;
mod macvtap;
mod netlink;
mod network;
mod nft;
mod offload;
mod process;
mod service;
mod store;
mod subnet;
mod sysctl;
mod tap;
#[cfg(test)]
mod tests;

pub use command::{NetCommand, run};
pub use error::NetworkError;
pub use network::{Network, Request, create, delete, list};
pub use store::Store;
pub use subnet::Subnet;
pub use tap::Tap;

/// Removes what killed machines left in the kernel.
///
/// # Errors
/// The kernel's.
pub fn remove_dead() -> Result<(), NetworkError> {
    macvtap::remove_dead(&mut link::Links::open()?)
}
