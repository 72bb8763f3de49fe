//! The small chips that make a PC of a processor and memory.
//!
//! Each module is one chip: its essay, its registers (`spec.rs`), its saved state (`state.rs`), its
//! tests. None knows a port number or a GSI: the board gives those to the regions named here.
//!
//! A chip's registers are its saved type, and live in `state.rs`; handles and wiring are beside them. When
//! the registers must change their shape, the old type stays as the old version.
//!
//! | module | constructor | regions, in order | lines, in order |
//! |---|---|---|---|
//! | [`pic`] | `SharedPic::new(name, intr: LineInterrupt)` | `master` 2 ports, `slave` 2, `elcr` 2 | – |
//! | [`ioapic`] | `SharedIoapic::new(name, msi: MsiInterrupt, routes: Option<Arc<dyn RouteTarget>>)` | `registers` 4 KiB | – |
//! | [`pit`] | `Pit::new(name, clock, irq0: LineInterrupt)` | `counters` 4 ports, `speaker` 1 | IRQ 0 |
//! | [`hpet`] | `Hpet::new(name, clock, wires: HpetWires)` | `registers` 1 KiB | – |
//! | [`rtc`] | `Rtc::new(name, clock, irq8: LineInterrupt, memory: CmosMemory)` | `index-data` 2 ports, `extended` 2 | IRQ 8 |
//! | [`pm`] | `Pm::new(name, clock, sci: LineInterrupt, control)` | `event` 4 ports, `control` 2, `timer` 4, `gpe0` 4, `reset` 1 | SCI |
//! | [`debug`] | `DebugExit::new(name, control)` | `exit` 4 ports | – |
//! | [`debug`] | `Pvpanic::new(name, control)` | `event` 1 port | – |
//! | [`debug`] | `DebugConsole::new(name, port: Box<dyn CharDevice>)` | `data` 1 port | – |
//! | [`debug`] | `PostCode::new(name)` | `code` 1 port | – |
//! | [`fwcfg`] | `FwCfg::new(name, items: Items)` | `registers` 2 ports | – |
//! | [`testdev`] | `PcTestdev::new(name, lines: Vec<LineInterrupt>)` | `data` 4 ports, `flush` 4, `lines` one a line, `memory` 64 KiB | – |
//! | [`testdev`] | `PciTestdev::new(name)` (a PCI function) | `memory` 4 KiB (BAR 0), `ports` 256 (BAR 1) | – |
//!
//! `clock` is `Arc<dyn Clock>`, `control` is `Arc<dyn MachineControl>`, `name` is `&str`.
//!
//! # How the interrupt chips are wired
//! ```text
//!   Pit ──LineInterrupt──► LegacyGate pin 0 ──irq0──► SharedPic pin 0, SharedIoapic pin 2
//!   Rtc ──LineInterrupt──► LegacyGate pin 1 ──irq8──► SharedPic pin 8, SharedIoapic pin 8
//!   Hpet ─────────────────►     ▲ (takes both over in legacy replacement mode)
//!   SharedPic ──intr──► engine (LINT0)        SharedIoapic ──MsiInterrupt──► engine
//! ```
//! A board without HPET ends the PIT's and RTC's lines at the controllers directly.
//!
//! # Lock order
//! Device → controller → engine. The controllers call the engine with their own lock released.

mod aml;
pub mod debug;
pub mod fwcfg;
pub mod hpet;
pub mod ioapic;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod rtc;
pub mod testdev;
mod ticks;
mod wires;
