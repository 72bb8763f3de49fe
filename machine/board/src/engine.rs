//! The wire between the board's interrupt controllers and the engine.

use kezhan_device::{LineTarget, MsiMessage, MsiTarget};
use kezhan_hypervisor::Partition;
use std::sync::{Arc, OnceLock};

/// Stands for the engine until there is one; what is sent before is lost, as with no CPU in its socket.
#[derive(Default)]
pub(crate) struct EngineLink {
    partition: OnceLock<Arc<dyn Partition>>,
}

impl EngineLink {
    pub(crate) fn connect(&self, partition: Arc<dyn Partition>) {
        let _ = self.partition.set(partition);
    }

    pub(crate) fn acknowledge(&self) -> u8 {
        0xff
    }

    pub(crate) fn end_of_interrupt(&self, _vector: u8) {}
}

impl MsiTarget for EngineLink {
    fn signal(&self, message: MsiMessage) -> bool {
        self.partition.get().is_some_and(|partition| partition.signal(message))
    }
}

/// Pin 0 is the PIC's INTR.
impl LineTarget for EngineLink {
    fn set_line(&self, _pin: u32, high: bool) {
        if let Some(partition) = self.partition.get() {
            partition.set_external_interrupt(high);
        }
    }
}
