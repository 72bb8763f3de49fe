//! virtio-blk (virtio 1.2 §5.2) on a disk port.
//!
//! ```text
//!   process: pop ─► Request::parse ─┬─► answer at once (serial number, errors, what the port does without a wait)
//!                                   └─► submit ─► in flight ─► finish: data and status into the buffer
//! ```
//! # Bounds
//! A request moves at most [`REQUEST_LIMIT`] bytes; no more buffers are taken from the queues while
//! [`FLIGHT_LIMIT`] bytes are in flight or the port's queue is full. A completion makes room and the queues
//! are looked at again.
//!
//! # Durability
//! A driver that did not agree on FLUSH is owed writes that are durable at completion (§5.2.6.2): each of its
//! writes is followed by a flush before it is completed.

mod buffers;
mod request;
#[cfg(test)]
mod tests;

use crate::chain::{Chain, OutsideMemory};
use crate::device::{Identity, Rings, VirtioDevice};
use crate::spec::{block as numbers, device_id};
use buffers::Buffers;
use kezhan_device::GuestMemory;
use kezhan_ports::{Disk, DiskCompletion, DiskError, DiskInfo, DiskOperation, DiskRequest};
use request::{Answer, Request};
use std::collections::BTreeMap;

/// Segments of a request, beside header and status: a chain has at most as many as its queue (virtio 1.2
/// §2.7.5.3.1). A megabyte of scattered pages is one request.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of a segment.
const SEGMENT_LIMIT: u32 = 128 << 10;
/// Bytes that a request moves at most. The driver is told of no limit, and those that there are ask for less.
const REQUEST_LIMIT: u64 = 64 << 20;
/// Bytes in flight beyond which no request is begun.
const FLIGHT_LIMIT: u64 = 64 << 20;
/// Sectors of a discard or zero-write.
const RANGE_SECTORS: u32 = 1 << 22;
/// So many bytes cost as much as a buffer: the guest works on the first large requests while we do the others.
const WEIGHT_BYTES: u64 = 16 << 10;
/// Size of a queue.
const QUEUE_SIZE: u16 = 512;

/// How the device presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// The serial number: up to 20 bytes count.
    pub serial: String,
    /// Queues, 1 to 64.
    pub queues: u16,
}

/// A request in flight.
#[derive(Debug)]
struct Flight {
    queue: usize,
    chain: Chain,
    bytes: u64,
    flush_after: bool,
}

/// The block device.
pub struct Block {
    disk: Box<dyn Disk>,
    capacity: u64,
    options: BlockOptions,
    write_through: bool,
    flights: BTreeMap<u64, Flight>,
    backlog: Vec<DiskRequest>,
    next_tag: u64,
    bytes: u64,
    /// Bytes of a request, of late.
    usual: u64,
    buffers: Buffers,
}

impl Block {
    /// A device on `disk`, whose waker is set.
    pub fn new(disk: Box<dyn Disk>, options: BlockOptions) -> Block {
        let options = BlockOptions { queues: options.queues.clamp(1, 64), ..options };
        let capacity = disk.info().capacity;
        Block {
            disk,
            capacity,
            options,
            write_through: true,
            flights: BTreeMap::new(),
            backlog: Vec::new(),
            next_tag: 0,
            bytes: 0,
            usual: 0,
            buffers: Buffers::default(),
        }
    }

    fn has_room(&self) -> bool {
        self.backlog.is_empty() && self.bytes < FLIGHT_LIMIT
    }

    fn begin(&mut self, queue: usize, chain: Chain, rings: &mut Rings<'_>) {
        let request = Request::parse(&chain, rings.memory(), &self.disk.info());
        if let Request::Read { length, .. } | Request::Write { length, .. } = request {
            self.usual = (3 * self.usual + length) / 4;
            rings.charge(u32::try_from(length / WEIGHT_BYTES).unwrap_or(u32::MAX));
        }
        let answer = match self.answer_at_once(&request, &chain, rings) {
            Some(answer) => answer,
            None => match self.operation(request, &chain, rings.memory()) {
                Ok(operation) => return self.submit(queue, chain, operation),
                Err(OutsideMemory) => Answer { status: numbers::IO_ERROR, written: 0 },
            },
        };
        answer.give(queue, &chain, rings);
    }

    /// Does what needs no request in flight: `None` for what does.
    fn answer_at_once(
        &mut self,
        request: &Request,
        chain: &Chain,
        rings: &Rings<'_>,
    ) -> Option<Answer> {
        match *request {
            Request::Read { length, .. } | Request::Write { length, .. }
                if length > REQUEST_LIMIT =>
            {
                Some(Answer { status: numbers::IO_ERROR, written: 0 })
            }
            Request::Read { offset, length } => {
                let loan = chain.lend_writable(rings.memory(), 0, length)?;
                let done = self.disk.read_at_once(offset, &loan.memory);
                loan.written();
                Some(answer_to(done?, length as u32))
            }
            Request::Write { offset, length } if !self.owes_flushes() => {
                let loan = chain.lend_readable(rings.memory(), numbers::HEADER, length)?;
                Some(answer_to(self.disk.write_at_once(offset, &loan.memory)?, 0))
            }
            Request::Serial => Some(self.answer_serial(chain, rings)),
            Request::Refused(status) => Some(Answer { status, written: 0 }),
            Request::Write { .. } | Request::Disk(_) => None,
        }
    }

    /// What the disk is to do, with a buffer that outlives what the guest does.
    fn operation(
        &mut self,
        request: Request,
        chain: &Chain,
        memory: &GuestMemory,
    ) -> Result<DiskOperation, OutsideMemory> {
        match request {
            Request::Read { offset, length } => {
                Ok(DiskOperation::Read { offset, data: self.buffers.take(length as usize) })
            }
            Request::Write { offset, length } => {
                let mut data = self.buffers.take(length as usize);
                chain.read_at(memory, numbers::HEADER, &mut data)?;
                Ok(DiskOperation::Write { offset, data })
            }
            Request::Disk(operation) => Ok(operation),
            Request::Serial | Request::Refused(_) => Err(OutsideMemory),
        }
    }

    /// Whether each write is followed by a flush.
    fn owes_flushes(&self) -> bool {
        self.write_through && self.disk.info().write_cache
    }

    /// Up to 20 bytes, zeroes after a shorter one (§5.2.6).
    fn answer_serial(&self, chain: &Chain, rings: &Rings<'_>) -> Answer {
        let mut id = [0; numbers::ID_BYTES];
        for (byte, value) in id.iter_mut().zip(self.options.serial.bytes()) {
            *byte = value;
        }
        let room = chain.writable_length().saturating_sub(1).min(id.len() as u64);
        let part = id.get(..room as usize).unwrap_or_default();
        Answer::of(chain.write_at(rings.memory(), 0, part), room as u32)
    }

    fn submit(&mut self, queue: usize, chain: Chain, operation: DiskOperation) {
        let tag = self.next_tag;
        self.next_tag = tag.wrapping_add(1);
        let (bytes, writes) = match &operation {
            DiskOperation::Read { data, .. } => (data.len() as u64, false),
            DiskOperation::Write { data, .. } => (data.len() as u64, true),
            DiskOperation::Flush => (0, false),
            DiskOperation::Discard { .. } | DiskOperation::WriteZeroes { .. } => (0, true),
        };
        self.bytes += bytes;
        let flush_after = writes && self.owes_flushes();
        self.flights.insert(tag, Flight { queue, chain, bytes, flush_after });
        self.send(DiskRequest { tag, operation });
    }

    fn send(&mut self, request: DiskRequest) {
        if let Err(request) = self.disk.submit(request) {
            self.backlog.push(request);
        }
    }

    /// Sends what the port had no room for.
    fn send_backlog(&mut self) {
        for request in std::mem::take(&mut self.backlog) {
            self.send(request);
        }
    }

    /// Completes everything that has finished.
    fn finish_all(&mut self, rings: &mut Rings<'_>) {
        while let Some(completion) = self.disk.complete() {
            self.finish(completion, rings);
        }
    }

    fn finish(&mut self, completion: DiskCompletion, rings: &mut Rings<'_>) {
        let DiskCompletion { request: DiskRequest { tag, operation }, result } = completion;
        let Some(mut flight) = self.flights.remove(&tag) else { return };
        if flight.flush_after && result.is_ok() {
            flight.flush_after = false;
            self.flights.insert(tag, flight);
            self.send(DiskRequest { tag, operation: DiskOperation::Flush });
            return;
        }
        self.bytes -= flight.bytes;
        let answer = match (result, &operation) {
            (Ok(()), DiskOperation::Read { data, .. }) => {
                Answer::of(flight.chain.write_at(rings.memory(), 0, data), data.len() as u32)
            }
            (Ok(()), _) => Answer { status: numbers::OK, written: 0 },
            (Err(error), _) => Answer { status: status_of(error), written: 0 },
        };
        answer.give(flight.queue, &flight.chain, rings);
        if let DiskOperation::Read { data, .. } | DiskOperation::Write { data, .. } = operation {
            self.buffers.put(data);
        }
    }

    fn config_bytes(&self) -> [u8; numbers::CONFIG_BYTES] {
        let info = self.disk.info();
        let block = info.logical_block.max(512);
        let exponent = (info.physical_block / block).max(1).ilog2() as u8;
        let align = info.discard_granularity.unwrap_or(block) / 512;
        let mut bytes = [0; numbers::CONFIG_BYTES];
        let mut put = |at: usize, value: &[u8]| {
            bytes.iter_mut().skip(at).zip(value).for_each(|(byte, value)| *byte = *value);
        };
        // struct virtio_blk_config (§5.2.4).
        put(0, &(self.capacity / numbers::SECTOR).to_le_bytes());
        put(8, &SEGMENT_LIMIT.to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        put(20, &block.to_le_bytes());
        put(24, &[exponent, 0, 1, 0]);
        put(34, &self.options.queues.to_le_bytes());
        put(36, &RANGE_SECTORS.to_le_bytes());
        put(40, &1_u32.to_le_bytes());
        put(44, &align.max(1).to_le_bytes());
        put(48, &RANGE_SECTORS.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &[1]);
        bytes
    }
}

/// The answer to what the disk has done, which put `written` bytes into the buffer if it went well.
fn answer_to(done: Result<(), DiskError>, written: u32) -> Answer {
    match done {
        Ok(()) => Answer { status: numbers::OK, written },
        Err(error) => Answer { status: status_of(error), written: 0 },
    }
}

/// What the driver is told (§5.2.6): it knows one kind of failure.
fn status_of(error: DiskError) -> u8 {
    match error {
        DiskError::Io | DiskError::NoSpace | DiskError::ReadOnly | DiskError::OutOfRange => {
            numbers::IO_ERROR
        }
    }
}

impl VirtioDevice for Block {
    fn identity(&self) -> Identity {
        // Mass storage, other (PCI 3.0 appendix D).
        Identity { kind: "virtio-blk", id: device_id::BLOCK, class: 0x01_8000 }
    }

    fn features(&self) -> u64 {
        let DiskInfo { read_only, discard_granularity, .. } = self.disk.info();
        let mut features = numbers::SIZE_MAX
            | numbers::SEG_MAX
            | numbers::BLK_SIZE
            | numbers::FLUSH
            | numbers::TOPOLOGY
            | numbers::MQ;
        if read_only {
            return features | numbers::READ_ONLY;
        }
        features |= numbers::WRITE_ZEROES;
        if discard_granularity.is_some() {
            features |= numbers::DISCARD;
        }
        features
    }

    fn queues(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; self.options.queues.into()]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.config_bytes();
        for (byte, value) in data.iter_mut().zip(bytes.iter().skip(offset as usize)) {
            *byte = *value;
        }
    }

    fn start(&mut self, features: u64) {
        self.write_through = features & numbers::FLUSH == 0;
    }

    fn process(&mut self, queue: usize, rings: &mut Rings<'_>) {
        while self.has_room()
            && let Some(chain) = rings.pop(queue)
        {
            self.begin(queue, chain, rings);
            // What the port did at once is given back while it is in the CPU's caches.
            self.finish_all(rings);
        }
    }

    fn weight(&self) -> u32 {
        1 + u32::try_from(self.usual / WEIGHT_BYTES).unwrap_or(u32::MAX - 1)
    }

    fn serves_briefly(&self) -> bool {
        true
    }

    fn poll(&mut self, rings: &mut Rings<'_>) {
        self.finish_all(rings);
        self.send_backlog();
        let capacity = self.disk.info().capacity;
        if std::mem::replace(&mut self.capacity, capacity) != capacity {
            rings.config_changed();
        }
        for queue in 0..rings.count() {
            self.process(queue, rings);
        }
    }

    /// As a poll, which looks at the queues too.
    fn rung(&mut self, rings: &mut Rings<'_>) {
        self.poll(rings);
    }

    fn settle(&mut self, rings: &mut Rings<'_>) {
        while !self.flights.is_empty() {
            self.disk.drain();
            self.finish_all(rings);
            self.send_backlog();
        }
    }

    fn drain(&mut self) {
        self.disk.drain();
    }

    fn forget(&mut self) -> bool {
        for request in std::mem::take(&mut self.backlog) {
            self.flights.remove(&request.tag);
        }
        while let Some(completion) = self.disk.complete() {
            self.flights.remove(&completion.request.tag);
        }
        self.bytes = self.flights.values().map(|flight| flight.bytes).sum();
        self.flights.is_empty()
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} bytes, {} in flight)", self.capacity, self.flights.len())
    }
}
