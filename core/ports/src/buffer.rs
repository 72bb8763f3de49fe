//! Memory for transfers that starts at a page.
//!
//! Direct I/O (open(2), `O_DIRECT`) asks for it, and through the page cache it is cheaper too: the host's kernel
//! copies to and from memory that does not start at a cache line at about two thirds of the speed.

use std::ops::{Deref, DerefMut};

/// Alignment that every transfer of the host is content with, in bytes.
pub const ALIGN: usize = 4096;

/// Bytes that start at a page. All of them are zero at first.
#[derive(Default)]
pub struct Buffer {
    memory: Vec<u8>,
    skip: usize,
    length: usize,
}

impl Buffer {
    /// With `length` bytes.
    pub fn new(length: usize) -> Buffer {
        let memory = vec![0; length.saturating_add(ALIGN)];
        let skip = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Buffer { memory, skip, length }
    }

    /// The longest that it can be made without new memory.
    pub fn capacity(&self) -> usize {
        self.memory.len() - self.skip
    }

    /// Makes it `length` bytes long. What it holds then is any of what it held.
    pub fn resize(&mut self, length: usize) {
        if self.skip + length > self.memory.len() {
            *self = Buffer::new(length);
        }
        self.length = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.skip..self.skip + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.skip..self.skip + self.length]
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::from(&**self)
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Buffer) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Buffer {
        let mut buffer = Buffer::new(bytes.len());
        buffer.copy_from_slice(bytes);
        buffer
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Buffer {
        Buffer::from(&*bytes)
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_at_a_page_whatever_its_length() {
        let mut buffer = Buffer::default();
        for length in [0, 1, 4095, 4097, 1 << 20, 3] {
            buffer.resize(length);
            assert_eq!(buffer.len(), length);
            assert!(length == 0 || buffer.as_ptr().align_offset(ALIGN) == 0);
        }
    }
}
