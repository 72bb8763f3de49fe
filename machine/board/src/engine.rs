//! The wire between the board's devices and the engine: interrupts, and memory that is given back.

use kezhan_chipset::ioapic::RouteTarget;
use kezhan_device::{LineTarget, MemoryReclaim, MsiMessage, MsiTarget};
use kezhan_hypervisor::{Partition, Route};
use std::sync::{Arc, OnceLock};

/// Stands for the engine until there is one; what is sent before is lost, as with no CPU in its socket.
#[derive(Default)]
pub(crate) struct EngineLink(OnceLock<Arc<dyn Partition>>);

impl EngineLink {
    pub(crate) fn connect(&self, partition: Arc<dyn Partition>) {
        let _ = self.0.set(partition);
    }
}

impl MsiTarget for EngineLink {
    fn signal(&self, message: MsiMessage) -> bool {
        self.0.get().is_some_and(|partition| partition.signal(message))
    }
}

impl MemoryReclaim for EngineLink {
    fn release(&self, address: u64, length: u64) -> bool {
        self.0.get().is_some_and(|partition| partition.release_memory(address, length))
    }
}

/// Its one pin is the PIC's INTR.
impl LineTarget for EngineLink {
    fn set_line(&self, _pin: u32, high: bool) {
        if let Some(partition) = self.0.get() {
            partition.set_external_interrupt(high);
        }
    }
}

impl RouteTarget for EngineLink {
    fn route(&self, pin: u32, message: Option<MsiMessage>, level: bool) {
        if let Some(partition) = self.0.get() {
            partition.set_route(pin, message.map(|message| Route { message, level }));
        }
    }
}
