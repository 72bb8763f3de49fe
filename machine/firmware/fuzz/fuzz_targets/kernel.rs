//! Any bytes as a kernel: an entry or an error, never a panic.
//!
//!     cargo +nightly fuzz run kernel -- -max_len=16384 -max_total_time=60

#![no_main]

use kezhan_device::GuestMemory;
use kezhan_firmware::{Guest, MemoryEntry, MemoryKind, load};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vm_memory::GuestAddress;

const SIZE: u64 = 4 << 20;

static MEMORY: LazyLock<GuestMemory> = LazyLock::new(|| {
    GuestMemory::from_ranges(&[(GuestAddress(0), SIZE as usize)]).expect("4 MiB of memory")
});

const MAP: [MemoryEntry; 3] = [
    MemoryEntry { address: 0, length: 0x9_fc00, kind: MemoryKind::Ram },
    MemoryEntry { address: 0x9_fc00, length: 0x6_0400, kind: MemoryKind::Reserved },
    MemoryEntry { address: 0x10_0000, length: SIZE - 0x10_0000, kind: MemoryKind::Ram },
];

fuzz_target!(|data: &[u8]| {
    let kernel = data.to_vec();
    let initrd = vec![0x5a; 100];
    let guest = Guest {
        kernel: &kernel,
        initrd: Some(&initrd),
        cmdline: "fuzz",
        rsdp: 0xe_0000,
        memory_map: &MAP,
    };
    let _ = load(&MEMORY, &guest);
});
