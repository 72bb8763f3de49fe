//! The transport core: status, features, queues; everything that PCI and MMIO share.
//!
//! ```text
//!   0 ─► ACKNOWLEDGE ─► DRIVER ─► FEATURES_OK ─► DRIVER_OK (live) ─► NEEDS_RESET
//!   ▲                       features frozen        queues frozen      a ring made no sense
//!   └──── write 0: done when the device's port is at rest ────────────────┘
//! ```
//! (virtio 1.2 §2.1, §3.1.1)

use crate::device::{Rings, VirtioDevice};
use crate::queue::{Queue, Registers};
use crate::spec::{common, feature, pci, status};
use kezhan_device::{GuestMemory, RestoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Buffers taken in one call into a device. A driver that adds as fast as they are taken, from another vCPU,
/// would else keep this one, and with it a pause, waiting for ever; what is left is served at the next wake.
const WORK_LIMIT: u32 = 1024;

/// Interrupts that are to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raised {
    /// The configuration has changed, or the device needs a reset.
    pub config: bool,
    /// A bit for each queue.
    pub queues: u64,
}

/// Parts served in one call of a device's thread.
const SLICES: u32 = 128;

/// An adapter, as its device's thread needs it.
pub(crate) trait Transport {
    fn core(&mut self) -> &mut Core;

    /// Sends the interrupts that the core has raised.
    fn deliver(&mut self);
}

/// Serves what was announced, with interrupts after each part; what is too much for one call is left for another.
pub(crate) fn serve(transport: &mut impl Transport) {
    for _ in 0..SLICES {
        let more = transport.core().rung();
        transport.deliver();
        if !more {
            return;
        }
    }
    transport.core().unfinished = true;
}

/// The first part of it; true when there is more.
pub(crate) fn serve_briefly(transport: &mut impl Transport) -> bool {
    let more = transport.core().rung();
    transport.deliver();
    more
}

/// Registers of the core; part of the adapter's saved state, version 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoreState {
    status: u8,
    resetting: bool,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    config_vector: u16,
    generation: u8,
    queues: Vec<Registers>,
    device: serde_json::Value,
}

/// The core around a device. See the module.
pub(crate) struct Core {
    device: Box<dyn VirtioDevice>,
    memory: Arc<GuestMemory>,
    queues: Vec<Queue>,
    status: u8,
    resetting: bool,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    queue_select: u16,
    pub config_vector: u16,
    generation: u8,
    raised: Raised,
    unfinished: bool,
}

impl Core {
    pub(crate) fn new(device: Box<dyn VirtioDevice>, memory: Arc<GuestMemory>) -> Core {
        let queues = device.queues().into_iter().take(64).map(Queue::new).collect();
        Core {
            device,
            memory,
            queues,
            status: 0,
            resetting: false,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            queue_select: 0,
            config_vector: pci::NO_VECTOR,
            generation: 0,
            raised: Raised::default(),
            unfinished: false,
        }
    }

    pub(crate) fn device(&self) -> &dyn VirtioDevice {
        &*self.device
    }

    pub(crate) fn device_mut(&mut self) -> &mut dyn VirtioDevice {
        &mut *self.device
    }

    /// The largest size of the selected queue; 0 when there is none.
    pub(crate) fn largest_queue(&self) -> u16 {
        self.queues.get(usize::from(self.queue_select)).map_or(0, |queue| queue.largest)
    }

    /// What is to be sent since the last call.
    pub(crate) fn take_raised(&mut self) -> Raised {
        std::mem::take(&mut self.raised)
    }

    pub(crate) fn queue_vector(&self, queue: usize) -> u16 {
        self.queues.get(queue).map_or(pci::NO_VECTOR, |queue| queue.registers.vector)
    }

    fn offered(&self) -> u64 {
        self.device.features() | feature::OF_QUEUES
    }

    fn is_live(&self) -> bool {
        let live = self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK;
        live && !self.resetting
    }

    /// Lends the rings to the device, then sees to interrupts and errors.
    fn work(&mut self, work: impl FnOnce(&mut dyn VirtioDevice, &mut Rings<'_>)) {
        self.work_on(WORK_LIMIT, work);
    }

    fn work_on(&mut self, budget: u32, work: impl FnOnce(&mut dyn VirtioDevice, &mut Rings<'_>)) {
        if !self.is_live() {
            return;
        }
        let (memory, queues) = (&*self.memory, self.queues.as_mut_slice());
        let mut rings = Rings { memory, queues, broken: false, config_changed: false, budget };
        work(&mut *self.device, &mut rings);
        let Rings { mut broken, config_changed, budget, .. } = rings;
        self.unfinished |= budget == 0;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            match queue.wants_interrupt(&self.memory) {
                Ok(wanted) => self.raised.queues |= u64::from(wanted) << index,
                Err(_) => broken = true,
            }
        }
        if config_changed {
            self.generation = self.generation.wrapping_add(1);
            self.raised.config = true;
        }
        if broken {
            self.needs_reset();
        }
    }

    /// (virtio 1.2 §2.1.2): the bit, and a configuration interrupt when the driver was live.
    fn needs_reset(&mut self) {
        self.status |= status::NEEDS_RESET;
        self.raised.config = true;
    }

    /// The driver notifies a queue.
    pub(crate) fn notify(&mut self, queue: usize) {
        if queue < self.queues.len() {
            self.work(|device, rings| device.process(queue, rings));
        }
    }

    /// The device's port has something new.
    pub(crate) fn poll(&mut self) {
        if self.resetting || self.status & status::NEEDS_RESET != 0 {
            if self.device.forget() && self.resetting {
                self.reset_registers();
            }
        } else if self.status & status::DRIVER_OK == 0 {
            self.device.forget();
        } else {
            self.work(|device, rings| device.poll(rings));
        }
    }

    /// The driver may have notified any queue, or the device's port have something new. A part of it is served:
    /// true when there is more, after the interrupts.
    fn rung(&mut self) -> bool {
        if !self.is_live() {
            self.poll();
            return false;
        }
        self.unfinished = false;
        self.work_on(self.device.slice(), |device, rings| device.rung(rings));
        if std::mem::take(&mut self.unfinished) && self.count_waiting() > 0 {
            return true;
        }
        // What was added before the driver could see the wish comes without a notification (§2.7.10.1, §2.8.21.3.1).
        self.ask_to_notify_of_work();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.is_live() && self.count_waiting() > 0 {
            self.work_on(WORK_LIMIT, |device, rings| device.rung(rings));
        }
        false
    }

    /// How many buffers the driver has made available that were not looked at yet, at a glance. Until
    /// [`Core::rung`] it need not notify.
    pub(crate) fn waiting(&mut self) -> u32 {
        if !self.is_live() {
            return 0;
        }
        self.ask_to_notify(false);
        self.count_waiting()
    }

    fn count_waiting(&self) -> u32 {
        let queues = self.queues.iter().enumerate();
        let work = queues.filter(|(index, _)| self.device.is_work(*index));
        work.map(|(_, queue)| u32::from(queue.waiting(&self.memory))).sum()
    }

    /// Room that is not needed yet is not worth a notification.
    fn ask_to_notify_of_work(&self) {
        for (index, queue) in self.queues.iter().enumerate() {
            queue.ask_to_notify(&self.memory, self.device.is_work(index)).ok();
        }
    }

    /// A ring that lies outside memory is found broken when it is next used.
    fn ask_to_notify(&self, notify: bool) {
        for queue in &self.queues {
            queue.ask_to_notify(&self.memory, notify).ok();
        }
    }

    /// The machine goes on: what was made available meanwhile, or before the state was saved, is served.
    pub(crate) fn resume(&mut self) {
        self.poll();
        self.go_on();
    }

    /// Whether buffers were left for another call.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished && self.is_live()
    }

    /// Serves every queue. Whoever had asked the driver not to notify may not be called again: the wish ends here, before
    /// the rings are read (§2.7.10.1, §2.8.21.3.1).
    pub(crate) fn go_on(&mut self) {
        self.unfinished = false;
        if self.is_live() {
            self.ask_to_notify(true);
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        for queue in 0..self.queues.len() {
            self.notify(queue);
        }
    }

    /// The machine is to stand still: what is in flight is completed.
    pub(crate) fn pause(&mut self) {
        self.work(|device, rings| device.settle(rings));
        if !self.is_live() {
            self.device.drain();
            self.poll();
        }
    }

    /// Power-on state.
    pub(crate) fn reset(&mut self) {
        self.device.drain();
        self.device.forget();
        self.reset_registers();
        self.generation = 0;
    }

    fn reset_registers(&mut self) {
        self.queues.iter_mut().for_each(Queue::reset);
        (self.status, self.resetting) = (0, false);
        (self.device_feature_select, self.driver_feature_select) = (0, 0);
        (self.driver_features, self.queue_select) = (0, 0);
        self.config_vector = pci::NO_VECTOR;
        self.raised = Raised::default();
        self.unfinished = false;
    }

    fn set_status(&mut self, value: u8) {
        if value == 0 {
            self.resetting = true;
            self.poll();
            return;
        }
        if self.resetting {
            return;
        }
        // A driver adds bits; only a reset takes them away (virtio 1.2 §2.1.1).
        let mut added = value & status::OF_DRIVER & !self.status;
        if added & status::FEATURES_OK != 0 && !self.features_fit() {
            added &= !status::FEATURES_OK;
        }
        if (self.status | added) & status::FEATURES_OK == 0 {
            added &= !status::DRIVER_OK;
        }
        self.status |= added;
        if added & status::DRIVER_OK != 0 {
            self.start();
        }
    }

    /// A subset of what is offered (virtio 1.2 §2.2.2), VERSION_1 in it (§6.2).
    fn features_fit(&self) -> bool {
        self.driver_features & !self.offered() == 0
            && self.driver_features & feature::VERSION_1 != 0
    }

    fn start(&mut self) {
        let features = self.driver_features;
        self.device.start(features);
        let ready = self.queues.iter_mut().all(|queue| queue.start(features));
        if !ready {
            self.needs_reset();
        }
    }

    /// A field of the common configuration (virtio 1.2 §4.1.4.3), whole.
    pub(crate) fn read_common(&self, offset: u64) -> u64 {
        let half = |select: u32, bits: u64| match select {
            0 => bits & 0xffff_ffff,
            1 => bits >> 32,
            _ => 0,
        };
        match offset {
            common::DEVICE_FEATURE_SELECT => self.device_feature_select.into(),
            common::DEVICE_FEATURE => half(self.device_feature_select, self.offered()),
            common::DRIVER_FEATURE_SELECT => self.driver_feature_select.into(),
            common::DRIVER_FEATURE => half(self.driver_feature_select, self.driver_features),
            common::CONFIG_VECTOR => self.config_vector.into(),
            common::NUM_QUEUES => self.queues.len() as u64,
            common::STATUS => self.status.into(),
            common::GENERATION => self.generation.into(),
            common::QUEUE_SELECT => self.queue_select.into(),
            _ => self.read_queue(offset),
        }
    }

    /// A queue that does not exist has size 0 (§4.1.5.1.3).
    fn read_queue(&self, offset: u64) -> u64 {
        let Some(queue) = self.queues.get(usize::from(self.queue_select)) else { return 0 };
        let registers = &queue.registers;
        match offset {
            common::QUEUE_SIZE => registers.size.into(),
            common::QUEUE_VECTOR => registers.vector.into(),
            common::QUEUE_ENABLE => registers.enabled.into(),
            common::QUEUE_NOTIFY_OFF => self.queue_select.into(),
            common::QUEUE_DESC => registers.descriptors,
            common::QUEUE_DRIVER => registers.driver,
            common::QUEUE_DEVICE => registers.device,
            _ => 0,
        }
    }

    /// Writes a field, whole. Vectors are given to a driver as far as `vectors` there are.
    pub(crate) fn write_common(&mut self, offset: u64, value: u64, vectors: u16) {
        if offset == common::STATUS {
            return self.set_status(value as u8);
        }
        if self.resetting {
            return;
        }
        match offset {
            common::DEVICE_FEATURE_SELECT => self.device_feature_select = value as u32,
            common::DRIVER_FEATURE_SELECT => self.driver_feature_select = value as u32,
            common::DRIVER_FEATURE => self.set_driver_feature(value as u32),
            common::CONFIG_VECTOR => self.config_vector = vector(value as u16, vectors),
            common::QUEUE_SELECT => self.queue_select = value as u16,
            _ => self.write_queue(offset, value, vectors),
        }
    }

    fn set_driver_feature(&mut self, value: u32) {
        if self.status & status::FEATURES_OK != 0 {
            return;
        }
        let value = u64::from(value);
        match self.driver_feature_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            _ => {}
        }
    }

    /// Frozen once the queue is enabled or the device live (§4.1.5.1.3.1), but for the vector.
    fn write_queue(&mut self, offset: u64, value: u64, vectors: u16) {
        let frozen = self.status & status::DRIVER_OK != 0;
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else { return };
        let largest = queue.largest;
        let registers = &mut queue.registers;
        if offset == common::QUEUE_VECTOR {
            registers.vector = vector(value as u16, vectors);
            return;
        }
        if frozen || registers.enabled {
            return;
        }
        match offset {
            common::QUEUE_SIZE if (1..=u64::from(largest)).contains(&value) => {
                registers.size = value as u16;
            }
            common::QUEUE_ENABLE => registers.enabled = value == 1,
            common::QUEUE_DESC => registers.descriptors = value,
            common::QUEUE_DRIVER => registers.driver = value,
            common::QUEUE_DEVICE => registers.device = value,
            _ => {}
        }
    }

    pub(crate) fn save(&self) -> CoreState {
        CoreState {
            status: self.status,
            resetting: self.resetting,
            device_feature_select: self.device_feature_select,
            driver_feature_select: self.driver_feature_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            config_vector: self.config_vector,
            generation: self.generation,
            queues: self.queues.iter().map(|queue| queue.registers.clone()).collect(),
            device: self.device.save(),
        }
    }

    /// Takes over a state, after a reset.
    pub(crate) fn restore(&mut self, state: &CoreState) -> Result<(), RestoreError> {
        let invalid = |reason| RestoreError::invalid(self.device.identity().kind, reason);
        if state.queues.len() != self.queues.len() {
            return Err(invalid("it has another number of queues"));
        }
        let sizes = self.queues.iter().zip(&state.queues);
        if sizes.clone().any(|(queue, saved)| saved.size == 0 || saved.size > queue.largest) {
            return Err(invalid("a queue is larger than the device's"));
        }
        let live = state.status & status::DRIVER_OK != 0;
        let fits = state.driver_features & !self.offered() == 0;
        if live && !(fits && state.driver_features & feature::VERSION_1 != 0) {
            return Err(invalid("it uses features that this device does not have"));
        }
        self.device.restore(&state.device)?;
        self.take_registers(state);
        if live {
            self.start();
            self.raised = Raised::default();
        }
        Ok(())
    }

    fn take_registers(&mut self, state: &CoreState) {
        for (queue, saved) in self.queues.iter_mut().zip(&state.queues) {
            queue.registers = saved.clone();
        }
        (self.status, self.resetting) = (state.status, state.resetting);
        self.device_feature_select = state.device_feature_select;
        self.driver_feature_select = state.driver_feature_select;
        self.driver_features = state.driver_features;
        self.queue_select = state.queue_select;
        self.config_vector = state.config_vector;
        self.generation = state.generation;
        self.raised = Raised::default();
    }
}

/// A vector that does not exist reads back as none (virtio 1.2 §4.1.5.1.2.1).
fn vector(wanted: u16, vectors: u16) -> u16 {
    if wanted < vectors { wanted } else { pci::NO_VECTOR }
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = self.device.identity().kind;
        write!(f, "Core({kind}, status {:#x}, {} queues)", self.status, self.queues.len())
    }
}
