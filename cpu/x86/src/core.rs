//! A CPU at work.

use crate::fault::{Exception, Stop, vector};
use crate::memory::{Intent, Memory};
use crate::op::{Op, bits};
use crate::state::CpuState;
use crate::word::Word;
use kezhan_hypervisor::CpuIo;

/// A CPU at work: its state, its memory and the machine around it. Engines keep the parts and put them
/// together for each run.
#[derive(Debug)]
pub struct Core<'r, M> {
    /// Registers and everything else that the guest can see.
    pub cpu: CpuState,
    /// Linear memory with its caches.
    pub mem: M,
    /// The machine.
    pub io: Machine<'r>,
}

/// The machine, as a core sees it.
#[derive(Clone, Copy)]
pub struct Machine<'r>(pub &'r dyn CpuIo);

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

impl<'r> std::ops::Deref for Machine<'r> {
    type Target = dyn CpuIo + 'r;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

/// What a handler gives back.
pub type Outcome = Result<(), Stop>;

impl<M: Memory> Core<'_, M> {
    /// Reads a general register operand (see [`Op::a`] for the numbering).
    #[inline(always)]
    pub fn reg<T: Word>(&self, index: u8) -> T {
        let value = self.cpu.gpr[usize::from(index & 31)];
        if T::BYTES == 1 && index & 32 != 0 { T::low(value >> 8) } else { T::low(value) }
    }

    /// Writes a general register operand: 32 bits zero-extend, 8 and 16 bits leave the rest.
    #[inline(always)]
    pub fn set_reg<T: Word>(&mut self, index: u8, value: T) {
        let register = &mut self.cpu.gpr[usize::from(index & 31)];
        if T::BYTES >= 4 {
            *register = value.u64();
        } else if T::BYTES == 1 && index & 32 != 0 {
            *register = *register & !0xff00 | value.u64() << 8;
        } else {
            *register = *register & !T::MASK | value.u64();
        }
    }

    /// The linear address of the memory operand of `op`, for an access of `length` bytes.
    ///
    /// # Errors
    /// [`Stop::Exception`] where segment limits and rights are checked (outside 64-bit mode).
    #[inline(always)]
    pub fn address(&mut self, op: &Op<M>, length: u64, intent: Intent) -> Result<u64, Stop> {
        if op.bits & bits::CHECKED_ADDRESS == 0 {
            let offset = self.offset(op);
            return Ok(offset.wrapping_add(self.cpu.seg_base[usize::from(op.seg & 7)]));
        }
        self.checked_address(op, length, intent)
    }

    /// base + index × scale + displacement, not yet cut to the address size.
    #[inline(always)]
    pub fn offset(&self, op: &Op<M>) -> u64 {
        let base = self.cpu.gpr[usize::from(op.base & 31)];
        let index = self.cpu.gpr[usize::from(op.index & 31)];
        base.wrapping_add(index << (op.scale & 3)).wrapping_add(op.disp as u64)
    }

    /// Loads the memory operand.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    #[inline(always)]
    pub fn load<T: Word>(&mut self, op: &Op<M>) -> Result<T, Stop> {
        let linear = self.address(op, T::BYTES, Intent::Read)?;
        M::load(self, linear)
    }

    /// Stores to the memory operand.
    ///
    /// # Errors
    /// [`Stop::Exception`], [`Stop::CodeWrite`]
    #[inline(always)]
    pub fn store<T: Word>(&mut self, op: &Op<M>, value: T) -> Outcome {
        let linear = self.address(op, T::BYTES, Intent::Write)?;
        M::store(self, linear, value)
    }

    /// Records an exception without an error code.
    #[cold]
    pub fn raise(&mut self, vector: u8) -> Stop {
        self.cpu.exception = Exception { vector, ..Exception::default() };
        Stop::Exception
    }

    /// Records an exception with an error code.
    #[cold]
    pub fn raise_code(&mut self, vector: u8, error: u32) -> Stop {
        self.cpu.exception = Exception { vector, error: Some(error), ..Exception::default() };
        Stop::Exception
    }

    /// Records a page fault (Intel SDM vol. 3A §4.7).
    #[cold]
    pub fn raise_page_fault(&mut self, linear: u64, error: u32) -> Stop {
        self.cpu.exception = Exception {
            vector: vector::PF,
            error: Some(error),
            address: linear,
            ..Exception::default()
        };
        Stop::Exception
    }

    /// Records the trap that RFLAGS.TF asks for (Intel SDM vol. 3B §17.3.1.4).
    #[cold]
    pub fn raise_single_step(&mut self) -> Stop {
        self.cpu.exception =
            Exception { vector: vector::DB, debug: 1 << 14, trap: true, ..Exception::default() };
        Stop::Exception
    }

    /// #GP(0) unless the CPL is 0.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    pub fn require_ring_0(&mut self) -> Outcome {
        if self.cpu.cpl != 0 { Err(self.raise_code(vector::GP, 0)) } else { Ok(()) }
    }

    /// RIP behind `op`.
    #[inline(always)]
    pub fn behind(&self, op: &Op<M>) -> u64 {
        let end = u64::from(op.offset) + u64::from(op.len);
        self.cpu.gpr[crate::state::BLOCK].wrapping_add(end) & self.cpu.rip_mask
    }

    /// Sets RIP behind `op`: for handlers that end a block without a jump.
    #[inline(always)]
    pub fn advance(&mut self, op: &Op<M>) {
        self.cpu.rip = self.behind(op);
    }
}
