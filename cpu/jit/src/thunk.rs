//! Thunks: functions that execute one instruction on a [`Frame`].
//!
//! ```text
//!   Instruction ──admit──► canonical ──host──► emit ──verify──► executable memory
//!                                                                   │
//!   Thunk (a handle, never void) ◄── Entry, for ever ◄──────────────┘
//! ```
//!
//! There is one library for the process. Thunks are made when an instruction is first decoded, under a
//! lock, and stay for the life of the process, so that a handle can be kept in decoded code and called
//! by every thread without a look-up. Their number is bounded by encodings and immediates (see
//! [`crate::rename`]); all of them fit in the memory that is reserved, of which pages are taken only as
//! they are used.
//!
//! # Exceptions
//! No signal ever arises.
//!
//! * x87: the guest's own masks are in force. The processor then defers an unmasked exception to the next
//!   waiting instruction (Intel SDM vol. 1 §8.7); the thunk stores the state before that, and
//!   [`Thunk::run`] reports [`Outcome::X87Pending`] instead of running when an exception waits.
//! * SSE and AVX: while the guest masks everything, its MXCSR is simply in force. When it does not, the
//!   thunk runs with everything masked on a copy of the frame, and the flags it sets decide whether the
//!   copy becomes the frame or [`Outcome::SimdException`] is reported (vol. 1 §11.5).
//!   An unmasked underflow is raised by every tiny result (and flush-to-zero has no effect then), a masked
//!   one is flagged only when it is inexact too. A second copy with flush-to-zero, which flags every tiny
//!   result, tells. One thing cannot be found so: whether a result that raises an unmasked overflow or
//!   underflow would be inexact with an unbounded exponent; PE then tells about the masked result. And
//!   DPPS and DPPD, which work in two steps, may show flags of the second that the processor did not reach.
//!
//! # What was rejected
//! A thunk for each place in the guest's code (unbounded); thunks that load all sixteen registers (four
//! times slower); a SIGFPE handler (3 µs a signal, and a process-wide resource).
#![expect(unsafe_code, reason = "calls the code that it has generated")]

use crate::admit::{NotNative, Scope, admit};
use crate::emit::{emit, encode};
use crate::frame::Frame;
use crate::memory::{ExecutableMemory, ExecutableMemoryError};
use crate::rename::{Binding, canonical, host};
use crate::shape::{MemoryUse, Shape};
use crate::spec::{
    MXCSR_FLAGS, MXCSR_FLUSH_TO_ZERO, MXCSR_MASK_SHIFT, MXCSR_MASKS, MXCSR_VALID, PRE_COMPUTATION,
    UNDERFLOW,
};
use crate::verify::is_confined;
use iced_x86::{Code, Instruction};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Address space for all thunks.
const RESERVED: usize = 64 << 20;

/// The signature of generated code.
pub(crate) type Function = unsafe extern "sysv64" fn(*mut Frame);

/// What running a thunk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an exception must be delivered"]
pub enum Outcome {
    /// The frame holds the results.
    Done,
    /// #XM is due: MXCSR has the flags, nothing else has changed.
    SimdException,
    /// #MF is due for an earlier instruction: nothing has changed.
    X87Pending,
}

/// A native instruction. Handles are small, last for ever and may be shared between threads.
#[derive(Clone, Copy, Debug)]
pub struct Thunk(&'static Entry);

#[derive(Debug)]
struct Entry {
    function: Function,
    shape: Shape,
    care: Care,
    bindings: Box<[Binding]>,
}

/// What is to be done around the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Care {
    /// Nothing: no flags, MXCSR or x87 state.
    None,
    /// MXCSR alone comes into it: nothing while it masks everything.
    Mxcsr,
    /// See [`Thunk::run_guarded`].
    Full,
}

impl Care {
    fn of(shape: &Shape) -> Care {
        match (shape.x87 || shape.flags_in || shape.flags_out, shape.mxcsr) {
            (true, _) => Care::Full,
            (false, true) => Care::Mxcsr,
            (false, false) => Care::None,
        }
    }
}

impl Thunk {
    /// The thunk of an instruction.
    ///
    /// # Errors
    /// [`NotNative`] when it must not or cannot run on the host.
    pub fn get(instruction: &Instruction) -> Result<Thunk, NotNative> {
        admit(instruction, Scope::Guest)?;
        LIBRARY.lock().unwrap_or_else(PoisonError::into_inner).get(instruction).map(Thunk)
    }

    /// Runs it. Register operands are in the frame where [`Thunk::bindings`] say, the memory operand is at
    /// the start of [`Frame::memory`], x87 state and MXCSR are in [`Frame::x87`].
    ///
    /// x87 pointers (FIP, FDP, FOP) stay as they are: the host's never show.
    #[inline(always)]
    pub fn run(self, frame: &mut Frame) -> Outcome {
        let free = match self.0.care {
            Care::None => true,
            Care::Mxcsr => masks_everything(frame.x87.mxcsr),
            Care::Full => false,
        };
        if free {
            self.call(frame);
            return Outcome::Done;
        }
        self.run_guarded(frame)
    }

    /// The memory operand, if there is one.
    #[must_use]
    pub fn memory(self) -> Option<MemoryUse> {
        self.0.shape.memory
    }

    /// Register operands, in the order in which written ones are to be copied out.
    #[must_use]
    pub fn bindings(self) -> &'static [Binding] {
        &self.0.bindings
    }

    /// VEX-encoded: upper halves of vector operands count, and are zeroed by 128-bit forms.
    #[must_use]
    pub fn is_wide(self) -> bool {
        self.0.shape.wide
    }

    /// Works on the x87 or MMX registers.
    #[must_use]
    pub fn uses_x87(self) -> bool {
        self.0.shape.x87
    }

    /// Works on MMX registers: an x87 instruction sets the x87 pointers, this one does not.
    #[must_use]
    pub fn is_mmx(self) -> bool {
        self.0.shape.mmx
    }

    /// Reads (or partly keeps) the status flags.
    #[must_use]
    pub fn reads_flags(self) -> bool {
        self.0.shape.flags_in
    }

    /// Writes status flags.
    #[must_use]
    pub fn writes_flags(self) -> bool {
        self.0.shape.flags_out
    }

    #[inline(always)]
    fn call(self, frame: &mut Frame) {
        // SAFETY: the code was emitted for this signature and proven confined to the frame
        // (`crate::verify`) before the entry was made; it is never overwritten or unmapped, since the
        // library is never cleared or dropped. What its instruction needs of the host was detected
        // (`admit`), and the callers below see to MXCSR, x87 state and flags.
        unsafe { (self.0.function)(frame) }
    }

    #[inline(never)]
    fn run_guarded(self, frame: &mut Frame) -> Outcome {
        let shape = &self.0.shape;
        frame.keep_status_flags();
        let pointers = frame.x87.pointers();
        if shape.x87 {
            if frame.x87.pending() {
                return Outcome::X87Pending;
            }
            frame.x87.update_summary();
            frame.x87.mxcsr &= MXCSR_VALID;
        }
        let outcome = if shape.mxcsr && !masks_everything(frame.x87.mxcsr) {
            self.run_trial(frame)
        } else {
            self.call(frame);
            Outcome::Done
        };
        if shape.x87 {
            frame.leave_x87(pointers);
        }
        frame.keep_status_flags();
        outcome
    }

    /// Runs with every SIMD exception masked, on a copy.
    #[cold]
    fn run_trial(self, frame: &mut Frame) -> Outcome {
        let guest = frame.x87.mxcsr & MXCSR_VALID;
        let unmasked = !(guest >> MXCSR_MASK_SHIFT) & MXCSR_FLAGS;
        let masked = guest & !MXCSR_FLAGS | MXCSR_MASKS;
        let mut trial = self.try_with(masked, frame);
        let mut raised = trial.x87.mxcsr & MXCSR_FLAGS;
        if unmasked & UNDERFLOW != 0 {
            let flushed = self.try_with(masked | MXCSR_FLUSH_TO_ZERO, frame);
            trial = self.try_with(masked & !MXCSR_FLUSH_TO_ZERO, frame);
            raised = trial.x87.mxcsr & MXCSR_FLAGS | flushed.x87.mxcsr & UNDERFLOW;
        }
        if raised & unmasked == 0 {
            trial.x87.mxcsr = guest | raised;
            *frame = trial;
            return Outcome::Done;
        }
        frame.x87.mxcsr = guest | reported(raised, unmasked);
        Outcome::SimdException
    }

    /// A copy of the frame on which the instruction ran under `mxcsr`.
    fn try_with(self, mxcsr: u32, frame: &Frame) -> Frame {
        let mut trial = frame.clone();
        trial.x87.mxcsr = mxcsr;
        self.call(&mut trial);
        trial
    }
}

/// The flags that MXCSR gets when an exception is delivered: those of the computation are not reached
/// when one before it is unmasked (Intel SDM vol. 1 §11.5.3.2).
fn reported(raised: u32, unmasked: u32) -> u32 {
    if raised & unmasked & PRE_COMPUTATION != 0 { raised & PRE_COMPUTATION } else { raised }
}

/// MXCSR is valid and masks all exceptions.
fn masks_everything(mxcsr: u32) -> bool {
    mxcsr & (MXCSR_MASKS | !MXCSR_VALID) == MXCSR_MASKS
}

/// Reserves the executable memory for thunks: before a process gives up the right to map any, and to learn
/// whether it may. Otherwise the first thunk does it.
///
/// # Errors
/// [`ExecutableMemoryError`]: without it no native instruction exists, and guests get #UD for them.
pub fn prepare() -> Result<(), ExecutableMemoryError> {
    let mut library = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if library.memory.is_none() {
        library.memory = Some(ExecutableMemory::new(RESERVED)?);
    }
    Ok(())
}

static LIBRARY: LazyLock<Mutex<Library>> = LazyLock::new(Mutex::default);

/// What tells thunks apart: the canonical instruction's bytes, and what stands for RSP.
pub(crate) type Key = (Vec<u8>, Option<iced_x86::Register>);

#[derive(Default)]
struct Library {
    memory: Option<ExecutableMemory>,
    entries: HashMap<Key, &'static Entry>,
}

impl Library {
    fn get(&mut self, instruction: &Instruction) -> Result<&'static Entry, NotNative> {
        let code = instruction.code();
        let (canonical, bindings) = canonical(instruction);
        let hosted = host(&canonical).ok_or(no_encoding(code))?;
        let bytes = encode(&hosted.instruction).map_err(|_unencodable| no_encoding(code))?;
        let key = (bytes, hosted.stack_pointer);
        if let Some(entry) = self.entries.get(&key) {
            return Ok(entry);
        }
        let emitted = emit(&hosted).map_err(|_unencodable| no_encoding(code))?;
        if !is_confined(&emitted.code, hosted.base) {
            return Err(NotNative::Refused { code, reason: "its thunk is not confined" });
        }
        let function = self.place(&emitted.code).ok_or(NotNative::NoMemory { code })?;
        let shape = hosted.shape;
        let bindings = bindings.into_boxed_slice();
        let entry: &'static Entry =
            Box::leak(Box::new(Entry { function, shape, care: Care::of(&shape), bindings }));
        self.entries.insert(key, entry);
        Ok(entry)
    }

    fn place(&mut self, code: &[u8]) -> Option<Function> {
        if self.memory.is_none() {
            self.memory = ExecutableMemory::new(RESERVED).ok();
        }
        let memory = self.memory.as_mut()?;
        let offset = memory.append(code)?;
        function_at(memory, offset)
    }
}

fn no_encoding(code: Code) -> NotNative {
    NotNative::Refused { code, reason: "it has no encoding in 64-bit mode" }
}

/// The function at an offset that [`ExecutableMemory::append`] gave for emitted code.
pub(crate) fn function_at(memory: &ExecutableMemory, offset: usize) -> Option<Function> {
    let address = memory.address(offset)?;
    // SAFETY: the address is that of code emitted with this signature. That it stays valid as long as
    // it is called is the business of whoever holds the memory.
    Some(unsafe { std::mem::transmute::<*const u8, Function>(address) })
}

#[cfg(test)]
mod tests;
