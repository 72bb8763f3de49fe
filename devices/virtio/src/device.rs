//! What a virtio device is, apart from its transport.

use crate::chain::Chain;
use crate::queue::{Queue, Result, Used};
use kezhan_device::{GuestMemory, RestoreError};

/// What kind of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Kind of its saved state: `"virtio-blk"`.
    pub kind: &'static str,
    /// Virtio device ID (virtio 1.2 §5).
    pub id: u16,
    /// PCI class code, 24 bits.
    pub class: u32,
}

/// A device: the transport core drives it.
///
/// ```text
///   start(features) ──► process / poll … ──► forget() until true ──► start …
///                            settle() before a pause, drain() before a reset of the machine
/// ```
pub trait VirtioDevice: Send {
    /// What kind it is.
    fn identity(&self) -> Identity;

    /// The features that it offers beyond those of queues and transport.
    fn features(&self) -> u64;

    /// The largest size of each queue; at most 64 queues.
    fn queues(&self) -> Vec<u16>;

    /// Reads its configuration; bytes beyond it are zero.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let _ = offset;
        data.fill(0);
    }

    /// The driver writes its configuration. What is not writable keeps its value.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The driver is ready, with these features.
    fn start(&mut self, features: u64) {
        let _ = features;
    }

    /// The driver may have made buffers available in a queue. Must not wait.
    fn process(&mut self, queue: usize, rings: &mut Rings<'_>);

    /// Its port has something new. Must not wait.
    fn poll(&mut self, rings: &mut Rings<'_>) {
        let _ = rings;
    }

    /// Whether new buffers of a queue are work to be done, rather than room for what may come.
    fn is_work(&self, queue: usize) -> bool {
        let _ = queue;
        true
    }

    /// Buffers that [`VirtioDevice::rung`] takes between two looks at whether an interrupt is wanted: the driver
    /// works on the first ones while the device goes on.
    fn slice(&self) -> u32 {
        8
    }

    /// What a buffer costs, in buffers of which a slice has its number.
    fn weight(&self) -> u32 {
        1
    }

    /// Whether a vCPU that has nothing else to do may have it serve a slice.
    fn serves_briefly(&self) -> bool {
        false
    }

    /// Any queue may have new buffers, and its port something new. Must not wait.
    fn rung(&mut self, rings: &mut Rings<'_>) {
        self.poll(rings);
        for queue in 0..rings.count() {
            self.process(queue, rings);
        }
    }

    /// Waits until no request is in flight, and completes them into the rings; takes no new ones.
    fn settle(&mut self, rings: &mut Rings<'_>) {
        let _ = rings;
    }

    /// Waits until no request is in flight.
    fn drain(&mut self) {}

    /// Forgets the driver and drops what has finished; guest memory is not touched. True once nothing is in
    /// flight, else to be called again after the port's next wake.
    fn forget(&mut self) -> bool {
        true
    }

    /// Guest-visible state of its own, if it has any beyond rings and configuration.
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Takes over what [`VirtioDevice::save`] gave, before [`VirtioDevice::start`].
    ///
    /// # Errors
    /// [`RestoreError`] when it is not valid.
    fn restore(&mut self, state: &serde_json::Value) -> std::result::Result<(), RestoreError> {
        if state.is_null() {
            return Ok(());
        }
        Err(RestoreError::invalid(self.identity().kind, "the device has no state of its own"))
    }
}

/// Fills `data` from a configuration's bytes; those beyond are zero.
pub(crate) fn read_fields(config: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    for (index, byte) in data.iter_mut().enumerate() {
        *byte = from.checked_add(index).and_then(|at| config.get(at)).copied().unwrap_or(0);
    }
}

/// The rings of a live device, lent to it while it works.
#[derive(Debug)]
pub struct Rings<'a> {
    pub(crate) memory: &'a GuestMemory,
    pub(crate) queues: &'a mut [Queue],
    pub(crate) broken: bool,
    pub(crate) config_changed: bool,
    /// Buffers that may still be taken in this call.
    pub(crate) budget: u32,
}

impl Rings<'_> {
    /// Guest memory, in which the buffers lie.
    pub fn memory(&self) -> &GuestMemory {
        self.memory
    }

    /// How many queues there are.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// How many descriptors a queue has.
    pub(crate) fn size(&self, queue: usize) -> u16 {
        self.queues.get(queue).map_or(0, |queue| queue.registers.size)
    }

    /// Ends the call's share: the rest is served in a later one, which follows soon.
    pub(crate) fn leave_the_rest(&mut self) {
        self.budget = 0;
    }

    /// A buffer cost as much as so many more.
    pub(crate) fn charge(&mut self, more: u32) {
        self.budget = self.budget.saturating_sub(more);
    }

    /// The next buffer of a queue, if there is one and the call has not taken its share.
    pub fn pop(&mut self, queue: usize) -> Option<Chain> {
        if self.broken || self.budget == 0 {
            return None;
        }
        self.budget -= 1;
        let popped = self.queues.get_mut(queue)?.pop(self.memory);
        self.note(popped).flatten()
    }

    /// Puts a buffer back as if it had not been taken: of those taken and not put back, the last.
    pub(crate) fn unpop(&mut self, queue: usize, chain: &Chain) {
        if let Some(ring) = self.queues.get_mut(queue)
            && !self.broken
        {
            ring.unpop(self.memory, chain);
        }
    }

    /// Gives a buffer back to its queue, with `written` bytes from the start of its writable part.
    pub fn complete(&mut self, queue: usize, chain: &Chain, written: u32) {
        self.complete_together(queue, &[Used { chain, written }]);
    }

    /// Gives buffers back to their queue so that the driver sees all of them or none.
    pub(crate) fn complete_together(&mut self, queue: usize, used: &[Used<'_>]) {
        if let Some(ring) = self.queues.get_mut(queue)
            && !self.broken
        {
            let done = ring.complete(self.memory, used);
            self.note(done);
        }
    }

    /// The configuration has changed: the driver is told.
    pub fn config_changed(&mut self) {
        self.config_changed = true;
    }

    fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        self.broken |= result.is_err();
        result.ok()
    }
}
