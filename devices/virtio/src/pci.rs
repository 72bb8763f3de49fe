//! The PCI adapter (virtio 1.2 §4.1), modern interface only.
//!
//! ```text
//!   BAR 0 "msix"    MSI-X table and pending bits
//!   BAR 1 "virtio"  0x0000 common   0x1000 ISR   0x2000 device   0x3000 notify, 4 bytes a queue
//!   configuration space: five vendor capabilities, the last of them a window into BAR 1
//! ```
//! Interrupts are MSI-X; for a driver without it, INTA#, which is high while the ISR status is not zero
//! (§4.1.5.3, §4.1.5.4).

use crate::core::{self, Core, CoreState, Transport};
use crate::device::VirtioDevice;
use crate::spec::{common, pci as numbers};
use kezhan_device::{
    Access, Device, Doorbells, GuestMemory, LineInterrupt, MsiInterrupt, Nanoseconds, Region,
    RegionIndex, RestoreError, SavedState,
};
use kezhan_pci::{
    Bar, BarKind, ConfigSpace, FunctionState, Identity, MSIX_REGION, Msix, PciFunction,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const MSIX: usize = 0;
const VIRTIO: usize = 1;
const MSIX_BAR: u8 = 0;
const VIRTIO_BAR: u8 = 1;

const ISR_AT: u64 = 0x1000;
const DEVICE_AT: u64 = 0x2000;
const NOTIFY_AT: u64 = 0x3000;
const NOTIFY_MULTIPLIER: u32 = 4;
const LENGTH: u64 = 0x4000;

/// Bytes of a capability without its id and link: `cfg_len` to `length` (§4.1.4).
const CAPABILITY_BODY: usize = 14;

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PciState {
    function: FunctionState,
    isr: u8,
    core: CoreState,
}

/// A virtio device as a PCI function. See the module.
#[derive(Debug)]
pub struct VirtioPci {
    name: String,
    config: ConfigSpace,
    msix: Msix,
    core: Core,
    isr: u8,
    intx: LineInterrupt,
    /// Where the window's capability is in configuration space.
    window: Option<u8>,
}

impl VirtioPci {
    /// The function `name` around `device`, whose buffers lie in `memory`.
    pub fn new(
        name: &str,
        device: Box<dyn VirtioDevice>,
        memory: Arc<GuestMemory>,
        msi: MsiInterrupt,
    ) -> VirtioPci {
        let core = Core::new(device, memory);
        let queues = core.read_common(common::NUM_QUEUES) as u16;
        let mut config = header(&core);
        let msix = Msix::new(queues + 1, MSIX_BAR, &mut config, msi);
        let window = add_capabilities(&mut config, queues);
        let intx = LineInterrupt::unconnected(name);
        VirtioPci { name: name.to_owned(), config, msix, core, isr: 0, intx, window }
    }

    /// The level of INTA# (PCI 3.0 §6.2.2, §6.2.3): with MSI-X it is low (§6.8.2.3).
    fn drive_intx(&mut self) {
        let level = self.config.set_interrupt(self.isr != 0);
        self.intx.set(level && !self.msix.is_enabled());
    }

    fn read_virtio(&mut self, offset: u64, data: &mut [u8]) -> Access {
        match offset {
            0..ISR_AT => return self.read_common(offset, data),
            ISR_AT => {
                data.fill(0);
                if let Some(byte) = data.first_mut() {
                    *byte = std::mem::take(&mut self.isr);
                }
                self.drive_intx();
            }
            DEVICE_AT..NOTIFY_AT => self.core.device().read_config(offset - DEVICE_AT, data),
            _ => data.fill(0),
        }
        Access::Done
    }

    /// Fields are read in their own width, 64-bit ones in halves too (§4.1.3.1).
    fn read_common(&self, offset: u64, data: &mut [u8]) -> Access {
        let Some((field, width)) = field(offset) else { return Access::BadRegister };
        let within = offset - field;
        if within + data.len() as u64 > width {
            return Access::BadSize;
        }
        let value = self.core.read_common(field) >> (within * 8);
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
        Access::Done
    }

    fn write_virtio(&mut self, offset: u64, data: &[u8]) -> Access {
        match offset {
            0..ISR_AT => return self.write_common(offset, data),
            NOTIFY_AT..LENGTH => {
                let queue = (offset - NOTIFY_AT) / u64::from(NOTIFY_MULTIPLIER);
                self.core.notify(queue as usize);
                self.deliver();
            }
            DEVICE_AT..NOTIFY_AT => self.core.device_mut().write_config(offset - DEVICE_AT, data),
            _ => {}
        }
        Access::Done
    }

    fn write_common(&mut self, offset: u64, data: &[u8]) -> Access {
        let Some((field, width)) = field(offset) else { return Access::BadRegister };
        let (within, length) = (offset - field, data.len() as u64);
        let half = width == 8 && length == 4;
        if within + length > width || !(half || length == width) {
            return Access::BadSize;
        }
        let mut bytes = [0; 8];
        if half {
            bytes = self.core.read_common(field).to_le_bytes();
        }
        for (byte, value) in bytes.iter_mut().skip(within as usize).zip(data) {
            *byte = *value;
        }
        self.core.write_common(field, u64::from_le_bytes(bytes), self.msix.vectors());
        self.deliver();
        Access::Done
    }

    /// The access that the window's capability describes (§4.1.4.9): only BAR 1, only 1, 2 or 4 bytes.
    fn windowed(&self) -> Option<(u64, usize)> {
        let mut fields = [0; 16];
        self.config.read(self.window?.into(), &mut fields);
        let [_, _, _, _, bar, _, _, _, a, b, c, d, length, 0, 0, 0] = fields else { return None };
        let offset = u64::from(u32::from_le_bytes([a, b, c, d]));
        let length = usize::from(length);
        let fits = matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length as u64);
        (bar == VIRTIO_BAR && fits && offset < LENGTH).then_some((offset, length))
    }

    /// Whether a configuration access reaches the window's data.
    fn at_window(&self, offset: u16) -> bool {
        self.window.is_some_and(|window| offset == u16::from(window) + 16)
    }
}

fn header(core: &Core) -> ConfigSpace {
    let identity = core.device().identity();
    let bar = |region, size| Bar { region, kind: BarKind::Memory32, size };
    ConfigSpace::endpoint(Identity {
        vendor: numbers::VENDOR,
        device: numbers::DEVICE_BASE + identity.id,
        class: identity.class,
        revision: numbers::REVISION,
        subsystem_vendor: numbers::VENDOR,
        subsystem: numbers::DEVICE_BASE + identity.id,
    })
    .with_bar(MSIX_BAR.into(), bar("msix", MSIX_REGION))
    .with_bar(VIRTIO_BAR.into(), bar("virtio", LENGTH))
    .with_interrupt_pin(1)
}

/// Adds the capabilities (§4.1.4); gives the place of the window's.
fn add_capabilities(config: &mut ConfigSpace, queues: u16) -> Option<u8> {
    let notify = u32::from(queues) * NOTIFY_MULTIPLIER;
    let body = |kind: u8, at: u64, length: u32| {
        let mut body = vec![CAPABILITY_BODY as u8 + 2, kind, VIRTIO_BAR, 0, 0, 0];
        body.extend((at as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body
    };
    let mut notify_body = body(numbers::NOTIFY, NOTIFY_AT, notify);
    notify_body.extend(NOTIFY_MULTIPLIER.to_le_bytes());
    let mut window = body(numbers::WINDOW, 0, 0);
    window.extend([0; 4]);
    for list in [&mut notify_body, &mut window] {
        if let Some(length) = list.first_mut() {
            *length += 4;
        }
    }
    config.add_capability(
        numbers::CAPABILITY,
        &body(numbers::COMMON, 0, common::LENGTH as u32),
        &[],
    )?;
    config.add_capability(numbers::CAPABILITY, &notify_body, &[])?;
    config.add_capability(numbers::CAPABILITY, &body(numbers::ISR, ISR_AT, 1), &[])?;
    config.add_capability(numbers::CAPABILITY, &body(numbers::DEVICE, DEVICE_AT, 0x1000), &[])?;
    let mut writable = [0; CAPABILITY_BODY + 4];
    // BAR, then offset, length and data.
    writable[2] = 0xff;
    writable[6..].fill(0xff);
    config.add_capability(numbers::CAPABILITY, &window, &writable)
}

/// The field of the common configuration around an offset, and its width.
fn field(offset: u64) -> Option<(u64, u64)> {
    match offset {
        0x00..0x10 => Some((offset & !3, 4)),
        common::STATUS | common::GENERATION => Some((offset, 1)),
        0x10..0x20 => Some((offset & !1, 2)),
        0x20..common::LENGTH => Some((offset & !7, 8)),
        _ => None,
    }
}

impl Transport for VirtioPci {
    fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Sends what the core raised, or leaves it in the ISR status where MSI-X is off (§4.1.5.3, §4.1.5.4).
    fn deliver(&mut self) {
        let raised = self.core.take_raised();
        if !self.msix.is_enabled() {
            self.isr |= if raised.queues != 0 { numbers::ISR_QUEUE } else { 0 };
            self.isr |= if raised.config { numbers::ISR_CONFIG } else { 0 };
            self.drive_intx();
            return;
        }
        if raised.config {
            self.msix.signal(self.core.config_vector);
        }
        let mut left = raised.queues;
        while left != 0 {
            self.msix.signal(self.core.queue_vector(left.trailing_zeros() as usize));
            left &= left - 1;
        }
    }
}

impl Device for VirtioPci {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        self.config.regions()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        match region.0 {
            MSIX => self.msix.read(offset, data),
            VIRTIO if offset < LENGTH => self.read_virtio(offset, data),
            _ => Access::BadRegister,
        }
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        match region.0 {
            MSIX => self.msix.write(offset, data),
            VIRTIO if offset < LENGTH => self.write_virtio(offset, data),
            _ => Access::BadRegister,
        }
    }

    /// At once, while buffers are left over.
    fn deadline(&self) -> Option<Nanoseconds> {
        self.core.is_unfinished().then_some(0)
    }

    fn wake(&mut self, _now: Nanoseconds) {
        self.core.go_on();
        self.deliver();
    }

    fn poll(&mut self) {
        self.core.poll();
        self.deliver();
    }

    fn doorbells(&self) -> Option<Doorbells> {
        Some(Doorbells {
            region: RegionIndex(VIRTIO),
            start: NOTIFY_AT,
            step: NOTIFY_MULTIPLIER.into(),
            count: self.core.read_common(common::NUM_QUEUES),
            brief: self.core.device().serves_briefly(),
        })
    }

    fn waiting(&mut self) -> u32 {
        self.core.waiting()
    }

    fn rung(&mut self) {
        core::serve(self);
    }

    fn weight(&self) -> u32 {
        self.core.device().weight()
    }

    fn rung_briefly(&mut self) -> bool {
        core::serve_briefly(self)
    }

    fn resume(&mut self) {
        self.core.resume();
        self.deliver();
    }

    fn pause(&mut self) {
        self.core.pause();
        self.deliver();
    }

    fn reset(&mut self) {
        self.core.reset();
        self.config.reset();
        self.msix.reset();
        self.isr = 0;
        self.intx.set(false);
    }

    fn save(&self) -> SavedState {
        let function = FunctionState { config: self.config.save(), msix: self.msix.save() };
        let state = PciState { function, isr: self.isr, core: self.core.save() };
        SavedState::new(self.core.device().identity().kind, 1, &state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let state: PciState = state.open(self.core.device().identity().kind, 1)?;
        self.reset();
        self.config.restore(&state.function.config)?;
        self.msix.restore(&state.function.msix, &self.config)?;
        self.isr = state.isr;
        self.drive_intx();
        self.core.restore(&state.core)
    }
}

impl PciFunction for VirtioPci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn connect_interrupt(&mut self, line: LineInterrupt) {
        self.intx = line;
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) -> Access {
        if self.at_window(offset)
            && let Some((at, length)) = self.windowed()
            && let Some(part) = data.get_mut(..length)
        {
            return self.read_virtio(at, part);
        }
        self.config.read(offset, data)
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Access {
        self.config.write(offset, data);
        self.msix.config_written(&self.config);
        self.drive_intx();
        if self.at_window(offset)
            && let Some((at, length)) = self.windowed()
            && let Some(part) = data.get(..length)
        {
            return self.write_virtio(at, part);
        }
        Access::Done
    }
}
