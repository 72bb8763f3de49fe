//! A decoded instruction, ready to run.

use crate::core::{Core, Outcome};
use kezhan_jit::Thunk;

/// Executes one instruction. A plain function, made for one operation, width and operand form.
pub type Handler<M> = for<'r> fn(&mut Core<'r, M>, &Op<M>) -> Outcome;

/// Bits of [`Op::bits`].
pub mod bits {
    /// The address needs more than base + index + displacement + segment base: address size below 64
    /// bits, or segment checks.
    pub const CHECKED_ADDRESS: u16 = 1 << 0;
    /// 32-bit address size.
    pub const ADDRESS_32: u16 = 1 << 1;
    /// 16-bit address size.
    pub const ADDRESS_16: u16 = 1 << 2;
    /// LOCK prefix, on a memory operand.
    pub const LOCK: u16 = 1 << 3;
    /// REP or REPE prefix.
    pub const REP: u16 = 1 << 4;
    /// REPNE prefix.
    pub const REPNE: u16 = 1 << 5;
    /// The memory operand is on the stack segment, or the instruction pushes or pops: a non-canonical
    /// address raises #SS instead of #GP.
    pub const STACK: u16 = 1 << 6;
    /// Operand size 16.
    pub const OPERAND_16: u16 = 1 << 7;
    /// Operand size 64.
    pub const OPERAND_64: u16 = 1 << 8;
    /// The memory operand must be aligned to its size: #GP(0) otherwise.
    pub const ALIGNED: u16 = 1 << 9;
}

/// Index into [`crate::CpuState::seg_base`] for addresses without a segment base (64-bit mode).
pub const FLAT: u8 = 6;

/// A decoded instruction.
///
/// Its numbers are relative to the block that it stands in, so that a block can run at every linear
/// address its page is mapped at: [`Op::offset`] from the block's start, and RIP-relative operands and
/// branch targets through the register [`crate::state::BLOCK`].
#[repr(C)]
pub struct Op<M> {
    /// What to call.
    pub run: Handler<M>,
    /// Immediate operand, sign-extended to 64 bits; for near branches the target relative to the block's start; for
    /// far pointers the offset, with the selector in [`Op::disp`].
    pub imm: u64,
    /// Displacement of the memory operand; a second immediate (ENTER) or selector otherwise.
    pub disp: i64,
    /// Bytes from the block's start to this instruction.
    pub offset: u16,
    /// See [`bits`].
    pub bits: u16,
    /// The encoding, as iced-x86 numbers them.
    pub code: u16,
    /// Length in bytes.
    pub len: u8,
    /// First register operand: the register's number; 32 + number for AH, CH, DH, BH (0 to 3).
    pub a: u8,
    /// Second register operand.
    pub b: u8,
    /// Third register operand.
    pub c: u8,
    /// Base register of the memory operand ([`crate::state::ZERO`] when absent, [`crate::state::BLOCK`] when
    /// RIP-relative).
    pub base: u8,
    /// Index register of the memory operand.
    pub index: u8,
    /// Shift of the index.
    pub scale: u8,
    /// Segment of the memory operand: 0 to 5, or [`FLAT`].
    pub seg: u8,
    /// What runs natively, for handlers of [`crate::interp::native`].
    pub thunk: Option<Thunk>,
}

impl<M> Clone for Op<M> {
    fn clone(&self) -> Op<M> {
        *self
    }
}

impl<M> Copy for Op<M> {}

impl<M> std::fmt::Debug for Op<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op(code {}, +{:#x}, {} bytes)", self.code, self.offset, self.len)
    }
}

impl<M> Op<M> {
    /// Whether LOCK stands before it.
    #[inline(always)]
    pub fn locked(&self) -> bool {
        self.bits & bits::LOCK != 0
    }
}
