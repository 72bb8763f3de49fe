//! Bytes that wait: for the host's socket, for a gap to be filled, for the guest's acknowledgement.
//!
//! Large pieces are moved, not copied: a frame of the guest's becomes a chunk of the output as it is. Small
//! ones are copied together, so that a flood of them costs no more memory than its bytes.

use super::super::frame::Piece;
use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// Chunks of small pieces grow up to this.
const GATHERED: usize = 16 * 1024;

/// Pieces that are handed to one system call.
const SLICES: usize = 64;

/// Pieces behind a gap that are kept.
const LATE: usize = 1024;

/// Part of a buffer.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Chunk {
    /// Takes part of a frame; copies it when it is the lesser part.
    pub(super) fn new(bytes: Vec<u8>, range: Range<usize>) -> Chunk {
        if range.len() * 2 >= bytes.capacity() {
            return Chunk { bytes, range };
        }
        let bytes = bytes.get(range).unwrap_or_default().to_vec();
        let range = 0..bytes.len();
        Chunk { bytes, range }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or_default()
    }

    fn skip(&mut self, count: usize) {
        self.range.start = (self.range.start + count).min(self.range.end);
    }
}

/// What the guest sent and the host's socket has not taken.
#[derive(Debug, Default)]
pub(super) struct Output {
    chunks: VecDeque<Chunk>,
    length: usize,
}

impl Output {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.length += chunk.range.len();
        if let Some(last) = self.chunks.back_mut()
            && chunk.range.len() + last.bytes.len() <= GATHERED
        {
            last.bytes.truncate(last.range.end);
            last.bytes.extend_from_slice(chunk.as_slice());
            last.range.end = last.bytes.len();
        } else if !chunk.range.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.chunks.iter().take(SLICES).map(|chunk| IoSlice::new(chunk.as_slice())).collect()
    }

    pub(super) fn advance(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.chunks.front_mut() {
            if count < first.range.len() {
                first.skip(count);
                return;
            }
            count -= first.range.len();
            self.chunks.pop_front();
        }
    }
}

/// Pieces behind a gap, by their place in the stream.
#[derive(Debug, Default)]
pub(super) struct Late {
    chunks: BTreeMap<u64, Chunk>,
    length: usize,
}

impl Late {
    /// Keeps a piece, unless too many are kept or a longer one from the same place is.
    pub(super) fn insert(&mut self, at: u64, chunk: Chunk) {
        let known = self.chunks.get(&at).map_or(0, |known| known.range.len());
        if self.chunks.len() >= LATE || known >= chunk.range.len() {
            return;
        }
        self.length += chunk.range.len() - known;
        self.chunks.insert(at, chunk);
    }

    /// The piece that goes on from a place; what lies before the place is dropped.
    pub(super) fn take(&mut self, from: u64) -> Option<Chunk> {
        while let Some(first) = self.chunks.first_entry() {
            if *first.key() > from {
                return None;
            }
            let (at, mut chunk) = first.remove_entry();
            self.length -= chunk.range.len();
            chunk.skip(usize::try_from(from - at).unwrap_or(usize::MAX).min(chunk.range.len()));
            if !chunk.range.is_empty() {
                return Some(chunk);
            }
        }
        None
    }
}

impl Chunk {
    pub(super) fn length(&self) -> usize {
        self.range.len()
    }
}

/// What was read from the host and the guest has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Retained {
    pieces: VecDeque<Piece>,
    length: usize,
}

impl Retained {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        self.length += bytes.len();
        if let Some(last) = self.pieces.back_mut()
            && last.range.end + bytes.len() <= GATHERED
            && let Some(open) = Arc::get_mut(&mut last.bytes)
        {
            open.extend_from_slice(&bytes);
            last.range.end = open.len();
        } else if !bytes.is_empty() {
            let range = 0..bytes.len();
            self.pieces.push_back(Piece { bytes: Arc::new(bytes), range });
        }
    }

    pub(super) fn advance(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if count < first.range.len() {
                first.range.start += count;
                return;
            }
            count -= first.range.len();
            self.pieces.pop_front();
        }
    }

    /// The bytes of a range, shared.
    pub(super) fn share(&self, mut from: usize, mut length: usize) -> Vec<Piece> {
        let mut shared = Vec::new();
        for piece in &self.pieces {
            if length == 0 {
                break;
            }
            let here = piece.range.len();
            if from >= here {
                from -= here;
                continue;
            }
            let taken = length.min(here - from);
            let start = piece.range.start + from;
            shared.push(Piece { bytes: Arc::clone(&piece.bytes), range: start..start + taken });
            length -= taken;
            from = 0;
        }
        shared
    }
}
