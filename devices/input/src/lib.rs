//! The 8042 keyboard controller, with a keyboard and a mouse.
//!
//! `I8042::new(name, I8042Wires { keyboard, mouse, control })`; regions `data` (1 port: 0x60), `command` (1 port:
//! 0x64), `system-control` (1 port: 0x92); lines IRQ 1, IRQ 12.
//!
//! ```text
//!   key() ─► keyboard ─ set 2 ─► translation ─┐
//!   mouse() ─► mouse ─────────────────────────┼─► output buffer ─► data port
//!   command port ─► controller ─ answers ─────┘        │ full
//!                       │                              └─► IRQ 1 or IRQ 12
//!                       └─ reset ─► MachineEvent::Reset
//! ```
//! The output buffer holds one byte; the devices keep theirs until it is empty and they are enabled.
//! Each byte raises its line and reading it lowers the line, so every byte is an edge. Nothing here takes
//! time: the input buffer is never full, tests are over at once.
//!
//! A20 is a bit that can be set and read back; address line 20 is never masked, for neither engine can
//! do so and no operating system or firmware of this century needs it.
//!
//! # What was rejected
//! A keyboard apart from the controller: they share the one buffer, and nothing else could use them.

mod controller;
mod keyboard;
mod keys;
mod mouse;
mod spec;
pub mod state;
#[cfg(test)]
mod tests;

pub use controller::{I8042, I8042Wires};
pub use keys::KeyEvent;
pub use mouse::MouseEvent;
