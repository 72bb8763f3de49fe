//! The silicon oracle: any user-mode instruction, executed by the host CPU, faults and all.
//!
//! For tests. Registers keep their numbers (`add rbx, r12` works on `frame.gpr[3]` and
//! `frame.gpr[12]`), LOCK and division are allowed, and MXCSR and x87 masks are really in force: when the
//! processor raises an exception, a signal handler steps over the instruction, and [`Oracle::run`] says
//! which one it was. The frame then holds what the faulting instruction left.
//!
//! ```text
//!   run ──► thunk … instruction ──signal──► handler: RIP := behind it; note the fault
//!                       └─────────────────────────────► … thunk goes on, stores registers
//! ```
#![expect(unsafe_code, reason = "calls generated code and handles a signal")]

pub mod forms;

use crate::admit::{NotNative, Scope, admit};
use crate::emit::{emit, encode};
use crate::frame::{Frame, MEMORY_OPERAND};
use crate::memory::{ExecutableMemory, ExecutableMemoryError};
use crate::rename::host;
use crate::shape::Shape;
use crate::thunk::{Function, Key, function_at};
use crate::verify::is_confined;
use iced_x86::{Instruction, Mnemonic, OpKind};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Once;

/// An exception that the host CPU raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #DE.
    Divide,
    /// #XM.
    Simd,
    /// #MF, for an earlier instruction.
    X87,
    /// #GP: a memory operand that is not aligned.
    Protection,
}

/// Runs instructions on the host CPU.
#[derive(Debug)]
pub struct Oracle {
    memory: ExecutableMemory,
    known: HashMap<Key, Experiment>,
}

#[derive(Clone, Copy, Debug)]
struct Experiment {
    function: Function,
    shape: Shape,
    /// Address of the instruction and of what follows it.
    span: (u64, u64),
}

/// The experiment under way on this thread, for the signal handler.
#[derive(Clone, Copy, Debug)]
struct Watch {
    span: (u64, u64),
    fault: Option<Fault>,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch { span: (0, 0), fault: None }) };
}

const RESERVED: usize = 16 << 20;

impl Oracle {
    /// An oracle with memory of its own.
    ///
    /// # Errors
    /// The host refuses executable memory.
    pub fn new() -> Result<Oracle, ExecutableMemoryError> {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(install_handlers);
        Ok(Oracle { memory: ExecutableMemory::new(RESERVED)?, known: HashMap::new() })
    }

    /// Executes `instruction` on `frame`; its memory operand is [`Frame::memory`], whatever its address
    /// says. The inner result is the fault that it raised.
    ///
    /// # Errors
    /// [`NotNative`]
    pub fn run(
        &mut self,
        instruction: &Instruction,
        frame: &mut Frame,
    ) -> Result<Result<(), Fault>, NotNative> {
        self.run_at(instruction, frame, 0)
    }

    /// As [`Oracle::run`], with the memory operand `offset` bytes into [`Frame::memory`]: not aligned, when
    /// that is odd. `offset` is at most 15.
    ///
    /// # Errors
    /// [`NotNative`]
    pub fn run_at(
        &mut self,
        instruction: &Instruction,
        frame: &mut Frame,
        offset: u8,
    ) -> Result<Result<(), Fault>, NotNative> {
        admit(instruction, Scope::Laboratory)?;
        self.check_bit_offset(instruction, frame)?;
        let experiment = self.experiment(instruction, offset & 15)?;
        frame.keep_status_flags();
        frame.x87.mxcsr &= crate::spec::MXCSR_VALID;
        frame.x87.update_summary();
        let pointers = frame.x87.pointers();
        WATCH.set(Watch { span: experiment.span, fault: None });
        // SAFETY: emitted for this signature; its memory operand lies in the frame (an offset that a
        // register gives was checked); what the host lacks was refused; the memory outlives the call.
        unsafe { (experiment.function)(frame) };
        let fault = WATCH.get().fault;
        WATCH.set(Watch { span: (0, 0), fault: None });
        if experiment.shape.x87 {
            frame.leave_x87(pointers);
        }
        frame.keep_status_flags();
        Ok(fault.map_or(Ok(()), Err))
    }

    /// BT with memory and a register must stay inside the operand.
    fn check_bit_offset(&self, instruction: &Instruction, frame: &Frame) -> Result<(), NotNative> {
        if !is_bit_test(instruction) || instruction.op1_kind() != OpKind::Register {
            return Ok(());
        }
        let bits = instruction.memory_size().size() as u64 * 8;
        let value = frame.gpr[instruction.op1_register().number() & 15];
        if bits == 0 || value < bits {
            return Ok(());
        }
        let reason = "its bit offset leaves the memory operand";
        Err(NotNative::Refused { code: instruction.code(), reason })
    }

    fn experiment(
        &mut self,
        instruction: &Instruction,
        offset: u8,
    ) -> Result<Experiment, NotNative> {
        let code = instruction.code();
        let no_encoding = NotNative::Refused { code, reason: "it has no encoding in 64-bit mode" };
        let mut hosted = host(instruction).ok_or(no_encoding)?;
        // An instruction that faults leaves the flags: they must be the frame's.
        hosted.shape.flags_in |= hosted.shape.flags_out;
        if let Some(memory) = hosted.shape.memory {
            assert!(usize::from(offset + memory.bytes) <= MEMORY_OPERAND);
            let place = hosted.instruction.memory_displacement64() + u64::from(offset);
            hosted.instruction.set_memory_displacement64(place);
        }
        let bytes = encode(&hosted.instruction).map_err(|_unencodable| no_encoding)?;
        let key = (bytes, hosted.stack_pointer);
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        let emitted = emit(&hosted).map_err(|_unencodable| no_encoding)?;
        if !is_confined(&emitted.code, hosted.base) && !is_bit_test(instruction) {
            return Err(NotNative::Refused { code, reason: "its thunk is not confined" });
        }
        let offset = match self.memory.append(&emitted.code) {
            Some(offset) => offset,
            None => {
                self.memory.clear();
                self.known.clear();
                self.memory.append(&emitted.code).ok_or(NotNative::NoMemory { code })?
            }
        };
        let function = function_at(&self.memory, offset).ok_or(NotNative::NoMemory { code })?;
        let at = |position: usize| function as usize as u64 + position as u64;
        let span = (at(emitted.span.0), at(emitted.span.1));
        let experiment = Experiment { function, shape: hosted.shape, span };
        self.known.insert(key, experiment);
        Ok(experiment)
    }
}

fn is_bit_test(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc)
}

/// Handles SIGFPE and SIGSEGV for every thread: steps over the watched instruction, or lets the signal
/// kill us.
fn install_handlers() {
    for signal in [libc::SIGFPE, libc::SIGSEGV] {
        // SAFETY: the struct is plain data, valid when zero; the handler has the SA_SIGINFO signature
        // and only touches a thread-local cell without destructor and the context it is given.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_fault(
    signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    const RIP: usize = libc::REG_RIP as usize;
    const TRAP: usize = libc::REG_TRAPNO as usize;
    // SAFETY: the kernel gives a SA_SIGINFO handler a valid `ucontext_t` that nobody else refers to.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let watch = WATCH.get();
    if registers[RIP] as u64 != watch.span.0 {
        // SAFETY: restores the default action; the signal comes again and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    let fault = match registers[TRAP] {
        0 => Fault::Divide,
        13 => Fault::Protection,
        16 => Fault::X87,
        _ => Fault::Simd,
    };
    registers[RIP] = watch.span.1 as i64;
    WATCH.set(Watch { fault: Some(fault), ..watch });
}

#[cfg(test)]
mod tests;
