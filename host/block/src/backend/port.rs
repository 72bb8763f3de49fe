//! The disk port itself: what a device calls.

use super::{DiskBackend, Shared, Wake, kernel};
use crate::units::GuestOffset;
use kezhan_calls::ring::Bell;
use kezhan_ports::{Disk, DiskCompletion, DiskError, DiskInfo, DiskRequest, LentMemory};
use std::sync::PoisonError;
use std::thread::JoinHandle;

impl Disk for DiskBackend {
    fn info(&self) -> DiskInfo {
        let Shared { image, options, .. } = &*self.shared;
        let block = options.logical_block;
        let unit = image.format().info().cluster_size.unwrap_or(4096);
        DiskInfo {
            capacity: image.size() - image.size() % u64::from(block),
            logical_block: block,
            physical_block: block.max(4096),
            read_only: !image.is_writable(),
            discard_granularity: (options.discard && image.is_writable())
                .then(|| u32::try_from(unit).unwrap_or(u32::MAX).max(block)),
            write_cache: true,
        }
    }

    fn submit(&mut self, mut request: DiskRequest) -> std::result::Result<(), DiskRequest> {
        let mut queue = self.shared.queue();
        if queue.begun() + queue.running >= self.shared.options.depth {
            return Err(request);
        }
        if queue.held.is_empty() && queue.throttle.is_open() {
            drop(queue);
            let outcome = self.shared.run_now(&mut request.operation);
            queue = self.shared.queue();
            if let Some(outcome) = outcome {
                self.shared.end(queue, request, outcome);
                return Ok(());
            }
            if kernel::may(&request.operation)
                && !self.shared.zeroes_are_looked_for(&request.operation)
                && !self.shared.failing.any()
                && let Some(bell) = queue.bell(self.shared.options.workers).cloned()
            {
                queue.kernel.push_back(request);
                drop(queue);
                bell.ring();
                return Ok(());
            }
        }
        queue.waiting.push_back(request);
        drop(queue);
        self.shared.work.notify_one();
        Ok(())
    }

    fn read_at_once(
        &mut self,
        offset: u64,
        into: &LentMemory<'_>,
    ) -> Option<std::result::Result<(), DiskError>> {
        let shared = &self.shared;
        shared.check_blocks(offset, into.len() as u64).ok().filter(|()| shared.is_open())?;
        shared.at_once(shared.image.read_lent_now(GuestOffset(offset), into))
    }

    fn write_at_once(
        &mut self,
        offset: u64,
        from: &LentMemory<'_>,
    ) -> Option<std::result::Result<(), DiskError>> {
        let shared = &self.shared;
        shared.check_blocks(offset, from.len() as u64).ok().filter(|()| shared.is_open())?;
        if shared.options.detect_zeroes {
            return None;
        }
        shared.at_once(shared.image.write_lent_now(GuestOffset(offset), from))
    }

    fn complete(&mut self) -> Option<DiskCompletion> {
        self.shared.queue().done.pop_front()
    }

    fn set_waker(&mut self, wake: Wake) {
        self.shared.queue().wake = Some(wake);
    }

    fn drain(&mut self) {
        let mut queue = self.shared.queue();
        // What waits for the machine to make room cannot be waited for: it fails.
        while let Some(request) = queue.held.pop_front() {
            queue.done.push_back(DiskCompletion { request, result: Err(DiskError::Io) });
        }
        while queue.running > 0 || queue.begun() > 0 {
            queue = self.shared.finished.wait(queue).unwrap_or_else(PoisonError::into_inner);
            while let Some(request) = queue.held.pop_front() {
                queue.done.push_back(DiskCompletion { request, result: Err(DiskError::Io) });
            }
        }
    }
}

impl Drop for DiskBackend {
    fn drop(&mut self) {
        // First the thread that leaves work to the workers.
        let bell = self.shared.queue().kernel_bell.take();
        bell.iter().for_each(Bell::ring);
        // A thread that panicked has said so already.
        let _ = self.kernel.take().map(JoinHandle::join);
        self.shared.queue().stopping = true;
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
        if let Err(error) = self.shared.image.close() {
            (self.shared.trouble)(&error.to_string());
        }
    }
}
