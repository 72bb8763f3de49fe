//! Ports by which a guest talks to whoever debugs it.
//!
//! ```text
//!   DebugExit     exit    a write ends the process with (value << 1 | 1)
//!   Pvpanic       event   a write of bit 0 says "I have panicked"
//!   DebugConsole  data    each byte written goes to a character device
//!   PostCode      code    the last byte written is kept: how far firmware has come
//! ```
//! All but the console are without memory that a guest could miss; their saved state says only whose
//! it is.

mod console;
mod exit;
mod post;
mod pvpanic;
mod spec;
#[cfg(test)]
mod tests;

pub use console::DebugConsole;
pub use exit::DebugExit;
pub use post::PostCode;
pub use pvpanic::Pvpanic;

use serde::{Deserialize, Serialize};

/// The saved state of a device that has none; version 1.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoState {}
