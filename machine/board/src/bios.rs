//! What a BIOS leaves behind.
//!
//! Boot protocols older than PVH promise a machine "as initialised by the BIOS" (Multiboot 0.6.96 §3.2), and
//! so do programs that go back to real mode. No BIOS has run here; this is the little of its work that such
//! code can see.
//!
//! ```text
//!   interrupt vectors   all at an IRET, the timer's at a handler that ends the interrupt
//!   PIC                 vectors 8 and 70h; the timer and the cascade are let through
//!   PIT                 counter 0 ticks 18.2 times a second
//!   ELCR                the SCI and PCI's interrupts by level
//! ```
//! Kernels set all of it anew. The handlers are where the IBM PC/AT's BIOS has them (IBM PC AT Technical
//! Reference, "System BIOS", compatibility entry points).

use kezhan_device::GuestMemory;
use kezhan_hypervisor::CpuIo;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

/// Segment of the BIOS.
const SEGMENT: u16 = 0xf000;
/// The handler of interrupts that nobody serves, and its one instruction: IRET.
const DUMMY: (u16, &[u8]) = (0xff53, &[0xcf]);
/// The timer interrupt's: PUSH AX; MOV AL, 20H; OUT 20H, AL (end of interrupt); POP AX; IRET.
const TIMER: (u16, &[u8]) = (0xfea5, &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]);
/// The timer's vector.
const TIMER_VECTOR: usize = 8;

/// Writes to ports, in order: a port, a byte.
#[rustfmt::skip]
const PORTS: &[(u16, u8)] = &[
    // 8259A data sheet, ICW1 to ICW4, then the mask: all but inputs 0 and 2; all.
    (0x20, 0x11), (0x21, 0x08), (0x21, 0x04), (0x21, 0x01), (0x21, 0xfa),
    (0xa0, 0x11), (0xa1, 0x70), (0xa1, 0x02), (0xa1, 0x01), (0xa1, 0xff),
    // 8254 data sheet, control word: counter 0, both bytes, mode 3; count 65536.
    (0x43, 0x36), (0x40, 0x00), (0x40, 0x00),
    // Edge/level registers: 9, 10, 11 by level.
    (0x4d0, 0x00), (0x4d1, 0x0e),
];

/// Brings memory and chips to this state.
///
/// # Errors
/// When there is no RAM in the first mebibyte.
pub(crate) fn leave_behind(memory: &GuestMemory, io: &impl CpuIo) -> Result<(), GuestMemoryError> {
    let vector = |entry: u16| u32::from(SEGMENT) << 16 | u32::from(entry);
    let mut table = [vector(DUMMY.0); 256];
    table[TIMER_VECTOR] = vector(TIMER.0);
    let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    memory.write_slice(&bytes, GuestAddress(0))?;
    for (entry, code) in [DUMMY, TIMER] {
        let address = (u64::from(SEGMENT) << 4) + u64::from(entry);
        memory.write_slice(code, GuestAddress(address))?;
    }
    for (port, value) in PORTS {
        io.write_port(*port, &[*value]);
    }
    Ok(())
}
