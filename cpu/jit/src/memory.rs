//! Executable memory that is never writable where it is executable.
//!
//! One anonymous file is mapped twice: readable and writable at one address, readable and executable at
//! another. Code is appended through the first and run through the second.
//!
//! ```text
//!                 ┌── RW view ◄── append(code)
//!   memfd pages ──┤
//!                 └── RX view ──► address(offset), called
//! ```
//!
//! The pages are shared with forked children, which must not append: a child runs another program, or only
//! what was there before.
//!
//! Rejected: flipping one mapping with `mprotect` (7 µs for every thunk, and other threads that run in
//! it would fault meanwhile).
#![expect(unsafe_code, reason = "maps memory and writes through the mapping")]

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::process::{Resource, getrlimit};
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
    writable: NonNull<u8>,
    executable: NonNull<u8>,
    size: usize,
    used: usize,
}

// SAFETY: the two mappings belong to this value alone; nothing in it is tied to a thread.
unsafe impl Send for ExecutableMemory {}
// SAFETY: shared references only read addresses; writing needs `&mut`.
unsafe impl Sync for ExecutableMemory {}

impl ExecutableMemory {
    /// Reserves `size` bytes; pages are taken from the host as code is appended.
    ///
    /// # Errors
    /// The host call that was refused.
    pub fn new(size: usize) -> Result<ExecutableMemory, ExecutableMemoryError> {
        let failed = |step| move |source| ExecutableMemoryError { size, step, source };
        if !is_allowed(size, getrlimit(Resource::Fsize).current) {
            return Err(failed("its file under RLIMIT_FSIZE (ulimit -f)")(Errno::FBIG));
        }
        // Kernels before 6.3 know no MFD_EXEC, newer ones want it said.
        let file = memfd_create("kezhan-code", MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
            .or_else(|_| memfd_create("kezhan-code", MemfdFlags::CLOEXEC))
            .map_err(failed("memfd_create"))?;
        ftruncate(&file, size as u64).map_err(failed("ftruncate"))?;
        let map = |protection| {
            // SAFETY: a new shared mapping at an address of the kernel's choice touches nothing else.
            unsafe { mmap(std::ptr::null_mut(), size, protection, MapFlags::SHARED, &file, 0) }
                .and_then(|address| NonNull::new(address.cast()).ok_or(Errno::NOMEM))
        };
        let writable =
            map(ProtFlags::READ | ProtFlags::WRITE).map_err(failed("mmap for writing"))?;
        match map(ProtFlags::READ | ProtFlags::EXEC) {
            Ok(executable) => Ok(ExecutableMemory { writable, executable, size, used: 0 }),
            Err(source) => {
                // SAFETY: the mapping was made above and nobody else knows it.
                let _ = unsafe { munmap(writable.as_ptr().cast(), size) };
                Err(ExecutableMemoryError { size, step: "mmap for execution", source })
            }
        }
    }

    /// Appends `code`; its offset, or `None` when it does not fit.
    pub fn append(&mut self, code: &[u8]) -> Option<usize> {
        let start = self.used.next_multiple_of(ALIGNMENT);
        let end = start.checked_add(code.len()).filter(|end| *end <= self.size)?;
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
        let Some(end) = offset.checked_add(code.len()).filter(|end| *end <= self.size) else {
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

/// Whether a file may have so many bytes. Asking for more would end the process by SIGXFSZ.
fn is_allowed(size: usize, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| size as u64 <= limit)
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

impl Drop for ExecutableMemory {
    fn drop(&mut self) {
        for view in [self.writable, self.executable] {
            // SAFETY: both mappings were made in `new` with this size and end with this value.
            let _ = unsafe { munmap(view.as_ptr().cast(), self.size) };
        }
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
    fn a_limit_of_file_sizes_is_heeded() {
        assert!(is_allowed(4096, None));
        assert!(is_allowed(4096, Some(4096)));
        assert!(!is_allowed(4096, Some(4095)));
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
