//! Fakes for the ports.

use crate::nic::{ETHERNET_HEADER, Nic, NicInfo, Offloads, Packet, Received, Transmit};
use crate::{CharDevice, Disk, DiskCompletion, DiskError, DiskInfo, DiskOperation, DiskRequest};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Streams {
    input: VecDeque<u8>,
    output: Vec<u8>,
    room: Option<usize>,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// A character device in memory; clones share it, so a test keeps one and gives one away.
#[derive(Clone, Default)]
pub struct CharBuffer(Arc<Mutex<Streams>>);

impl CharBuffer {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the device input, and wakes it.
    pub fn feed(&self, data: &[u8]) {
        let wake = {
            let mut streams = self.streams();
            streams.input.extend(data);
            streams.wake.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// What the device wrote since the last call.
    pub fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.streams().output)
    }

    /// Limits how many more bytes are accepted; `None` lifts the limit.
    pub fn limit(&self, room: Option<usize>) {
        self.streams().room = room;
    }
}

impl std::fmt::Debug for CharBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let streams = self.streams();
        write!(f, "CharBuffer({} in, {} out)", streams.input.len(), streams.output.len())
    }
}

impl CharDevice for CharBuffer {
    fn read(&mut self, data: &mut [u8]) -> usize {
        let mut streams = self.streams();
        let count = data.len().min(streams.input.len());
        for (to, from) in data.iter_mut().zip(streams.input.drain(..count)) {
            *to = from;
        }
        count
    }

    fn write(&mut self, data: &[u8]) -> usize {
        let mut streams = self.streams();
        let count = data.len().min(streams.room.unwrap_or(usize::MAX));
        if let Some(room) = &mut streams.room {
            *room -= count;
        }
        streams.output.extend_from_slice(&data[..count]);
        count
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.streams().wake = Some(wake);
    }
}

#[derive(Default)]
struct Platter {
    bytes: Vec<u8>,
    read_only: bool,
    held: bool,
    fault: Option<DiskError>,
    waiting: VecDeque<DiskRequest>,
    done: VecDeque<DiskCompletion>,
    flushes: u64,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Platter {
    fn range(&self, offset: u64, length: u64) -> Result<std::ops::Range<usize>, DiskError> {
        let end = offset.checked_add(length).ok_or(DiskError::OutOfRange)?;
        if end > self.bytes.len() as u64 || !offset.is_multiple_of(512) || !end.is_multiple_of(512)
        {
            return Err(DiskError::OutOfRange);
        }
        Ok(offset as usize..end as usize)
    }

    fn run(&mut self, operation: &mut DiskOperation) -> Result<(), DiskError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let writes = !matches!(operation, DiskOperation::Read { .. } | DiskOperation::Flush);
        if writes && self.read_only {
            return Err(DiskError::ReadOnly);
        }
        match operation {
            DiskOperation::Read { offset, data } => {
                let range = self.range(*offset, data.len() as u64)?;
                data.copy_from_slice(&self.bytes[range]);
            }
            DiskOperation::Write { offset, data } => {
                let range = self.range(*offset, data.len() as u64)?;
                self.bytes[range].copy_from_slice(data);
            }
            DiskOperation::Flush => self.flushes += 1,
            DiskOperation::Discard { offset, length }
            | DiskOperation::WriteZeroes { offset, length, .. } => {
                let range = self.range(*offset, *length)?;
                self.bytes[range].fill(0);
            }
        }
        Ok(())
    }
}

/// A disk in memory; clones share it, so a test keeps one and gives one away. Requests finish at once
/// unless the test holds them.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Platter>>);

impl MemoryDisk {
    /// A disk of `capacity` zero bytes (a multiple of 512).
    pub fn new(capacity: usize) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.platter().bytes = vec![0; capacity];
        disk
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the disk's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.platter().bytes.clone()
    }

    /// Replaces the bytes, and with them the capacity; wakes the device.
    pub fn set_bytes(&self, bytes: Vec<u8>) {
        self.platter().bytes = bytes;
        self.wake();
    }

    /// Makes it refuse writes.
    pub fn set_read_only(&self, read_only: bool) {
        self.platter().read_only = read_only;
    }

    /// Makes every later request fail, or work again with `None`.
    pub fn set_fault(&self, fault: Option<DiskError>) {
        self.platter().fault = fault;
    }

    /// Keeps requests in flight until [`MemoryDisk::release`].
    pub fn hold(&self) {
        self.platter().held = true;
    }

    /// Runs what was held, in the order submitted, and wakes the device.
    pub fn release(&self) {
        self.platter().held = false;
        self.run_waiting();
        self.wake();
    }

    /// How many flushes have completed well.
    pub fn flushes(&self) -> u64 {
        self.platter().flushes
    }

    fn run_waiting(&self) {
        let mut platter = self.platter();
        while let Some(mut request) = platter.waiting.pop_front() {
            let result = platter.run(&mut request.operation);
            platter.done.push_back(DiskCompletion { request, result });
        }
    }

    fn wake(&self) {
        let wake = self.platter().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let platter = self.platter();
        write!(f, "MemoryDisk({} bytes, {} in flight)", platter.bytes.len(), platter.waiting.len())
    }
}

impl Disk for MemoryDisk {
    fn info(&self) -> DiskInfo {
        let platter = self.platter();
        DiskInfo {
            capacity: platter.bytes.len() as u64,
            logical_block: 512,
            physical_block: 512,
            read_only: platter.read_only,
            discard_granularity: Some(512),
            write_cache: true,
        }
    }

    fn submit(&mut self, request: DiskRequest) -> Result<(), DiskRequest> {
        self.platter().waiting.push_back(request);
        if !self.platter().held {
            self.run_waiting();
            self.wake();
        }
        Ok(())
    }

    fn complete(&mut self) -> Option<DiskCompletion> {
        self.platter().done.pop_front()
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.platter().wake = Some(wake);
    }

    fn drain(&mut self) {
        self.run_waiting();
    }
}

struct Frames {
    info: NicInfo,
    up: bool,
    room: Option<usize>,
    accepted: Offloads,
    to_guest: VecDeque<(Vec<u8>, Packet)>,
    sent: Vec<(Vec<u8>, Packet)>,
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// A network interface in memory; clones share it, so a test keeps one and gives one away.
#[derive(Clone)]
pub struct NicBuffer(Arc<Mutex<Frames>>);

impl Default for NicBuffer {
    /// An MTU of 1500, no offloads, and the link up.
    fn default() -> NicBuffer {
        NicBuffer::new(NicInfo { mtu: 1500, offloads: Offloads::default() })
    }
}

impl NicBuffer {
    /// An interface whose link is up.
    #[must_use]
    pub fn new(info: NicInfo) -> NicBuffer {
        NicBuffer(Arc::new(Mutex::new(Frames {
            info,
            up: true,
            room: None,
            accepted: Offloads::default(),
            to_guest: VecDeque::new(),
            sent: Vec::new(),
            wake: None,
        })))
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let wake = self.frames().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Gives the device a plain frame, and wakes it.
    pub fn feed(&self, frame: &[u8]) {
        self.feed_packet(frame, Packet::default());
    }

    /// Gives the device a frame with work left, and wakes it.
    pub fn feed_packet(&self, frame: &[u8], packet: Packet) {
        self.frames().to_guest.push_back((frame.to_vec(), packet));
        self.wake();
    }

    /// What the device sent since the last call.
    pub fn take_sent(&self) -> Vec<(Vec<u8>, Packet)> {
        std::mem::take(&mut self.frames().sent)
    }

    /// How many frames wait for the device.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.frames().to_guest.len()
    }

    /// Limits how many more frames are taken; `None` lifts the limit. Wakes the device.
    pub fn limit(&self, room: Option<usize>) {
        self.frames().room = room;
        self.wake();
    }

    /// Takes the link up or down, and wakes the device.
    pub fn set_link(&self, up: bool) {
        self.frames().up = up;
        self.wake();
    }

    /// What the device said that the guest accepts.
    #[must_use]
    pub fn accepted(&self) -> Offloads {
        self.frames().accepted
    }
}

impl std::fmt::Debug for NicBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let frames = self.frames();
        write!(f, "NicBuffer({} in, {} out)", frames.to_guest.len(), frames.sent.len())
    }
}

impl Nic for NicBuffer {
    fn info(&self) -> NicInfo {
        self.frames().info
    }

    fn link_up(&self) -> bool {
        self.frames().up
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        let mut frames = self.frames();
        match &mut frames.room {
            Some(0) => return Transmit::Full,
            Some(room) => *room -= 1,
            None => {}
        }
        if frame.len() >= ETHERNET_HEADER {
            frames.sent.push((frame.to_vec(), packet));
        }
        Transmit::Taken
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let mut frames = self.frames();
        while let Some((frame, packet)) = frames.to_guest.pop_front() {
            if let Some(to) = buffer.get_mut(..frame.len()) {
                to.copy_from_slice(&frame);
                return Some(Received { length: frame.len(), packet });
            }
        }
        None
    }

    fn accept(&mut self, offloads: Offloads) {
        self.frames().accepted = offloads;
    }

    fn set_waker(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.frames().wake = Some(wake);
    }
}
