//! Fakes for testing instructions: a flat memory, and a bench that runs a few bytes of code.
//!
//! ```text
//!   bytes ──► Bench::run ──► decode, lower ──► handler ──► Bench::cpu, Bench::mem, Bench::io
//! ```
//!
//! The bench keeps nothing decoded: each step decodes at RIP, so that every instruction is a block of its
//! own, and what a step leaves behind is exactly what an engine sees between two blocks. Everything that
//! an oracle on real silicon cannot show is set up by hand here: holes and read-only ranges (page
//! faults), bytes from which instructions were decoded ([`Stop::CodeWrite`]), a rival CPU that writes
//! just before an atomic access.

mod flat;

pub use flat::{FlatMemory, Flush};

use crate::core::{Core, Machine, Outcome};
use crate::fault::{Stop, vector};
use crate::lower;
use crate::state::{BLOCK, CS, CpuState, cr0, efer};
use kezhan_hypervisor::Segment;
use kezhan_hypervisor::testkit::RecordingIo;

/// Where [`Bench::run`] puts code, as an offset in the code segment.
pub const CODE: u64 = 0x1000;
/// Where the stack pointer starts.
pub const STACK_TOP: u64 = 0x8000;
/// Bytes of a bench's memory: what real mode reaches, the high memory area included.
const MEMORY: usize = 0x11_0000;
/// Steps after which [`Bench::run`] gives up, so that a wrong jump ends a test.
const STEPS: u32 = 10_000;

/// A CPU, its memory and a machine that records.
#[derive(Debug, Default)]
pub struct Bench {
    /// The CPU between two steps.
    pub cpu: CpuState,
    /// Its memory.
    pub mem: FlatMemory,
    /// The machine.
    pub io: RecordingIo,
}

impl Bench {
    /// 64-bit mode at CPL 0, flat segments, a stack below [`STACK_TOP`].
    pub fn bits64() -> Bench {
        let mut bench = Bench::protected(true);
        bench.cpu.efer = efer::LME | efer::LMA;
        bench.cpu.segments[CS].l = true;
        bench.cpu.segments[CS].db = false;
        bench.cpu.derive();
        bench
    }

    /// 32-bit protected mode at CPL 0, flat segments.
    pub fn bits32() -> Bench {
        Bench::protected(true)
    }

    /// 16-bit protected mode at CPL 0: segments of base 0 and 64 KiB.
    pub fn bits16() -> Bench {
        Bench::protected(false)
    }

    /// Real mode with all segments at 0.
    pub fn real_mode() -> Bench {
        let mut bench = Bench { mem: FlatMemory::new(MEMORY), ..Bench::default() };
        bench.cpu.segments[CS].selector = 0;
        bench.cpu.segments[CS].base = 0;
        bench.cpu.gpr[crate::state::RSP] = STACK_TOP;
        bench.cpu.derive();
        bench
    }

    fn protected(wide: bool) -> Bench {
        let mut bench = Bench::real_mode();
        let limit = if wide { 0xffff_ffff } else { 0xffff };
        let flat = |selector, kind| Segment {
            selector,
            limit,
            kind,
            s: true,
            present: true,
            db: wide,
            g: wide,
            ..Segment::default()
        };
        bench.cpu.cr0 |= cr0::PE;
        bench.cpu.segments = [flat(0x10, 3); 6];
        bench.cpu.segments[CS] = flat(8, 0xb);
        bench.cpu.derive();
        bench
    }

    /// Moves to privilege level 3, with the given RFLAGS.IOPL.
    pub fn at_ring_3(mut self, iopl: u64) -> Bench {
        for segment in &mut self.cpu.segments {
            segment.dpl = 3;
            segment.selector |= 3;
        }
        self.cpu.rflags = self.cpu.rflags & !crate::flags::IOPL | iopl << 12;
        self.cpu.derive();
        self
    }

    /// Sets a general register by its number.
    pub fn with(mut self, register: usize, value: u64) -> Bench {
        self.cpu.gpr[register] = value;
        self
    }

    /// Puts `code` at [`CODE`] of the code segment and runs until RIP is behind it (or outside it).
    ///
    /// # Errors
    /// What the first handler that failed gave; RIP is then still at that instruction.
    pub fn run(&mut self, code: &[u8]) -> Outcome {
        let base = self.cpu.seg_base[CS];
        self.mem.put(base + CODE, code);
        self.cpu.rip = CODE;
        let end = CODE + code.len() as u64;
        for _ in 0..STEPS {
            if !(CODE..end).contains(&self.cpu.rip) {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Runs one instruction at RIP.
    ///
    /// # Errors
    /// What the handler gave; RIP is then unchanged.
    pub fn step(&mut self) -> Outcome {
        let Bench { cpu, mem, io } = self;
        let rip = cpu.rip;
        let start = (cpu.seg_base[CS].wrapping_add(rip) as usize).min(mem.bytes.len());
        let bytes = mem.bytes[start..].iter().take(15).copied().collect::<Vec<_>>();
        let instruction = lower::decoder::<FlatMemory>(cpu.code_bits, &bytes, 0).decode();
        let op = lower::lower::<FlatMemory>(&instruction, 0, cpu.code_bits);
        let mut core =
            Core { cpu: std::mem::take(cpu), mem: std::mem::take(mem), io: Machine(&*io) };
        core.cpu.gpr[BLOCK] = rip;
        core.cpu.interrupt_shadow = false;
        let outcome = (op.run)(&mut core, &op);
        let trap = outcome == Err(Stop::Exception) && core.cpu.exception.trap;
        if outcome.is_err() && !trap {
            core.cpu.rip = rip;
        } else if outcome.is_ok() && !lower::ends_block(&instruction) {
            core.advance(&op);
        }
        (*cpu, *mem) = (core.cpu, core.mem);
        outcome
    }

    /// Runs `code`, which must fault, and gives vector and error code.
    ///
    /// # Panics
    /// When it does not fault.
    pub fn fault(&mut self, code: &[u8]) -> (u8, Option<u32>) {
        assert_eq!(self.run(code), Err(Stop::Exception), "{code:02x?} should fault");
        (self.cpu.exception.vector, self.cpu.exception.error)
    }

    /// The address of the page fault that [`Bench::fault`] met.
    pub fn fault_address(&self) -> Option<u64> {
        (self.cpu.exception.vector == vector::PF).then_some(self.cpu.exception.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{RAX, RCX};

    #[test]
    fn code_runs_in_each_mode() {
        for mut bench in [Bench::bits64(), Bench::bits32(), Bench::bits16(), Bench::real_mode()] {
            bench.cpu.gpr[RCX] = 3;
            bench.run(&[0x00, 0xc8]).unwrap();
            assert_eq!(bench.cpu.gpr[RAX] & 0xff, 3);
            assert_eq!(bench.cpu.rip, CODE + 2);
        }
    }

    #[test]
    fn a_hole_a_read_only_range_and_decoded_bytes_stop_a_store() {
        let store = [0x00, 0x08];
        let mut bench = Bench::bits64().with(RAX, 0x2000);
        bench.mem.holes.push(0x2000..0x3000);
        assert_eq!(bench.fault(&store), (vector::PF, Some(2)));
        assert_eq!(bench.fault_address(), Some(0x2000));
        bench.mem.holes.clear();
        bench.mem.read_only.push(0x2000..0x3000);
        assert_eq!(bench.fault(&store), (vector::PF, Some(3)));
        bench.mem.read_only.clear();
        bench.mem.decoded.push(0x2000..0x2001);
        assert_eq!(bench.run(&store), Err(Stop::CodeWrite));
        assert_eq!(bench.cpu.rip, CODE);
    }
}
