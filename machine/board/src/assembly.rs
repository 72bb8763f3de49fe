//! The board under construction: what a device's constructor may ask for.

use crate::address_map::{self, Place};
use crate::bus::{Bus, Claim};
use crate::engine::EngineLink;
use crate::settings::Settings;
use crate::slot::{Attention, Slot};
use crate::{BoardError, DeviceKind, Host};
use kezhan_device::{Clock, Device, LineInterrupt, LineTarget, MachineControl, Placement, Space};
use kezhan_ports::CharDevice;
use kezhan_ports::chardev::NullCharDevice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Moves a region of a device away from its row in the address map: name of the region, base.
pub(crate) type Moved<'a> = &'a [(&'static str, u64)];

/// The board under construction.
pub(crate) struct Assembly {
    host: Host,
    engine: Arc<EngineLink>,
    attention: Arc<Attention>,
    slots: Vec<Arc<Slot>>,
    claims: Vec<Claim>,
    port_called: Arc<AtomicBool>,
}

/// What is left when it is finished.
pub(crate) struct Parts {
    pub slots: Vec<Arc<Slot>>,
    pub bus: Bus,
    pub engine: Arc<EngineLink>,
    pub attention: Arc<Attention>,
}

impl Assembly {
    pub(crate) fn new(host: Host) -> Assembly {
        let attention = Arc::new(Attention::new(host.attention.clone()));
        Assembly {
            host,
            engine: Arc::default(),
            attention,
            slots: Vec::new(),
            claims: Vec::new(),
            port_called: Arc::default(),
        }
    }

    /// Builds a device of the list.
    pub(crate) fn build(
        &mut self,
        kind: &DeviceKind,
        given: &[(String, String)],
    ) -> Result<(), BoardError> {
        if self.slots.iter().any(|slot| slot.name() == kind.name) {
            return Err(BoardError::Duplicate(kind.name.to_owned()));
        }
        let settings = Settings::check(kind, given)?;
        self.port_called = Arc::default();
        (kind.build)(self, &settings)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.host.clock.clone()
    }

    pub(crate) fn control(&self) -> Arc<dyn MachineControl> {
        self.host.control.clone()
    }

    /// The character port of the device under construction, its waker set.
    pub(crate) fn port(&mut self, device: &str) -> Box<dyn CharDevice> {
        let Some(mut port) = self.host.ports.remove(device) else {
            return Box::new(NullCharDevice);
        };
        let (called, attention) = (self.port_called.clone(), self.attention.clone());
        port.set_waker(Arc::new(move || {
            if !called.swap(true, Ordering::SeqCst) {
                attention.call();
            }
        }));
        port
    }

    /// The line of a device that the address map puts at an ISA interrupt.
    pub(crate) fn line(&self, device: &str, part: &str) -> Result<LineInterrupt, BoardError> {
        match address_map::find(device, part) {
            Some(Place::Irq(irq)) => Ok(self.isa(irq, &format!("{device}.{part}"))),
            _ => Err(BoardError::NoPlace(format!("{device}.{part}"))),
        }
    }

    /// A wire from a device to ISA interrupt `irq`.
    pub(crate) fn isa(&self, _irq: u8, name: &str) -> LineInterrupt {
        LineInterrupt::unconnected(name)
    }

    /// Puts a device on the board, each region where the address map or `moved` says.
    pub(crate) fn mount(
        &mut self,
        device: Arc<Mutex<dyn Device>>,
        moved: Moved<'_>,
    ) -> Result<(), BoardError> {
        let (name, regions) = {
            let device = device.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (device.name().to_owned(), device.regions())
        };
        let mut places = Vec::new();
        for region in &regions {
            places.push(place_of(&name, region.name, moved)?);
        }
        let placement = Placement {
            bases: places.iter().map(|(_, base, _)| *base).collect(),
            interrupts: address_map::interrupts(&name).into_iter().map(address_map::gsi).collect(),
        };
        let slot = Arc::new(Slot::new(device, placement, self.port_called.clone()));
        for (index, (region, (space, start, inside))) in regions.iter().zip(places).enumerate() {
            if space != region.space {
                return Err(BoardError::NoPlace(format!("{name}.{}", region.name)));
            }
            self.claims.push(Claim {
                slot: slot.clone(),
                region: index,
                name: format!("{name}.{}", region.name),
                space,
                start,
                length: region.length,
                inside,
            });
        }
        self.slots.push(slot);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Parts, BoardError> {
        Ok(Parts {
            slots: self.slots,
            bus: Bus::new(self.claims)?,
            engine: self.engine,
            attention: self.attention,
        })
    }
}

fn place_of(
    device: &str,
    region: &'static str,
    moved: Moved<'_>,
) -> Result<(Space, u64, bool), BoardError> {
    let row = address_map::find(device, region);
    let base = moved.iter().find(|(name, _)| *name == region).map(|(_, base)| *base);
    match row {
        Some(Place::Port(port)) => Ok((Space::Port, base.unwrap_or(port.into()), false)),
        Some(Place::PortInside(port)) => Ok((Space::Port, base.unwrap_or(port.into()), true)),
        Some(Place::Memory(address)) => Ok((Space::Memory, base.unwrap_or(address), false)),
        Some(Place::Irq(_)) | None => Err(BoardError::NoPlace(format!("{device}.{region}"))),
    }
}
