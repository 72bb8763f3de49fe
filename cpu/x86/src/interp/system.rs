//! System instructions: control and debug registers, MSRs, CPUID, time, HLT, TLB invalidation.

use super::segment::MACHINE_STATUS;
use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::lower::{Form, form};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{CodeBits, RAX, RBX, RCX, RDX, cr0, cr4};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, OpKind};

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    use Operation as O;
    Some(match row.operation {
        O::Mov if control(instruction, 0) => mov_to_cr,
        O::Mov if control(instruction, 1) => mov_from_cr,
        O::Mov if debug(instruction, 0) => mov_to_dr,
        O::Mov if debug(instruction, 1) => mov_from_dr,
        O::Clts => clts,
        O::Lmsw if form(instruction) == Form::Reg => lmsw_reg,
        O::Lmsw => lmsw_mem,
        O::Hlt => hlt,
        O::Cpuid => cpuid,
        O::Rdtsc => rdtsc,
        O::Rdtscp => rdtscp,
        O::Rdpid => rdpid,
        O::Rdpmc => rdpmc,
        O::Rdmsr => rdmsr,
        O::Wrmsr => wrmsr,
        O::Invlpg => invlpg,
        O::Invpcid => invpcid,
        O::Invd | O::Wbinvd => invd,
        O::Rdpkru => rdpkru,
        O::Wrpkru => wrpkru,
        _ => return None,
    })
}

fn is(instruction: &Instruction, operand: u32, of: fn(iced_x86::Register) -> bool) -> bool {
    instruction.op_count() > operand
        && instruction.op_kind(operand) == OpKind::Register
        && of(instruction.op_register(operand))
}

fn control(instruction: &Instruction, operand: u32) -> bool {
    is(instruction, operand, iced_x86::Register::is_cr)
}

fn debug(instruction: &Instruction, operand: u32) -> bool {
    is(instruction, operand, iced_x86::Register::is_dr)
}

/// A register of control or debug moves: 64 bits in 64-bit mode, else 32.
fn wide<M: Memory>(core: &Core<'_, M>, number: u8) -> u64 {
    if core.cpu.code_bits == CodeBits::Bits64 {
        core.reg::<u64>(number)
    } else {
        core.reg::<u32>(number).u64()
    }
}

fn set_wide<M: Memory>(core: &mut Core<'_, M>, number: u8, value: u64) {
    if core.cpu.code_bits == CodeBits::Bits64 {
        core.set_reg::<u64>(number, value);
    } else {
        core.set_reg::<u32>(number, value as u32);
    }
}

fn mov_from_cr<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let value = match op.b {
        0 => core.cpu.cr0,
        2 => core.cpu.cr2,
        3 => core.cpu.cr3,
        4 => core.cpu.cr4,
        8 => u64::from(M::task_priority(core)),
        _ => return Err(core.raise(vector::UD)),
    };
    set_wide(core, op.a, value);
    Ok(())
}

fn mov_to_cr<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let value = wide(core, op.b);
    match op.a {
        0 => core.set_cr0(value)?,
        2 => core.cpu.cr2 = value,
        3 => core.set_cr3(value)?,
        4 => core.set_cr4(value)?,
        8 if value > 15 => return Err(core.raise_code(vector::GP, 0)),
        8 => M::set_task_priority(core, value as u8),
        _ => return Err(core.raise(vector::UD)),
    }
    core.advance(op);
    Ok(())
}

fn clts<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    core.cpu.cr0 &= !cr0::TS;
    core.advance(op);
    Ok(())
}

fn load_machine_status<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, value: u16) -> Outcome {
    core.require_ring_0()?;
    let kept = core.cpu.cr0 & cr0::PE;
    let value = core.cpu.cr0 & !MACHINE_STATUS | u64::from(value) & MACHINE_STATUS | kept;
    core.set_cr0(value)?;
    core.advance(op);
    Ok(())
}

fn lmsw_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.reg::<u16>(op.a);
    load_machine_status(core, op, value)
}

fn lmsw_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.load::<u16>(op)?;
    load_machine_status(core, op, value)
}

fn debug_registers_allowed<M: Memory>(core: &mut Core<'_, M>, number: u8) -> Outcome {
    core.require_ring_0()?;
    if core.cpu.cr4 & cr4::DE != 0 && matches!(number, 4 | 5) || number > 7 {
        return Err(core.raise(vector::UD));
    }
    if core.cpu.dr7 & 1 << 13 != 0 {
        // General detect (Intel SDM vol. 3B §17.2.4).
        core.cpu.exception =
            crate::Exception { vector: vector::DB, debug: 1 << 13, ..crate::Exception::default() };
        return Err(crate::Stop::Exception);
    }
    Ok(())
}

fn mov_from_dr<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    debug_registers_allowed(core, op.b)?;
    let value = match op.b {
        number @ 0..=3 => core.cpu.dr[usize::from(number)],
        4 | 6 => core.cpu.dr6,
        _ => core.cpu.dr7,
    };
    set_wide(core, op.a, value);
    Ok(())
}

fn mov_to_dr<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    debug_registers_allowed(core, op.a)?;
    let value = wide(core, op.b);
    if op.a >= 4 && value >> 32 != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    match op.a {
        number @ 0..=3 => core.cpu.dr[usize::from(number)] = value,
        4 | 6 => core.cpu.dr6 = value & 0xe00f | 0xffff_0ff0,
        _ => core.cpu.dr7 = value & 0xffff_2bff | 0x400,
    }
    // Each instruction clears RF; it is done here, where it begins to matter.
    core.cpu.rflags &= !crate::flags::RF;
    core.advance(op);
    Ok(())
}

fn hlt<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    core.advance(op);
    core.cpu.halted = true;
    Ok(())
}

fn cpuid<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (leaf, subleaf) = (core.cpu.gpr[RAX] as u32, core.cpu.gpr[RCX] as u32);
    let answer = M::cpuid(core, leaf, subleaf);
    for (register, value) in [RAX, RBX, RCX, RDX].into_iter().zip(answer) {
        core.cpu.gpr[register] = u64::from(value);
    }
    core.advance(op);
    Ok(())
}

fn set_pair<M: Memory>(core: &mut Core<'_, M>, value: u64) {
    core.cpu.gpr[RAX] = value & 0xffff_ffff;
    core.cpu.gpr[RDX] = value >> 32;
}

fn time_stamp_allowed<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if core.cpu.cr4 & cr4::TSD != 0 && core.cpu.cpl != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    Ok(())
}

fn rdtsc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    time_stamp_allowed(core)?;
    let now = M::time_stamp(core);
    set_pair(core, now);
    Ok(())
}

fn rdtscp<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    rdtsc(core, op)?;
    core.cpu.gpr[RCX] = core.cpu.msr.tsc_aux & 0xffff_ffff;
    Ok(())
}

fn rdpid<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = core.cpu.msr.tsc_aux;
    set_wide(core, op.a, value);
    Ok(())
}

/// No performance counters: CPUID leaf 0AH says so.
fn rdpmc<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    Err(core.raise_code(vector::GP, 0))
}

fn rdmsr<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let number = core.cpu.gpr[RCX] as u32;
    let value = core.read_msr(number)?;
    set_pair(core, value);
    Ok(())
}

fn wrmsr<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let number = core.cpu.gpr[RCX] as u32;
    let value = core.cpu.gpr[RAX] & 0xffff_ffff | core.cpu.gpr[RDX] << 32;
    core.write_msr(number, value)?;
    core.advance(op);
    Ok(())
}

fn invlpg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let offset = core.offset(op) & op.address_mask();
    let linear = offset.wrapping_add(core.cpu.seg_base[usize::from(op.seg & 7)]);
    M::flush_page(core, linear);
    core.advance(op);
    Ok(())
}

/// INVPCID (Intel SDM vol. 2A): without PCIDs every type invalidates the lot.
fn invpcid<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let kind = wide(core, op.a);
    let linear = core.address(op, 16, Intent::Read)?;
    let mut descriptor = [0; 16];
    M::load_bytes(core, linear, &mut descriptor)?;
    let pcid = u64::from_bytes(&descriptor[..8]);
    let enabled = core.cpu.cr4 & cr4::PCIDE != 0;
    let page = u64::from_bytes(&descriptor[8..]);
    let canonical = ((page << 16) as i64 >> 16) as u64 == page;
    let wrong = kind > 3
        || kind < 2 && (pcid >> 12 != 0 || pcid != 0 && !enabled)
        || kind == 0 && !canonical;
    if wrong {
        return Err(core.raise_code(vector::GP, 0));
    }
    M::flush(core, kind == 3);
    core.advance(op);
    Ok(())
}

/// Caches are the host's: nothing to write back.
fn invd<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    core.advance(op);
    Ok(())
}

fn require_protection_keys<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if core.cpu.cr4 & cr4::PKE == 0 {
        return Err(core.raise(vector::UD));
    }
    if core.cpu.gpr[RCX] as u32 != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    Ok(())
}

fn rdpkru<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    require_protection_keys(core)?;
    core.cpu.gpr[RAX] = u64::from(core.cpu.pkru);
    core.cpu.gpr[RDX] = 0;
    Ok(())
}

fn wrpkru<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    require_protection_keys(core)?;
    if core.cpu.gpr[RDX] as u32 != 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    core.set_pkru(core.cpu.gpr[RAX] as u32);
    Ok(())
}

impl<M: Memory> Core<'_, M> {
    /// Sets PKRU; cached translations do not know of it.
    pub(super) fn set_pkru(&mut self, value: u32) {
        if self.cpu.pkru != value {
            self.cpu.pkru = value;
            M::flush(self, false);
        }
    }
}
