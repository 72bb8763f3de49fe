//! The software engine: an x86-64 CPU in software behind the engine contract.
//!
//! ```text
//!   SoftHypervisor ─► SoftPartition ─────────────── Shared ──────────────┐
//!                        │ vcpu(i)                    │ Ram, TSC, mailboxes │
//!                        ▼                            ▼                   │
//!                     SoftVcpu: run loop ──► Core<SoftMemory> ◄───────────┘
//!                        │                       │      └ Tlb, Apic
//!                        └ BlockCache            └ interpreter (kezhan-x86)
//! ```
//!
//! * One host thread runs each vCPU. Everything that a vCPU owns (registers, TLB, local APIC, decoded
//!   blocks) is touched by its thread only; others leave notes in its [`mailbox`].
//! * [`memory`] is the linear memory of a vCPU: the TLB in front, the page walk behind.
//! * [`blocks`] keeps decoded blocks by physical address, so that they outlive address spaces.
//! * [`code`] sees to it that a store to decoded bytes is never missed, on whichever vCPU or device.
//! * `debug` finds the breakpoints that an instruction meets.
//! * [`perf_map`] tells `perf` what the translated code is of.
//! * [`apic`] is the local APIC, a plain state machine over a clock.
//!
//! # Trust
//! A guest reaches host memory only through [`ram`], whose one constructor of host pointers checks the
//! guest-physical address against the RAM regions; TLB entries hold such pointers and nothing else.
//!
//! # Locks
//! | lock | held | taken before |
//! |---|---|---|
//! | of split accesses ([`memory`]) | while a locked access goes over the end of a page | `telling` |
//! | `telling` of [`code`] | while those who have decoded a page are told that it has changed | mailboxes' |
//! | of a mailbox | to leave or take notes: nothing is called meanwhile | |
//!
//! A vCPU that stores to decoded bytes takes `telling`, as a device does; one that finds a note takes the lock of its own
//! mailbox. There is no other lock on the way of a running vCPU.

pub mod apic;
pub mod blocks;
pub mod code;
mod debug;
mod halt;
mod large;
pub mod mailbox;
pub mod memory;
pub mod partition;
pub mod perf_map;
mod platform;
pub mod ram;
mod ticker;
mod tier;
mod tlb;
pub mod traffic;
mod vcpu;
mod ways;

pub use partition::{SoftHypervisor, SoftPartition};
pub use perf_map::PerfMap;
