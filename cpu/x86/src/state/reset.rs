//! The state after power-on (Intel SDM vol. 3A table 10-1).

use super::{CS, CpuState, Fpu, Msrs, RDX, cr0};
use crate::flags::{self, LazyFlags};
use kezhan_hypervisor::{DescriptorTable, Segment};
use kezhan_jit::Frame;

/// EDX after reset: the processor signature, as CPUID leaf 1 gives it.
const SIGNATURE: u64 = 0x0000_0600;

fn real_mode_segment(kind: u8) -> Segment {
    Segment { limit: 0xffff, kind, s: true, present: true, ..Segment::default() }
}

impl Default for CpuState {
    fn default() -> CpuState {
        let mut gpr = [0; 32];
        gpr[RDX] = SIGNATURE;
        let mut segments = [real_mode_segment(3); 6];
        segments[CS] = Segment { selector: 0xf000, base: 0xffff_0000, ..real_mode_segment(0xb) };
        let table = DescriptorTable { base: 0, limit: 0xffff };
        let mut state = CpuState {
            gpr,
            flags: LazyFlags::from_bits(0),
            rflags: flags::FIXED,
            rip: 0xfff0,
            seg_base: [0; 8],
            segments,
            ldtr: real_mode_segment(2),
            tr: Segment { s: false, ..real_mode_segment(0xb) },
            gdtr: table,
            idtr: table,
            cr0: cr0::CD | cr0::NW | cr0::ET,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
            xcr0: 1,
            pkru: 0,
            dr: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            pdptr: [0; 4],
            fpu: Fpu::default(),
            msr: Msrs::default(),
            cpl: 0,
            code_bits: Default::default(),
            rip_mask: 0xffff,
            exception: Default::default(),
            interrupt_shadow: false,
            trap_blocked: false,
            nmi_masked: false,
            halted: false,
        };
        state.ldtr.s = false;
        state.derive();
        state
    }
}

impl Default for Fpu {
    /// As after FNINIT, with MXCSR 0x1f80.
    fn default() -> Fpu {
        Fpu { xmm: [0; 16], ymm_high: [0; 16], frame: Frame::default() }
    }
}
