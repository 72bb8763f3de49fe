//! Executable memory that is never writable where it is executable.
//!
//! Shared anonymous memory is mapped twice: readable and writable at one address, readable and executable at
//! another. Code is appended through the first and run through the second.
//!
//! ```text
//!                  ┌── RW view ◄── append(code)
//!   shared pages ──┤
//!                  └── RX view ──► address(offset), called
//! ```
//!
//! The second view is the first one's mapping "moved" with an old size of 0, which leaves it where it was
//! (mremap(2)).
//!
//! The pages are shared with forked children, which must not append: a child runs another program, or only
//! what was there before.
//!
//! Rejected: flipping one mapping with `mprotect` (7 µs for every thunk, and other threads that run in
//! it would fault meanwhile); a memfd (it counts as a file for `ulimit -f`, and `perf` looks for names of what runs
//! there in the file, not in its map of the process); large pages of the host for code that is complete (2 to 4 % in
//! programs that are started often, for half a millisecond a page, or five on a busy host).
#![expect(unsafe_code, reason = "maps memory and writes through the mapping")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, fence};

use rustix::io::Errno;
use rustix::mm::{
    MapFlags, MprotectFlags, MremapFlags, ProtFlags, mmap_anonymous, mprotect, mremap, munmap,
};
use thiserror::Error;

/// The host refused executable memory.
#[derive(Debug, Error)]
#[error(
    "executable memory of {size} bytes: {step} failed: {source}; allow anonymous executable mappings to \
     this process, or choose the KVM engine"
)]
pub struct ExecutableMemoryError {
    size: usize,
    step: &'static str,
    source: Errno,
}

impl ExecutableMemoryError {
    pub(crate) fn area(size: usize, source: Errno) -> ExecutableMemoryError {
        ExecutableMemoryError { size, step: "mmap of the vCPU area", source }
    }
}

/// Alignment of every piece of code, a cache line.
const ALIGNMENT: usize = 64;

/// A region that code can be appended to and run from.
#[derive(Debug)]
pub struct ExecutableMemory {
    writable: View,
    executable: View,
    used: usize,
}

/// A mapping, which ends with this.
#[derive(Debug)]
struct View {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to this value alone; nothing in it is tied to a thread.
unsafe impl Send for View {}
// SAFETY: shared references only read addresses; writing needs `&mut ExecutableMemory`.
unsafe impl Sync for View {}

impl View {
    /// New pages, to read and to write.
    fn new(size: usize) -> Result<View, Errno> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing else.
        let address =
            unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::SHARED) }?;
        let start = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        Ok(View { start, size })
    }

    /// The same pages once more, at another address.
    fn again(&self) -> Result<View, Errno> {
        // SAFETY: an old size of 0 leaves this mapping as it is, and the new one goes where the kernel chooses.
        let address =
            unsafe { mremap(self.start.as_ptr().cast(), 0, self.size, MremapFlags::MAYMOVE) }?;
        let start = NonNull::new(address.cast()).ok_or(Errno::NOMEM)?;
        Ok(View { start, size: self.size })
    }

    /// To read and to execute from now on.
    fn make_executable(&self) -> Result<(), Errno> {
        let protection = MprotectFlags::READ | MprotectFlags::EXEC;
        // SAFETY: the mapping is this value's, and nobody writes through it.
        unsafe { mprotect(self.start.as_ptr().cast(), self.size, protection) }
    }

    fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size and ends with this value.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
    }
}

impl ExecutableMemory {
    /// Reserves `size` bytes; pages are taken from the host as code is appended.
    ///
    /// # Errors
    /// The host call that was refused.
    pub fn new(size: usize) -> Result<ExecutableMemory, ExecutableMemoryError> {
        let failed = |step| move |source| ExecutableMemoryError { size, step, source };
        let writable = View::new(size).map_err(failed("mmap for writing"))?;
        let executable = writable.again().map_err(failed("mremap"))?;
        executable.make_executable().map_err(failed("mprotect for execution"))?;
        Ok(ExecutableMemory { writable, executable, used: 0 })
    }

    /// Appends `code`; its offset, or `None` when it does not fit.
    pub fn append(&mut self, code: &[u8]) -> Option<usize> {
        let start = self.used.next_multiple_of(ALIGNMENT);
        let end = start.checked_add(code.len()).filter(|end| *end <= self.writable.size)?;
        // SAFETY: `start..end` lies in the mapping (checked above), which `&mut self` owns, and `code`
        // cannot overlap it since no reference to it is ever given out.
        unsafe {
            std::ptr::copy_nonoverlapping(
                code.as_ptr(),
                self.writable.as_ptr().add(start),
                code.len(),
            );
        }
        self.used = end;
        synchronise();
        Some(start)
    }

    /// Writes `code` at `offset`, whatever was there. False when it does not fit.
    ///
    /// The caller sees to it that nobody runs what changes, and calls [`synchronise`] before it is run.
    pub(crate) fn write(&mut self, offset: usize, code: &[u8]) -> bool {
        let Some(end) = offset.checked_add(code.len()).filter(|end| *end <= self.writable.size)
        else {
            return false;
        };
        // SAFETY: `offset..end` lies in the mapping (checked above), which `&mut self` owns, and `code`
        // cannot overlap it since no reference to it is ever given out.
        unsafe {
            std::ptr::copy_nonoverlapping(
                code.as_ptr(),
                self.writable.as_ptr().add(offset),
                code.len(),
            );
        }
        self.used = self.used.max(end);
        true
    }

    /// Where the first byte can be called.
    pub(crate) fn base(&self) -> u64 {
        self.executable.as_ptr() as u64
    }

    /// Forgets all code: offsets given out before must not be run any more.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// Where the code at `offset` can be called, if that lies in what was appended.
    #[must_use]
    pub fn address(&self, offset: usize) -> Option<*const u8> {
        // SAFETY: `offset` is below `used`, thus inside the mapping.
        (offset < self.used).then(|| unsafe { self.executable.as_ptr().add(offset) }.cast_const())
    }
}

/// Makes this processor forget instructions that it fetched before they were written through the other
/// view: a serialising instruction (Intel SDM vol. 3A §9.1.3 and §12.6). IRET to the next instruction: CPUID
/// would be an exit of several microseconds where the host is itself a guest.
pub(crate) fn synchronise() {
    fence(Ordering::SeqCst);
    // SAFETY: returns to the next instruction with the stack pointer and flags of now.
    unsafe {
        std::arch::asm!(
            "mov {t:e}, ss",
            "push {t}",
            "push rsp",
            "add qword ptr [rsp], 8",
            "pushfq",
            "mov {t:e}, cs",
            "push {t}",
            "lea {t}, [rip + 2f]",
            "push {t}",
            "iretq",
            "2:",
            t = out(reg) _,
        );
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// The permissions of the mapping that holds `address`, from `/proc/self/maps`.
    fn permissions(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let bound = |text| usize::from_str_radix(text, 16).unwrap();
            (bound(start)..bound(end)).contains(&address)
        });
        line.unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn no_view_is_both_writable_and_executable() {
        let memory = ExecutableMemory::new(1 << 16).unwrap();
        assert_eq!(permissions(memory.writable.as_ptr() as usize), "rw-s");
        assert_eq!(permissions(memory.executable.as_ptr() as usize), "r-xs");
    }

    #[test]
    fn appended_code_runs() {
        let mut memory = ExecutableMemory::new(1 << 16).unwrap();
        memory.append(&[0xC3]).unwrap();
        let offset = memory.append(&[0xB8, 42, 0, 0, 0, 0xC3]).unwrap();
        assert_eq!(offset, ALIGNMENT);
        let address = memory.address(offset).unwrap();
        // SAFETY: the code is `mov eax, 42; ret`.
        let function: extern "sysv64" fn() -> u32 = unsafe { std::mem::transmute(address) };
        assert_eq!(function(), 42);
    }

    #[test]
    fn full_memory_takes_no_more_until_it_is_cleared() {
        let mut memory = ExecutableMemory::new(4096).unwrap();
        assert!(memory.append(&[0; 4000]).is_some());
        assert!(memory.append(&[0; 4000]).is_none());
        assert!(memory.address(4000).is_none());
        memory.clear();
        assert!(memory.append(&[0; 4000]).is_some());
    }
}
