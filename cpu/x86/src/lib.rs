//! The x86-64 CPU: facts, decoding, the instruction table and the interpreter.
//!
//! ```text
//!   bytes ──iced-x86──► Instruction ──table::row──► Row (operation, undefined flags)
//!                            │                          │
//!                            └──────── lower ◄──────────┘
//!                                        ▼
//!                          Op { run, a, b, base, index, imm … }   40 bytes
//!                                        ▼
//!                     Core::run_block: (op.run)(core, op) one after the other
//! ```
//!
//! * [`table`] is the one list of instructions: interpreter dispatch, the instruction tests and the
//!   translator read it.
//! * [`lower`] turns a decoded instruction into an [`Op`]: a function pointer made for exactly this
//!   operation, width and operand form, with its operands unpacked.
//! * [`Core`] is a CPU at work: [`CpuState`], a [`Memory`] and the machine. Handlers are plain functions
//!   over it.
//! * [`Memory`] is how linear addresses reach bytes. The software engine implements it with a TLB,
//!   the KVM engine's fix-up with a page walk at every access ([`paging`]).
//!
//! # Restart
//! A handler either completes, or returns an error having changed nothing that the guest can see: all
//! checks and loads come first, then at most one store that can fail, then registers and flags.
//! Instructions with several stores probe all of them beforehand. That is what makes every exception
//! restartable, and lets the engine run an instruction again whose store met decoded code.
//!
//! # Flags
//! Arithmetic flags are kept as the last result and its carry vector ([`flags`]), which costs a few
//! operations a result and no branch; they become RFLAGS bits when somebody looks.

pub mod block;
pub mod core;
pub mod cpuid;
pub mod fault;
pub mod flags;
pub mod interp;
pub mod lower;
pub mod memory;
pub mod op;
pub mod paging;
pub mod state;
pub mod table;
pub mod testkit;
pub mod word;

pub use crate::core::Core;
pub use fault::{Exception, Stop};
pub use memory::{Intent, Memory};
pub use op::{Handler, Op};
pub use state::CpuState;
