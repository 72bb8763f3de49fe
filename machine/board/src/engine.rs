//! The wire between the board's devices and the engine: interrupts, and memory that is given back.

use kezhan_chipset::ioapic::RouteTarget;
use kezhan_device::{Doorbells, LineTarget, MemoryReclaim, MsiMessage, MsiTarget};
use kezhan_hypervisor::{Doorbell, Partition, Route};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// Stands for the engine until there is one; what is sent before is lost, as with no CPU in its socket.
#[derive(Default)]
pub(crate) struct EngineLink(OnceLock<Arc<dyn Partition>>);

impl EngineLink {
    pub(crate) fn connect(&self, partition: Arc<dyn Partition>) {
        let _ = self.0.set(partition);
    }

    /// Has the engine signal `event` for writes to doorbells whose region is at `base`, where it can. Where it
    /// cannot, they come as any other write does.
    pub(crate) fn hang(&self, bells: &Doorbells, base: u64, event: BorrowedFd<'_>) {
        let Some(engine) = self.0.get().and_then(|partition| partition.event_descriptors()) else {
            return;
        };
        for bell in places(bells, base) {
            if let Err(error) = engine.attach_doorbell(bell, event) {
                log::warn!("doorbell at {:#x}: {error}: it costs an exit", bell.address);
            }
        }
    }

    /// Undoes [`EngineLink::hang`].
    pub(crate) fn unhang(&self, bells: &Doorbells, base: u64, event: BorrowedFd<'_>) {
        let Some(engine) = self.0.get().and_then(|partition| partition.event_descriptors()) else {
            return;
        };
        for bell in places(bells, base) {
            // Where it could not be attached there is nothing to detach.
            engine.detach_doorbell(bell, event).ok();
        }
    }
}

/// Each doorbell's place in guest memory, for a write of any size.
fn places(bells: &Doorbells, base: u64) -> impl Iterator<Item = Doorbell> + use<> {
    let Doorbells { start, step, count, .. } = *bells;
    (0..count).map(move |n| Doorbell {
        port: false,
        address: base.wrapping_add(start + n * step),
        size: 0,
        value: None,
    })
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
