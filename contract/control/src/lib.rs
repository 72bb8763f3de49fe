//! What a machine's process is asked while it runs: requests and replies, and the socket they come by.
//!
//! ```text
//!   kezhan net forward, kezhan socks ──► Client ──(NAME.PID in the folder)──► Door ──► the machine's process
//!                                          ◄──────────── reply ──────────────┘
//! ```
//! # The socket
//! Each process has a Unix stream socket `NAME.PID` in a folder that only its person may enter: whoever can
//! connect may do what the person may. Names may be shared by machines; numbers are not. A socket appears
//! under its name once somebody listens ([`Door::open`]), so that one that refuses a connection belongs to
//! nobody any more, and [`machines`] removes it.
//!
//! # Messages
//! Four bytes of length, the highest first, then that many bytes of JSON (RFC 8259); a message is at most
//! [`LONGEST`] bytes. Each request has one reply, in order. After [`Reply::Connected`] the socket *is* the
//! connection to the guest: no message follows it.
//!
//! # Trust
//! The folder is the fence. The machine's process still bounds what it reads and how long it waits, so that a
//! client that hangs holds up nobody but itself.
//!
//! Rejected: passing descriptors (SCM_RIGHTS), where handing over the socket itself does; one socket for all
//! machines, which would need a process that outlives them.

mod command;
mod door;
mod error;
mod message;
mod wire;

pub use command::{Command, CommandError, FailingRequests};
pub use door::{Client, Door, MachineAddress, machines};
pub use error::ControlError;
pub use message::{CardState, Fault, NetReport, Reply, Request};
pub use wire::{LONGEST, read, write};
