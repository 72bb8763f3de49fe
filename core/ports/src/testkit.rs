//! Fakes for the ports.

use crate::CharDevice;
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
