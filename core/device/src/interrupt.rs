//! Interrupt lines and messages: what a device drives, never where it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The receiving end of lines. Only interrupt controllers implement it; devices use [`LineInterrupt`].
pub trait LineTarget: Send + Sync {
    /// Input `pin` is now high (`true`) or low.
    fn set_line(&self, pin: u32, high: bool);
}

/// A device's interrupt line: one wire, level-valued. Edges are seen by the controller.
#[derive(Clone)]
pub struct LineInterrupt(Arc<Line>);

struct Line {
    name: String,
    high: AtomicBool,
    ends: Vec<(Arc<dyn LineTarget>, u32)>,
}

impl LineInterrupt {
    /// A line called `name` that ends at every `(controller, pin)` of `ends`.
    pub fn new(name: &str, ends: Vec<(Arc<dyn LineTarget>, u32)>) -> LineInterrupt {
        LineInterrupt(Arc::new(Line { name: name.to_owned(), high: AtomicBool::new(false), ends }))
    }

    /// A line that ends nowhere, for tests and absent wiring.
    pub fn unconnected(name: &str) -> LineInterrupt {
        LineInterrupt::new(name, Vec::new())
    }

    /// Drives the line. Nothing happens when it already has that level.
    pub fn set(&self, high: bool) {
        if self.0.high.swap(high, Ordering::SeqCst) != high {
            for (target, pin) in &self.0.ends {
                target.set_line(*pin, high);
            }
        }
    }

    /// Low, high, low: one edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// The level it is driven to.
    pub fn is_high(&self) -> bool {
        self.0.high.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for LineInterrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineInterrupt({}, {})", self.0.name, self.is_high())
    }
}

/// A message-signalled interrupt as the local APICs see it (Intel SDM vol. 3A §11.11).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct MsiMessage {
    /// 0xFEExxxxx and, in the upper half, extended destination bits.
    pub address: u64,
    /// Vector, delivery mode, level, trigger mode.
    pub data: u32,
}

/// Delivers messages: the engine.
pub trait MsiTarget: Send + Sync {
    /// Sends it; false when no local APIC took it.
    fn signal(&self, message: MsiMessage) -> bool;
}

/// A device's handle for sending messages.
#[derive(Clone)]
pub struct MsiInterrupt(Arc<dyn MsiTarget>);

impl MsiInterrupt {
    /// A handle that sends to `target`.
    pub fn new(target: Arc<dyn MsiTarget>) -> MsiInterrupt {
        MsiInterrupt(target)
    }

    /// Sends a message; false when no local APIC took it.
    pub fn signal(&self, message: MsiMessage) -> bool {
        self.0.signal(message)
    }
}

impl std::fmt::Debug for MsiInterrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MsiInterrupt")
    }
}
