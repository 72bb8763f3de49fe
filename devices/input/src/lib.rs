//! The 8042 keyboard controller.
//!
//! `I8042::new(name, wires: I8042Wires { keyboard, mouse: LineInterrupt, control })`; regions `data` (1 port),
//! `command` (1 port), `system-control` (1 port: 0x92); lines IRQ 1, IRQ 12.
