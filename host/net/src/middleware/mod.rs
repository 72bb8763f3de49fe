//! Layers around a network interface: each is a `Nic` over a `Nic`, so that they stack in any order.
//!
//! ```text
//!   device ──► Capture ──► Lossy ──► back-end        the capture shows what the guest sent
//!   device ──► Lossy ──► Capture ──► back-end        the capture shows what the network got
//! ```
//! A layer passes everything else through untouched: information, link, offloads, waker.

mod capture;
mod line;
mod lossy;
mod queue;

pub use capture::{Capture, Stamp};
pub use line::Line;
pub use lossy::{LossRates, Lossy};
pub use queue::LineRates;

#[cfg(test)]
mod tests;
