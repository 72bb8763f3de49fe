//! The state of a vCPU as whole structs, the same for every engine.
//!
//! Everything that the guest can observe is here; caches (TLBs, decoded code) are not.

use serde::{Deserialize, Serialize};

/// All of a vCPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VcpuState {
    /// General registers, RIP, RFLAGS.
    pub general: GeneralRegisters,
    /// Segments, tables, control registers, EFER.
    pub system: SystemRegisters,
    /// Debug registers.
    pub debug: DebugRegisters,
    /// XCR0.
    pub xcr0: u64,
    /// x87, MMX, SSE and extended state: an XSAVE area in standard format (Intel SDM vol. 1 §13.4),
    /// at least 576 bytes.
    pub xsave: Vec<u8>,
    /// Model-specific registers as (index, value), IA32_TIME_STAMP_COUNTER and IA32_TSC_DEADLINE among
    /// them, without those of x2APIC.
    pub msrs: Vec<(u32, u64)>,
    /// Local APIC.
    pub apic: ApicState,
    /// Pending and shadowed events.
    pub events: Events,
    /// What the processor is doing.
    pub mp: MpState,
}

/// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15 in the order of their encoding; RIP; RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneralRegisters {
    /// In the order of their encoding.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
}

/// A segment register with its hidden part (Intel SDM vol. 3A §3.4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Visible part.
    pub selector: u16,
    /// Linear base.
    pub base: u64,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Type, 4 bits.
    pub kind: u8,
    /// Code or data rather than system.
    pub s: bool,
    /// Descriptor privilege level.
    pub dpl: u8,
    /// Present.
    pub present: bool,
    /// Available to software.
    pub avl: bool,
    /// 64-bit code.
    pub l: bool,
    /// Default operation size.
    pub db: bool,
    /// Granularity.
    pub g: bool,
    /// Null: not usable.
    pub unusable: bool,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorTable {
    /// Linear base.
    pub base: u64,
    /// Limit.
    pub limit: u16,
}

/// Segments, tables, control registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRegisters {
    /// ES, CS, SS, DS, FS, GS in the order of their encoding.
    pub segments: [Segment; 6],
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: DescriptorTable,
    /// Interrupt descriptor table.
    pub idtr: DescriptorTable,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8: task priority.
    pub cr8: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
}

/// DR0 to DR3, DR6, DR7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebugRegisters {
    /// Breakpoint addresses.
    pub address: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
}

impl Default for DebugRegisters {
    /// The reset values (Intel SDM vol. 3A table 10-1).
    fn default() -> DebugRegisters {
        DebugRegisters { address: [0; 4], dr6: 0xffff_0ff0, dr7: 0x400 }
    }
}

/// A local APIC's register page: 1024 bytes, register `r` (0x20, 0x30 …) at byte offset `r`, in xAPIC
/// layout with the whole 32-bit id at 0x20 in x2APIC mode (as KVM_GET_LAPIC gives it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApicState {
    /// The page.
    pub registers: Vec<u8>,
}

impl Default for ApicState {
    fn default() -> ApicState {
        ApicState { registers: vec![0; 1024] }
    }
}

/// Events that are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// An exception that is to be delivered: vector and error code.
    pub exception: Option<(u8, Option<u32>)>,
    /// An external interrupt that was acknowledged but is not delivered yet.
    pub interrupt: Option<u8>,
    /// The instruction before was STI or a load of SS: no interrupt before the next one.
    pub interrupt_shadow: bool,
    /// An NMI is pending.
    pub nmi_pending: bool,
    /// NMIs are masked until IRET.
    pub nmi_masked: bool,
    /// A SIPI's vector, when one is pending.
    pub sipi_vector: Option<u8>,
}

/// What a processor is doing (Intel SDM vol. 3A §9.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MpState {
    /// Executing.
    #[default]
    Running,
    /// After HLT.
    Halted,
    /// An application processor that waits for SIPI.
    WaitForSipi,
}
