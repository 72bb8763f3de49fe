//! Fast system calls: SYSCALL, SYSENTER and their returns.
//!
//! Both makers have all four, and each lets its own pair go further than the other's does. Operating
//! systems ask CPUID for the maker and choose by it, so the maker that CPUID names decides:
//!
//! ```text
//!                                          GenuineIntel    AuthenticAMD
//!   SYSCALL, SYSRET   64-bit mode              yes             yes
//!                     compatibility, legacy    #UD             yes
//!   SYSENTER, SYSEXIT long mode                yes             #UD
//!                     legacy                   yes             yes
//! ```
//!
//! Sources: Intel SDM vol. 2B, these instructions; AMD64 Architecture Programmer's Manual vol. 3, the same,
//! and vol. 2 §6.1.

use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::flags;
use crate::memory::Memory;
use crate::op::{Handler, Op, bits};
use crate::state::{CS, CodeBits, R11, RCX, RDX, RSP, SS, cr0, efer};
use crate::table::{Operation, Row};
use iced_x86::Instruction;
use kezhan_hypervisor::Segment;

/// CPUID leaf 0 ECX of AuthenticAMD.
const AMD: u32 = u32::from_le_bytes(*b"cAMD");

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, _instruction: &Instruction) -> Option<Handler<M>> {
    use Operation as O;
    Some(match row.operation {
        O::Syscall => syscall,
        O::Sysret => sysret,
        O::Sysenter => sysenter,
        O::Sysexit => sysexit,
        _ => return None,
    })
}

/// Whether CPUID names AMD.
pub(super) fn is_amd<M: Memory>(core: &mut Core<'_, M>) -> bool {
    M::cpuid(core, 0, 0)[2] == AMD
}

fn canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    Segment {
        selector,
        limit: u32::MAX,
        kind: 0xb,
        s: true,
        dpl,
        present: true,
        l: long,
        db: !long,
        g: true,
        ..Segment::default()
    }
}

fn flat_stack(selector: u16, dpl: u8) -> Segment {
    Segment { kind: 3, db: true, l: false, ..flat_code(selector, dpl, false) }
}

/// Loads flat CS and SS, as all of these do.
fn set_flat<M: Memory>(core: &mut Core<'_, M>, code: Segment, stack: Segment) {
    core.cpu.segments[CS] = code;
    core.cpu.segments[SS] = stack;
    core.cpu.derive();
    M::permissions_changed(core);
}

/// The selectors of CS and SS that SYSCALL loads from IA32_STAR, and those that SYSRET to 64-bit mode loads.
pub fn ring_selectors(star: u64) -> [[u16; 2]; 2] {
    let (call, back) = ((star >> 32) as u16 & !3, (star >> 48) as u16);
    [[call, call.wrapping_add(8)], [back.wrapping_add(16) | 3, back.wrapping_add(8) | 3]]
}

/// CS and SS as SYSCALL leaves them.
pub fn load_call_segments<M: Memory>(core: &mut Core<'_, M>) {
    let long = core.cpu.long_mode();
    let [[code, stack], _] = ring_selectors(core.cpu.msr.star);
    set_flat(core, flat_code(code, 0, long), flat_stack(stack, 0));
}

/// CS and SS as SYSRET leaves them, in 64-bit mode or not.
pub fn load_return_segments<M: Memory>(core: &mut Core<'_, M>, to_long: bool) {
    let [_, [code, stack]] = ring_selectors(core.cpu.msr.star);
    let code = if to_long { code } else { (core.cpu.msr.star >> 48) as u16 | 3 };
    set_flat(core, flat_code(code, 3, to_long), flat_stack(stack, 3));
}

/// #UD where EFER.SCE is off, or the maker has SYSCALL and SYSRET in 64-bit mode only and this is another.
fn require_syscall<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    let enabled = core.cpu.efer & efer::SCE != 0 && core.cpu.protected();
    if enabled && (core.cpu.code_bits == CodeBits::Bits64 || is_amd(core)) {
        return Ok(());
    }
    Err(core.raise(vector::UD))
}

fn syscall<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_syscall(core)?;
    let long = core.cpu.long_mode();
    let star = core.cpu.msr.star;
    let (target, cleared) = match core.cpu.code_bits {
        CodeBits::Bits64 => (core.cpu.msr.lstar, core.cpu.msr.fmask),
        _ if long => (core.cpu.msr.cstar, core.cpu.msr.fmask),
        _ => (star & 0xffff_ffff, flags::IF),
    };
    core.cpu.gpr[RCX] = core.behind(op);
    let image = core.cpu.rflags() & !flags::RF;
    if long {
        core.cpu.gpr[R11] = image;
    }
    let masked = image & !cleared;
    core.cpu.set_rflags(masked);
    load_call_segments(core);
    core.cpu.rip = target;
    core.cpu.trap_blocked = masked & flags::TF == 0;
    Ok(())
}

fn sysret<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_syscall(core)?;
    core.require_ring_0()?;
    let to_long = op.bits & bits::OPERAND_64 != 0;
    let rip = core.cpu.gpr[RCX];
    if to_long && !canonical(rip) {
        return Err(core.raise_code(vector::GP, 0));
    }
    let image = if core.cpu.long_mode() {
        core.cpu.gpr[R11] & 0x3c_7fd7 | flags::FIXED
    } else {
        core.cpu.rflags() | flags::IF
    };
    core.cpu.set_rflags(image);
    load_return_segments(core, to_long);
    core.cpu.rip = if to_long { rip } else { rip & 0xffff_ffff };
    // TF counts as it is now, not as it was before (Intel SDM vol. 3B §17.3.1.4).
    core.cpu.trap_blocked = true;
    if core.cpu.rflags & flags::TF != 0 { Err(core.raise_single_step()) } else { Ok(()) }
}

/// #UD where the maker has SYSENTER and SYSEXIT outside long mode only, and this is long mode.
fn require_sysenter<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if core.cpu.long_mode() && is_amd(core) { Err(core.raise(vector::UD)) } else { Ok(()) }
}

fn sysenter<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    require_sysenter(core)?;
    let selector = core.cpu.msr.sysenter_cs as u16 & !3;
    if core.cpu.cr0 & cr0::PE == 0 || selector == 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    let long = core.cpu.long_mode();
    core.cpu.rflags &= !(flags::VM | flags::IF);
    set_flat(core, flat_code(selector, 0, long), flat_stack(selector + 8, 0));
    let mask = if long { u64::MAX } else { 0xffff_ffff };
    core.cpu.gpr[RSP] = core.cpu.msr.sysenter_esp & mask;
    core.cpu.rip = core.cpu.msr.sysenter_eip & mask;
    Ok(())
}

fn sysexit<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_sysenter(core)?;
    let base = core.cpu.msr.sysenter_cs as u16 & !3;
    if base == 0 || core.cpu.cr0 & cr0::PE == 0 || core.cpu.cpl != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    let to_long = op.bits & bits::OPERAND_64 != 0;
    let (rip, rsp) = (core.cpu.gpr[RDX], core.cpu.gpr[RCX]);
    if to_long && !(canonical(rip) && canonical(rsp)) {
        return Err(core.raise_code(vector::GP, 0));
    }
    let (code, mask) = if to_long { (base + 32, u64::MAX) } else { (base + 16, 0xffff_ffff) };
    set_flat(core, flat_code(code | 3, 3, to_long), flat_stack((code + 8) | 3, 3));
    core.cpu.gpr[RSP] = rsp & mask;
    core.cpu.rip = rip & mask;
    Ok(())
}
