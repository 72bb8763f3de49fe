//! Work cut into pieces for all processors.

use crate::error::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a disk that one thread takes at a time: few enough to be in its processor's cache when they are looked at
/// and written. Larger ones are no gain where nothing is done but to copy: the host then looks for large pages for
/// its page cache, and on a virtual host a large page that nobody has touched yet costs more than the copy.
pub const PIECE: u64 = 512 << 10;

/// A piece of the work.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its number.
    pub index: u64,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Threads to use when nothing else is asked for: two a processor, so that one works while another waits
/// for the host or for its turn.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| 2 * processors.get()).min(16)
}

/// The same for what only copies or compares, which the host seldom keeps waiting: one a processor, and two at
/// least, so that one reads while another writes.
pub fn copy_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// Hands out pieces, leaving out what needs no work.
struct Pieces<S> {
    at: u64,
    index: u64,
    /// What `skip` said last.
    wanted: Range<u64>,
    skip: S,
}

impl<S: FnMut(u64) -> Result<Range<u64>>> Pieces<S> {
    fn next(&mut self, total: u64, piece: u64) -> Result<Option<Piece>> {
        if self.at >= total {
            return Ok(None);
        }
        if self.at >= self.wanted.end {
            self.wanted = (self.skip)(self.at)?;
        }
        let wanted = self.wanted.start.max(self.at);
        if wanted >= total {
            self.at = total;
            return Ok(None);
        }
        let start = (wanted - wanted % piece).max(self.at);
        let length = (piece - start % piece).min(total - start);
        let index = self.index;
        self.index += 1;
        self.at = start + length;
        Ok(Some(Piece { index, start, length }))
    }
}

/// Calls `work` for pieces of `piece` bytes of `total`, from `threads` threads. `skip` is asked for the first run
/// of bytes at or after an offset that needs work, and not again before its end; what lies before it is left out, so
/// that empty terabytes cost nothing. After a failure no new piece is begun; the first failure is returned.
///
/// # Errors
/// Whatever `work` and `skip` give.
pub fn each_piece(
    total: u64,
    piece: u64,
    threads: usize,
    skip: impl FnMut(u64) -> Result<Range<u64>> + Send,
    work: impl Fn(Piece) -> Result<()> + Sync,
) -> Result<()> {
    let pieces = Mutex::new(Pieces { at: 0, index: 0, wanted: 0..0, skip });
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next(total, piece);
            let done = match next {
                Ok(None) => return,
                Ok(Some(piece)) => work(piece),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                stop.store(true, Ordering::Relaxed);
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
        }
    };
    if threads <= 1 {
        run();
    } else {
        std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
    }
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Where prepared pieces are written one by one, in the order of their numbers.
///
/// ```text
///   thread 1 ── piece 4 ─┐                          ┌─► writes 3, 4, 5 …
///   thread 2 ── piece 3 ─┴─► ready {3, 4} ─► whoever finds nobody writing
/// ```
/// Who hands in a piece whose turn has not come goes on with the next one; whoever hands in the one that is due
/// writes it and all that follow and are ready. So nobody waits for a turn, and only one thread at a time is in
/// the host's file, whose writers would spin for each other.
#[derive(Debug)]
pub struct InOrder<T> {
    line: Mutex<Line<T>>,
    room: Condvar,
    limit: usize,
}

#[derive(Debug)]
struct Line<T> {
    next: u64,
    ready: BTreeMap<u64, T>,
    writing: bool,
    failed: bool,
}

impl<T> InOrder<T> {
    /// With at most about `limit` pieces that are ready and not due: who brings more waits.
    pub fn new(limit: usize) -> InOrder<T> {
        let line = Line { next: 0, ready: BTreeMap::new(), writing: false, failed: false };
        InOrder { line: Mutex::new(line), room: Condvar::new(), limit }
    }

    /// Hands in a piece, and writes what is due with `write` when nobody else does. After a failure nothing more
    /// is written.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn hand_in(&self, index: u64, piece: T, write: impl Fn(T) -> Result<()>) -> Result<()> {
        let mut line = self.line();
        while line.ready.len() >= self.limit && line.next != index && !line.failed {
            line = self.room.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.ready.insert(index, piece);
        if line.writing {
            return Ok(());
        }
        while !line.failed
            && let Some(due) = line.take_due()
        {
            line.writing = true;
            drop(line);
            let written = write(due);
            line = self.line();
            line.writing = false;
            line.failed |= written.is_err();
            self.room.notify_all();
            written?;
        }
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Line<T> {
    fn take_due(&mut self) -> Option<T> {
        let due = self.ready.remove(&self.next)?;
        self.next += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageError;

    fn all(at: u64) -> Result<Range<u64>> {
        Ok(at..u64::MAX)
    }

    #[test]
    fn every_byte_is_in_exactly_one_piece() {
        let seen = Mutex::new(vec![0; 1001]);
        let work = |piece: Piece| {
            let range = piece.start as usize..(piece.start + piece.length) as usize;
            seen.lock().unwrap()[range].iter_mut().for_each(|count| *count += 1);
            Ok(())
        };
        each_piece(1001, 10, 4, all, work).unwrap();
        assert_eq!(seen.into_inner().unwrap(), vec![1; 1001]);
    }

    #[test]
    fn pieces_before_the_next_wanted_byte_are_left_out() {
        let starts = Mutex::new(Vec::new());
        let mut asked = Vec::new();
        let skip = |at: u64| {
            asked.push(at);
            Ok(if at < 505 { 505..620 } else { at.max(900)..1000 })
        };
        each_piece(1000, 100, 1, skip, |piece| {
            starts.lock().unwrap().push(piece.start);
            Ok(())
        })
        .unwrap();
        assert_eq!(starts.into_inner().unwrap(), [500, 600, 900]);
        assert_eq!(asked, [0, 700]);
    }

    #[test]
    fn a_failure_ends_the_work_and_pieces_are_written_in_order() {
        let line = InOrder::new(3);
        let order = Mutex::new(Vec::new());
        let write = |index: u64| {
            order.lock().unwrap().push(index);
            if index == 50 { Err(ImageError::usage("stop")) } else { Ok(()) }
        };
        let failed =
            each_piece(100, 1, 4, all, |piece| line.hand_in(piece.index, piece.index, write));
        assert!(failed.is_err());
        assert_eq!(order.into_inner().unwrap(), (0..=50).collect::<Vec<u64>>());
    }

    #[test]
    fn every_piece_is_written_once() {
        let line = InOrder::new(2);
        let order = Mutex::new(Vec::new());
        let write = |index: u64| {
            order.lock().unwrap().push(index);
            Ok(())
        };
        each_piece(1000, 1, 8, all, |piece| line.hand_in(piece.index, piece.index, write)).unwrap();
        assert_eq!(order.into_inner().unwrap(), (0..1000).collect::<Vec<u64>>());
    }
}
