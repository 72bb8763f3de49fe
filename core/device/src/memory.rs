//! Guest memory as devices and engines share it.
//!
//! [`GuestMemory`] is rust-vmm's mapped memory with a [`PageLog`] on every region. Each write that a
//! device makes through it is seen by the log, which serves two readers:
//!
//! * **dirty log**: one bit a page, set while logging is on, collected by snapshots and migration;
//! * **code watch**: the software engine marks the 64-byte granules from which it has decoded
//!   instructions; a write that touches a marked granule is reported to it, so that device DMA over
//!   code is seen just as stores are.
//!
//! An engine that writes guest memory by its own means (KVM's vCPUs, the software engine's fast path)
//! keeps the log itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};

/// Bytes in a page of guest memory.
pub const PAGE_SIZE: usize = 4096;

/// Guest memory: regions of host memory at guest-physical addresses.
pub type GuestMemory = vm_memory::GuestMemoryMmap<PageLog>;

/// Told when a device wrote over bytes from which instructions were decoded.
pub trait CodeWatch: Send + Sync {
    /// Bytes `offset .. offset + length` of the region that this watch was set on have changed.
    fn code_written(&self, offset: usize, length: usize);
}

/// Gives guest memory back to the host: the engine, which has it mapped.
pub trait MemoryReclaim: Send + Sync {
    /// The guest does not need what is in `address .. address + length`: it reads as zeroes or as before, and
    /// costs the host nothing until it is touched again. False when that is not whole pages of RAM, or when
    /// the host refuses: then nothing has changed.
    fn release(&self, address: u64, length: u64) -> bool;
}

/// The log of one region. Clones share it.
#[derive(Clone, Default)]
pub struct PageLog(Arc<Pages>);

#[derive(Default)]
struct Pages {
    length: usize,
    logging: AtomicBool,
    dirty: Box<[AtomicU64]>,
    code: OnceLock<Box<[AtomicU64]>>,
    watch: OnceLock<Arc<dyn CodeWatch>>,
}

fn zeroed(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

impl PageLog {
    /// Turns the dirty log on or off; turning it on clears it.
    pub fn set_logging(&self, on: bool) {
        if on {
            self.take_dirty();
        }
        self.0.logging.store(on, Ordering::SeqCst);
    }

    /// Whether the dirty log is on.
    pub fn is_logging(&self) -> bool {
        self.0.logging.load(Ordering::Relaxed)
    }

    /// The dirty bits since the last call, bit `n % 64` of word `n / 64` for page `n`; clears them.
    pub fn take_dirty(&self) -> Vec<u64> {
        self.0.dirty.iter().map(|word| word.swap(0, Ordering::SeqCst)).collect()
    }

    /// Sets the watch of this region; only the first call counts.
    pub fn watch_code(&self, watch: Arc<dyn CodeWatch>) {
        let _ = self.0.watch.set(watch);
    }

    /// The granule words: bit `g` of word `n` stands for bytes `64 g .. 64 g + 64` of page `n`.
    /// Made at the first call.
    pub fn code_granules(&self) -> &[AtomicU64] {
        self.0.code.get_or_init(|| zeroed(self.0.length.div_ceil(PAGE_SIZE)))
    }

    /// Marks a page dirty without reporting code: for an engine that has done so itself.
    pub fn mark_page(&self, page: usize) {
        if self.is_logging()
            && let Some(word) = self.0.dirty.get(page / 64)
        {
            word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }

    fn written(&self, offset: usize, length: usize) {
        if length == 0 {
            return;
        }
        let last = offset.saturating_add(length - 1);
        if self.is_logging() {
            for page in offset / PAGE_SIZE..=last / PAGE_SIZE {
                self.mark_page(page);
            }
        }
        if let Some(code) = self.0.code.get()
            && touches_code(code, offset, last)
            && let Some(watch) = self.0.watch.get()
        {
            watch.code_written(offset, length);
        }
    }
}

fn touches_code(code: &[AtomicU64], first: usize, last: usize) -> bool {
    (first / PAGE_SIZE..=last / PAGE_SIZE).any(|page| {
        let from = if page == first / PAGE_SIZE { first % PAGE_SIZE / 64 } else { 0 };
        let to = if page == last / PAGE_SIZE { last % PAGE_SIZE / 64 } else { 63 };
        let mask = (u64::MAX << from) & (u64::MAX >> (63 - to));
        code.get(page).is_some_and(|word| word.load(Ordering::SeqCst) & mask != 0)
    })
}

impl std::fmt::Debug for PageLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PageLog({} bytes, logging {})", self.0.length, self.is_logging())
    }
}

/// A [`PageLog`] seen from an offset.
#[derive(Clone, Debug)]
pub struct PageLogSlice {
    log: PageLog,
    base: usize,
}

impl WithBitmapSlice<'_> for PageLog {
    type S = PageLogSlice;
}

impl Bitmap for PageLog {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.written(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let page = offset / PAGE_SIZE;
        self.0
            .dirty
            .get(page / 64)
            .is_some_and(|w| w.load(Ordering::SeqCst) >> (page % 64) & 1 == 1)
    }

    fn slice_at(&self, offset: usize) -> PageLogSlice {
        PageLogSlice { log: self.clone(), base: offset }
    }
}

impl NewBitmap for PageLog {
    fn with_len(len: usize) -> PageLog {
        PageLog(Arc::new(Pages {
            length: len,
            dirty: zeroed(len.div_ceil(PAGE_SIZE * 64)),
            ..Pages::default()
        }))
    }
}

impl PageLogSlice {
    /// The log that this is a part of.
    pub fn log(&self) -> &PageLog {
        &self.log
    }
}

impl WithBitmapSlice<'_> for PageLogSlice {
    type S = PageLogSlice;
}

impl BitmapSlice for PageLogSlice {}

impl Bitmap for PageLogSlice {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.log.written(self.base.saturating_add(offset), len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.log.dirty_at(self.base.saturating_add(offset))
    }

    fn slice_at(&self, offset: usize) -> PageLogSlice {
        PageLogSlice { log: self.log.clone(), base: self.base.saturating_add(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

    #[derive(Default)]
    struct Seen(Mutex<Vec<(usize, usize)>>);

    impl CodeWatch for Seen {
        fn code_written(&self, offset: usize, length: usize) {
            self.0.lock().unwrap().push((offset, length));
        }
    }

    fn memory() -> GuestMemory {
        GuestMemory::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap()
    }

    #[test]
    fn a_write_sets_the_dirty_bits_of_every_page_it_touches() {
        let memory = memory();
        let region = memory.find_region(GuestAddress(0)).unwrap();
        region.bitmap().log().set_logging(true);
        memory.write_slice(&[1; 8], GuestAddress(0x1ffc)).unwrap();
        assert_eq!(region.bitmap().log().take_dirty(), vec![0b110]);
    }

    #[test]
    fn only_a_write_that_touches_a_marked_granule_is_reported() {
        let memory = memory();
        let log = memory.find_region(GuestAddress(0)).unwrap().bitmap().log().clone();
        let seen = Arc::new(Seen::default());
        log.watch_code(seen.clone());
        log.code_granules()[2].store(1 << 3, Ordering::SeqCst);
        memory.write_slice(&[0; 4], GuestAddress(0x2000)).unwrap();
        assert!(seen.0.lock().unwrap().is_empty());
        memory.write_slice(&[0; 4], GuestAddress(0x20be)).unwrap();
        assert_eq!(*seen.0.lock().unwrap(), vec![(0x20be, 4)]);
    }
}
