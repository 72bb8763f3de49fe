//! The way in: bytes that the host has read and the device has yet to take.

use crate::{BUFFER_SIZE, Waker, lock};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A bounded queue of bytes towards the device. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Inlet(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Told when bytes came.
    device: Option<Waker>,
    /// Told when a full queue has room again.
    feeder: Option<Waker>,
    full: bool,
}

impl Inlet {
    pub(crate) fn set_device_waker(&self, wake: Waker) {
        lock(&self.0).device = Some(wake);
    }

    pub(crate) fn set_feeder_waker(&self, wake: Waker) {
        lock(&self.0).feeder = Some(wake);
    }

    /// How many bytes fit. When none do, the feeder is woken once there is room.
    pub(crate) fn room(&self) -> usize {
        let mut state = lock(&self.0);
        let room = BUFFER_SIZE - state.bytes.len().min(BUFFER_SIZE);
        state.full = room == 0;
        room
    }

    /// Puts bytes in and wakes the device. The caller has asked for [`Inlet::room`].
    pub(crate) fn feed(&self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let wake = {
            let mut state = lock(&self.0);
            state.bytes.extend(data);
            state.device.clone()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Takes up to `data.len()` bytes out.
    pub(crate) fn take(&self, data: &mut [u8]) -> usize {
        let (count, wake) = {
            let mut state = lock(&self.0);
            let count = data.len().min(state.bytes.len());
            for (to, from) in data.iter_mut().zip(state.bytes.drain(..count)) {
                *to = from;
            }
            let relieved = count > 0 && std::mem::take(&mut state.full);
            (count, if relieved { state.feeder.clone() } else { None })
        };
        if let Some(wake) = wake {
            wake();
        }
        count
    }
}

impl std::fmt::Debug for Inlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inlet({} bytes)", lock(&self.0).bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn counter() -> (Arc<AtomicU32>, Waker) {
        let count = Arc::new(AtomicU32::new(0));
        let seen = count.clone();
        (
            count,
            Arc::new(move || {
                seen.fetch_add(1, Ordering::SeqCst);
            }),
        )
    }

    #[test]
    fn the_device_is_woken_by_bytes_and_gets_them_in_order() {
        let inlet = Inlet::default();
        let (woken, wake) = counter();
        inlet.set_device_waker(wake);
        inlet.feed(b"abc");
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        let mut data = [0; 2];
        assert_eq!((inlet.take(&mut data), &data), (2, b"ab"));
        assert_eq!((inlet.take(&mut data), data[0]), (1, b'c'));
        assert_eq!(inlet.take(&mut data), 0);
    }

    #[test]
    fn the_feeder_is_woken_only_when_a_full_queue_gets_room() {
        let inlet = Inlet::default();
        let (woken, wake) = counter();
        inlet.set_feeder_waker(wake);
        inlet.feed(&vec![7; BUFFER_SIZE]);
        assert_eq!(inlet.room(), 0);
        inlet.take(&mut [0; 10]);
        inlet.take(&mut [0; 10]);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(inlet.room(), 20);
    }
}
