//! The registers that a thunk works on.
//!
//! ```text
//!   Frame      offset
//!   gpr             0   RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 … R15
//!   flags         128   the status flags of RFLAGS
//!   host_mxcsr    136   what the host goes on with
//!   x87           192 ┐ an FXSAVE image in 64-bit format (Intel SDM vol. 1 §10.5.1): 160 bytes of x87
//!   xmm           352 ┘ and MMX state with MXCSR among them, XMM registers, and what is reserved
//!   ymm_high      704   upper halves of the YMM registers
//!   memory        960   the memory operand
//! ```
//!
//! An interpreter keeps its x87 state and MXCSR here for good, and copies the operands of an SSE
//! instruction in and out.

#![expect(unsafe_code, reason = "leaves the host's x87 unit as it was")]

use std::arch::asm;

use crate::spec::{
    FCW_RESET, MXCSR_RESET, MXCSR_VALID, STATUS_FLAGS, X87_EXCEPTIONS, X87_SUMMARY, X87_TOP,
};

/// Bytes of the longest memory operand.
pub const MEMORY_OPERAND: usize = 64;

/// Registers and a memory operand, laid out for thunks.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Frame {
    /// General registers in the order of their encoding.
    pub gpr: [u64; 16],
    /// Status flags; other bits are ignored, and zero after a thunk that writes flags.
    pub flags: u64,
    pub(crate) host_mxcsr: u32,
    pub(crate) padding: [u32; 13],
    /// x87, MMX and MXCSR.
    pub x87: X87,
    /// XMM0 to XMM15, the low halves of the YMM registers.
    pub xmm: [u128; 16],
    pub(crate) reserved: [u128; 6],
    /// Upper halves of YMM0 to YMM15.
    pub ymm_high: [u128; 16],
    /// The memory operand, in and out.
    pub memory: [u8; MEMORY_OPERAND],
}

/// The first 160 bytes of an FXSAVE image in 64-bit format (Intel SDM vol. 1 §10.5.1, table 10-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct X87 {
    /// Control word.
    pub fcw: u16,
    /// Status word.
    pub fsw: u16,
    /// Abridged tag word: bit `n` is set when physical register `n` is not empty.
    pub ftw: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// Opcode of the last instruction, 11 bits.
    pub fop: u16,
    /// Address of the last instruction.
    pub fip: u64,
    /// Address of the last memory operand.
    pub fdp: u64,
    /// SSE control and status. Bits that the architecture reserves are ignored.
    pub mxcsr: u32,
    /// MXCSR_MASK.
    pub mxcsr_mask: u32,
    /// ST(0) to ST(7), 10 bytes each and 6 of padding; MM0 to MM7 while TOP is 0.
    pub st: [u128; 8],
}

impl Default for X87 {
    /// The state that FNINIT and reset leave.
    fn default() -> X87 {
        X87 {
            fcw: FCW_RESET,
            fsw: 0,
            ftw: 0,
            reserved: 0,
            fop: 0,
            fip: 0,
            fdp: 0,
            mxcsr: MXCSR_RESET,
            mxcsr_mask: MXCSR_VALID,
            st: [0; 8],
        }
    }
}

/// Bytes of [`X87`] in an FXSAVE or XSAVE image.
pub const X87_BYTES: usize = 160;

impl X87 {
    /// As the first bytes of an FXSAVE image.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; X87_BYTES] {
        let mut bytes = [0; X87_BYTES];
        bytes[..2].copy_from_slice(&self.fcw.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.fsw.to_le_bytes());
        bytes[4] = self.ftw;
        bytes[6..8].copy_from_slice(&self.fop.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.fip.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.fdp.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.mxcsr.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.mxcsr_mask.to_le_bytes());
        for (slot, register) in bytes[32..].chunks_exact_mut(16).zip(&self.st) {
            slot.copy_from_slice(&register.to_le_bytes());
        }
        bytes
    }

    /// From the first bytes of an FXSAVE image; what is reserved there is dropped.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; X87_BYTES]) -> X87 {
        let number = |at: usize, length: usize| {
            bytes[at..at + length]
                .iter()
                .rev()
                .fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte))
        };
        X87 {
            fcw: number(0, 2) as u16,
            fsw: number(2, 2) as u16,
            ftw: bytes[4],
            reserved: 0,
            fop: number(6, 2) as u16 & 0x7FF,
            fip: number(8, 8) as u64,
            fdp: number(16, 8) as u64,
            mxcsr: number(24, 4) as u32,
            mxcsr_mask: MXCSR_VALID,
            st: std::array::from_fn(|register| number(32 + 16 * register, 10)),
        }
    }

    /// Whether an unmasked exception waits: the next waiting instruction is #MF instead (Intel SDM
    /// vol. 1 §8.6).
    #[must_use]
    pub fn pending(&self) -> bool {
        self.fsw & !self.fcw & X87_EXCEPTIONS != 0
    }

    /// Replaces the status word. The registers keep their physical places, which [`X87::st`] counts
    /// from TOP.
    pub fn set_fsw(&mut self, fsw: u16) {
        let top = |word: u16| usize::from((word & X87_TOP) >> X87_TOP.trailing_zeros());
        let distance = (top(self.fsw) + 8 - top(fsw)) % 8;
        self.st.rotate_right(distance);
        self.fsw = fsw;
    }

    /// Enters MMX mode, as every MMX instruction does: TOP becomes 0 and all registers are in use (Intel SDM
    /// vol. 3A §12.2).
    pub fn enter_mmx(&mut self) {
        self.set_fsw(self.fsw & !X87_TOP);
        self.ftw = 0xFF;
    }

    /// Makes ES and B agree with the flags and masks, as every load of either word does.
    pub fn update_summary(&mut self) {
        if self.pending() {
            self.fsw |= X87_SUMMARY;
        } else {
            self.fsw &= !X87_SUMMARY;
        }
    }
}

impl Default for Frame {
    fn default() -> Frame {
        Frame {
            gpr: [0; 16],
            flags: 0,
            host_mxcsr: MXCSR_RESET,
            padding: [0; 13],
            x87: X87::default(),
            xmm: [0; 16],
            reserved: [0; 6],
            ymm_high: [0; 16],
            memory: [0; MEMORY_OPERAND],
        }
    }
}

/// FOP, FIP and FDP.
pub(crate) type Pointers = (u16, u64, u64);

impl X87 {
    pub(crate) fn pointers(&self) -> Pointers {
        (self.fop, self.fip, self.fdp)
    }
}

impl Frame {
    /// Drops what is not a status flag: nothing else may reach the host's RFLAGS, and nothing else of
    /// the host's may reach the guest.
    pub(crate) fn keep_status_flags(&mut self) {
        self.flags &= STATUS_FLAGS;
    }

    /// After a thunk has stored x87 state: puts the guest's pointers back where the processor has put the
    /// host's, and empties the host's own x87 stack. With the default control word no exception can be
    /// pending there, and EMMS does.
    pub(crate) fn leave_x87(&mut self, pointers: Pointers) {
        (self.x87.fop, self.x87.fip, self.x87.fdp) = pointers;
        if self.x87.fcw == FCW_RESET {
            // SAFETY: marks all x87 registers empty, which they are for Rust code anyway.
            unsafe { asm!("emms", options(nomem, nostack, preserves_flags)) };
        } else {
            // SAFETY: resets the x87 unit to the state in which Rust code expects it.
            unsafe { asm!("fninit", options(nomem, nostack, preserves_flags)) };
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_frame_holds_an_fxsave_image() {
        let area = offset_of!(Frame, x87);
        assert_eq!(area % 16, 0);
        assert_eq!(offset_of!(Frame, xmm) - area, 160);
        assert_eq!(offset_of!(Frame, ymm_high) - area, 512);
        assert_eq!(offset_of!(X87, mxcsr), 24);
        assert_eq!(offset_of!(X87, st), 32);
        assert_eq!(offset_of!(Frame, memory) % 64, 0);
    }

    #[test]
    fn an_unmasked_flag_is_pending_and_shows_in_the_summary() {
        let mut x87 = X87 { fsw: 1, ..X87::default() };
        assert!(!x87.pending());
        x87.fcw &= !1;
        assert!(x87.pending());
        x87.update_summary();
        assert_eq!(x87.fsw, 0x8081);
    }
}
