//! The MMIO adapter (virtio 1.2 §4.2), version 2 of its registers.
//!
//! ```text
//!   region "registers"  0x000 identity, features, queues, status   0x100 device configuration
//!   line                high while InterruptStatus is not zero
//! ```
//! For guests without PCI. The registers are the common configuration of the PCI adapter in another
//! order, so they are translated and the core does the work. A guest finds the device by its ACPI node, whose
//! identifier `LNRO0005` is Linux' (`drivers/virtio/virtio_mmio.c`).
//!
//! # What was rejected
//! The registers of version 1 (legacy), and shared memory regions, which no device here has.

use crate::core::{self, Core, CoreState, Transport};
use crate::device::VirtioDevice;
use crate::spec::{common, mmio as numbers, pci};
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device as AmlDevice, Interrupt, Memory32Fixed, Name, Path, ResourceTemplate,
};
use kezhan_device::{
    Access, Device, Doorbells, GuestMemory, LineInterrupt, Nanoseconds, Placement, Region,
    RegionIndex, RestoreError, SavedState, Space,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Saved state, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MmioState {
    interrupts: u32,
    core: CoreState,
}

/// A virtio device behind memory-mapped registers. See the module.
#[derive(Debug)]
pub struct VirtioMmio {
    name: String,
    core: Core,
    line: LineInterrupt,
    interrupts: u32,
}

impl VirtioMmio {
    /// The device `name` around `device`, whose buffers lie in `memory`.
    pub fn new(
        name: &str,
        device: Box<dyn VirtioDevice>,
        memory: Arc<GuestMemory>,
        line: LineInterrupt,
    ) -> VirtioMmio {
        VirtioMmio { name: name.to_owned(), core: Core::new(device, memory), line, interrupts: 0 }
    }

    fn read_register(&self, register: u64) -> u32 {
        match register {
            numbers::MAGIC => numbers::MAGIC_VALUE,
            numbers::VERSION => numbers::VERSION_VALUE,
            numbers::DEVICE_ID => self.core.device().identity().id.into(),
            numbers::VENDOR_ID => numbers::VENDOR_VALUE,
            numbers::QUEUE_SIZE_MAX => self.core.largest_queue().into(),
            numbers::INTERRUPT_STATUS => self.interrupts,
            _ => match numbers::READABLE.iter().find(|(place, _)| *place == register) {
                Some((_, field)) => self.core.read_common(*field) as u32,
                None => 0,
            },
        }
    }

    fn write_register(&mut self, register: u64, value: u32) {
        match register {
            numbers::QUEUE_NOTIFY => self.core.notify(value as usize),
            numbers::INTERRUPT_ACK => self.interrupts &= !value,
            _ => self.write_field(register, value),
        }
        // A reset takes the interrupts with it (§2.4.1).
        if self.core.read_common(common::STATUS) == 0 {
            self.interrupts = 0;
        }
        self.deliver();
    }

    fn write_field(&mut self, register: u64, value: u32) {
        let Some((_, field, high)) = numbers::WRITABLE.iter().find(|row| row.0 == register) else {
            return;
        };
        let mut value = u64::from(value);
        if *field >= common::QUEUE_DESC {
            let whole = self.core.read_common(*field);
            value = match high {
                true => whole & 0xffff_ffff | value << 32,
                false => whole & !0xffff_ffff | value,
            };
        }
        self.core.write_common(*field, value, pci::NO_VECTOR);
    }
}

impl Transport for VirtioMmio {
    fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Puts what the core raised into InterruptStatus (§4.2.2), and drives the line.
    fn deliver(&mut self) {
        let raised = self.core.take_raised();
        self.interrupts |= if raised.queues != 0 { numbers::USED_BUFFER } else { 0 };
        self.interrupts |= if raised.config { numbers::CONFIG_CHANGE } else { 0 };
        self.line.set(self.interrupts != 0);
    }
}

impl Device for VirtioMmio {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> Vec<Region> {
        vec![Region { name: "registers", space: Space::Memory, length: numbers::LENGTH }]
    }

    /// Registers in doublewords, the configuration in any width (§4.2.2.2).
    fn read(&mut self, _region: RegionIndex, offset: u64, data: &mut [u8]) -> Access {
        match (offset, data.len()) {
            (numbers::LENGTH.., _) => return Access::BadRegister,
            (numbers::CONFIG.., _) => {
                self.core.device().read_config(offset - numbers::CONFIG, data);
            }
            (_, 4) if offset.is_multiple_of(4) => {
                data.copy_from_slice(&self.read_register(offset).to_le_bytes());
            }
            (_, 4) => return Access::Unaligned,
            _ => return Access::BadSize,
        }
        Access::Done
    }

    fn write(&mut self, _region: RegionIndex, offset: u64, data: &[u8]) -> Access {
        match (offset, data) {
            (numbers::LENGTH.., _) => return Access::BadRegister,
            (numbers::CONFIG.., _) => {
                self.core.device_mut().write_config(offset - numbers::CONFIG, data);
            }
            (_, [a, b, c, d]) if offset.is_multiple_of(4) => {
                self.write_register(offset, u32::from_le_bytes([*a, *b, *c, *d]));
            }
            (_, [_, _, _, _]) => return Access::Unaligned,
            _ => return Access::BadSize,
        }
        Access::Done
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
        let region = RegionIndex(0);
        let brief = self.core.device().serves_briefly();
        Some(Doorbells { region, start: numbers::QUEUE_NOTIFY, step: 4, count: 1, brief })
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
        self.interrupts = 0;
        self.line.set(false);
    }

    /// `VNNN`, NNN being the number of its page, with a level-triggered interrupt that is shared, as PCI's are.
    fn aml(&self, placed: &Placement) -> Option<Vec<u8>> {
        let base = u32::try_from(*placed.bases.first()?).ok()?;
        let unit = base >> 12 & 0xfff;
        let registers = Memory32Fixed::new(true, base, numbers::LENGTH as u32);
        let interrupt = Interrupt::new(true, false, true, true, *placed.interrupts.first()?);
        let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
        let mut bytes = Vec::new();
        AmlDevice::new(
            Path::new(&format!("V{unit:03X}")),
            vec![
                &Name::new("_HID".into(), &"LNRO0005"),
                &Name::new("_UID".into(), &unit),
                &Name::new("_STA".into(), &0x0f_u8),
                &Name::new("_CRS".into(), &resources),
            ],
        )
        .to_aml_bytes(&mut bytes);
        Some(bytes)
    }

    fn save(&self) -> SavedState {
        let state = MmioState { interrupts: self.interrupts, core: self.core.save() };
        SavedState::new(self.core.device().identity().kind, 1, &state)
    }

    fn restore(&mut self, state: &SavedState) -> Result<(), RestoreError> {
        let state: MmioState = state.open(self.core.device().identity().kind, 1)?;
        self.reset();
        self.core.restore(&state.core)?;
        self.interrupts = state.interrupts & (numbers::USED_BUFFER | numbers::CONFIG_CHANGE);
        self.line.set(self.interrupts != 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{feature, status};
    use crate::{BlockOptions, block::Block};
    use kezhan_device::ManualClock;
    use kezhan_device::testkit::{LineLog, check_contract, check_storm, read, write};
    use kezhan_ports::testkit::MemoryDisk;
    use vm_memory::{Bytes, GuestAddress};

    fn bench() -> (VirtioMmio, Arc<GuestMemory>, Arc<LineLog>) {
        let memory = Arc::new(GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap());
        let (log, line) = LineLog::line("disk0.irq");
        let options = BlockOptions { serial: "S1".to_owned(), queues: 1 };
        let block = Block::new(Box::new(MemoryDisk::new(1 << 16)), options);
        (VirtioMmio::new("disk0", Box::new(block), memory.clone(), line), memory, log)
    }

    fn set(device: &mut VirtioMmio, register: u64, value: u32) {
        write(device, 0, register, 4, value.into());
    }

    fn go_live(device: &mut VirtioMmio) {
        set(device, numbers::STATUS, (status::ACKNOWLEDGE | status::DRIVER).into());
        set(device, numbers::DRIVER_FEATURES_SELECT, 1);
        set(device, numbers::DRIVER_FEATURES, (feature::VERSION_1 >> 32) as u32);
        set(device, numbers::STATUS, 0xb);
        set(device, numbers::QUEUE_SIZE, 8);
        for (register, address) in [(0x80, 0x1_0000), (0x90, 0x1_1000), (0xa0, 0x1_2000)] {
            set(device, register, address);
        }
        set(device, numbers::QUEUE_READY, 1);
        set(device, numbers::STATUS, 0xf);
    }

    #[test]
    fn it_is_known_by_magic_version_and_device() {
        let (mut device, _, _) = bench();
        let seen = [0, 4, 8].map(|register| read(&mut device, 0, register, 4));
        assert_eq!(seen, [0x7472_6976, 2, 2]);
        assert_eq!(read(&mut device, 0, 0x100, 8), 128, "the capacity in sectors");
        set(&mut device, numbers::QUEUE_SELECT, 9);
        assert_eq!(read(&mut device, 0, numbers::QUEUE_SIZE_MAX, 4), 0, "there is no such queue");
    }

    #[test]
    fn a_request_raises_the_line_until_it_is_acknowledged() {
        let (mut device, memory, log) = bench();
        go_live(&mut device);
        // The serial number: a header of type 8, 20 bytes of answer and the status.
        memory.write_slice(&8_u32.to_le_bytes(), GuestAddress(0x3000)).unwrap();
        let descriptors: [(u64, u32, u16, u16); 2] = [(0x3000, 16, 1, 1), (0x4000, 21, 2, 0)];
        for (at, (address, length, flags, next)) in (0x1_0000..).step_by(16).zip(descriptors) {
            memory.write_obj(address, GuestAddress(at)).unwrap();
            memory.write_obj(length, GuestAddress(at + 8)).unwrap();
            memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
            memory.write_obj(next, GuestAddress(at + 14)).unwrap();
        }
        memory.write_obj(1_u16, GuestAddress(0x1_1002)).unwrap();
        set(&mut device, numbers::QUEUE_NOTIFY, 0);
        assert_eq!(memory.read_obj::<u16>(GuestAddress(0x1_2002)).unwrap(), 1);
        assert_eq!(
            (log.take(), read(&mut device, 0, numbers::INTERRUPT_STATUS, 4)),
            (vec![(0, true)], 1)
        );
        set(&mut device, numbers::INTERRUPT_ACK, 1);
        assert_eq!(log.take(), [(0, false)]);
        set(&mut device, numbers::STATUS, 0);
        assert_eq!(read(&mut device, 0, numbers::QUEUE_READY, 4), 0);
    }

    #[test]
    fn it_keeps_the_contract_of_devices() {
        let (mut device, _, _) = bench();
        check_contract(&mut device);
        check_storm(&mut device, &ManualClock::default());
    }
}
