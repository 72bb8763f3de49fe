//! What a device must add to be a PCI function.

use crate::ConfigSpace;
use kezhan_device::{Access, Device, LineInterrupt};

/// A device with a configuration space. Its first regions are those of its BARs, in the order in which
/// they were declared: `regions()` starts with `config().regions()`.
pub trait PciFunction: Device {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;

    /// Its configuration space, to be written.
    fn config_mut(&mut self) -> &mut ConfigSpace;

    /// The wire of its interrupt pin, once its slot is known; before the machine runs. A function without a
    /// pin needs none.
    fn connect_interrupt(&mut self, line: LineInterrupt) {
        let _ = line;
    }

    /// The number of the bus behind it, while what is there can be reached; `None` for what is no bridge.
    fn bus_behind(&self) -> Option<u8> {
        None
    }

    /// The guest reads 1, 2 or 4 bytes at `offset` (0 to 4095), not across a doubleword.
    fn read_config(&mut self, offset: u16, data: &mut [u8]) -> Access {
        self.config().read(offset, data)
    }

    /// The guest writes 1, 2 or 4 bytes. A function with state behind its configuration space (INTx#,
    /// capabilities) overrides this, writes through, and then looks at what has changed.
    fn write_config(&mut self, offset: u16, data: &[u8]) -> Access {
        self.config_mut().write(offset, data)
    }
}
