//! The code of a thunk.
//!
//! ```text
//!   push  callee-saved registers that the instruction uses
//!   mov   base, rdi                        when RDI takes part in the instruction
//!   fxrstor [base + x87]                   x87 and MMX
//!   ldmxcsr [base + mxcsr]                 SSE arithmetic
//!   movq, movhps; vinsertf128              vector operands
//!   mov   r, [base + gpr]                  general registers
//!   push  [base + flags]; popfq            flags, when they are read or partly kept
//!     … the instruction …
//!   pushfq; pop [base + flags]             flags, when they are written
//!   mov   [base + gpr], r
//!   movaps / vmovaps, vextractf128
//!   stmxcsr [base + mxcsr]; ldmxcsr [base + host_mxcsr]
//!   fxsave [base + x87]; ldmxcsr [base + host_mxcsr]
//!   vzeroupper
//!   pop   callee-saved registers
//!   ret
//! ```
//!
//! FXRSTOR and FXSAVE carry all XMM registers too, so those that the instruction leaves alone come back as
//! they were, and none of the host's gets into the frame. Rejected: XRSTOR and XSAVE of the x87 component
//! alone (134 ns a pair against 75), FRSTOR and FNSAVE (as slow as FXSAVE, and 32-bit pointers).
//! The caller empties the host's x87 stack afterwards.

use crate::frame::{Frame, X87};
use crate::rename::Hosted;
use crate::shape::{Shape, members};
use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};
use std::mem::offset_of;

/// A thunk's code, with the place of the instruction in it.
#[derive(Clone, Debug)]
pub(crate) struct Emitted {
    pub(crate) code: Vec<u8>,
    /// Where the instruction itself starts and ends.
    #[cfg_attr(
        not(any(test, feature = "oracle")),
        expect(dead_code, reason = "only the oracle's signal handler wants to know")
    )]
    pub(crate) span: (usize, usize),
}

/// Registers that a function must give back unchanged (System V ABI for AMD64 §3.2.1), but RSP.
const CALLEE_SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

const X87_AT: usize = offset_of!(Frame, x87);
const MXCSR_AT: usize = X87_AT + offset_of!(X87, mxcsr);
const HOST_MXCSR_AT: usize = offset_of!(Frame, host_mxcsr);
const FLAGS_AT: usize = offset_of!(Frame, flags);

/// Emits the thunk of a hosted instruction.
pub(crate) fn emit(hosted: &Hosted) -> Result<Emitted, IcedError> {
    let mut emitter = Emitter { encoder: Encoder::new(64), at: 0, hosted: *hosted };
    emitter.prologue()?;
    emitter.load()?;
    let start = emitter.at;
    emitter.add(Ok(hosted.instruction))?;
    let span = (start, emitter.at);
    emitter.store()?;
    emitter.epilogue()?;
    Ok(Emitted { code: emitter.encoder.take_buffer(), span })
}

/// The bytes of the instruction alone.
pub(crate) fn encode(instruction: &Instruction) -> Result<Vec<u8>, IcedError> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, 0)?;
    Ok(encoder.take_buffer())
}

struct Emitter {
    encoder: Encoder,
    at: usize,
    hosted: Hosted,
}

type Step = Result<(), IcedError>;

impl Emitter {
    fn shape(&self) -> Shape {
        self.hosted.shape
    }

    fn add(&mut self, instruction: Result<Instruction, IcedError>) -> Step {
        self.at += self.encoder.encode(&instruction?, self.at as u64)?;
        Ok(())
    }

    /// The frame's byte `offset`.
    fn place(&self, offset: usize) -> MemoryOperand {
        MemoryOperand::with_base_displ(self.hosted.base, offset as i64)
    }

    fn saved(&self) -> impl DoubleEndedIterator<Item = Register> + use<> {
        let used = self.shape().gpr_used;
        CALLEE_SAVED.into_iter().filter(move |register| used >> register.number() & 1 != 0)
    }

    /// The host register that carries guest register `number`.
    fn general(&self, number: u8) -> Register {
        let own = Register::RAX + u32::from(number);
        if own == Register::RSP { self.hosted.stack_pointer.unwrap_or(own) } else { own }
    }

    fn prologue(&mut self) -> Step {
        for register in self.saved() {
            self.add(Instruction::with1(Code::Push_r64, register))?;
        }
        if self.hosted.base != Register::RDI {
            self.add(Instruction::with2(Code::Mov_r64_rm64, self.hosted.base, Register::RDI))?;
        }
        Ok(())
    }

    fn load(&mut self) -> Step {
        if self.shape().x87 {
            self.add(Instruction::with1(Code::Fxrstor64_m512byte, self.place(X87_AT)))?;
        } else {
            self.load_sse()?;
        }
        for number in members(self.shape().gpr_used) {
            let from = self.place(offset_of!(Frame, gpr) + 8 * usize::from(number));
            self.add(Instruction::with2(Code::Mov_r64_rm64, self.general(number), from))?;
        }
        if self.shape().flags_in {
            self.add(Instruction::with1(Code::Push_rm64, self.place(FLAGS_AT)))?;
            self.add(Ok(Instruction::with(Code::Popfq)))?;
        }
        Ok(())
    }

    fn store(&mut self) -> Step {
        if self.shape().flags_out {
            self.add(Ok(Instruction::with(Code::Pushfq)))?;
            self.add(Instruction::with1(Code::Pop_rm64, self.place(FLAGS_AT)))?;
        }
        for number in members(self.shape().gpr_written) {
            let to = self.place(offset_of!(Frame, gpr) + 8 * usize::from(number));
            self.add(Instruction::with2(Code::Mov_rm64_r64, to, self.general(number)))?;
        }
        if self.shape().x87 {
            self.add(Instruction::with1(Code::Fxsave64_m512byte, self.place(X87_AT)))?;
        } else {
            self.store_sse()?;
        }
        if self.shape().x87 || self.shape().mxcsr {
            self.add(Instruction::with1(Code::Ldmxcsr_m32, self.place(HOST_MXCSR_AT)))?;
        }
        Ok(())
    }

    fn epilogue(&mut self) -> Step {
        if self.shape().wide {
            self.add(Ok(Instruction::with(Code::VEX_Vzeroupper)))?;
        }
        for register in self.saved().rev() {
            self.add(Instruction::with1(Code::Pop_r64, register))?;
        }
        self.add(Ok(Instruction::with(Code::Retnq)))
    }

    fn load_sse(&mut self) -> Step {
        if self.shape().mxcsr {
            self.add(Instruction::with1(Code::Ldmxcsr_m32, self.place(MXCSR_AT)))?;
        }
        members(self.shape().vector_used).try_for_each(|number| self.load_vector(number))
    }

    fn store_sse(&mut self) -> Step {
        if self.shape().mxcsr {
            self.add(Instruction::with1(Code::Stmxcsr_m32, self.place(MXCSR_AT)))?;
        }
        members(self.shape().vector_written).try_for_each(|number| self.store_vector(number))
    }

    fn vector_places(&self, number: u8) -> (MemoryOperand, MemoryOperand) {
        let offset = 16 * usize::from(number);
        (
            self.place(offset_of!(Frame, xmm) + offset),
            self.place(offset_of!(Frame, ymm_high) + offset),
        )
    }

    /// In two halves: the interpreter may have stored it in two, and a load of 16 bytes across two stores
    /// that are still under way costs a dozen cycles.
    fn load_vector(&mut self, number: u8) -> Step {
        let (low, high) = self.vector_places(number);
        let xmm = Register::XMM0 + u32::from(number);
        self.load_halves(xmm, low)?;
        if !self.shape().wide {
            return Ok(());
        }
        let (ymm, spare) = (Register::YMM0 + u32::from(number), self.spare_vector());
        self.load_halves(spare, high)?;
        self.add(Instruction::with4(Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, ymm, ymm, spare, 1))
    }

    fn load_halves(&mut self, xmm: Register, from: MemoryOperand) -> Step {
        let upper = MemoryOperand { displacement: from.displacement + 8, ..from };
        if self.shape().wide {
            self.add(Instruction::with2(Code::VEX_Vmovq_xmm_xmmm64, xmm, from))?;
            return self.add(Instruction::with3(Code::VEX_Vmovhps_xmm_xmm_m64, xmm, xmm, upper));
        }
        self.add(Instruction::with2(Code::Movq_xmm_xmmm64, xmm, from))?;
        self.add(Instruction::with2(Code::Movhps_xmm_m64, xmm, upper))
    }

    /// A vector register that the instruction does not use: no instruction uses more than five.
    fn spare_vector(&self) -> Register {
        Register::XMM0 + (!self.shape().vector_used).trailing_zeros() % 16
    }

    fn store_vector(&mut self, number: u8) -> Step {
        let (low, high) = self.vector_places(number);
        let xmm = Register::XMM0 + u32::from(number);
        if !self.shape().wide {
            return self.add(Instruction::with2(Code::Movaps_xmmm128_xmm, low, xmm));
        }
        let ymm = Register::YMM0 + u32::from(number);
        self.add(Instruction::with2(Code::VEX_Vmovaps_xmmm128_xmm, low, xmm))?;
        self.add(Instruction::with3(Code::VEX_Vextractf128_xmmm128_ymm_imm8, high, ymm, 1))
    }
}
