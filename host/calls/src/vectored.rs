//! Files and guest memory, without a buffer in between.

#![expect(unsafe_code, reason = "the kernel is given pointers to guest memory")]

use kezhan_ports::{LentMemory, LentPart};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use vm_memory::{Bytes, VolatileSlice};

/// Most parts that the kernel takes in one call (`UIO_MAXIOV`).
const PARTS: usize = 1024;

/// A part as the kernel takes it.
fn vector(part: &LentPart) -> libc::iovec {
    libc::iovec { iov_base: part.start.cast(), iov_len: part.length }
}

fn vectors(memory: &LentMemory<'_>) -> Vec<libc::iovec> {
    memory.parts().iter().take(PARTS).map(vector).collect()
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_large| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Reads from `offset` into guest memory what the host's page cache has (preadv2(2), `RWF_NOWAIT`); how many bytes
/// that was.
///
/// # Errors
/// The kernel's: `EAGAIN` when the first byte is not there, `EOPNOTSUPP` when the file system cannot tell.
pub fn read_now(file: &File, offset: u64, memory: &LentMemory<'_>) -> io::Result<usize> {
    let (vectors, offset) = (vectors(memory), position(offset)?);
    // SAFETY: Each vector is a part of `memory`, which is mapped while it lives, and to which nobody has references:
    // it is guest memory, which changes at any time. At most PARTS vectors fit a c_int.
    let read = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            vectors.as_ptr(),
            vectors.len() as libc::c_int,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    count(read)
}

/// Writes all of guest memory to `offset`.
///
/// # Errors
/// The kernel's; some of it may be written.
pub fn write_all(file: &File, offset: u64, memory: &LentMemory<'_>) -> io::Result<()> {
    let mut done = 0;
    while done < memory.len() {
        let (vectors, at) =
            (vectors(&memory.part(done, memory.len() - done)), position(offset + done as u64)?);
        // SAFETY: As in `read_now`; the kernel only reads.
        let written = unsafe {
            libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, at)
        };
        match count(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A part as memory that anybody may change.
fn slice<'a>(part: &LentPart, _memory: &'a LentMemory<'_>) -> VolatileSlice<'a> {
    // SAFETY: The part is mapped while `memory` lives, which the slice does not outlive; volatile accesses are all
    // that a `VolatileSlice` makes.
    unsafe { VolatileSlice::new(part.start, part.length) }
}

/// Fills guest memory with zeroes.
pub fn fill_with_zeroes(memory: &LentMemory<'_>) {
    const ZEROES: [u8; 4096] = [0; 4096];
    for part in memory.parts() {
        let to = slice(part, memory);
        let mut done = 0;
        while done < part.length {
            let now = ZEROES.len().min(part.length - done);
            if to.write_slice(&ZEROES[..now], done).is_err() {
                break;
            }
            done += now;
        }
    }
}

/// A copy of guest memory.
pub fn copy(memory: &LentMemory<'_>) -> Vec<u8> {
    let mut bytes = vec![0; memory.len()];
    let mut rest = bytes.as_mut_slice();
    for part in memory.parts() {
        let (now, later) = rest.split_at_mut(part.length);
        slice(part, memory).copy_to(now);
        rest = later;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

    fn guest() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    fn lend<'a>(memory: &'a GuestMemoryMmap, parts: &[(u64, usize)]) -> LentMemory<'a> {
        let mut lent = LentMemory::default();
        for (address, length) in parts {
            lent.push(&memory.get_slice(GuestAddress(*address), *length).unwrap());
        }
        lent
    }

    #[test]
    fn what_is_written_from_parts_is_read_into_other_parts() {
        let (memory, mut file) = (guest(), tempfile::tempfile().unwrap());
        file.write_all(b"before").unwrap();
        memory.write_slice(b"guest memory", GuestAddress(100)).unwrap();
        let from = lend(&memory, &[(100, 5), (105, 7)]);
        assert_eq!(copy(&from), b"guest memory");
        write_all(&file, 6, &from).unwrap();
        let to = lend(&memory, &[(0x3000, 6), (0x1000, 12)]);
        assert_eq!(read_now(&file, 0, &to).unwrap(), 18);
        assert_eq!(copy(&to), b"beforeguest memory");
        assert_eq!(read_now(&file, 18, &to).unwrap(), 0, "the file has ended");
    }

    #[test]
    fn more_parts_than_the_kernel_takes_are_written_too() {
        let (memory, file) = (guest(), tempfile::tempfile().unwrap());
        memory.write_slice(&[7; 3000], GuestAddress(0)).unwrap();
        let parts: Vec<(u64, usize)> = (0..3000).map(|at| (at, 1)).collect();
        write_all(&file, 0, &lend(&memory, &parts)).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3000);
    }

    #[test]
    fn zeroes_fill_all_parts_and_nothing_else() {
        let memory = guest();
        memory.write_slice(&[7; 20_000], GuestAddress(0)).unwrap();
        fill_with_zeroes(&lend(&memory, &[(1, 3), (100, 10_000)]));
        let bytes = copy(&lend(&memory, &[(0, 5), (99, 10_002)]));
        assert_eq!(bytes[..6], [7, 0, 0, 0, 7, 7]);
        assert_eq!(bytes[6..10_006].iter().filter(|byte| **byte != 0).count(), 0);
        assert_eq!(bytes[10_006], 7);
    }
}
