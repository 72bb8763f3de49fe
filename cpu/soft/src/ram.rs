//! Guest RAM as host memory: the one place where guest-physical addresses become host pointers.
//!
//! Loads and stores are single machine instructions written in assembly, so that concurrent accesses by
//! other vCPUs and devices are what they are on hardware (the host's memory model is the guest's) and no
//! rule of the Rust memory model is bent: to the compiler they are opaque.

#![expect(
    unsafe_code,
    reason = "the fast path of guest memory: host pointers out of checked guest addresses"
)]

use kezhan_device::{GuestMemory, PageLog};
use kezhan_x86::word::Word;
use std::arch::asm;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// A region of RAM or ROM.
#[derive(Debug)]
struct Region {
    start: u64,
    length: u64,
    host: *mut u8,
    writable: bool,
    log: PageLog,
    users: Box<[AtomicU32]>,
    chunks: Box<[AtomicU8]>,
}

impl Region {
    /// Asks the host for large pages, which it need not have: each access then misses the host's own TLB less often.
    /// (madvise(2), MADV_HUGEPAGE)
    fn want_large_pages(&self) {
        // SAFETY: the advice changes nothing of what the mapping of `length` bytes at `host` reads as, nor who may.
        unsafe { libc::madvise(self.host.cast(), self.length as usize, libc::MADV_HUGEPAGE) };
    }
}

/// All RAM and ROM of a machine.
#[derive(Debug)]
pub struct Ram {
    regions: Vec<Region>,
    /// Keeps the mappings alive for as long as there are pointers into them.
    _memory: Vec<Arc<GuestMemory>>,
}

// SAFETY: `Region::host` points to a mapping that `_memory` keeps alive and that every thread may access;
// all accesses go through the single-instruction primitives below.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

/// A host pointer into guest RAM, for accesses of up to the length that its constructor checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPointer(*mut u8);

/// A page of guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Its first byte in host memory.
    pub host: HostPointer,
    /// May be written to.
    pub writable: bool,
    /// The log of its region.
    pub log: &'a PageLog,
    /// Its number in its region.
    pub number: usize,
    /// Which vCPUs use it, and for what: see [`crate::code`].
    pub users: &'a AtomicU32,
    /// Which vCPUs write to the 2 MiB around it without a look at single pages.
    pub chunk_writers: &'a AtomicU8,
}

/// Log2 of the bytes of a chunk.
const CHUNK: u32 = 21;

impl Ram {
    /// All regions of `memory` as RAM.
    pub fn new(memory: Arc<GuestMemory>) -> Ram {
        let mut ram = Ram { regions: Vec::new(), _memory: Vec::new() };
        ram.add(memory, 0, true);
        ram.regions.iter().for_each(Region::want_large_pages);
        ram
    }

    /// Adds regions, moved by `offset` (modulo 2^64), as ROM or RAM.
    pub fn add(&mut self, memory: Arc<GuestMemory>, offset: u64, writable: bool) {
        for region in memory.iter() {
            let host = memory.get_host_address(region.start_addr()).unwrap_or(std::ptr::null_mut());
            if host.is_null() {
                continue;
            }
            let start = region.start_addr().0.wrapping_add(offset);
            let length = region.len() & !(PAGE - 1);
            let chunks = start >> CHUNK..=start.wrapping_add(length) >> CHUNK;
            self.regions.push(Region {
                start,
                length,
                users: (0..length / PAGE).map(|_| AtomicU32::new(0)).collect(),
                chunks: chunks.map(|_| AtomicU8::new(0)).collect(),
                host,
                writable,
                log: log_of(&memory, region.start_addr()),
            });
        }
        self.regions.sort_by_key(|region| region.start);
        self._memory.push(memory);
    }

    fn region(&self, physical: u64) -> Option<&Region> {
        self.regions.iter().find(|region| physical.wrapping_sub(region.start) < region.length)
    }

    /// The page at a guest-physical address; `None` where there is neither RAM nor ROM.
    pub fn page(&self, physical: u64) -> Option<Page<'_>> {
        let region = self.region(physical)?;
        let offset = (physical - region.start) & !(PAGE - 1);
        let chunk = (physical >> CHUNK) - (region.start >> CHUNK);
        // SAFETY: `offset` is less than `region.length`, the length of the mapping at `region.host`, which
        // is a whole number of pages: the pointer is good for a page.
        let host = unsafe { region.host.add(offset as usize) };
        Some(Page {
            host: HostPointer(host),
            writable: region.writable,
            log: &region.log,
            number: (offset / PAGE) as usize,
            users: region.users.get((offset / PAGE) as usize)?,
            chunk_writers: region.chunks.get(chunk as usize)?,
        })
    }

    /// Gives whole pages of RAM back to the host (madvise(2), MADV_DONTNEED): they read as zeroes from then
    /// on. Code that was decoded from them is forgotten.
    pub fn release(&self, physical: u64, length: u64) -> bool {
        let Some(region) = self.region(physical).filter(|region| region.writable) else {
            return false;
        };
        let offset = physical - region.start;
        if !(offset | length).is_multiple_of(PAGE) || length == 0 || length > region.length - offset
        {
            return false;
        }
        // SAFETY: `offset .. offset + length` lies in the private anonymous mapping of `region.length` bytes at
        // `region.host`, which `_memory` keeps alive; its bytes may change at any time for all who reach
        // them, since other vCPUs write them.
        let status = unsafe {
            let start = region.host.add(offset as usize);
            libc::madvise(start.cast(), length as usize, libc::MADV_DONTNEED)
        };
        if status == 0 {
            region.log.mark_dirty(offset as usize, length as usize);
        }
        status == 0
    }

    /// The pages from a guest-physical address on, for `length` bytes (both multiples of the page size), when all
    /// of them are in one region.
    pub fn span(&self, physical: u64, length: u64) -> Option<Page<'_>> {
        let region = self.region(physical)?;
        let offset = physical - region.start;
        (region.length - offset >= length).then(|| self.page(physical))?
    }

    /// The logs of the writable regions, in address order, with their first addresses.
    pub fn logs(&self) -> impl Iterator<Item = (u64, &PageLog)> {
        self.regions
            .iter()
            .filter(|region| region.writable)
            .map(|region| (region.start, &region.log))
    }
}

fn log_of(memory: &GuestMemory, start: GuestAddress) -> PageLog {
    use vm_memory::bitmap::Bitmap;
    memory
        .find_region(start)
        .map(|region| region.bitmap().slice_at(0).log().clone())
        .unwrap_or_default()
}

impl HostPointer {
    /// The pointer `offset` bytes into the page; `offset` is cut to the page.
    #[inline(always)]
    pub fn at(self, offset: u64) -> HostPointer {
        HostPointer(self.0.wrapping_add((offset & (PAGE - 1)) as usize))
    }

    /// The pointer `bytes` further on in the same access.
    #[inline(always)]
    pub fn at_plus(self, bytes: usize) -> HostPointer {
        HostPointer(self.0.wrapping_add(bytes))
    }

    /// The address itself, for a region that translated code may reach, or a TLB entry.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// The pointer for a linear address, out of a TLB entry that has the address of its page.
    #[inline(always)]
    pub fn within(page: u64, linear: u64) -> HostPointer {
        HostPointer(page.wrapping_add(linear & (PAGE - 1)) as *mut u8)
    }

    /// Loads; the whole access lies within the page.
    #[inline(always)]
    pub fn load<T: Word>(self) -> T {
        let value: u64;
        // SAFETY: a `HostPointer` comes from `Ram::page` (directly or through a TLB entry), callers keep
        // the access within that page, and the mapping lives as long as the `Ram`.
        unsafe {
            match T::BYTES {
                1 => asm!("movzx {v:e}, byte ptr [{p}]", v = out(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags, readonly)),
                2 => asm!("movzx {v:e}, word ptr [{p}]", v = out(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags, readonly)),
                4 => asm!("mov {v:e}, dword ptr [{p}]", v = out(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags, readonly)),
                _ => asm!("mov {v}, qword ptr [{p}]", v = out(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags, readonly)),
            }
        }
        T::low(value)
    }

    /// Stores; the whole access lies within the page.
    #[inline(always)]
    pub fn store<T: Word>(self, value: T) {
        let value = value.u64();
        // SAFETY: as for `load`; pages that are not writable never get a pointer that is stored through.
        unsafe {
            match T::BYTES {
                1 => asm!("mov byte ptr [{p}], {v}", v = in(reg_byte) value as u8,
                    p = in(reg) self.0, options(nostack, preserves_flags)),
                2 => asm!("mov word ptr [{p}], {v:x}", v = in(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags)),
                4 => asm!("mov dword ptr [{p}], {v:e}", v = in(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags)),
                _ => asm!("mov qword ptr [{p}], {v}", v = in(reg) value, p = in(reg) self.0,
                    options(nostack, preserves_flags)),
            }
        }
    }

    /// LOCK CMPXCHG: the value found. Any alignment within the page.
    #[inline(always)]
    pub fn compare_exchange<T: Word>(self, old: T, new: T) -> T {
        let mut found = old.u64();
        let new = new.u64();
        // SAFETY: as for `store`.
        unsafe {
            match T::BYTES {
                1 => asm!("lock cmpxchg byte ptr [{p}], {n}", n = in(reg_byte) new as u8,
                    p = in(reg) self.0, inout("rax") found, options(nostack)),
                2 => asm!("lock cmpxchg word ptr [{p}], {n:x}", n = in(reg) new,
                    p = in(reg) self.0, inout("rax") found, options(nostack)),
                4 => asm!("lock cmpxchg dword ptr [{p}], {n:e}", n = in(reg) new,
                    p = in(reg) self.0, inout("rax") found, options(nostack)),
                _ => asm!("lock cmpxchg qword ptr [{p}], {n}", n = in(reg) new,
                    p = in(reg) self.0, inout("rax") found, options(nostack)),
            }
        }
        T::low(found)
    }

    /// LOCK CMPXCHG16B: the value found. The pointer is a multiple of 16.
    pub fn compare_exchange_16(self, old: u128, new: u128) -> u128 {
        let (mut low, mut high) = (old as u64, (old >> 64) as u64);
        // SAFETY: as for `store`; RBX, which the compiler keeps for itself, is put back.
        unsafe {
            asm!(
                "xchg rbx, rsi",
                "lock cmpxchg16b xmmword ptr [rdi]",
                "mov rbx, rsi",
                inout("rsi") new as u64 => _,
                in("rdi") self.0,
                in("rcx") (new >> 64) as u64,
                inout("rax") low,
                inout("rdx") high,
                options(nostack)
            );
        }
        u128::from(high) << 64 | u128::from(low)
    }

    /// Copies bytes out; all of them lie within the page.
    pub fn copy_to(self, bytes: &mut [u8]) {
        // SAFETY: as for `load`; `bytes` is host memory of our own, which guest RAM does not overlap.
        unsafe { copy_bytes(bytes.as_mut_ptr(), self.0, bytes.len()) }
    }

    /// Copies bytes in; all of them lie within the page.
    pub fn copy_from(self, bytes: &[u8]) {
        // SAFETY: as for `store`.
        unsafe { copy_bytes(self.0, bytes.as_ptr(), bytes.len()) }
    }

    /// Copies `length` bytes from `source` upwards, byte by byte in effect (REP MOVSB forward); both
    /// ranges lie within their pages.
    pub fn copy_up(self, source: HostPointer, length: usize) {
        // SAFETY: as for `load` and `store`.
        unsafe { copy_bytes(self.0, source.0, length) }
    }

    /// Stores the low `size` bytes (1, 2, 4 or 8) of `value`, `count` times upwards (REP STOS); all within
    /// the page.
    pub fn fill_up(self, value: u64, count: usize, size: u64) {
        let to = self.0;
        // SAFETY: as for `store`; DF is clear in Rust code.
        unsafe {
            match size {
                1 => asm!("rep stosb", inout("rdi") to => _, inout("rcx") count => _,
                    in("rax") value, options(nostack, preserves_flags)),
                2 => asm!("rep stosw", inout("rdi") to => _, inout("rcx") count => _,
                    in("rax") value, options(nostack, preserves_flags)),
                4 => asm!("rep stosd", inout("rdi") to => _, inout("rcx") count => _,
                    in("rax") value, options(nostack, preserves_flags)),
                _ => asm!("rep stosq", inout("rdi") to => _, inout("rcx") count => _,
                    in("rax") value, options(nostack, preserves_flags)),
            }
        }
    }

    /// Whether REP MOVSB from `source` would read what it wrote.
    pub fn overlaps_above(self, source: HostPointer, length: usize) -> bool {
        (self.0 as usize).wrapping_sub(source.0 as usize) < length
    }
}

/// REP MOVSB: opaque to the compiler, like every other access to guest RAM.
///
/// # Safety
/// Both ranges are mapped for `length` bytes.
unsafe fn copy_bytes(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: promised by the caller; DF is clear in Rust code.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") length => _,
            options(nostack, preserves_flags));
    }
}
