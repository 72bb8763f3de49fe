//! To and from the contract's state.

use super::{CpuState, Fpu};
use kezhan_hypervisor::{GeneralRegisters, MpState, SystemRegisters, VcpuState};
use kezhan_jit::{X87, X87_BYTES};

/// Bytes of a standard-format XSAVE area with x87, SSE and AVX state (Intel SDM vol. 1 §13.4).
const XSAVE_BYTES: usize = 832;
/// Bits of MXCSR that exist (Intel SDM vol. 1 §10.2.3).
pub const MXCSR_BITS: u32 = 0xffff;
const XMM_AT: usize = 160;
const HEADER_AT: usize = 512;
const YMM_AT: usize = 576;
/// The state component of PKRU (vol. 1 §13.1), and its place, which CPUID leaf 0DH tells.
pub const PKRU: u64 = 1 << 9;
/// Behind all components that Intel's processors have ahead of it.
pub const PKRU_AT: usize = 2688;
/// Bytes of PKRU's component.
pub const PKRU_BYTES: usize = 8;

/// Indices of the model-specific registers that have fields of their own (Intel SDM vol. 4).
pub mod index {
    /// IA32_TSC_AUX.
    pub const TSC_AUX: u32 = 0xc000_0103;
    /// IA32_STAR.
    pub const STAR: u32 = 0xc000_0081;
    /// IA32_LSTAR.
    pub const LSTAR: u32 = 0xc000_0082;
    /// IA32_CSTAR.
    pub const CSTAR: u32 = 0xc000_0083;
    /// IA32_FMASK.
    pub const FMASK: u32 = 0xc000_0084;
    /// IA32_KERNEL_GS_BASE.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// IA32_SYSENTER_CS.
    pub const SYSENTER_CS: u32 = 0x174;
    /// IA32_SYSENTER_ESP.
    pub const SYSENTER_ESP: u32 = 0x175;
    /// IA32_SYSENTER_EIP.
    pub const SYSENTER_EIP: u32 = 0x176;
    /// IA32_PKRS.
    pub const PKRS: u32 = 0x6e1;
}

impl super::Msrs {
    /// The field behind an index, for registers that have one.
    pub fn field(&mut self, number: u32) -> Option<&mut u64> {
        Some(match number {
            index::STAR => &mut self.star,
            index::LSTAR => &mut self.lstar,
            index::CSTAR => &mut self.cstar,
            index::FMASK => &mut self.fmask,
            index::KERNEL_GS_BASE => &mut self.kernel_gs_base,
            index::SYSENTER_CS => &mut self.sysenter_cs,
            index::SYSENTER_ESP => &mut self.sysenter_esp,
            index::SYSENTER_EIP => &mut self.sysenter_eip,
            index::TSC_AUX => &mut self.tsc_aux,
            index::PKRS => &mut self.pkrs,
            _ => return None,
        })
    }

    /// All of them as (index, value).
    pub fn list(&self) -> Vec<(u32, u64)> {
        let mut list = vec![
            (index::STAR, self.star),
            (index::PKRS, self.pkrs),
            (index::LSTAR, self.lstar),
            (index::CSTAR, self.cstar),
            (index::FMASK, self.fmask),
            (index::KERNEL_GS_BASE, self.kernel_gs_base),
            (index::SYSENTER_CS, self.sysenter_cs),
            (index::SYSENTER_ESP, self.sysenter_esp),
            (index::SYSENTER_EIP, self.sysenter_eip),
            (index::TSC_AUX, self.tsc_aux),
        ];
        list.extend(&self.kept);
        list
    }

    /// A register that is merely kept, once it was written.
    pub fn get(&self, number: u32) -> Option<u64> {
        self.kept.iter().find(|(kept, _)| *kept == number).map(|(_, value)| *value)
    }

    /// Sets one, whatever it is.
    pub fn put(&mut self, number: u32, value: u64) {
        if let Some(field) = self.field(number) {
            *field = value;
        } else if let Some(kept) = self.kept.iter_mut().find(|(kept, _)| *kept == number) {
            kept.1 = value;
        } else {
            self.kept.push((number, value));
        }
    }
}

impl CpuState {
    /// The core's part of a vCPU state: everything but the local APIC, time and CR8.
    pub fn from_vcpu(state: &VcpuState) -> CpuState {
        let mut cpu = CpuState::default();
        cpu.gpr[..16].copy_from_slice(&state.general.gpr);
        cpu.rip = state.general.rip;
        cpu.set_rflags(state.general.rflags);
        let system = &state.system;
        cpu.segments = system.segments;
        (cpu.ldtr, cpu.tr) = (system.ldtr, system.tr);
        (cpu.gdtr, cpu.idtr) = (system.gdtr, system.idtr);
        (cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4) = (system.cr0, system.cr2, system.cr3, system.cr4);
        cpu.efer = system.efer;
        cpu.xcr0 = state.xcr0 | 1;
        (cpu.dr, cpu.dr6, cpu.dr7) = (state.debug.address, state.debug.dr6, state.debug.dr7);
        cpu.fpu = Fpu::from_xsave(&state.xsave);
        cpu.pkru = pkru_of(&state.xsave);
        for (number, value) in &state.msrs {
            cpu.msr.put(*number, *value);
        }
        cpu.interrupt_shadow = state.events.interrupt_shadow;
        cpu.nmi_masked = state.events.nmi_masked;
        cpu.halted = state.mp == MpState::Halted;
        cpu.derive();
        cpu
    }

    /// The contract's state, with the local APIC, time, CR8 and pending events left for the engine.
    pub fn to_vcpu(&self) -> VcpuState {
        let mut state = VcpuState::default();
        let mut gpr = [0; 16];
        gpr.copy_from_slice(&self.gpr[..16]);
        state.general = GeneralRegisters { gpr, rip: self.rip, rflags: self.rflags() };
        state.system = SystemRegisters {
            segments: self.segments,
            ldtr: self.ldtr,
            tr: self.tr,
            gdtr: self.gdtr,
            idtr: self.idtr,
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            efer: self.efer,
            ..SystemRegisters::default()
        };
        state.xcr0 = self.xcr0;
        (state.debug.address, state.debug.dr6, state.debug.dr7) = (self.dr, self.dr6, self.dr7);
        state.xsave = self.fpu.to_xsave();
        if self.xcr0 & PKRU != 0 {
            state.xsave.resize(PKRU_AT, 0);
            state.xsave.extend(u64::from(self.pkru).to_le_bytes());
            state.xsave[HEADER_AT + 1] |= (PKRU >> 8) as u8;
        }
        state.msrs = self.msr.list();
        state.events.interrupt_shadow = self.interrupt_shadow;
        state.events.nmi_masked = self.nmi_masked;
        state.mp = if self.halted { MpState::Halted } else { MpState::Running };
        state
    }
}

/// PKRU in a standard-format XSAVE area; initial where it is absent.
fn pkru_of(area: &[u8]) -> u32 {
    let present = area.get(HEADER_AT + 1).is_some_and(|bits| u64::from(*bits) << 8 & PKRU != 0);
    let bytes = area.get(PKRU_AT..PKRU_AT + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.filter(|_| present).map_or(0, u32::from_le_bytes)
}

fn lane(area: &[u8], at: usize) -> u128 {
    area.get(at..at + 16).and_then(|bytes| bytes.try_into().ok()).map_or(0, u128::from_le_bytes)
}

impl Fpu {
    /// From a standard-format XSAVE area; components that its header leaves out are initial.
    pub fn from_xsave(area: &[u8]) -> Fpu {
        let mut fpu = Fpu::default();
        let Some(header) = area.get(HEADER_AT..HEADER_AT + 8) else { return fpu };
        let present = u64::from(header[0]);
        let legacy = area.first_chunk::<X87_BYTES>().map(X87::from_bytes).unwrap_or_default();
        if present & 1 != 0 {
            let mxcsr = fpu.frame.x87.mxcsr;
            fpu.frame.x87 = X87 { mxcsr, ..legacy };
        }
        if present & 2 != 0 {
            for (number, xmm) in fpu.xmm.iter_mut().enumerate() {
                *xmm = lane(area, XMM_AT + 16 * number);
            }
        }
        if present & 6 != 0 {
            fpu.frame.x87.mxcsr = legacy.mxcsr & MXCSR_BITS;
        }
        if present & 4 != 0 {
            for (number, high) in fpu.ymm_high.iter_mut().enumerate() {
                *high = lane(area, YMM_AT + 16 * number);
            }
        }
        fpu
    }

    /// As a standard-format XSAVE area with x87, SSE and AVX present.
    pub fn to_xsave(&self) -> Vec<u8> {
        let mut area = vec![0; XSAVE_BYTES];
        area[..X87_BYTES].copy_from_slice(&self.frame.x87.to_bytes());
        for (number, xmm) in self.xmm.iter().enumerate() {
            area[XMM_AT + 16 * number..][..16].copy_from_slice(&xmm.to_le_bytes());
        }
        for (number, high) in self.ymm_high.iter().enumerate() {
            area[YMM_AT + 16 * number..][..16].copy_from_slice(&high.to_le_bytes());
        }
        area[HEADER_AT] = if self.ymm_high.iter().any(|high| *high != 0) { 7 } else { 3 };
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_way_there_and_back() {
        let mut cpu = CpuState::default();
        cpu.gpr[3] = 0x1234;
        cpu.fpu.xmm[15] = u128::MAX - 5;
        (cpu.xcr0, cpu.pkru, cpu.msr.pkrs) = (0x203, 0x5555_5554, 0x30);
        cpu.fpu.ymm_high[2] = 77;
        cpu.fpu.frame.x87.st[0] = 9 << 64;
        cpu.fpu.frame.x87.mxcsr = 0x3f80;
        cpu.msr.put(index::LSTAR, 0xffff_8000_0000_0000);
        cpu.msr.put(0x277, 0x0007_0406_0007_0406);
        let state = cpu.to_vcpu();
        let back = CpuState::from_vcpu(&state).to_vcpu();
        assert_eq!(back, state);
    }
}
