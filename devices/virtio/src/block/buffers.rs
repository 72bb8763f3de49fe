//! Buffers of requests, kept for the next ones: fresh memory of the host costs more than the copy into it.
//!
//! What an earlier request left in a buffer never reaches the guest: a read that succeeded has filled all of it,
//! and of one that failed the guest gets nothing.

use kezhan_ports::Buffer;

/// Buffers kept at most.
const KEPT: usize = 64;
/// Bytes kept at most.
const KEPT_BYTES: usize = 8 << 20;

/// The buffers that no request has.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    free: Vec<Buffer>,
    bytes: usize,
}

impl Buffers {
    /// A buffer of `length` bytes, with anything in it.
    pub(super) fn take(&mut self, length: usize) -> Buffer {
        let mut buffer = self.free.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        if buffer.capacity() < length {
            return Buffer::new(length);
        }
        buffer.resize(length);
        buffer
    }

    /// Gives one back.
    pub(super) fn put(&mut self, buffer: Buffer) {
        let bytes = self.bytes + buffer.capacity();
        if self.free.len() < KEPT && bytes <= KEPT_BYTES {
            self.free.push(buffer);
            self.bytes = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_in_the_length_asked_for_and_few_are_kept() {
        let mut buffers = Buffers::default();
        buffers.put(vec![7; 4096].into());
        assert_eq!(buffers.take(512).len(), 512);
        buffers.put(vec![7; 512].into());
        assert_eq!(*buffers.take(4096), [0; 4096], "a small one does not serve");
        for _ in 0..100 {
            buffers.put(Buffer::new(1 << 20));
        }
        assert!((4..8).contains(&buffers.free.len()) && buffers.bytes <= KEPT_BYTES);
    }
}
