//! Requests that the kernel does by itself, many at once: a thread with an io_uring.
//!
//! ```text
//!   submit ─► kernel queue, bell ─► this thread: one place in one file? ─► ring ─► whole? ─► done
//!                                                      │ no                          │ no
//!                                                      └────────► workers ◄──────────┘
//! ```
//! It takes what was not done at once and what no worker has time for: above all the requests of a disk without page
//! cache (`cache=none`), of which a worker has one at a time and the kernel as many as the disk takes. Where a few in
//! flight are all that a disk takes, workers are quicker, for there are several of them. Whatever is more than one read or one write, and
//! whatever does not go well, is left to the workers, who have one way for all; so this thread knows no errors.
//! Where the host forbids io_uring there is no such thread, and the workers do everything.

use super::{Queue, Shared};
use crate::engine::Plain;
use crate::units::GuestOffset;
use kezhan_calls::ring::{Bell, Direction, Done, Ring, Transfer};
use kezhan_ports::{Buffer, DiskOperation, DiskRequest};
use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Requests that the kernel has at a time.
const MOST: u32 = 128;

/// After trouble with the ring itself, which must not make this thread spin.
const REST: Duration = Duration::from_millis(1);

/// A request that the kernel has: what is needed to make it whole again.
struct Flight<'a> {
    tag: u64,
    offset: u64,
    direction: Direction,
    place: Plain<'a>,
}

/// Whether the host lets this process have an io_uring.
pub fn has_io_uring() -> bool {
    Ring::new(1).is_ok()
}

/// Whether the kernel may do a request.
pub(super) fn may(operation: &DiskOperation) -> bool {
    matches!(operation, DiskOperation::Read { .. } | DiskOperation::Write { .. })
}

impl Queue {
    /// The bell to ring after a request was put into the kernel's queue; `None` when `workers` have time for it, or
    /// there is no such thread.
    pub(super) fn bell(&self, workers: usize) -> Option<&Bell> {
        let busy = self.waiting.len() + self.running - self.flying >= workers;
        self.kernel_bell.as_ref().filter(|_| busy)
    }
}

impl Shared {
    /// What the thread does.
    pub(super) fn work_by_kernel(&self, tell: &Sender<()>) {
        let Ok(mut ring) = Ring::new(MOST) else { return };
        // This thread ends when there is no bell.
        self.queue().kernel_bell = Some(ring.bell());
        if tell.send(()).is_err() {
            return;
        }
        let mut flights = HashMap::new();
        let mut token = 0;
        loop {
            while ring.has_room()
                && let Some(request) = self.next_for_kernel()
            {
                token += 1;
                self.begin(&mut ring, &mut flights, (token, request));
            }
            // The bell is taken away in the end.
            if flights.is_empty() && self.queue().kernel_bell.is_none() {
                return;
            }
            match ring.wait() {
                Ok(all) => {
                    for done in all {
                        if let Some(flight) = flights.remove(&done.token) {
                            self.land(flight, done);
                        }
                    }
                }
                Err(_) => std::thread::sleep(REST),
            }
        }
    }

    fn next_for_kernel(&self) -> Option<DiskRequest> {
        let mut queue = self.queue();
        let request = queue.kernel.pop_front()?;
        queue.running += 1;
        queue.flying += 1;
        Some(request)
    }

    fn begin<'a>(
        &'a self,
        ring: &mut Ring,
        flights: &mut HashMap<u64, Flight<'a>>,
        (token, request): (u64, DiskRequest),
    ) {
        let tag = request.tag;
        let (direction, offset, data) = match request.operation {
            DiskOperation::Read { offset, data } => (Direction::Read, offset, data),
            DiskOperation::Write { offset, data } => (Direction::Write, offset, data),
            operation => return self.leave_to_workers(DiskRequest { tag, operation }),
        };
        let place = match direction {
            _ if self.check_blocks(offset, data.len() as u64).is_err() => Ok(None),
            Direction::Read => self.image.plain_read(GuestOffset(offset), &data),
            Direction::Write => self.image.plain_write(GuestOffset(offset), &data),
        };
        let Ok(Some(place)) = place else {
            return self.leave_to_workers(whole(tag, offset, direction, data));
        };
        let (file, at) = (place.file.clone(), place.offset.get());
        match ring.start(Transfer { token, file, offset: at, direction, data }) {
            Ok(()) => {
                flights.insert(token, Flight { tag, offset, direction, place });
            }
            Err(Transfer { data, .. }) => {
                self.leave_to_workers(whole(tag, offset, direction, data));
            }
        }
    }

    fn land(&self, flight: Flight<'_>, done: Done) {
        let Flight { tag, offset, direction, place } = flight;
        if direction == Direction::Write {
            place.storage.written();
        }
        drop(place);
        let all = done.moved.is_ok_and(|moved| moved == done.data.len());
        let request = whole(tag, offset, direction, done.data);
        if !all {
            return self.leave_to_workers(request);
        }
        let mut queue = self.queue();
        queue.running -= 1;
        queue.flying -= 1;
        if self.end(queue, request, Ok(())) {
            self.wake();
        }
        self.finished.notify_all();
    }

    fn leave_to_workers(&self, request: DiskRequest) {
        let mut queue = self.queue();
        queue.running -= 1;
        queue.flying -= 1;
        queue.waiting.push_back(request);
        drop(queue);
        self.work.notify_one();
    }
}

fn whole(tag: u64, offset: u64, direction: Direction, data: Buffer) -> DiskRequest {
    let operation = match direction {
        Direction::Read => DiskOperation::Read { offset, data },
        Direction::Write => DiskOperation::Write { offset, data },
    };
    DiskRequest { tag, operation }
}
