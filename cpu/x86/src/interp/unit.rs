//! Whether the unit that an instruction works on may be used, and what its exceptions become.
//!
//! | unit | CR0.EM | CR0.TS | besides | source |
//! |---|---|---|---|---|
//! | x87 | #NM | #NM | | Intel SDM vol. 3A §2.5, table 2-2 |
//! | MMX | #UD | #NM | | vol. 3A §12.1, table 12-1 |
//! | SSE | #UD | #NM | #UD unless CR4.OSFXSR | vol. 3A §13.1.4, table 13-1 |
//! | AVX | | #NM | #UD unless CR4.OSXSAVE and XCR0 has SSE and AVX | vol. 2A §2.4, table 2-21 |

use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::memory::Memory;
use crate::state::{cr0, cr4};

/// XCR0.SSE and XCR0.AVX.
const XCR0_AVX: u64 = 6;

/// A unit that an instruction works on.
pub(super) trait Unit: 'static {
    /// It defers its exceptions.
    const IS_X87: bool = false;
    /// #UD or #NM when it may not be used now.
    fn ready<M: Memory>(core: &mut Core<'_, M>) -> Outcome;
}

/// General registers only: always there.
pub(super) struct Integer;
/// x87 registers.
pub(super) struct X87;
/// MMX registers.
pub(super) struct Mmx;
/// XMM registers, legacy encodings.
pub(super) struct Sse;
/// XMM and YMM registers, VEX encodings.
pub(super) struct Avx;

impl Unit for Integer {
    #[inline(always)]
    fn ready<M: Memory>(_core: &mut Core<'_, M>) -> Outcome {
        Ok(())
    }
}

impl Unit for X87 {
    const IS_X87: bool = true;

    #[inline(always)]
    fn ready<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
        if core.cpu.cr0 & (cr0::EM | cr0::TS) != 0 {
            return Err(core.raise(vector::NM));
        }
        Ok(())
    }
}

impl Unit for Mmx {
    #[inline(always)]
    fn ready<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
        if core.cpu.cr0 & (cr0::EM | cr0::TS) != 0 {
            return Err(unavailable(core));
        }
        Ok(())
    }
}

impl Unit for Sse {
    #[inline(always)]
    fn ready<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
        let enabled = core.cpu.cr4 & cr4::OSFXSR != 0;
        if core.cpu.cr0 & (cr0::EM | cr0::TS) != 0 || !enabled {
            return Err(if enabled { unavailable(core) } else { core.raise(vector::UD) });
        }
        Ok(())
    }
}

impl Unit for Avx {
    #[inline(always)]
    fn ready<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
        if core.cpu.cr4 & cr4::OSXSAVE == 0 || core.cpu.xcr0 & XCR0_AVX != XCR0_AVX {
            return Err(core.raise(vector::UD));
        }
        if core.cpu.cr0 & cr0::TS != 0 {
            return Err(core.raise(vector::NM));
        }
        Ok(())
    }
}

#[cold]
fn unavailable<M: Memory>(core: &mut Core<'_, M>) -> Stop {
    let vector = if core.cpu.cr0 & cr0::EM != 0 { vector::UD } else { vector::NM };
    core.raise(vector)
}

impl<M: Memory> Core<'_, M> {
    /// An unmasked SIMD floating-point exception (Intel SDM vol. 1 §11.5.2): MXCSR says which.
    #[cold]
    pub(super) fn raise_simd(&mut self) -> Stop {
        let told = self.cpu.cr4 & cr4::OSXMMEXCPT != 0;
        self.raise(if told { vector::XM } else { vector::UD })
    }

    /// #MF when an unmasked x87 exception waits: what every x87 instruction but the control instructions
    /// without wait starts with (Intel SDM vol. 1 §8.3.12). With CR0.NE clear a real machine would
    /// signal FERR# to the PIC instead; ours raises #MF all the same.
    pub(super) fn check_x87_pending(&mut self) -> Outcome {
        if self.cpu.fpu.frame.x87.pending() {
            return Err(self.raise(vector::MF));
        }
        Ok(())
    }

    /// #GP(0) unless `linear` is a multiple of `alignment`.
    #[inline(always)]
    pub(super) fn require_aligned(&mut self, linear: u64, alignment: u64) -> Outcome {
        if linear & (alignment - 1) != 0 {
            return Err(self.raise_code(vector::GP, 0));
        }
        Ok(())
    }

    /// Loads 16 bytes.
    #[inline(always)]
    pub(super) fn load_16(&mut self, linear: u64) -> Result<u128, Stop> {
        let low = M::load::<u64>(self, linear)?;
        let high = M::load::<u64>(self, linear.wrapping_add(8))?;
        Ok(u128::from(high) << 64 | u128::from(low))
    }

    /// Stores 16 bytes, all or none.
    #[inline(always)]
    pub(super) fn store_16(&mut self, linear: u64, value: u128) -> Outcome {
        const LAST_IN_PAGE: u64 = 0xff0;
        if linear & 0xfff > LAST_IN_PAGE {
            return M::store_bytes(self, linear, &value.to_le_bytes());
        }
        M::store::<u64>(self, linear, value as u64)?;
        M::store::<u64>(self, linear.wrapping_add(8), (value >> 64) as u64)
    }
}
