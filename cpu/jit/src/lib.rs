//! Executable memory, and native one-instruction thunks.
//!
//! An interpreter for the host's own instruction set can let the host execute what it has no wish to
//! describe: x87, MMX, SSE, AVX, AES … run as themselves, exact to the last bit, on operands copied into
//! a [`Frame`].
//!
//! ```text
//!   guest: paddd xmm7, [rbx + 8]       Thunk: movaps xmm1, [rdi + …]
//!     xmm7  ──────────► frame.xmm[1]            paddd  xmm1, [rdi + memory]
//!     memory ─────────► frame.memory            movaps [rdi + …], xmm1
//!     xmm7  ◄────────── frame.xmm[1]            ret
//! ```
//!
//! * [`memory`]: code that is never writable where it is executable.
//! * [`thunk`]: the library of thunks and how one is run; [`frame`]: what they run on.
//! * `admit` decides what may run at all, `rename` makes it canonical and moves its memory operand into
//!   the frame, `shape` says what must be loaded and stored, `emit` writes the code, and `verify` reads
//!   every thunk back and proves that it cannot reach beyond the frame.
//! * `oracle` (feature `oracle`, for tests): any user-mode instruction on the host CPU, with its faults.
//!
//! # Trust
//! The guest chooses the instruction and every value in the frame. It cannot choose an address: a thunk
//! whose memory operands are not all at constant places in the frame does not pass `verify`.

mod admit;
pub mod area;
mod emit;
pub mod frame;
mod gate;
pub mod memory;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
mod probe;
mod rename;
mod returns;
mod shape;
mod spec;
pub mod thunk;
pub mod translate;
mod verify;

pub use admit::NotNative;
pub use frame::{Frame, MEMORY_OPERAND, X87, X87_BYTES};
pub use memory::{ExecutableMemory, ExecutableMemoryError};
pub use rename::{Binding, Class, Source};
pub use shape::MemoryUse;
pub use thunk::{Outcome, Thunk, prepare};
