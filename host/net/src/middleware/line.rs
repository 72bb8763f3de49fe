//! A long or a narrow line: frames take time, and only so many enter in a second.
//!
//! ```text
//!   device ── transmit ──► queue ──► thread ──► back-end
//!          ◄── receive ─── queue ◄── thread ◄── back-end
//!          ◄──── wake ──────────────── thread: a frame has arrived, there is room again, the link changed
//! ```
//! A thread moves the frames, since nobody else is called when their time has come. Locks: the back-end's and
//! the queues' are never held together, and nobody is woken under either.

use super::queue::{LineRates, Queue};
use kezhan_ports::nic::{MAX_FRAME, Nic, NicInfo, Offloads, Packet, Received, Transmit};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// An interface behind a line that takes time.
pub struct Line<N: Nic + 'static> {
    shared: Arc<Shared<N>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<N> {
    inner: Mutex<N>,
    state: Mutex<State>,
    changed: Condvar,
    origin: Instant,
}

struct State {
    to_guest: Queue,
    to_network: Queue,
    /// The back-end has called.
    called: bool,
    /// The device has found no room.
    refused: bool,
    /// The device has put a frame in.
    sent: bool,
    ended: bool,
    wake: Option<Wake>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<N: Nic + 'static> Line<N> {
    /// A line of which both directions are alike.
    ///
    /// # Errors
    /// The host gives no thread.
    pub fn new(inner: N, rates: LineRates) -> io::Result<Line<N>> {
        let state = State {
            to_guest: Queue::new(rates),
            to_network: Queue::new(rates),
            called: false,
            refused: false,
            sent: false,
            ended: false,
            wake: None,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(inner),
            state: Mutex::new(state),
            changed: Condvar::new(),
            origin: Instant::now(),
        });
        let called: std::sync::Weak<Shared<N>> = Arc::downgrade(&shared);
        lock(&shared.inner).set_waker(Arc::new(move || {
            if let Some(shared) = called.upgrade() {
                lock(&shared.state).called = true;
                shared.changed.notify_one();
            }
        }));
        let driver = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("net-line".to_owned())
            .spawn(move || while driver.turn() {})?;
        Ok(Line { shared, thread: Some(thread) })
    }
}

impl<N: Nic> Shared<N> {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Moves what can be moved, wakes the device, and sleeps; false at the end.
    fn turn(&self) -> bool {
        self.deliver();
        self.collect();
        let wake = {
            let mut state = lock(&self.state);
            let relieved = state.refused && state.to_network.has_room();
            state.refused &= !relieved;
            let called = std::mem::take(&mut state.called);
            let news = called || relieved || state.to_guest.has_arrived(self.now());
            state.wake.clone().filter(|_| news)
        };
        if let Some(wake) = wake {
            wake();
        }
        self.sleep()
    }

    /// Hands the back-end what has arrived there.
    fn deliver(&self) {
        loop {
            let Some(travelled) = lock(&self.state).to_network.pop(self.now()) else { return };
            let taken = lock(&self.inner).transmit(&travelled.frame, travelled.packet);
            if taken == Transmit::Full {
                // It calls when there is room.
                lock(&self.state).to_network.put_back(travelled);
                return;
            }
        }
    }

    /// Takes the back-end's frames while the line has room.
    fn collect(&self) {
        let mut buffer = Vec::new();
        while lock(&self.state).to_guest.has_room() {
            buffer.resize(MAX_FRAME, 0);
            let Some(received) = lock(&self.inner).receive(&mut buffer) else { return };
            let mut frame = std::mem::take(&mut buffer);
            frame.truncate(received.length);
            frame.shrink_to_fit();
            lock(&self.state).to_guest.push(self.now(), frame, received.packet);
        }
    }

    fn sleep(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.ended {
                return false;
            }
            let now = self.now();
            let due = [state.to_guest.next_due(now), state.to_network.next_due(now)];
            if state.called || std::mem::take(&mut state.sent) {
                return true;
            }
            state = match due.into_iter().flatten().min() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let longest = due.saturating_sub(now);
                    let waited = self.changed.wait_timeout(state, longest);
                    let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    if timeout.timed_out() {
                        return !state.ended;
                    }
                    state
                }
            };
        }
    }
}

impl<N: Nic> Nic for Line<N> {
    fn info(&self) -> NicInfo {
        lock(&self.shared.inner).info()
    }

    fn link_up(&self) -> bool {
        lock(&self.shared.inner).link_up()
    }

    fn transmit(&mut self, frame: &[u8], packet: Packet) -> Transmit {
        let mut state = lock(&self.shared.state);
        if !state.to_network.has_room() {
            state.refused = true;
            return Transmit::Full;
        }
        let now = self.shared.now();
        state.to_network.push(now, frame.to_vec(), packet);
        state.sent = true;
        drop(state);
        self.shared.changed.notify_one();
        Transmit::Taken
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        let mut state = lock(&self.shared.state);
        let was_full = !state.to_guest.has_room();
        while let Some(travelled) = state.to_guest.pop(self.shared.now()) {
            let Some(place) = buffer.get_mut(..travelled.frame.len()) else { continue };
            place.copy_from_slice(&travelled.frame);
            // There is room for more of the back-end's.
            state.called |= was_full;
            drop(state);
            if was_full {
                self.shared.changed.notify_one();
            }
            return Some(Received { length: travelled.frame.len(), packet: travelled.packet });
        }
        None
    }

    fn accept(&mut self, offloads: Offloads) {
        lock(&self.shared.inner).accept(offloads);
    }

    fn set_waker(&mut self, wake: Wake) {
        lock(&self.shared.state).wake = Some(wake);
    }
}

impl<N: Nic + 'static> Drop for Line<N> {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl<N: Nic> std::fmt::Debug for Line<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kezhan_ports::testkit::NicBuffer;
    use std::sync::mpsc::{Receiver, channel};

    fn line(delay: u64) -> (NicBuffer, Line<NicBuffer>, Receiver<()>) {
        let network = NicBuffer::default();
        let rates = LineRates { delay: Duration::from_millis(delay), rate: None };
        let mut line = Line::new(network.clone(), rates).unwrap();
        let (woken, wakes) = channel();
        line.set_waker(Arc::new(move || {
            woken.send(()).ok();
        }));
        (network, line, wakes)
    }

    #[test]
    fn a_frame_to_the_guest_arrives_after_its_delay_and_wakes_the_device() {
        let (network, mut line, wakes) = line(5);
        let start = Instant::now();
        network.feed(&[7; 60]);
        let mut buffer = [0; 1514];
        let received = loop {
            wakes.recv_timeout(Duration::from_secs(20)).unwrap();
            if let Some(received) = line.receive(&mut buffer) {
                break received;
            }
        };
        assert!(start.elapsed() >= Duration::from_millis(5));
        assert_eq!((received.length, buffer[59]), (60, 7));
    }

    #[test]
    fn a_frame_of_the_guests_reaches_the_network_later() {
        let (network, mut line, _wakes) = line(2);
        let start = Instant::now();
        assert_eq!(line.transmit(&[7; 60], Packet::default()), Transmit::Taken);
        while network.take_sent().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "the frame is lost");
            std::thread::yield_now();
        }
        assert!(start.elapsed() >= Duration::from_millis(2));
    }

    #[test]
    fn a_network_without_room_keeps_frames_on_the_line_until_it_has() {
        let (network, mut line, _wakes) = line(0);
        network.limit(Some(0));
        let mut taken = 0;
        while line.transmit(&[0; 60], Packet::default()) == Transmit::Taken {
            taken += 1;
        }
        network.limit(None);
        let (start, mut sent) = (Instant::now(), 0);
        while sent < taken {
            sent += network.take_sent().len();
            assert!(start.elapsed() < Duration::from_secs(20), "{sent} of {taken} frames");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_link_that_changes_is_told_through_the_line() {
        let (network, line, wakes) = line(1000);
        network.set_link(false);
        wakes.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(!line.link_up());
    }
}
