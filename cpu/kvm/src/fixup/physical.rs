//! Guest-physical memory as the interpreter reaches it: RAM, ROM, or the machine.

#![expect(unsafe_code, reason = "CMPXCHG16B on guest memory")]

use crate::partition::Shared;
use kezhan_device::PageLog;
use kezhan_x86::paging::PhysicalMemory;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};
use vm_memory::bitmap::{Bitmap, WithBitmapSlice};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileMemory, VolatileSlice};

type Slice<'a> = VolatileSlice<'a, <PageLog as WithBitmapSlice<'a>>::S>;

/// What lies at an address.
pub(super) enum Place<'a> {
    /// RAM.
    Ram(Slice<'a>),
    /// A device's registers, or nothing.
    Machine,
}

/// RAM and ROM of one machine.
#[derive(Debug)]
pub(super) struct Physical(pub Arc<Shared>);

impl Physical {
    /// What lies at `length` bytes that do not cross a page, for writing: ROM is the machine's then.
    pub(super) fn at(&self, address: u64, length: usize) -> Place<'_> {
        match self.0.slots.ram().get_slice(GuestAddress(address), length) {
            Ok(slice) => Place::Ram(slice),
            Err(_) => Place::Machine,
        }
    }

    /// Reads RAM or ROM; false when there is neither.
    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        if let Place::Ram(slice) = self.at(address, bytes.len()) {
            return slice.read_slice(bytes, 0).is_ok();
        }
        self.0
            .slots
            .rom_at(address)
            .is_some_and(|(rom, at)| rom.read_slice(bytes, GuestAddress(at)).is_ok())
    }
}

impl PhysicalMemory for Physical {
    fn read_entry(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    fn read_short_entry(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    fn set_entry_bits(&self, address: u64, old: u64, bits: u64) -> bool {
        match self.at(address, 8) {
            Place::Ram(slice) => compare_exchange(&slice, old, old | bits, 8) == Some(old),
            // Page tables in ROM cannot take the bits; the walk is to go on.
            Place::Machine => true,
        }
    }

    fn set_short_entry_bits(&self, address: u64, old: u32, bits: u32) -> bool {
        let (old, new) = (u64::from(old), u64::from(old | bits));
        match self.at(address, 4) {
            Place::Ram(slice) => compare_exchange(&slice, old, new, 4) == Some(old),
            Place::Machine => true,
        }
    }
}

/// Atomically puts `new` in the place of `old`; the value found. `None` when the slice is not aligned.
pub(super) fn compare_exchange(slice: &Slice<'_>, old: u64, new: u64, bytes: u64) -> Option<u64> {
    macro_rules! exchange {
        ($atomic:ty, $word:ty) => {{
            let place = slice.get_atomic_ref::<$atomic>(0).ok()?;
            match place.compare_exchange(old as $word, new as $word, SeqCst, SeqCst) {
                Ok(found) => {
                    slice.bitmap().mark_dirty(0, size_of::<$word>());
                    u64::from(found)
                }
                Err(found) => u64::from(found),
            }
        }};
    }
    Some(match bytes {
        1 => exchange!(AtomicU8, u8),
        2 => exchange!(AtomicU16, u16),
        4 => exchange!(AtomicU32, u32),
        8 => exchange!(AtomicU64, u64),
        _ => return None,
    })
}

/// As [`compare_exchange`] for 16 bytes. `None` when the host has no CMPXCHG16B.
pub(super) fn compare_exchange_16(slice: &Slice<'_>, old: u128, new: u128) -> Option<u128> {
    let guard = slice.ptr_guard_mut();
    let place = guard.as_ptr().cast::<u128>();
    if slice.len() < 16 || !place.is_aligned() || !is_x86_feature_detected!("cmpxchg16b") {
        return None;
    }
    // SAFETY: the slice is 16 aligned bytes of mapped guest memory, which is only ever reached by volatile
    // and atomic accesses, and the processor has the instruction.
    let found = unsafe { exchange_16(place, old, new) };
    if found == old {
        slice.bitmap().mark_dirty(0, 16);
    }
    Some(found)
}

/// # Safety
/// `place` is valid for writes, aligned to 16 bytes, and reached by nobody but with volatile or atomic
/// accesses; the processor has CMPXCHG16B.
unsafe fn exchange_16(place: *mut u128, old: u128, new: u128) -> u128 {
    let (mut low, mut high) = (old as u64, (old >> 64) as u64);
    // SAFETY: the instruction touches the 16 bytes that the caller vouches for and the registers named;
    // RBX, which the compiler keeps to itself, has its value back at the end.
    unsafe {
        std::arch::asm!(
            "xchg rbx, rsi",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            inout("rsi") new as u64 => _,
            in("rdi") place,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    u128::from(high) << 64 | u128::from(low)
}
