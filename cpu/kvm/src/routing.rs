//! The interrupt routing table (KVM API §4.52): one MSI route for each unmasked IOAPIC pin.
//!
//! KVM uses it for two things: an irqfd on a pin sends the pin's message, and the end of a
//! level-triggered vector among the first `pins` routes leaves KVM_RUN with KVM_EXIT_IOAPIC_EOI (KVM API
//! §7.5). The whole table is given to KVM at each change, but only when it really changed: KVM waits for
//! all vCPUs to have seen it.

use crate::call::Named;
use crate::spec::MSI_DATA_LEVEL;
use kezhan_hypervisor::{EngineError, Route};
use kvm_bindings::{KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_irq_routing_entry};
use kvm_ioctls::VmFd;

/// The routes of all pins.
#[derive(Debug)]
pub(crate) struct Routing {
    routes: Vec<Option<Route>>,
}

impl Routing {
    /// All pins masked.
    pub(crate) fn new(pins: u32) -> Routing {
        Routing { routes: vec![None; pins as usize] }
    }

    /// Changes one pin. A pin that does not exist is ignored.
    pub(crate) fn set(
        &mut self,
        vm: &VmFd,
        pin: u32,
        route: Option<Route>,
    ) -> Result<(), EngineError> {
        match self.routes.get_mut(pin as usize) {
            Some(old) if *old != route => *old = route,
            _ => return Ok(()),
        }
        let entries: Vec<_> = (0..)
            .zip(&self.routes)
            .filter_map(|(pin, route)| route.map(|route| entry(pin, route)))
            .collect();
        let table = KvmIrqRouting::from_entries(&entries).map_err(|_too_many| {
            EngineError::State(format!("{} interrupt routes are too many", entries.len()))
        })?;
        vm.set_gsi_routing(&table).named(format!("KVM_SET_GSI_ROUTING for pin {pin}"))
    }
}

fn entry(pin: u32, route: Route) -> kvm_irq_routing_entry {
    let mut entry =
        kvm_irq_routing_entry { gsi: pin, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = route.message.address as u32;
    entry.u.msi.address_hi = (route.message.address >> 32) as u32;
    entry.u.msi.data = route.message.data | if route.level { MSI_DATA_LEVEL } else { 0 };
    entry
}
