//! Control registers and model-specific registers: what may be written, and what follows.

use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::memory::Memory;
use crate::state::{CodeBits, FS, GS, cr0, cr4, efer};

/// CR4 bits of our CPUs; the rest are reserved.
const CR4_BITS: u64 = cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::MCE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::PCIDE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP
    | cr4::PKE
    | cr4::PKS;
const CR0_BITS: u64 = cr0::PE
    | cr0::MP
    | cr0::EM
    | cr0::TS
    | cr0::ET
    | cr0::NE
    | cr0::WP
    | cr0::AM
    | cr0::NW
    | cr0::CD
    | cr0::PG;
/// Bits of CR0 and CR4 whose change makes cached translations wrong.
const CR0_PAGING: u64 = cr0::PG | cr0::WP | cr0::PE;
const CR4_PAGING: u64 =
    cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE | cr4::PKS;
/// Bits of CR4 that are reserved where CPUID does not tell of their feature: the bit; leaf, register and bit
/// there (Intel SDM vol. 3A §2.5; vol. 2A, CPUID).
const CR4_FEATURES: [(u64, u32, usize, u32); 8] = [
    (cr4::UMIP, 7, 2, 2),
    (cr4::FSGSBASE, 7, 1, 0),
    (cr4::PCIDE, 1, 2, 17),
    (cr4::OSXSAVE, 1, 2, 26),
    (cr4::SMEP, 7, 1, 7),
    (cr4::SMAP, 7, 1, 20),
    (cr4::PKE, 7, 2, 3),
    (cr4::PKS, 7, 2, 31),
];
const EFER_BITS: u64 = efer::SCE | efer::LME | efer::LMA | efer::NXE;

/// Indices of model-specific registers (Intel SDM vol. 4 chapter 2).
pub mod msr {
    /// IA32_PLATFORM_ID.
    pub const PLATFORM_ID: u32 = 0x17;
    /// IA32_FEATURE_CONTROL.
    pub const FEATURE_CONTROL: u32 = 0x3a;
    /// IA32_BIOS_UPDT_TRIG.
    pub const UPDATE_TRIGGER: u32 = 0x79;
    /// IA32_BIOS_SIGN_ID: microcode revision.
    pub const UPDATE_SIGNATURE: u32 = 0x8b;
    /// IA32_MTRRCAP.
    pub const MTRR_CAP: u32 = 0xfe;
    /// IA32_MCG_CAP.
    pub const MCG_CAP: u32 = 0x179;
    /// IA32_MCG_STATUS.
    pub const MCG_STATUS: u32 = 0x17a;
    /// IA32_MISC_ENABLE.
    pub const MISC_ENABLE: u32 = 0x1a0;
    /// IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPABILITIES: u32 = 0x10a;
    /// IA32_SPEC_CTRL.
    pub const SPEC_CTRL: u32 = 0x48;
    /// IA32_PRED_CMD.
    pub const PRED_CMD: u32 = 0x49;
    /// First variable-range MTRR.
    pub const MTRR_FIRST_VARIABLE: u32 = 0x200;
    /// Last variable-range MTRR (8 pairs).
    pub const MTRR_LAST_VARIABLE: u32 = 0x20f;
    /// IA32_MTRR_FIX64K_00000.
    pub const MTRR_FIX_64K: u32 = 0x250;
    /// Fixed-range MTRRs of 16 KiB.
    pub const MTRR_FIX_16K: u32 = 0x258;
    /// Fixed-range MTRRs of 4 KiB.
    pub const MTRR_FIX_4K: u32 = 0x268;
    /// IA32_MTRR_DEF_TYPE.
    pub const MTRR_DEF_TYPE: u32 = 0x2ff;
    /// IA32_PAT.
    pub const PAT: u32 = 0x277;
    /// IA32_EFER.
    pub const EFER: u32 = 0xc000_0080;
    /// IA32_FS_BASE.
    pub const FS_BASE: u32 = 0xc000_0100;
    /// IA32_GS_BASE.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// IA32_LSTAR.
    pub const LSTAR: u32 = 0xc000_0082;
    /// IA32_CSTAR.
    pub const CSTAR: u32 = 0xc000_0083;
    /// IA32_KERNEL_GS_BASE.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// IA32_SYSENTER_ESP.
    pub const SYSENTER_ESP: u32 = 0x175;
    /// IA32_SYSENTER_EIP.
    pub const SYSENTER_EIP: u32 = 0x176;
    /// IA32_PKRS.
    pub const PKRS: u32 = 0x6e1;
    /// IA32_DEBUGCTL.
    pub const DEBUG_CONTROL: u32 = 0x1d9;
    /// MSR_PLATFORM_INFO.
    pub const PLATFORM_INFO: u32 = 0xce;
    /// IA32_XSS.
    pub const XSS: u32 = 0xda0;
}

/// Whether bits 63:47 of a linear address are alike (Intel SDM vol. 1 §3.3.7.1).
pub fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// Whether CR0 can have this value (Intel SDM vol. 3A §2.5, MOV to CR0 in vol. 2B).
pub fn is_possible_cr0(value: u64) -> bool {
    value >> 32 == 0
        && (value & cr0::PG == 0 || value & cr0::PE != 0)
        && (value & cr0::NW == 0 || value & cr0::CD != 0)
}

/// CR3 bit that keeps translations when CR4.PCIDE is set (Intel SDM vol. 3A §4.10.4.1); we need none.
const CR3_NO_FLUSH: u64 = 1 << 63;

impl<M: Memory> Core<'_, M> {
    /// MOV to CR0 (Intel SDM vol. 3A §2.5, §9.8.5): paging and long mode come and go here.
    ///
    /// # Errors
    /// #GP(0)
    pub fn set_cr0(&mut self, value: u64) -> Outcome {
        let strands_pcid = self.cpu.cr4 & cr4::PCIDE != 0 && value & cr0::PG == 0;
        if !is_possible_cr0(value) || strands_pcid {
            return Err(self.raise_code(vector::GP, 0));
        }
        let value = value & CR0_BITS | cr0::ET;
        let changed = value ^ self.cpu.cr0;
        if changed & cr0::PG != 0 {
            self.switch_paging(value & cr0::PG != 0)?;
        }
        self.cpu.cr0 = value;
        self.cpu.derive();
        if changed & CR0_PAGING != 0 {
            M::flush(self, false);
            M::permissions_changed(self);
        }
        Ok(())
    }

    fn switch_paging(&mut self, on: bool) -> Outcome {
        if !on {
            if self.cpu.code_bits == CodeBits::Bits64 {
                return Err(self.raise_code(vector::GP, 0));
            }
            self.cpu.efer &= !efer::LMA;
            return Ok(());
        }
        let pae = self.cpu.cr4 & cr4::PAE != 0;
        if self.cpu.efer & efer::LME != 0 {
            let in_long_segment = self.cpu.segments[crate::state::CS].l;
            let short_task = self.cpu.tr.kind & 8 == 0;
            if !pae || in_long_segment || short_task && !self.cpu.tr.unusable {
                return Err(self.raise_code(vector::GP, 0));
            }
            self.cpu.efer |= efer::LMA;
        } else if pae {
            self.load_pdptrs(self.cpu.cr3)?;
        }
        Ok(())
    }

    /// Loads the page-directory pointers of PAE paging.
    pub(super) fn load_pdptrs(&mut self, cr3: u64) -> Outcome {
        let mut entries = [0; 4];
        for (number, entry) in (0..).zip(&mut entries) {
            let value = M::load_physical(self, (cr3 & 0xffff_ffe0) + 8 * number);
            let reserved = 0x1e6 | u64::MAX << crate::paging::PHYSICAL_BITS;
            if value & 1 != 0 && value & reserved != 0 {
                return Err(self.raise_code(vector::GP, 0));
            }
            *entry = value;
        }
        self.cpu.pdptr = entries;
        Ok(())
    }

    /// MOV to CR3.
    ///
    /// # Errors
    /// #GP(0)
    pub fn set_cr3(&mut self, value: u64) -> Outcome {
        let tagged = self.cpu.cr4 & cr4::PCIDE != 0;
        let value = if tagged { value & !CR3_NO_FLUSH } else { value };
        if self.cpu.long_mode() {
            if value >> crate::paging::PHYSICAL_BITS != 0 {
                return Err(self.raise_code(vector::GP, 0));
            }
        } else if self.cpu.cr0 & cr0::PG != 0 && self.cpu.cr4 & cr4::PAE != 0 {
            self.load_pdptrs(value)?;
        }
        self.cpu.cr3 = value;
        M::flush(self, true);
        Ok(())
    }

    /// MOV to CR4.
    ///
    /// # Errors
    /// #GP(0)
    pub fn set_cr4(&mut self, value: u64) -> Outcome {
        let leaves_pae = self.cpu.long_mode() && value & cr4::PAE == 0;
        let changed = value ^ self.cpu.cr4;
        let bad_pcid = changed & value & cr4::PCIDE != 0
            && (!self.cpu.long_mode() || self.cpu.cr3 & 0xfff != 0);
        let absent = value & !CR4_BITS != 0 || !self.offers_cr4(changed & value);
        if absent || leaves_pae || bad_pcid {
            return Err(self.raise_code(vector::GP, 0));
        }
        let pdptrs = self.cpu.cr0 & cr0::PG != 0 && !self.cpu.long_mode();
        if pdptrs && value & cr4::PAE != 0 && changed & CR4_PAGING != 0 {
            self.load_pdptrs(self.cpu.cr3)?;
        }
        self.cpu.cr4 = value;
        if changed & CR4_PAGING != 0 {
            M::flush(self, false);
            M::permissions_changed(self);
        }
        Ok(())
    }

    /// Whether CPUID tells of the features behind bits of CR4.
    fn offers_cr4(&mut self, bits: u64) -> bool {
        CR4_FEATURES.iter().filter(|(bit, ..)| bits & bit != 0).all(|&(_, leaf, register, n)| {
            M::cpuid(self, leaf, 0).get(register).is_some_and(|word| word >> n & 1 == 1)
        })
    }

    fn set_efer(&mut self, value: u64) -> Outcome {
        let toggles = (value ^ self.cpu.efer) & efer::LME != 0 && self.cpu.cr0 & cr0::PG != 0;
        if value & !EFER_BITS != 0 || toggles {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.cpu.efer = value & !efer::LMA | self.cpu.efer & efer::LMA;
        M::flush(self, false);
        Ok(())
    }

    /// RDMSR.
    ///
    /// # Errors
    /// #GP(0) for a register that this CPU does not have.
    pub fn read_msr(&mut self, number: u32) -> Result<u64, Stop> {
        if let Some(value) = M::read_msr(self, number) {
            return value.map_err(|()| self.raise_code(vector::GP, 0));
        }
        let value = match number {
            msr::EFER => self.cpu.efer,
            msr::FS_BASE => self.cpu.segments[FS].base,
            msr::GS_BASE => self.cpu.segments[GS].base,
            _ => match (self.cpu.msr.field(number).map(|field| *field), initial(number)) {
                (Some(value), _) => value,
                (None, Some(value)) => self.cpu.msr.get(number).unwrap_or(value),
                (None, None) if self.is_idle_amd_msr(number) => 0,
                (None, None) => return Err(self.raise_code(vector::GP, 0)),
            },
        };
        Ok(value)
    }

    /// WRMSR.
    ///
    /// # Errors
    /// #GP(0) for a register that this CPU does not have, or a value that it does not take.
    pub fn write_msr(&mut self, number: u32, value: u64) -> Outcome {
        if let Some(done) = M::write_msr(self, number, value) {
            return done.map_err(|()| self.raise_code(vector::GP, 0));
        }
        match number {
            msr::EFER => return self.set_efer(value),
            msr::FS_BASE | msr::GS_BASE if canonical(value) => {
                let seg = if number == msr::FS_BASE { FS } else { GS };
                self.cpu.segments[seg].base = value;
                self.cpu.seg_base[seg] = value;
                return Ok(());
            }
            _ => {}
        }
        if self.is_idle_amd_msr(number) {
            return Ok(());
        }
        let allowed = writable(number, value)
            && (self.cpu.msr.field(number).is_some() || initial(number).is_some());
        if !allowed {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.cpu.msr.put(number, value);
        if number == msr::PKRS {
            M::flush(self, false);
        }
        Ok(())
    }

    /// Registers that programs expect of every AMD processor without asking, and that do nothing here: four
    /// performance counters, SYSCFG, HWCR (AMD64 Architecture Programmer's Manual vol. 2 §13.2, appendix A).
    fn is_idle_amd_msr(&mut self, number: u32) -> bool {
        let known = matches!(number, 0xc001_0000..=0xc001_0007 | 0xc001_0010 | 0xc001_0015);
        known && super::fast_call::is_amd(self)
    }

    /// Whether RFLAGS.TF or an enabled breakpoint asks for one instruction at a time.
    #[inline(always)]
    pub fn wants_single_step(&self) -> bool {
        self.cpu.rflags & crate::flags::TF != 0 || self.cpu.dr7 & 0xff != 0
    }
}

/// The value after reset of a register that is merely kept; `None` for one that does not exist.
fn initial(number: u32) -> Option<u64> {
    Some(match number {
        msr::MTRR_CAP => 0x508,
        msr::MTRR_DEF_TYPE => 0xc06,
        msr::MTRR_FIRST_VARIABLE..=msr::MTRR_LAST_VARIABLE => 0,
        msr::MTRR_FIX_64K | msr::MTRR_FIX_16K | 0x259 => 0x0606_0606_0606_0606,
        msr::MTRR_FIX_4K..=0x26f => 0x0606_0606_0606_0606,
        msr::PAT => 0x0007_0406_0007_0406,
        msr::MISC_ENABLE => 1,
        msr::UPDATE_SIGNATURE => 0x1_0000_0000,
        // Not vulnerable to any of the attacks that have a bit of their own: RDCL_NO, SKIP_L1DFL, SSB_NO,
        // MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO.
        msr::ARCH_CAPABILITIES => 0x0d10_e179,
        msr::PLATFORM_ID
        | msr::FEATURE_CONTROL
        | msr::UPDATE_TRIGGER
        | msr::MCG_CAP
        | msr::MCG_STATUS
        | msr::DEBUG_CONTROL
        | msr::PLATFORM_INFO => 0,
        _ => return None,
    })
}

fn writable(number: u32, value: u64) -> bool {
    match number {
        msr::MTRR_CAP
        | msr::PLATFORM_ID
        | msr::MCG_CAP
        | msr::ARCH_CAPABILITIES
        | msr::PLATFORM_INFO => false,
        msr::LSTAR | msr::CSTAR | msr::KERNEL_GS_BASE | msr::SYSENTER_ESP | msr::SYSENTER_EIP => {
            canonical(value)
        }
        msr::FS_BASE | msr::GS_BASE => false,
        msr::PKRS => value >> 32 == 0,
        msr::PAT => value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7)),
        _ => true,
    }
}
