//! The host bridge's own function, 00:00.0. It decodes nothing; guests know the machine by it.

use crate::spec::host_bridge::{CLASS, DEVICE, VENDOR};
use crate::{ConfigSpace, ConfigState, Identity, PciFunction};
use kezhan_device::{Device, RestoreError, SavedState};

const KIND: &str = "pci-host-bridge";

/// A DRAM controller and host bridge.
#[derive(Debug)]
pub struct HostBridge {
    name: String,
    config: ConfigSpace,
}

impl HostBridge {
    /// A host bridge called `name`.
    pub fn new(name: &str) -> HostBridge {
        let identity =
            Identity { vendor: VENDOR, device: DEVICE, class: CLASS, ..Identity::default() };
        HostBridge { name: name.to_owned(), config: ConfigSpace::endpoint(identity) }
    }
}

impl Device for HostBridge {
    fn name(&self) -> &str {
        &self.name
    }

    fn reset(&mut self) {
        self.config.reset();
    }

    fn save(&self) -> SavedState {
        SavedState::new(KIND, 1, &self.config.save())
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        self.config.restore(&state.open::<ConfigState>(KIND, 1)?)
    }
}

impl PciFunction for HostBridge {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}
