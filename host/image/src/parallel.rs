//! Work cut into pieces for all processors.

use crate::error::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes of a disk that one thread takes at a time: few enough to be in its processor's cache when they are looked at
/// and written.
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

/// Hands out pieces, leaving out what needs no work.
struct Pieces<S> {
    at: u64,
    index: u64,
    skip: S,
}

impl<S: FnMut(u64) -> Result<u64>> Pieces<S> {
    fn next(&mut self, total: u64, piece: u64) -> Result<Option<Piece>> {
        if self.at >= total {
            return Ok(None);
        }
        let wanted = (self.skip)(self.at)?;
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

/// Calls `work` for pieces of `piece` bytes of `total`, from `threads` threads. `skip` is asked for the first
/// byte at or after an offset that needs work; what lies before it is left out, so that empty terabytes
/// cost nothing. After a failure no new piece is begun; the first failure is returned.
///
/// # Errors
/// Whatever `work` and `skip` give.
pub fn each_piece(
    total: u64,
    piece: u64,
    threads: usize,
    skip: impl FnMut(u64) -> Result<u64> + Send,
    work: impl Fn(Piece) -> Result<()> + Sync,
) -> Result<()> {
    let pieces = Mutex::new(Pieces { at: 0, index: 0, skip });
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

/// Lets pieces pass one by one, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Turnstile {
    next: Mutex<u64>,
    passed: Condvar,
}

impl Turnstile {
    /// Waits for every lower number to have passed, and passes with `work`. The turn passes on even when
    /// `work` fails.
    pub fn pass<T>(&self, index: u64, work: impl FnOnce() -> T) -> T {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        while *next != index {
            next = self.passed.wait(next).unwrap_or_else(PoisonError::into_inner);
        }
        drop(next);
        let done = work();
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.passed.notify_all();
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageError;

    #[test]
    fn every_byte_is_in_exactly_one_piece() {
        let seen = Mutex::new(vec![0; 1001]);
        let work = |piece: Piece| {
            let range = piece.start as usize..(piece.start + piece.length) as usize;
            seen.lock().unwrap()[range].iter_mut().for_each(|count| *count += 1);
            Ok(())
        };
        each_piece(1001, 10, 4, Ok, work).unwrap();
        assert_eq!(seen.into_inner().unwrap(), vec![1; 1001]);
    }

    #[test]
    fn pieces_before_the_next_wanted_byte_are_left_out() {
        let starts = Mutex::new(Vec::new());
        let skip = |at: u64| Ok(if at < 505 { 505 } else { at.max(900) });
        each_piece(1000, 100, 1, skip, |piece| {
            starts.lock().unwrap().push(piece.start);
            Ok(())
        })
        .unwrap();
        assert_eq!(starts.into_inner().unwrap(), [500, 900]);
    }

    #[test]
    fn a_failure_ends_the_work_and_pieces_pass_in_order() {
        let turnstile = Turnstile::default();
        let order = Mutex::new(Vec::new());
        let failed = each_piece(100, 1, 4, Ok, |piece| {
            turnstile.pass(piece.index, || {
                order.lock().unwrap().push(piece.index);
                if piece.index == 50 { Err(ImageError::usage("stop")) } else { Ok(()) }
            })
        });
        assert!(failed.is_err());
        let order = order.into_inner().unwrap();
        assert!(order.is_sorted() && order.len() >= 51 && order.len() < 60, "{order:?}");
    }
}
