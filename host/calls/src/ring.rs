//! Transfers that the kernel does by itself: io_uring(7).
//!
//! ```text
//!   start(transfer) ─► submission queue ─► kernel, many at once ─► completion queue ─► wait() ─► Done
//!        the buffer moves in                                           and comes back
//! ```
//! A transfer **owns** its file and its buffer while it is in flight, so that the kernel never has a pointer to
//! memory that somebody else may free; a ring that is dropped waits for what is in flight. [`Bell`] ends a wait from
//! another thread: the ring reads an event descriptor like any other file.
//!
//! A host may forbid io_uring (seccomp(2), `/proc/sys/kernel/io_uring_disabled`) or be too old: then there is no ring,
//! and whoever wanted one uses threads.

#![expect(unsafe_code, reason = "the kernel is given pointers to buffers that the ring owns")]

use io_uring::types::Fd;
use io_uring::{IoUring, opcode, squeue};
use kezhan_ports::Buffer;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

/// What the ring's own read of its bell is called.
const BELL: u64 = u64::MAX;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file.
    Read,
    /// To the file.
    Write,
}

/// Bytes between a file and a buffer.
#[derive(Debug)]
pub struct Transfer {
    /// The caller's name for it; not `u64::MAX`.
    pub token: u64,
    /// The file.
    pub file: Arc<File>,
    /// First byte in the file.
    pub offset: u64,
    /// Which way.
    pub direction: Direction,
    /// The bytes.
    pub data: Buffer,
}

/// What became of a transfer.
#[derive(Debug)]
pub struct Done {
    /// The caller's name for it.
    pub token: u64,
    /// The buffer comes back.
    pub data: Buffer,
    /// Bytes that were moved.
    pub moved: io::Result<usize>,
}

/// Wakes a ring. Clones wake the same.
#[derive(Clone, Debug)]
pub struct Bell(Arc<File>);

impl Bell {
    fn new() -> io::Result<Bell> {
        // SAFETY: eventfd(2) takes no memory; a descriptor that it gives is new and nobody else's.
        let file = unsafe {
            let descriptor = libc::eventfd(0, libc::EFD_CLOEXEC);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(descriptor)
        };
        Ok(Bell(Arc::new(file)))
    }

    /// Ends the ring's present wait, or its next one.
    pub fn ring(&self) {
        // Blocks only at 2^64 - 2 rings that nobody heard.
        let _ = (&*self.0).write(&1_u64.to_ne_bytes());
    }
}

/// A ring. One thread has it: the one that made it.
pub struct Ring {
    uring: IoUring,
    flying: HashMap<u64, Transfer>,
    bell: Bell,
    /// The bell is being listened to.
    listening: bool,
    most: usize,
}

impl Ring {
    /// For at most `most` transfers at a time.
    ///
    /// # Errors
    /// The host's: it has no io_uring, or forbids it.
    pub fn new(most: u32) -> io::Result<Ring> {
        let (uring, bell) = (Ring::open(most + 1)?, Bell::new()?);
        let flying = HashMap::new();
        Ok(Ring { uring, flying, bell, listening: false, most: most as usize })
    }

    /// Since Linux 6.1 the kernel can leave what a completion costs to the one thread that waits for it; before, it
    /// interrupts that thread.
    fn open(entries: u32) -> io::Result<IoUring> {
        let mut alone = IoUring::builder();
        alone.setup_single_issuer().setup_defer_taskrun();
        alone.build(entries).or_else(|_old| IoUring::new(entries))
    }

    /// What wakes it.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Transfers in flight.
    pub fn flying(&self) -> usize {
        self.flying.len()
    }

    /// Whether there is room for another transfer.
    pub fn has_room(&self) -> bool {
        self.flying.len() < self.most
    }

    /// Starts a transfer; it is under way with the next [`Ring::wait`].
    ///
    /// # Errors
    /// Gives it back when there is no room, or one of its name is in flight.
    pub fn start(&mut self, transfer: Transfer) -> Result<(), Transfer> {
        let token = transfer.token;
        if !self.has_room() || token == BELL || self.flying.contains_key(&token) {
            return Err(transfer);
        }
        let Ok(length) = u32::try_from(transfer.data.len()) else { return Err(transfer) };
        // In the table first: the heap memory of the buffer does not move with it.
        let transfer = self.flying.entry(token).or_insert(transfer);
        let (file, memory) = (Fd(transfer.file.as_raw_fd()), transfer.data.as_mut_ptr());
        let entry = match transfer.direction {
            Direction::Read => {
                opcode::Read::new(file, memory, length).offset(transfer.offset).build()
            }
            Direction::Write => opcode::Write::new(file, memory.cast_const(), length)
                .offset(transfer.offset)
                .build(),
        };
        if self.push(&entry.user_data(token)) {
            return Ok(());
        }
        match self.flying.remove(&token) {
            Some(transfer) => Err(transfer),
            None => Ok(()),
        }
    }

    /// Puts an entry into the submission queue; false when there is no room.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: File and buffer of the entry are in `flying`, or the bell's in `self`, until the kernel has completed
        // it: `wait` takes them out then, and `drop` waits for all.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    /// Waits until a transfer has ended or the bell has rung; what has ended by then.
    ///
    /// # Errors
    /// The host's.
    pub fn wait(&mut self) -> io::Result<Vec<Done>> {
        if !self.listening {
            let descriptor = Fd(self.bell.0.as_raw_fd());
            let poll = opcode::PollAdd::new(descriptor, libc::POLLIN as u32).build();
            self.listening = self.push(&poll.user_data(BELL));
        }
        match self.uring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
        Ok(self.reap())
    }

    fn reap(&mut self) -> Vec<Done> {
        let mut all = Vec::new();
        for completion in self.uring.completion() {
            let (token, result) = (completion.user_data(), completion.result());
            if token == BELL {
                self.listening = false;
                // It has rung, so this does not block.
                let _ = (&*self.bell.0).read(&mut [0; 8]);
            } else if let Some(Transfer { data, .. }) = self.flying.remove(&token) {
                let moved = usize::try_from(result);
                let moved = moved.map_err(|_negative| io::Error::from_raw_os_error(-result));
                all.push(Done { token, data, moved });
            }
        }
        all
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while !self.flying.is_empty() {
            if self.uring.submit_and_wait(1).is_err_and(|e| e.raw_os_error() != Some(libc::EINTR)) {
                // The kernel may still write to them: they stay for ever.
                std::mem::forget(std::mem::take(&mut self.flying));
                break;
            }
            self.reap();
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} in flight)", self.flying.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None, with the reason told, where the host has no io_uring.
    fn ring(most: u32) -> Option<Ring> {
        Ring::new(most).inspect_err(|error| eprintln!("skipped: io_uring: {error}")).ok()
    }

    fn transfer(token: u64, file: &Arc<File>, direction: Direction, data: Vec<u8>) -> Transfer {
        let (file, offset) = (file.clone(), token * 4096);
        Transfer { token, file, offset, direction, data: data.into() }
    }

    fn all(ring: &mut Ring) -> Vec<Done> {
        let mut done = Vec::new();
        while ring.flying() > 0 {
            done.extend(ring.wait().unwrap());
        }
        done.sort_by_key(|done| done.token);
        done
    }

    #[test]
    fn many_transfers_at_once_move_their_own_bytes() {
        let Some(mut ring) = ring(8) else { return };
        let file = Arc::new(tempfile::tempfile().unwrap());
        for token in 0..8 {
            let bytes = vec![token as u8 + 1; 4096];
            ring.start(transfer(token, &file, Direction::Write, bytes)).unwrap();
        }
        let more = ring.start(transfer(8, &file, Direction::Read, vec![0])).unwrap_err();
        assert_eq!((more.token, more.data.len()), (8, 1), "there is no room for a ninth");
        assert!(all(&mut ring).iter().all(|done| matches!(done.moved, Ok(4096))));
        for token in 0..8 {
            ring.start(transfer(token, &file, Direction::Read, vec![0; 5000])).unwrap();
        }
        for done in all(&mut ring) {
            let expected = if done.token == 7 { 4096 } else { 5000 };
            assert_eq!(done.moved.unwrap(), expected);
            assert_eq!(done.data[..4096], [done.token as u8 + 1; 4096]);
        }
    }

    #[test]
    fn an_error_of_the_host_comes_with_the_buffer() {
        let Some(mut ring) = ring(2) else { return };
        let file = Arc::new(File::open("/proc/self/stat").unwrap());
        ring.start(transfer(1, &file, Direction::Write, vec![7; 512])).unwrap();
        let done = all(&mut ring).pop().unwrap();
        assert_eq!(done.moved.unwrap_err().raw_os_error(), Some(libc::EBADF));
        assert_eq!(*done.data, [7; 512]);
    }

    #[test]
    fn a_bell_ends_a_wait_each_time_it_rings() {
        let Some(mut ring) = ring(2) else { return };
        let bell = ring.bell();
        for _ in 0..3 {
            let bell = bell.clone();
            let other = std::thread::spawn(move || bell.ring());
            assert!(ring.wait().unwrap().is_empty());
            other.join().unwrap();
        }
    }

    #[test]
    fn a_ring_that_is_dropped_waits_for_what_is_in_flight() {
        let Some(mut ring) = ring(2) else { return };
        let file = Arc::new(tempfile::tempfile().unwrap());
        ring.start(transfer(0, &file, Direction::Write, vec![9; 4096])).unwrap();
        drop(ring);
        assert_eq!(file.metadata().unwrap().len(), 4096);
    }
}
