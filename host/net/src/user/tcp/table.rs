//! All streams: by number, by their ends, by their deadlines, and those that have something to send.
//!
//! A deadline is entered only when it is earlier than the one that is there: one that comes too early asks
//! the stream again. An acknowledgement therefore moves no timer.

use super::super::resolve::Session;
use super::*;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Streams at a time, those that wait for the host's connection, and those in TIME-WAIT.
pub(crate) const STREAMS: usize = 16_384;
pub(crate) const DIALLING: usize = 1024;
pub(crate) const WAITING: usize = 4096;

/// Memory that all may hold or promise, and what each may have however little is left.
const MEMORY: usize = 256 * 1024 * 1024;
const LEAST: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stream: Stream,
    /// Our name server is the other end.
    pub(crate) session: Option<Session>,
    /// The driver knows of the output.
    pub(crate) output_told: bool,
    charged: usize,
    dialling: bool,
    timer: Option<Duration>,
    queued: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    entry: Option<Box<Entry>>,
}

/// The streams of one guest.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<Key, StreamId>,
    timers: BTreeSet<(Duration, StreamId)>,
    ready: VecDeque<StreamId>,
    waiting: VecDeque<StreamId>,
    held: usize,
    dialling: usize,
    count: usize,
}

impl Streams {
    /// The memory that one stream may use now.
    pub(crate) fn allowance(&self) -> usize {
        (MEMORY.saturating_sub(self.held) / 8).max(LEAST)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn find(&self, key: &Key) -> Option<StreamId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Entry> {
        let slot = self.slots.get(id.index as usize)?;
        slot.entry.as_deref().filter(|_| slot.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.entry.as_deref_mut().filter(|_| slot.generation == id.generation)
    }

    /// Whether there is room for one more; one that only waits gives way.
    pub(crate) fn has_room(&mut self, dials: bool) -> bool {
        while self.count >= STREAMS
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.remove_waiting(oldest);
        }
        self.count < STREAMS && !(dials && self.dialling >= DIALLING)
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> StreamId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.count += 1;
        let (key, dialling) = (stream.key, stream.phase == Phase::Dialling);
        self.dialling += usize::from(dialling);
        let entry = Entry {
            stream,
            session: None,
            output_told: false,
            charged: 0,
            dialling,
            timer: None,
            queued: false,
        };
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.entry = Some(Box::new(entry));
            generation = slot.generation;
        }
        let id = StreamId { index, generation };
        self.by_key.insert(key, id);
        id
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        self.get(id)?;
        let slot = self.slots.get_mut(id.index as usize)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.by_key.remove(&entry.stream.key);
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        self.held -= entry.charged;
        self.dialling -= usize::from(entry.dialling);
        self.count -= 1;
        Some(entry.stream)
    }

    fn remove_waiting(&mut self, id: StreamId) {
        if self.get(id).is_some_and(|entry| entry.stream.phase == Phase::Waiting) {
            self.remove(id);
        }
    }

    /// Notes that a stream waits for its end.
    pub(crate) fn waits(&mut self, id: StreamId) {
        self.waiting.push_back(id);
        while self.waiting.len() > WAITING
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.remove_waiting(oldest);
        }
    }

    /// Puts a stream in its place after something happened to it.
    pub(crate) fn note(&mut self, now: Duration, id: StreamId) {
        let Some(entry) = self.get_mut(id) else { return };
        let charge = entry.stream.charge();
        let before = std::mem::replace(&mut entry.charged, charge);
        let dialled = entry.dialling && entry.stream.phase != Phase::Dialling;
        entry.dialling &= !dialled;
        let ready = entry.stream.is_ready() && !entry.queued;
        entry.queued |= ready;
        let wanted = entry.stream.deadline(now);
        let known = entry.timer;
        let earlier = wanted.filter(|at| known.is_none_or(|known| *at < known));
        if earlier.is_some() {
            entry.timer = earlier;
        }
        self.held = self.held + charge - before;
        self.dialling -= usize::from(dialled);
        if ready {
            self.ready.push_back(id);
        }
        if let Some(at) = earlier {
            if let Some(known) = known {
                self.timers.remove(&(known, id));
            }
            self.timers.insert((at, id));
        }
    }

    #[cfg(test)]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next stream that has something to send.
    pub(crate) fn next_ready(&mut self) -> Option<StreamId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(entry) = self.get_mut(id) {
                entry.queued = false;
                return Some(id);
            }
        }
        None
    }

    /// A stream whose deadline has come.
    pub(crate) fn next_expired(&mut self, now: Duration) -> Option<StreamId> {
        let (at, id) = *self.timers.first()?;
        if now < at {
            return None;
        }
        self.timers.pop_first();
        if let Some(entry) = self.get_mut(id) {
            entry.timer = None;
        }
        Some(id)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }
}
