//! The run-time state of a CPU: what handlers work on.
//!
//! Registers are kept as handlers want them; [`CpuState::from_vcpu`] and [`CpuState::to_vcpu`] (in
//! `convert.rs`) translate to and from the contract's [`kezhan_hypervisor::VcpuState`].
//! Derived fields (`cpl`, `code_bits`, `rip_mask`, `seg_base`) are kept in step by
//! [`CpuState::derive`], which every change of a segment or control register calls.

pub mod convert;
pub use convert::MXCSR_BITS;
mod reset;

use crate::fault::Exception;
use crate::flags::{self, LazyFlags};
use kezhan_hypervisor::{DescriptorTable, Segment};
use kezhan_jit::Frame;

/// Register number that always reads 0.
pub const ZERO: usize = 16;
/// Register number that holds the linear RIP of the running block's start.
pub const BLOCK: usize = 17;

/// Number of ES in [`CpuState::segments`].
pub const ES: usize = 0;
/// Number of CS.
pub const CS: usize = 1;
/// Number of SS.
pub const SS: usize = 2;
/// Number of DS.
pub const DS: usize = 3;
/// Number of FS.
pub const FS: usize = 4;
/// Number of GS.
pub const GS: usize = 5;

/// Number of RAX in [`CpuState::gpr`].
pub const RAX: usize = 0;
/// Number of RCX.
pub const RCX: usize = 1;
/// Number of RDX.
pub const RDX: usize = 2;
/// Number of RBX.
pub const RBX: usize = 3;
/// Number of RSP.
pub const RSP: usize = 4;
/// Number of RBP.
pub const RBP: usize = 5;
/// Number of RSI.
pub const RSI: usize = 6;
/// Number of RDI.
pub const RDI: usize = 7;
/// Number of R11.
pub const R11: usize = 11;

/// Bits of CR0 (Intel SDM vol. 3A §2.5).
pub mod cr0 {
    /// Protection enable.
    pub const PE: u64 = 1 << 0;
    /// Monitor coprocessor.
    pub const MP: u64 = 1 << 1;
    /// Emulation: x87 instructions raise #NM.
    pub const EM: u64 = 1 << 2;
    /// Task switched.
    pub const TS: u64 = 1 << 3;
    /// Extension type, always one.
    pub const ET: u64 = 1 << 4;
    /// Numeric error: x87 errors raise #MF.
    pub const NE: u64 = 1 << 5;
    /// Write protect.
    pub const WP: u64 = 1 << 16;
    /// Alignment mask.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Cache disable.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
}

/// Bits of CR4 (Intel SDM vol. 3A §2.5).
pub mod cr4 {
    /// Virtual-8086 mode extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// RDTSC only at CPL 0.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages in 32-bit paging.
    pub const PSE: u64 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// Machine check.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC at every CPL.
    pub const PCE: u64 = 1 << 8;
    /// FXSAVE and SSE.
    pub const OSFXSR: u64 = 1 << 9;
    /// Unmasked SIMD exceptions raise #XM.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// User-mode instruction prevention.
    pub const UMIP: u64 = 1 << 11;
    /// RDFSBASE and its kin.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE.
    pub const OSXSAVE: u64 = 1 << 18;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u64 = 1 << 20;
    /// Supervisor-mode access prevention.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys for user pages.
    pub const PKE: u64 = 1 << 22;
    /// Protection keys for supervisor pages.
    pub const PKS: u64 = 1 << 24;
}

/// Bits of IA32_EFER (Intel SDM vol. 3A §2.2.1).
pub mod efer {
    /// SYSCALL.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enable.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// Execute disable.
    pub const NXE: u64 = 1 << 11;
}

/// Width of the code segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CodeBits {
    /// Real mode, virtual-8086 mode, 16-bit segments.
    #[default]
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl CodeBits {
    /// 16, 32 or 64.
    pub fn number(self) -> u32 {
        match self {
            CodeBits::Bits16 => 16,
            CodeBits::Bits32 => 32,
            CodeBits::Bits64 => 64,
        }
    }
}

/// Everything that the guest can see of a CPU but its local APIC, which belongs to the engine.
#[derive(Clone, Debug)]
pub struct CpuState {
    /// General registers in the order of their encoding, then [`ZERO`] and [`BLOCK`]; the rest is never
    /// used and makes every 5-bit number valid.
    pub gpr: [u64; 32],
    /// CF, PF, AF, ZF, SF, OF.
    pub flags: LazyFlags,
    /// RFLAGS without the arithmetic flags.
    pub rflags: u64,
    /// Instruction pointer. Valid between blocks; inside a block only handlers that end it set it.
    pub rip: u64,
    /// Segment bases as addressing uses them; number 6 is always 0.
    pub seg_base: [u64; 8],
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [Segment; 6],
    /// LDTR.
    pub ldtr: Segment,
    /// TR.
    pub tr: Segment,
    /// GDTR.
    pub gdtr: DescriptorTable,
    /// IDTR.
    pub idtr: DescriptorTable,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// XCR0.
    pub xcr0: u64,
    /// PKRU: what user pages of each key allow (Intel SDM vol. 3A §4.6.2).
    pub pkru: u32,
    /// DR0 to DR3.
    pub dr: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Page-directory pointers, loaded with CR3 in PAE paging (Intel SDM vol. 3A §4.4.1).
    pub pdptr: [u64; 4],
    /// SSE, x87.
    pub fpu: Fpu,
    /// Model-specific registers that live in the core.
    pub msr: Msrs,
    /// Current privilege level.
    pub cpl: u8,
    /// Width of the running code.
    pub code_bits: CodeBits,
    /// What RIP is cut to: 16, 32 or 64 bits.
    pub rip_mask: u64,
    /// The exception that [`crate::Stop::Exception`] speaks of.
    pub exception: Exception,
    /// No interrupt before the next instruction (after STI, MOV SS, POP SS).
    pub interrupt_shadow: bool,
    /// No single-step trap comes of the present instruction: it loaded SS (Intel SDM vol. 3A §6.8.3), or
    /// entered a handler, or saw to the trap itself.
    pub trap_blocked: bool,
    /// NMIs wait for IRET.
    pub nmi_masked: bool,
    /// After HLT.
    pub halted: bool,
}

/// SSE, x87 and MMX state.
#[derive(Clone, Debug)]
pub struct Fpu {
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// The upper halves of YMM0 to YMM15.
    pub ymm_high: [u128; 16],
    /// Where native instructions run. [`Frame::x87`] is the x87 state and MXCSR for good; the rest is
    /// scratch.
    pub frame: Frame,
}

/// Model-specific registers that the core itself uses or merely keeps.
#[derive(Clone, Debug, Default)]
pub struct Msrs {
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK.
    pub fmask: u64,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u64,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_TSC_AUX.
    pub tsc_aux: u64,
    /// IA32_PKRS: what supervisor pages of each key allow.
    pub pkrs: u64,
    /// All that are only kept, as (index, value).
    pub kept: Vec<(u32, u64)>,
}

impl CpuState {
    /// RFLAGS whole.
    pub fn rflags(&self) -> u64 {
        self.rflags | self.flags.bits() | flags::FIXED
    }

    /// Sets RFLAGS whole. [`CpuState::derive`] is due when VM or AC changes.
    pub fn set_rflags(&mut self, value: u64) {
        self.flags = LazyFlags::from_bits(value);
        self.rflags = value & !flags::ARITHMETIC | flags::FIXED;
    }

    /// Long mode is active (IA-32e mode).
    pub fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// Protected mode, not virtual-8086.
    pub fn protected(&self) -> bool {
        self.cr0 & cr0::PE != 0 && self.rflags & flags::VM == 0
    }

    /// Virtual-8086 mode.
    pub fn virtual_8086(&self) -> bool {
        self.rflags & flags::VM != 0
    }

    /// Width of the stack pointer: 16, 32 or 64 bits, as a mask.
    pub fn stack_mask(&self) -> u64 {
        match self.code_bits {
            CodeBits::Bits64 => u64::MAX,
            _ if self.segments[SS].db => 0xffff_ffff,
            _ => 0xffff,
        }
    }

    /// Brings the derived fields into step with segments, control registers and flags.
    pub fn derive(&mut self) {
        let cs = self.segments[CS];
        self.code_bits = match (self.long_mode() && cs.l, cs.db) {
            (true, _) => CodeBits::Bits64,
            (false, true) => CodeBits::Bits32,
            (false, false) => CodeBits::Bits16,
        };
        self.rip_mask = match self.code_bits {
            CodeBits::Bits64 => u64::MAX,
            CodeBits::Bits32 => 0xffff_ffff,
            CodeBits::Bits16 => 0xffff,
        };
        self.cpl = match (self.cr0 & cr0::PE != 0, self.virtual_8086()) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => self.segments[SS].dpl,
        };
        self.derive_bases();
    }

    /// Brings [`CpuState::seg_base`] into step with the segments.
    pub fn derive_bases(&mut self) {
        for (base, segment) in self.seg_base.iter_mut().zip(&self.segments) {
            *base = segment.base;
        }
        if self.code_bits == CodeBits::Bits64 {
            for flat in [ES, CS, SS, DS] {
                self.seg_base[flat] = 0;
            }
        }
    }
}
