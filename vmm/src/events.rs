//! What happens to the machine, in one queue with one reader: the state driver.

use kezhan_device::{MachineControl, MachineEvent};
use kezhan_hypervisor::Exit;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something for the state driver to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A device asks for it.
    Machine(MachineEvent),
    /// A vCPU came out of `run` and waits.
    Vcpu(u32, Exit),
    /// Nobody reads standard output any more.
    OutputClosed,
    /// The host cannot serve a disk whose requests wait for it: why.
    DiskHeld(String),
    /// Something to tell the person, for example a log that cannot be written any more.
    Notice(String),
}

/// The queue. Any thread puts in; nobody waits.
///
/// An event that is already waiting is not put in again: a guest that asks for a reset in a tight loop
/// must not fill the host's memory.
#[derive(Debug)]
pub(crate) struct EventQueue {
    waiting: Mutex<Vec<Event>>,
    bell: OwnedFd,
}

impl EventQueue {
    pub(crate) fn new() -> std::io::Result<EventQueue> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(EventQueue { waiting: Mutex::default(), bell })
    }

    pub(crate) fn push(&self, event: Event) {
        let mut waiting = self.lock();
        if !waiting.contains(&event) {
            waiting.push(event);
            drop(waiting);
            self.wake();
        }
    }

    /// Makes the reader look, at the queue and at its deadlines.
    pub(crate) fn wake(&self) {
        // Fails only when the counter is full, and then the reader is being woken anyway.
        rustix::io::write(&self.bell, &1_u64.to_ne_bytes()).ok();
    }

    /// What to poll for reading.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes all that waits, in order.
    pub(crate) fn take(&self) -> Vec<Event> {
        rustix::io::read(&self.bell, &mut [0_u8; 8]).ok();
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MachineControl for EventQueue {
    fn request(&self, event: MachineEvent) {
        self.push(Event::Machine(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn rings(queue: &EventQueue) -> bool {
        let bell = queue.bell();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(bell, PollFlags::IN)], Some(&now)) == Ok(1)
    }

    #[test]
    fn events_come_out_in_order_and_ring_until_taken() {
        let queue = EventQueue::new().unwrap();
        assert!(!rings(&queue));
        queue.push(Event::OutputClosed);
        queue.request(MachineEvent::PowerOff);
        assert!(rings(&queue));
        assert_eq!(queue.take(), [Event::OutputClosed, Event::Machine(MachineEvent::PowerOff)]);
        assert!(!rings(&queue) && queue.take().is_empty());
    }

    #[test]
    fn a_guest_that_asks_again_and_again_waits_once() {
        let queue = EventQueue::new().unwrap();
        for _ in 0..10_000 {
            queue.request(MachineEvent::Reset);
        }
        assert_eq!(queue.take().len(), 1);
    }
}
