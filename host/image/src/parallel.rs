//! Work cut into pieces for all processors.

use crate::error::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes of a disk that one thread takes at a time.
pub const PIECE: u64 = 2 << 20;

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

/// Threads to use when nothing else is asked for.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(16)
}

/// Calls `work` for every piece of `total` bytes from `threads` threads. After a failure no new piece is
/// begun; the first failure is returned.
///
/// # Errors
/// Whatever `work` gives.
pub fn each_piece(
    total: u64,
    piece: u64,
    threads: usize,
    work: impl Fn(Piece) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(start) = index.checked_mul(piece).filter(|start| *start < total) else {
                return;
            };
            let length = piece.min(total - start);
            if let Err(error) = work(Piece { index, start, length }) {
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
        let sum = AtomicU64::new(0);
        each_piece(1001, 10, 4, |piece| {
            sum.fetch_add(piece.length, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 1001);
    }

    #[test]
    fn a_failure_ends_the_work_and_pieces_pass_in_order() {
        let turnstile = Turnstile::default();
        let order = Mutex::new(Vec::new());
        let failed = each_piece(100, 1, 4, |piece| {
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
