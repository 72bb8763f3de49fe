//! The gate: the way into translated code and out of it.
//!
//! ```text
//!   Rust ── enter ──► load registers ──► code … code … ──► leave ──► store registers ──► Rust
//!                                          │                 ▲
//!                                          └ load_vectors    └ leave_saved, void_slot
//! ```
//!
//! In translated code the host's registers are the guest's, but
//!
//! | host | holds |
//! |---|---|
//! | RSP | the area, with a stack below it: a signal may come at any time |
//! | R10 | guest RSP |
//! | R11 | nothing for long: the one scratch register |
//!
//! Guest R10 and R11 live in the state of the area ([`crate::area`]); blocks that use them borrow a register
//! that they do not use otherwise. This costs about 5 % of integer speed against keeping guest RSP in host
//! RSP (engine study, §6), and buys that no signal, whoever installs its handler, ever writes its frame where
//! a guest's register points.
//!
//! XMM registers and MXCSR are loaded by the first block that uses them after the gate, and stored at the
//! next exit; x87 state likewise. RFLAGS.DF, TF, AC and the rest stay the host's: only the six status flags pass, on
//! the way in by the area.
#![expect(unsafe_code, reason = "the entry into translated code")]

use crate::area::{Area, Registers};
use std::arch::{asm, naked_asm};
use std::mem::offset_of;

/// Addresses of the ways out.
pub(crate) struct Exits {
    pub leave: u64,
    pub leave_saved: u64,
    pub load_vectors: u64,
    pub load_x87: u64,
    pub void_slot: u64,
}

pub(crate) fn exits() -> Exits {
    Exits {
        leave: leave as *const () as u64,
        leave_saved: leave_saved as *const () as u64,
        load_vectors: load_vectors as *const () as u64,
        load_x87: load_x87 as *const () as u64,
        void_slot: void_slot as *const () as u64,
    }
}

/// Makes the area the one that translated code of this thread works on.
pub(crate) fn bind(area: &Area) {
    let base = area.base();
    if has_fsgsbase() {
        // SAFETY: the kernel allows it (checked), and nothing but translated code uses GS.
        unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        const ARCH_SET_GS: libc::c_ulong = 0x1001;
        // SAFETY: sets the GS base of this thread, which nothing but translated code uses.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    }
}

/// Whether the kernel lets programs use WRGSBASE (AT_HWCAP2 bit 1, Linux x86).
fn has_fsgsbase() -> bool {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & 2 != 0 }
}

/// Runs translated code until it leaves.
///
/// # Safety
/// `code` is an entry or a place to resume in code that [`crate::translate`] emitted for `area`, which is bound to
/// this thread, and which nobody changes meanwhile.
#[inline(always)]
pub(crate) unsafe fn enter(code: u64, area: u64) {
    // SAFETY: promised by the caller; the function keeps to the calling convention.
    unsafe { gate(code, area) }
}

/// # Safety
/// As for [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn gate(code: u64, area: u64) {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "mov [rsi + {host}], rsp",
        "mov rsp, rsi",
        "mov r11, rdi",
        "mov rax, [rsp + {gpr}]", "mov rcx, [rsp + {gpr} + 8]",
        "mov rdx, [rsp + {gpr} + 16]", "mov rbx, [rsp + {gpr} + 24]",
        "mov r10, [rsp + {gpr} + 32]", "mov rbp, [rsp + {gpr} + 40]",
        "mov rsi, [rsp + {gpr} + 48]", "mov rdi, [rsp + {gpr} + 56]",
        "mov r8, [rsp + {gpr} + 64]", "mov r9, [rsp + {gpr} + 72]",
        "mov r12, [rsp + {gpr} + 96]", "mov r13, [rsp + {gpr} + 104]",
        "mov r14, [rsp + {gpr} + 112]", "mov r15, [rsp + {gpr} + 120]",
        "jmp r11",
        host = const offset_of!(Registers, host_stack),
        gpr = const offset_of!(Registers, gpr),
    )
}

/// Leaves with the status flags in RFLAGS. Jumped to, with RSP as [`gate`] has set it.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave() {
    naked_asm!(
        "mov [rsp + {gpr}], rax",
        "lahf",
        "seto al",
        "mov [rsp + {flags}], eax",
        "jmp {rest}",
        gpr = const offset_of!(Registers, gpr),
        flags = const offset_of!(Registers, flags),
        rest = sym leave_rest,
    )
}

/// Leaves with the status flags in the area already.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave_saved() {
    naked_asm!(
        "mov [rsp + {gpr}], rax",
        "jmp {rest}",
        gpr = const offset_of!(Registers, gpr),
        rest = sym leave_rest,
    )
}

/// Leaves from a branch whose slot is void; R11 holds the number of its record, the flags are in the area.
#[unsafe(naked)]
unsafe extern "sysv64" fn void_slot() {
    naked_asm!(
        "mov gs:[{exit}], r11",
        "jmp {leave}",
        exit = const offset_of!(Registers, exit),
        leave = sym leave_saved,
    )
}

#[unsafe(naked)]
unsafe extern "sysv64" fn leave_rest() {
    naked_asm!(
        "mov [rsp + {gpr} + 8], rcx",
        "mov [rsp + {gpr} + 16], rdx", "mov [rsp + {gpr} + 24], rbx",
        "mov [rsp + {gpr} + 32], r10", "mov [rsp + {gpr} + 40], rbp",
        "mov [rsp + {gpr} + 48], rsi", "mov [rsp + {gpr} + 56], rdi",
        "mov [rsp + {gpr} + 64], r8", "mov [rsp + {gpr} + 72], r9",
        "mov [rsp + {gpr} + 96], r12", "mov [rsp + {gpr} + 104], r13",
        "mov [rsp + {gpr} + 112], r14", "mov [rsp + {gpr} + 120], r15",
        "cmp qword ptr gs:[{live}], 0",
        "je 2f",
        "stmxcsr gs:[{mxcsr}]",
        "ldmxcsr gs:[{host}]",
        "movaps gs:[{xmm}], xmm0", "movaps gs:[{xmm} + 16], xmm1",
        "movaps gs:[{xmm} + 32], xmm2", "movaps gs:[{xmm} + 48], xmm3",
        "movaps gs:[{xmm} + 64], xmm4", "movaps gs:[{xmm} + 80], xmm5",
        "movaps gs:[{xmm} + 96], xmm6", "movaps gs:[{xmm} + 112], xmm7",
        "movaps gs:[{xmm} + 128], xmm8", "movaps gs:[{xmm} + 144], xmm9",
        "movaps gs:[{xmm} + 160], xmm10", "movaps gs:[{xmm} + 176], xmm11",
        "movaps gs:[{xmm} + 192], xmm12", "movaps gs:[{xmm} + 208], xmm13",
        "movaps gs:[{xmm} + 224], xmm14", "movaps gs:[{xmm} + 240], xmm15",
        "mov qword ptr gs:[{live}], 0",
        "2:",
        "cmp qword ptr gs:[{x87_live}], 0",
        "je 3f",
        "mov eax, 1",
        "xor edx, edx",
        "xsave gs:[{x87}]",
        "fninit",
        "mov qword ptr gs:[{x87_live}], 0",
        "3:",
        "mov rsp, [rsp + {host_stack}]",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        gpr = const offset_of!(Registers, gpr),
        host_stack = const offset_of!(Registers, host_stack),
        live = const offset_of!(Registers, vectors_live),
        mxcsr = const offset_of!(Registers, mxcsr),
        host = const offset_of!(Registers, host_mxcsr),
        xmm = const offset_of!(Registers, xmm),
        x87_live = const offset_of!(Registers, x87_live),
        x87 = const offset_of!(Registers, x87),
    )
}

/// Loads x87 state. Called from translated code; changes no flags.
#[unsafe(naked)]
unsafe extern "sysv64" fn load_x87() {
    naked_asm!(
        "push rax", "push rdx",
        "mov eax, 1",
        "mov edx, 0",
        "xrstor gs:[{x87}]",
        "mov qword ptr gs:[{live}], 1",
        "mov qword ptr gs:[{changed}], 1",
        "pop rdx", "pop rax",
        "ret",
        live = const offset_of!(Registers, x87_live),
        changed = const offset_of!(Registers, x87_changed),
        x87 = const offset_of!(Registers, x87),
    )
}

/// Loads XMM registers and MXCSR. Called from translated code; changes no flags.
#[unsafe(naked)]
unsafe extern "sysv64" fn load_vectors() {
    naked_asm!(
        "stmxcsr gs:[{host}]",
        "ldmxcsr gs:[{mxcsr}]",
        "movaps xmm0, gs:[{xmm}]", "movaps xmm1, gs:[{xmm} + 16]",
        "movaps xmm2, gs:[{xmm} + 32]", "movaps xmm3, gs:[{xmm} + 48]",
        "movaps xmm4, gs:[{xmm} + 64]", "movaps xmm5, gs:[{xmm} + 80]",
        "movaps xmm6, gs:[{xmm} + 96]", "movaps xmm7, gs:[{xmm} + 112]",
        "movaps xmm8, gs:[{xmm} + 128]", "movaps xmm9, gs:[{xmm} + 144]",
        "movaps xmm10, gs:[{xmm} + 160]", "movaps xmm11, gs:[{xmm} + 176]",
        "movaps xmm12, gs:[{xmm} + 192]", "movaps xmm13, gs:[{xmm} + 208]",
        "movaps xmm14, gs:[{xmm} + 224]", "movaps xmm15, gs:[{xmm} + 240]",
        "mov qword ptr gs:[{live}], 1",
        "mov qword ptr gs:[{changed}], 1",
        "ret",
        live = const offset_of!(Registers, vectors_live),
        changed = const offset_of!(Registers, vectors_changed),
        mxcsr = const offset_of!(Registers, mxcsr),
        host = const offset_of!(Registers, host_mxcsr),
        xmm = const offset_of!(Registers, xmm),
    )
}
