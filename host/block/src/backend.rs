//! The disk port on an image: worker threads between a device and the engine.
//!
//! ```text
//!   device ─ submit ─► waiting ─► worker: throttle, engine ─► done ─ complete ─► device
//!                         ▲                    │ error, and the disk is to pause
//!                         └──── held ◄─────────┘   (goes back when the machine resumes)
//! ```
//!
//! # At once
//! What the host has in its memory, or takes into it, is read and written by the caller of `submit`: that costs
//! less than to wake a worker and be woken by it. Whatever would wait for a device of the host, a rate or other
//! requests goes to the workers.
//!
//! Workers are ordinary threads that block in the kernel; a few keep a device's queue busy. On an error of
//! the host the request completes with it, or, with [`OnError::Pause`], is held back: the machine is told,
//! and [`DiskHandle::retry`] runs it again.

mod faults;
mod kernel;
mod port;

use crate::engine::Image;
use crate::limit::{Limits, Throttle};
use crate::units::{GuestOffset, Span, is_zero};
use crate::{BlockError, Result};
use faults::Failing;
pub use faults::Faults;
pub use kernel::has_io_uring;
use kezhan_calls::ring::Bell;
use kezhan_ports::{DiskCompletion, DiskError, DiskOperation, DiskRequest};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What to do when the host fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The guest sees the error.
    #[default]
    Report,
    /// The request waits, and the machine is asked to pause.
    Pause,
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Worker threads; at least one.
    pub workers: usize,
    /// Requests that may be in flight.
    pub depth: usize,
    /// The unit of addressing in bytes: 512 or 4096.
    pub logical_block: u32,
    /// What to do when the host fails.
    pub on_error: OnError,
    /// Pass discards on to the image.
    pub discard: bool,
    /// Turn writes of zeroes into zero-writes.
    pub detect_zeroes: bool,
    /// Rates.
    pub limits: Limits,
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions {
            workers: 4,
            depth: 256,
            logical_block: 512,
            on_error: OnError::Report,
            discard: true,
            detect_zeroes: false,
            limits: Limits::default(),
        }
    }
}

/// Told of a held request: the error in words.
pub type Trouble = Box<dyn Fn(&str) + Send + Sync>;

type Wake = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<DiskRequest>,
    running: usize,
    held: VecDeque<DiskRequest>,
    done: VecDeque<DiskCompletion>,
    stopping: bool,
    wake: Option<Wake>,
    throttle: Throttle,
    /// For the kernel; see [`kernel`].
    kernel: VecDeque<DiskRequest>,
    kernel_bell: Option<Bell>,
    /// Of those that run, the kernel has so many.
    flying: usize,
}

struct Shared {
    image: Arc<Image>,
    options: DiskOptions,
    trouble: Trouble,
    start: Instant,
    failing: Failing,
    queue: Mutex<Queue>,
    /// There is work, or an end to it.
    work: Condvar,
    /// Something finished.
    finished: Condvar,
}

/// A disk for a device. See [`Disk`] for the contract.
pub struct DiskBackend {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    kernel: Option<JoinHandle<()>>,
}

/// The machine's hand on a disk, while a device has the disk itself.
#[derive(Clone)]
pub struct DiskHandle(Arc<Shared>);

impl DiskBackend {
    /// Starts the workers. `trouble` is called when a request is held.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn new(image: Arc<Image>, options: DiskOptions, trouble: Trouble) -> Result<DiskBackend> {
        let queue = Queue { throttle: Throttle::new(options.limits, 0), ..Queue::default() };
        let shared = Arc::new(Shared {
            image,
            options,
            trouble,
            start: Instant::now(),
            failing: Failing::default(),
            queue: Mutex::new(queue),
            work: Condvar::new(),
            finished: Condvar::new(),
        });
        let mut backend = DiskBackend { shared, workers: Vec::new(), kernel: None };
        for index in 0..options.workers.max(1) {
            let shared = backend.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("disk-{index}"))
                .spawn(move || shared.work())
                .map_err(BlockError::io(backend.shared.image.name(), "start a worker for"))?;
            backend.workers.push(worker);
        }
        backend.start_kernel_thread();
        Ok(backend)
    }

    /// Without it the workers do everything.
    fn start_kernel_thread(&mut self) {
        let (shared, (tell, told)) = (self.shared.clone(), std::sync::mpsc::channel());
        let thread = std::thread::Builder::new()
            .name("disk-ring".to_owned())
            .spawn(move || shared.work_by_kernel(&tell));
        // It tells whether it has a ring, or ends.
        self.kernel = thread.ok().filter(|_| told.recv().is_ok());
    }

    /// The machine's hand on it.
    pub fn handle(&self) -> DiskHandle {
        DiskHandle(self.shared.clone())
    }
}

impl DiskHandle {
    /// Runs what was held again.
    pub fn retry(&self) {
        let mut queue = self.0.queue();
        while let Some(request) = queue.held.pop_back() {
            queue.waiting.push_front(request);
        }
        drop(queue);
        self.0.work.notify_all();
    }

    /// How many requests are held.
    pub fn held(&self) -> usize {
        self.0.queue().held.len()
    }

    /// Whether nothing waits, runs or is held.
    pub fn is_idle(&self) -> bool {
        let queue = self.0.queue();
        queue.running == 0 && queue.begun() == 0
    }

    /// Sets other rates.
    pub fn set_limits(&self, limits: Limits) {
        let now = self.0.now();
        self.0.queue().throttle = Throttle::new(limits, now);
    }

    /// Lets requests fail, or none any more. What was held is tried again by [`DiskHandle::retry`].
    pub fn set_faults(&self, faults: Faults) {
        self.0.failing.set(faults);
    }

    /// Changes the capacity, and wakes the device.
    ///
    /// # Errors
    /// The image's.
    pub fn resize(&self, size: u64) -> Result<()> {
        self.0.image.resize(size)?;
        self.0.wake();
        Ok(())
    }

    /// The image.
    pub fn image(&self) -> &Arc<Image> {
        &self.0.image
    }
}

impl Queue {
    /// Requests that are neither running nor done.
    fn begun(&self) -> usize {
        self.waiting.len() + self.kernel.len() + self.held.len()
    }
}

impl Shared {
    /// Whether a write may turn out to be a zero-write.
    fn zeroes_are_looked_for(&self, operation: &DiskOperation) -> bool {
        self.options.detect_zeroes && matches!(operation, DiskOperation::Write { .. })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wake(&self) {
        let wake = self.queue().wake.clone();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn work(&self) {
        while let Some((mut request, delay)) = self.next() {
            if delay > 0 {
                std::thread::sleep(Duration::from_nanos(delay));
            }
            let outcome = self.run(&mut request.operation);
            let mut queue = self.queue();
            queue.running -= 1;
            if self.end(queue, request, outcome) {
                self.wake();
            }
            self.finished.notify_all();
        }
    }

    /// A request has ended: true when the device can take its completion.
    fn end(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        request: DiskRequest,
        outcome: Result<()>,
    ) -> bool {
        match outcome {
            Err(error) if self.holds(&error) => {
                queue.held.push_back(request);
                drop(queue);
                (self.trouble)(&error.to_string());
                false
            }
            outcome => {
                let result = outcome.map_err(|error| told(&error));
                queue.done.push_back(DiskCompletion { request, result });
                true
            }
        }
    }

    /// Does what need not wait; `None` for what must.
    fn run_now(&self, operation: &mut DiskOperation) -> Option<Result<()>> {
        self.check(operation).ok()?;
        if let Err(error) = self.failing.strike(self.image.name(), operation) {
            return Some(Err(error));
        }
        let done = match operation {
            DiskOperation::Read { offset, data } => self.image.read_now(GuestOffset(*offset), data),
            DiskOperation::Write { data, .. } if self.options.detect_zeroes && is_zero(data) => {
                return None;
            }
            DiskOperation::Write { offset, data } => {
                self.image.write_now(GuestOffset(*offset), data)
            }
            _ => return None,
        };
        match done {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Whether a request may be done by who brings it: none is held or to fail, and no rate is to be kept.
    fn is_open(&self) -> bool {
        let queue = self.queue();
        queue.held.is_empty() && queue.throttle.is_open() && !self.failing.any()
    }

    /// What was done at once with lent memory, as a device is told; `None` when it is to be done by a request: that
    /// is also for an error that must hold the machine.
    fn at_once(&self, done: Result<bool>) -> Option<std::result::Result<(), DiskError>> {
        match done {
            Ok(done) => done.then_some(Ok(())),
            Err(error) if self.holds(&error) => None,
            Err(error) => Some(Err(told(&error))),
        }
    }

    /// The next request and how long it has to wait; `None` at the end.
    fn next(&self) -> Option<(DiskRequest, u64)> {
        let mut queue = self.queue();
        loop {
            if let Some(request) = queue.waiting.pop_front() {
                queue.running += 1;
                let now = self.now();
                let delay = match bytes(&request.operation) {
                    Some(bytes) => queue.throttle.take(bytes, now),
                    None => 0,
                };
                return Some((request, delay));
            }
            if queue.stopping {
                return None;
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether an error makes the machine pause: those of the host, not those of the guest.
    fn holds(&self, error: &BlockError) -> bool {
        self.options.on_error == OnError::Pause && matches!(error, BlockError::Io { .. })
    }

    fn run(&self, operation: &mut DiskOperation) -> Result<()> {
        self.check(operation)?;
        self.failing.strike(self.image.name(), operation)?;
        match operation {
            DiskOperation::Read { offset, data } => self.image.read(GuestOffset(*offset), data),
            DiskOperation::Write { offset, data } => {
                let start = GuestOffset(*offset);
                if self.options.detect_zeroes && is_zero(data) {
                    let span = Span { start, length: data.len() as u64 };
                    return self.image.write_zeroes(span, self.options.discard);
                }
                self.image.write(start, data)
            }
            DiskOperation::Flush if !self.image.is_writable() => Ok(()),
            DiskOperation::Flush => self.image.flush(),
            DiskOperation::Discard { .. } if !self.options.discard => Ok(()),
            DiskOperation::Discard { offset, length } => {
                self.image.discard(Span { start: GuestOffset(*offset), length: *length })
            }
            DiskOperation::WriteZeroes { offset, length, may_unmap } => {
                let span = Span { start: GuestOffset(*offset), length: *length };
                self.image.write_zeroes(span, *may_unmap && self.options.discard)
            }
        }
    }

    /// Requests are in whole logical blocks.
    fn check(&self, operation: &DiskOperation) -> Result<()> {
        let (offset, length) = match operation {
            DiskOperation::Flush => return Ok(()),
            DiskOperation::Read { offset, data } | DiskOperation::Write { offset, data } => {
                (*offset, data.len() as u64)
            }
            DiskOperation::Discard { offset, length }
            | DiskOperation::WriteZeroes { offset, length, .. } => (*offset, *length),
        };
        self.check_blocks(offset, length)
    }

    fn check_blocks(&self, offset: u64, length: u64) -> Result<()> {
        let block = u64::from(self.options.logical_block);
        if offset.is_multiple_of(block) && length.is_multiple_of(block) {
            return Ok(());
        }
        Err(BlockError::OutOfRange {
            name: self.image.name().to_owned(),
            offset,
            end: offset.saturating_add(length),
            size: self.image.size(),
        })
    }
}

/// The bytes that count for the rate; `None` for what is not limited.
fn bytes(operation: &DiskOperation) -> Option<u64> {
    match operation {
        DiskOperation::Read { data, .. } | DiskOperation::Write { data, .. } => {
            Some(data.len() as u64)
        }
        DiskOperation::Discard { .. } | DiskOperation::WriteZeroes { .. } => Some(0),
        DiskOperation::Flush => None,
    }
}

/// An error as a guest can be told.
fn told(error: &BlockError) -> DiskError {
    match error {
        BlockError::OutOfRange { .. } => DiskError::OutOfRange,
        BlockError::ReadOnly { .. } => DiskError::ReadOnly,
        _ if error.is_no_space() => DiskError::NoSpace,
        _ => DiskError::Io,
    }
}

impl std::fmt::Debug for DiskBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskBackend({})", self.shared.image.name())
    }
}

impl std::fmt::Debug for DiskHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DiskHandle({})", self.0.image.name())
    }
}

#[cfg(test)]
mod tests;
