//! Networks: where a guest's network interface ends on the host.
//!
//! | module | what |
//! |---|---|
//! | [`policy`] | what a guest may reach: rules by name, network, port and protocol |
//! | [`middleware`] | capture and loss, around any interface |
//! | [`user`] | the user-mode network towards one guest, without I/O |
//!
//! SOCKS, both sides, is the crate `kezhan-socks`; the contract of an interface is `kezhan_ports::nic`.

pub mod middleware;
pub mod policy;
pub mod user;
