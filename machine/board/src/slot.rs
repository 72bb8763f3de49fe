//! A device on the board, its lock, and when it wants to be called.

use crate::attend::Post;
use kezhan_device::{Device, Nanoseconds, Placement, RegionIndex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

const NEVER: u64 = u64::MAX;

/// A device and what the board keeps about it.
pub(crate) struct Slot {
    name: String,
    placement: Placement,
    device: Arc<Mutex<dyn Device>>,
    deadline: AtomicU64,
    port_called: Arc<AtomicBool>,
    /// Of a device that a thread of its own serves.
    post: Option<Post>,
}

impl Slot {
    pub(crate) fn new(
        device: Arc<Mutex<dyn Device>>,
        placement: Placement,
        port_called: Arc<AtomicBool>,
    ) -> Slot {
        let name = device.lock().unwrap_or_else(PoisonError::into_inner).name().to_owned();
        let deadline = AtomicU64::new(NEVER);
        Slot { name, placement, device, deadline, port_called, post: None }
    }

    /// The same, served by a thread of its own.
    pub(crate) fn with_post(self, post: Post) -> Slot {
        Slot { post: Some(post), ..self }
    }

    pub(crate) fn post(&self) -> Option<&Post> {
        self.post.as_ref()
    }

    /// Whether a port has called since the last time.
    pub(crate) fn take_port_call(&self) -> bool {
        self.port_called.swap(false, Ordering::SeqCst)
    }

    /// The same, and it stays so.
    pub(crate) fn is_port_called(&self) -> bool {
        self.port_called.load(Ordering::SeqCst)
    }

    /// Whether the device wants to be called at once.
    pub(crate) fn is_due(&self) -> bool {
        self.deadline.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn aml(&self) -> Option<Vec<u8>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).aml(&self.placement)
    }

    /// The first doubleword of its first region, while the board is built.
    pub(crate) fn peek(&self) -> u32 {
        let mut data = [0; 4];
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.read(RegionIndex(0), 0, &mut data);
        u32::from_le_bytes(data)
    }

    /// As [`Slot::call`], unless somebody else is in the device: then nothing is done.
    pub(crate) fn try_call<T>(
        &self,
        attention: &Attention,
        work: impl FnOnce(&mut dyn Device) -> T,
    ) -> Option<T> {
        let (result, deadline) = {
            let mut device = match self.device.try_lock() {
                Ok(device) => device,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            let result = work(&mut *device);
            (result, self.note_deadline(&*device))
        };
        attention.wanted_at(deadline);
        Some(result)
    }

    fn note_deadline(&self, device: &dyn Device) -> u64 {
        let deadline = device.deadline().unwrap_or(NEVER);
        self.deadline.store(deadline, Ordering::SeqCst);
        deadline
    }

    /// Calls into the device under its lock, then takes note of its deadline.
    pub(crate) fn call<T>(
        &self,
        attention: &Attention,
        work: impl FnOnce(&mut dyn Device) -> T,
    ) -> T {
        let (result, deadline) = {
            let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut *device);
            (result, self.note_deadline(&*device))
        };
        attention.wanted_at(deadline);
        result
    }
}

/// When [`Board::service`](crate::Board::service) is next wanted, and the hook that says so.
pub(crate) struct Attention {
    earliest: AtomicU64,
    hook: Arc<dyn Fn() + Send + Sync>,
}

impl Attention {
    pub(crate) fn new(hook: Arc<dyn Fn() + Send + Sync>) -> Attention {
        Attention { earliest: AtomicU64::new(NEVER), hook }
    }

    /// A device wants to be woken at `deadline`.
    fn wanted_at(&self, deadline: Nanoseconds) {
        if deadline < self.earliest.fetch_min(deadline, Ordering::SeqCst) {
            self.call();
        }
    }

    pub(crate) fn call(&self) {
        (self.hook)();
    }

    /// Polls and wakes those that want it; gives the next deadline.
    ///
    /// `earliest` is forgotten *before* the deadlines are read: a vCPU that stores an earlier deadline
    /// meanwhile either is seen by that reading or finds `earliest` later than its own and calls the hook.
    pub(crate) fn serve(&self, slots: &[Arc<Slot>], now: Nanoseconds) -> Option<Nanoseconds> {
        for slot in slots {
            if slot.post.is_none() && slot.take_port_call() {
                slot.call(self, |device| device.poll());
            }
            if slot.deadline.load(Ordering::SeqCst) <= now {
                slot.call(self, |device| wake_if_due(device, now));
            }
        }
        self.earliest.store(NEVER, Ordering::SeqCst);
        let deadlines = slots.iter().map(|slot| slot.deadline.load(Ordering::SeqCst));
        let next = deadlines.min().unwrap_or(NEVER);
        self.earliest.fetch_min(next, Ordering::SeqCst);
        (next != NEVER).then_some(next)
    }
}

/// The device may have moved its deadline since it was read without the lock.
fn wake_if_due(device: &mut dyn Device, now: Nanoseconds) {
    if device.deadline().is_some_and(|deadline| deadline <= now) {
        device.wake(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kezhan_device::{RestoreError, SavedState};
    use std::sync::atomic::AtomicUsize;

    /// Wants to be woken at the time that the test says; when woken, never again.
    #[derive(Clone, Default)]
    struct Alarm(Arc<Mutex<Option<Nanoseconds>>>);

    impl Device for Alarm {
        fn name(&self) -> &str {
            "alarm"
        }
        fn deadline(&self) -> Option<Nanoseconds> {
            *self.0.lock().unwrap()
        }
        fn wake(&mut self, _now: Nanoseconds) {
            *self.0.lock().unwrap() = None;
        }
        fn reset(&mut self) {}
        fn save(&self) -> SavedState {
            SavedState::new("alarm", 1, &())
        }
        fn restore(&mut self, _state: &SavedState) -> Result<(), RestoreError> {
            Ok(())
        }
    }

    struct Bench {
        alarm: Alarm,
        slots: [Arc<Slot>; 1],
        attention: Attention,
        calls: Arc<AtomicUsize>,
    }

    impl Bench {
        fn new() -> Bench {
            let (alarm, calls) = (Alarm::default(), Arc::new(AtomicUsize::new(0)));
            let counter = calls.clone();
            let device = Arc::new(Mutex::new(alarm.clone()));
            Bench {
                alarm,
                slots: [Arc::new(Slot::new(device, Placement::default(), Arc::default()))],
                attention: Attention::new(Arc::new(move || {
                    counter.fetch_add(1, Ordering::SeqCst);
                })),
                calls,
            }
        }

        /// Sets the alarm as an access would, and counts the calls of the hook so far.
        fn set(&self, deadline: Option<Nanoseconds>) -> usize {
            *self.alarm.0.lock().unwrap() = deadline;
            self.slots[0].call(&self.attention, |_| {});
            self.calls.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn only_an_earlier_deadline_calls_the_hook() {
        let bench = Bench::new();
        let calls = [Some(100), Some(100), Some(200), Some(50), None].map(|at| bench.set(at));
        assert_eq!(calls, [1, 1, 1, 2, 2]);
    }

    #[test]
    fn service_wakes_what_is_due_and_gives_the_next_deadline() {
        let bench = Bench::new();
        bench.set(Some(100));
        assert_eq!(bench.attention.serve(&bench.slots, 99), Some(100));
        assert_eq!(bench.attention.serve(&bench.slots, 100), None);
        assert_eq!(bench.set(Some(300)), 2, "the hook is called again after service");
    }

    #[test]
    fn a_deadline_pushed_back_costs_one_service_in_vain() {
        let bench = Bench::new();
        bench.set(Some(100));
        bench.set(Some(200));
        assert_eq!(bench.attention.serve(&bench.slots, 100), Some(200));
    }
}
