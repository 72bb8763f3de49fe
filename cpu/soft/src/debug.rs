//! Breakpoints on instructions, data and ports (Intel SDM vol. 3B §17.2).
//!
//! With any breakpoint enabled in DR7 the run loop goes one instruction at a time, and this is what it asks.
//!
//! ```text
//!   before the instruction   its address, its port      fault (#DB before it), trap after an I/O instruction
//!   while it runs            each access to memory      noted in [`Watch::hits`]
//!   after it                 what was noted             trap
//! ```
//!
//! A page with a data breakpoint gets no TLB entry, so that each access to it comes by the slow way, where
//! [`Watch::see`] notes it. Accesses of the processor's own (descriptor tables, stack frames of gates) are
//! not seen where they hit the TLB before the breakpoint was set; setting one empties the TLB.

use crate::memory::SoftMemory;
use iced_x86::Code;
use kezhan_x86::block::Block;
use kezhan_x86::fault::{Exception, vector};
use kezhan_x86::state::{RDX, cr4};
use kezhan_x86::{Core, CpuState, Op, Stop, flags};

/// DR7.R/W: what a breakpoint waits for.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;

/// Bytes in each DR7.LEN.
const LENGTHS: [u64; 4] = [1, 2, 8, 4];

/// One of the four breakpoints, when it is enabled.
fn enabled(cpu: &CpuState, n: usize) -> Option<(u64, u64, u64)> {
    let on = cpu.dr7 >> (2 * n) & 3 != 0;
    let wants = cpu.dr7 >> (16 + 4 * n) & 3;
    let length = LENGTHS[(cpu.dr7 >> (18 + 4 * n) & 3) as usize];
    on.then_some((wants, cpu.dr[n] & !(length - 1), length))
}

/// DR6 bits of the instruction breakpoints at a linear address.
pub(crate) fn instruction_hits(cpu: &CpuState, linear: u64) -> u64 {
    (0..4)
        .filter(|&n| enabled(cpu, n).is_some_and(|b| b.0 == EXECUTE) && cpu.dr[n] == linear)
        .fold(0, |hits, n| hits | 1 << n)
}

/// DR6 bits of the port breakpoints that an access of `length` bytes meets; they exist with CR4.DE only.
pub(crate) fn port_hits(cpu: &CpuState, port: u64, length: u64) -> u64 {
    if cpu.cr4 & cr4::DE == 0 {
        return 0;
    }
    let meets = |n: &usize| {
        enabled(cpu, *n).is_some_and(|(wants, start, size)| {
            wants == PORT && port < start + size && start < port + length
        })
    };
    (0..4).filter(meets).fold(0, |hits, n| hits | 1 << n)
}

/// The data breakpoints of a vCPU, as its memory watches for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Start, length, and whether reads count; a length of 0 is none.
    points: [(u64, u64, bool); 4],
    /// DR6 bits of what was met since they were last taken.
    hits: u64,
    /// Hits of an instruction after which traps were held off: MOV SS.
    pub(crate) held: u64,
}

impl Watch {
    /// Follows the debug registers. True when the points have changed: translations must be forgotten.
    pub(crate) fn follow(&mut self, cpu: &CpuState) -> bool {
        let before = self.points;
        for (n, point) in self.points.iter_mut().enumerate() {
            *point = match enabled(cpu, n) {
                Some((wants, start, length)) if wants != EXECUTE && wants != PORT => {
                    (start, length, wants != WRITE)
                }
                _ => (0, 0, false),
            };
        }
        self.hits = 0;
        self.points != before
    }

    /// Whether nothing is watched.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.points == [(0, 0, false); 4]
    }

    /// Notes an access, and tells whether its page is watched.
    #[inline]
    pub(crate) fn see(&mut self, linear: u64, length: u64, write: bool) -> bool {
        if self.is_idle() {
            return false;
        }
        let mut watched = false;
        for (n, &(start, size, reads)) in self.points.iter().enumerate() {
            watched |= size != 0 && start >> 12 == linear >> 12;
            let met = start.wrapping_sub(linear) < length || linear.wrapping_sub(start) < size;
            if size != 0 && met && (write || reads) {
                self.hits |= 1 << n;
            }
        }
        watched
    }

    /// What was met.
    pub(crate) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.hits)
    }
}

/// The ports that an instruction is about to access: the first, and how many.
fn ports(cpu: &CpuState, op: &Op<SoftMemory>) -> Option<(u64, u64)> {
    let immediate = op.imm & 0xff;
    let dx = cpu.gpr[RDX] & 0xffff;
    Some(match Code::try_from(usize::from(op.code)).ok()? {
        Code::In_AL_imm8 | Code::Out_imm8_AL => (immediate, 1),
        Code::In_AX_imm8 | Code::Out_imm8_AX => (immediate, 2),
        Code::In_EAX_imm8 | Code::Out_imm8_EAX => (immediate, 4),
        Code::In_AL_DX | Code::Out_DX_AL | Code::Insb_m8_DX | Code::Outsb_DX_m8 => (dx, 1),
        Code::In_AX_DX | Code::Out_DX_AX | Code::Insw_m16_DX | Code::Outsw_DX_m16 => (dx, 2),
        Code::In_EAX_DX | Code::Out_DX_EAX | Code::Insd_m32_DX | Code::Outsd_DX_m32 => (dx, 4),
        _ => return None,
    })
}

/// What is known before an instruction of what may trap after it.
pub(crate) struct Before {
    stepping: bool,
    /// INT1: its #DB takes up what MOV SS held off.
    int1: bool,
    hits: u64,
}

impl Before {
    /// Sets the watch for the one instruction of `block`.
    pub(crate) fn of(core: &mut Core<'_, SoftMemory>, block: &Block<SoftMemory>) -> Before {
        if core.mem.watch.follow(&core.cpu) {
            core.mem.tlb.flush();
        }
        let op = block.ops.first();
        let ports = op.and_then(|op| ports(&core.cpu, op));
        let by_port = ports.map_or(0, |(port, length)| port_hits(&core.cpu, port, length));
        Before {
            stepping: core.cpu.rflags & flags::TF != 0,
            int1: op.is_some_and(|op| usize::from(op.code) == Code::Int1 as usize),
            hits: by_port | std::mem::take(&mut core.mem.watch.held),
        }
    }

    /// The trap after the instruction, for the breakpoints that it met and for RFLAGS.TF. After a load of SS
    /// it waits for the next instruction (Intel SDM vol. 3A §6.8.3).
    ///
    /// # Errors
    /// [`Stop::Exception`]
    pub(crate) fn trap(self, core: &mut Core<'_, SoftMemory>) -> Result<(), Stop> {
        let hits = self.hits | core.mem.watch.take();
        if core.cpu.trap_blocked && core.cpu.interrupt_shadow {
            core.mem.watch.held = hits;
            return Ok(());
        }
        if self.int1 {
            core.cpu.dr6 |= hits;
            return Ok(());
        }
        let step = u64::from(self.stepping && !core.cpu.trap_blocked) << 14;
        if hits | step == 0 {
            return Ok(());
        }
        let debug = hits | step;
        core.cpu.exception =
            Exception { vector: vector::DB, debug, trap: true, ..Exception::default() };
        Err(Stop::Exception)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breakpoint 1 at `address`, with R/W and LEN as given.
    fn cpu(address: u64, wants: u64, length: u64) -> CpuState {
        let mut cpu = CpuState::default();
        cpu.dr[1] = address;
        cpu.dr7 = 1 << 2 | wants << 20 | length << 22;
        cpu
    }

    fn hits(cpu: &CpuState, access: (u64, u64, bool)) -> u64 {
        let mut watch = Watch::default();
        watch.follow(cpu);
        watch.see(access.0, access.1, access.2);
        watch.take()
    }

    #[test]
    fn a_write_point_meets_writes_to_any_of_its_bytes() {
        let cpu = cpu(0x1006, WRITE, 3);
        for (access, met) in [
            ((0x1004, 1, true), 2),
            ((0x1007, 8, true), 2),
            ((0x1000, 4, true), 0),
            ((0x1000, 5, true), 2),
            ((0x1008, 1, true), 0),
            ((0x1004, 4, false), 0),
        ] {
            assert_eq!(hits(&cpu, access), met, "{access:x?}");
        }
    }

    #[test]
    fn a_read_write_point_meets_both_and_an_instruction_point_neither() {
        assert_eq!(hits(&cpu(0x2000, 3, 2), (0x2007, 1, false)), 2);
        assert_eq!(hits(&cpu(0x2000, EXECUTE, 0), (0x2000, 1, false)), 0);
        assert_eq!(instruction_hits(&cpu(0x2000, EXECUTE, 0), 0x2000), 2);
        assert_eq!(instruction_hits(&cpu(0x2000, WRITE, 0), 0x2000), 0);
    }

    #[test]
    fn a_page_with_a_point_is_watched_and_others_are_not() {
        let mut watch = Watch::default();
        assert!(watch.follow(&cpu(0x3ff8, WRITE, 2)));
        assert!(!watch.follow(&cpu(0x3ff8, WRITE, 2)));
        assert!(watch.see(0x3000, 1, false));
        assert!(!watch.see(0x4000, 1, false));
    }

    #[test]
    fn ports_are_watched_with_debugging_extensions_only() {
        let mut cpu = cpu(0x60, PORT, 1);
        assert_eq!(port_hits(&cpu, 0x61, 1), 0);
        cpu.cr4 |= cr4::DE;
        assert_eq!(port_hits(&cpu, 0x61, 1), 2);
        assert_eq!(port_hits(&cpu, 0x62, 4), 0);
    }
}
