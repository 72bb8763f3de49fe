//! Segment registers and descriptor tables: MOV, PUSH, POP, LDS …, LLDT, LTR, LAR, LSL, VERR, ARPL,
//! LGDT …, SMSW, the FS and GS bases.

use super::descriptor::{Descriptor, null_segment, system};
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::flags;
use crate::lower::{Form, form};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op, bits};
use crate::state::{CodeBits, FS, GS, SS, cr0, cr4, efer};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, OpKind};
use kezhan_hypervisor::DescriptorTable;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    use Operation as O;
    let form = form(instruction);
    Some(match (row.operation, form) {
        (O::Mov, Form::RegReg) if segment(instruction, 0) => mov_to_segment_reg,
        (O::Mov, Form::RegMem) if segment(instruction, 0) => mov_to_segment_mem,
        (O::Mov, Form::RegReg) if segment(instruction, 1) => mov_from_segment_reg,
        (O::Mov, Form::MemReg) if segment(instruction, 1) => mov_from_segment_mem,
        (O::Push, Form::Reg) if segment(instruction, 0) => push_segment,
        (O::Pop, Form::Reg) if segment(instruction, 0) => pop_segment,
        (O::LoadFar, _) => load_far,
        (O::Lar, _) => return right::<M, Lar>(instruction),
        (O::Lsl, _) => return right::<M, Lsl>(instruction),
        (O::Verr, Form::Reg) => verify_reg::<M, false>,
        (O::Verr, Form::Mem) => verify_mem::<M, false>,
        (O::Verw, Form::Reg) => verify_reg::<M, true>,
        (O::Verw, Form::Mem) => verify_mem::<M, true>,
        (O::Arpl, Form::RegReg) => arpl_reg,
        (O::Arpl, Form::MemReg) => arpl_mem,
        (O::Lldt, Form::Reg) => load_system_reg::<M, false>,
        (O::Lldt, Form::Mem) => load_system_mem::<M, false>,
        (O::Ltr, Form::Reg) => load_system_reg::<M, true>,
        (O::Ltr, Form::Mem) => load_system_mem::<M, true>,
        (O::Sldt, Form::Reg) => store_register::<M, 0>,
        (O::Sldt, Form::Mem) => store_memory::<M, 0>,
        (O::Str, Form::Reg) => store_register::<M, 1>,
        (O::Str, Form::Mem) => store_memory::<M, 1>,
        (O::Smsw, Form::Reg) => store_register::<M, 2>,
        (O::Smsw, Form::Mem) => store_memory::<M, 2>,
        (O::Lgdt, _) => load_table::<M, false>,
        (O::Lidt, _) => load_table::<M, true>,
        (O::Sgdt, _) => store_table::<M, false>,
        (O::Sidt, _) => store_table::<M, true>,
        (O::Rdfsbase, _) => read_base::<M, FS>,
        (O::Rdgsbase, _) => read_base::<M, GS>,
        (O::Wrfsbase, _) => write_base::<M, FS>,
        (O::Wrgsbase, _) => write_base::<M, GS>,
        (O::Swapgs, _) => swapgs,
        _ => return None,
    })
}

fn segment(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Register
        && instruction.op_register(operand).is_segment_register()
}

fn put<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, selector: u16) -> Outcome {
    let seg = usize::from(op.a);
    if seg == crate::state::CS || seg > GS {
        return Err(core.raise(vector::UD));
    }
    core.load_segment(seg, selector)?;
    if seg == SS {
        core.cpu.interrupt_shadow = true;
        core.cpu.trap_blocked = true;
    }
    core.advance(op);
    Ok(())
}

fn mov_to_segment_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.reg::<u16>(op.b);
    put(core, op, selector)
}

fn mov_to_segment_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.load::<u16>(op)?;
    put(core, op, selector)
}

fn set_sized<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, value: u64) {
    if op.bits & bits::OPERAND_16 != 0 {
        core.set_reg::<u16>(op.a, value as u16);
    } else if op.bits & bits::OPERAND_64 != 0 {
        core.set_reg::<u64>(op.a, value);
    } else {
        core.set_reg::<u32>(op.a, value as u32);
    }
}

fn mov_from_segment_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.cpu.segments[usize::from(op.b) % 6].selector;
    set_sized(core, op, u64::from(selector));
    Ok(())
}

fn mov_from_segment_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.cpu.segments[usize::from(op.a) % 6].selector;
    core.store(op, selector)
}

/// Pushes and pops are as wide as the stack's operand size: 16 with a prefix, else 64 in 64-bit mode, else
/// 32 or 16 by the code segment.
fn stack_width<M: Memory>(core: &Core<'_, M>, op: &Op<M>) -> u32 {
    use iced_x86::Code;
    let code = Code::try_from(usize::from(op.code)).unwrap_or_default();
    match code.op_code().operand_size() {
        0 if core.cpu.code_bits == CodeBits::Bits64 => 64,
        0 => core.cpu.code_bits.number(),
        size => size,
    }
}

fn push_segment<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.cpu.segments[usize::from(op.a) % 6].selector;
    match stack_width(core, op) {
        16 => core.push::<u16>(selector),
        32 => core.push::<u32>(u32::from(selector)),
        _ => core.push::<u64>(u64::from(selector)),
    }
}

fn pop_segment<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let width = stack_width(core, op);
    let selector = core.peek::<u16>(0)?;
    put(core, op, selector)?;
    core.drop_stack(u64::from(width / 8));
    Ok(())
}

/// LDS, LES, LFS, LGS, LSS.
fn load_far<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    use iced_x86::Mnemonic;
    let code = iced_x86::Code::try_from(usize::from(op.code)).unwrap_or_default();
    let seg = match code.mnemonic() {
        Mnemonic::Les => crate::state::ES,
        Mnemonic::Lss => SS,
        Mnemonic::Lds => crate::state::DS,
        Mnemonic::Lfs => FS,
        _ => GS,
    };
    let size = match (op.bits & bits::OPERAND_16, op.bits & bits::OPERAND_64) {
        (0, 0) => 4,
        (0, _) => 8,
        _ => 2,
    };
    let linear = core.address(op, size + 2, Intent::Read)?;
    let mut offset = [0; 8];
    M::load_bytes(core, linear, &mut offset[..size as usize])?;
    let selector = M::load::<u16>(core, linear.wrapping_add(size))?;
    core.load_segment(seg, selector)?;
    set_sized(core, op, u64::from_le_bytes(offset));
    core.advance(op);
    Ok(())
}

/// LAR and LSL: what they give for a descriptor that may be looked at.
trait Right: 'static {
    fn allowed(kind: u8, long: bool) -> bool;
    fn value(descriptor: &Descriptor) -> u64;
}

struct Lar;
struct Lsl;

impl Right for Lar {
    fn allowed(kind: u8, long: bool) -> bool {
        match kind {
            system::LDT | system::TSS | system::TSS_BUSY | system::CALL_GATE => true,
            system::TSS_16 | system::TSS_16_BUSY | system::CALL_GATE_16 | system::TASK_GATE => {
                !long
            }
            _ => false,
        }
    }

    fn value(descriptor: &Descriptor) -> u64 {
        descriptor.raw >> 32 & 0x00ff_ff00
    }
}

impl Right for Lsl {
    fn allowed(kind: u8, long: bool) -> bool {
        match kind {
            system::LDT | system::TSS | system::TSS_BUSY => true,
            system::TSS_16 | system::TSS_16_BUSY => !long,
            _ => false,
        }
    }

    fn value(descriptor: &Descriptor) -> u64 {
        u64::from(descriptor.segment(0).limit)
    }
}

fn right<M: Memory, R: Right>(instruction: &Instruction) -> Option<Handler<M>> {
    Some(match form(instruction) {
        Form::RegReg => right_reg::<M, R>,
        _ => right_mem::<M, R>,
    })
}

/// The descriptor behind a selector, for instructions that answer in ZF instead of faulting.
fn look<M: Memory>(core: &mut Core<'_, M>, selector: u16) -> Result<Option<Descriptor>, Stop> {
    if selector & !3 == 0 {
        return Ok(None);
    }
    match core.descriptor(selector, vector::GP, 0) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(Stop::Exception) if core.cpu.exception.vector == vector::GP => Ok(None),
        Err(stop) => Err(stop),
    }
}

/// Whether a code or data descriptor may be reached with this RPL at this CPL.
fn reachable(descriptor: &Descriptor, selector: u16, cpl: u8) -> bool {
    let rpl = (selector & 3) as u8;
    descriptor.is_conforming() || descriptor.dpl() >= cpl && descriptor.dpl() >= rpl
}

fn examine<M: Memory, R: Right>(core: &mut Core<'_, M>, op: &Op<M>, selector: u16) -> Outcome {
    if !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    let long = core.cpu.long_mode();
    let cpl = core.cpu.cpl;
    let found = look(core, selector)?.filter(|descriptor| {
        (descriptor.is_code_or_data() || R::allowed(descriptor.kind(), long))
            && reachable(descriptor, selector, cpl)
    });
    if let Some(descriptor) = &found {
        set_sized(core, op, R::value(descriptor));
    }
    core.cpu.flags.update(flags::ZF, if found.is_some() { flags::ZF } else { 0 });
    Ok(())
}

fn right_reg<M: Memory, R: Right>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.reg::<u16>(op.b);
    examine::<M, R>(core, op, selector)
}

fn right_mem<M: Memory, R: Right>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.load::<u16>(op)?;
    examine::<M, R>(core, op, selector)
}

fn verify<M: Memory, const WRITE: bool>(core: &mut Core<'_, M>, selector: u16) -> Outcome {
    if !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    let cpl = core.cpu.cpl;
    let holds = look(core, selector)?.is_some_and(|descriptor| {
        let right = if WRITE { descriptor.is_writable() } else { descriptor.is_readable() };
        right && reachable(&descriptor, selector, cpl)
    });
    core.cpu.flags.update(flags::ZF, if holds { flags::ZF } else { 0 });
    Ok(())
}

fn verify_reg<M: Memory, const WRITE: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.reg::<u16>(op.a);
    verify::<M, WRITE>(core, selector)
}

fn verify_mem<M: Memory, const WRITE: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.load::<u16>(op)?;
    verify::<M, WRITE>(core, selector)
}

/// ARPL: raises the RPL of `destination` to that of `source`; the result and ZF.
fn adjusted(destination: u16, source: u16) -> (u16, bool) {
    let lower = destination & 3 < source & 3;
    (if lower { destination & !3 | source & 3 } else { destination }, lower)
}

fn arpl_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    let (result, zero) = adjusted(core.reg(op.a), core.reg(op.b));
    core.set_reg::<u16>(op.a, result);
    core.cpu.flags.update(flags::ZF, if zero { flags::ZF } else { 0 });
    Ok(())
}

fn arpl_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    let linear = core.address(op, 2, Intent::Write)?;
    let (result, zero) = adjusted(M::load_for_write(core, linear)?, core.reg(op.a));
    M::store::<u16>(core, linear, result)?;
    core.cpu.flags.update(flags::ZF, if zero { flags::ZF } else { 0 });
    Ok(())
}

/// LTR (`TASK`) or LLDT.
fn load_system<M: Memory, const TASK: bool>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    selector: u16,
) -> Outcome {
    if !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    core.require_ring_0()?;
    if !TASK && selector & !3 == 0 {
        core.cpu.ldtr = null_segment(selector);
        core.advance(op);
        return Ok(());
    }
    let error = u32::from(selector & !3);
    if selector & 4 != 0 || selector & !3 == 0 {
        return Err(core.raise_code(vector::GP, error));
    }
    let mut descriptor = core.descriptor(selector, vector::GP, 0)?;
    let kind = descriptor.kind();
    let kind_fits = if TASK {
        kind == system::TSS || kind == system::TSS_16 && !core.cpu.long_mode()
    } else {
        kind == system::LDT
    };
    if descriptor.is_code_or_data() || !kind_fits {
        return Err(core.raise_code(vector::GP, error));
    }
    if !descriptor.present() {
        return Err(core.raise_code(vector::NP, error));
    }
    let upper = core.descriptor_upper(&descriptor)?;
    if core.cpu.long_mode() && !super::control::canonical(descriptor.segment(upper).base) {
        return Err(core.raise_code(vector::GP, error));
    }
    if TASK {
        descriptor.raw |= 2 << 40;
        let byte = (descriptor.raw >> 40) as u8;
        M::store_system::<u8>(core, descriptor.address.wrapping_add(5), byte)?;
        core.cpu.tr = descriptor.segment(upper);
    } else {
        core.cpu.ldtr = descriptor.segment(upper);
    }
    core.advance(op);
    Ok(())
}

fn load_system_reg<M: Memory, const TASK: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.reg::<u16>(op.a);
    load_system::<M, TASK>(core, op, selector)
}

fn load_system_mem<M: Memory, const TASK: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let selector = core.load::<u16>(op)?;
    load_system::<M, TASK>(core, op, selector)
}

/// SLDT (0), STR (1), SMSW (2), under UMIP (Intel SDM vol. 3A §2.5).
fn visible<M: Memory, const WHAT: u8>(core: &mut Core<'_, M>) -> Result<u64, Stop> {
    if core.cpu.cr4 & cr4::UMIP != 0 && core.cpu.cpl > 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    if WHAT < 2 && !core.cpu.protected() {
        return Err(core.raise(vector::UD));
    }
    Ok(match WHAT {
        0 => u64::from(core.cpu.ldtr.selector),
        1 => u64::from(core.cpu.tr.selector),
        _ => core.cpu.cr0,
    })
}

fn store_register<M: Memory, const WHAT: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = visible::<M, WHAT>(core)?;
    set_sized(core, op, value);
    Ok(())
}

fn store_memory<M: Memory, const WHAT: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let value = visible::<M, WHAT>(core)?;
    core.store(op, value as u16)
}

fn load_table<M: Memory, const INTERRUPT: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    core.require_ring_0()?;
    let long = core.cpu.code_bits == CodeBits::Bits64;
    let size = if long { 8 } else { 4 };
    let linear = core.address(op, 2 + size, Intent::Read)?;
    let limit = M::load::<u16>(core, linear)?;
    let base = if long {
        M::load::<u64>(core, linear.wrapping_add(2))?
    } else {
        let mask = if op.bits & bits::OPERAND_16 != 0 { 0xff_ffff } else { 0xffff_ffff };
        M::load::<u32>(core, linear.wrapping_add(2))?.u64() & mask
    };
    if ((base << 16) as i64 >> 16) as u64 != base {
        return Err(core.raise_code(vector::GP, 0));
    }
    let table = DescriptorTable { base, limit };
    if INTERRUPT {
        core.cpu.idtr = table;
    } else {
        core.cpu.gdtr = table;
    }
    Ok(())
}

fn store_table<M: Memory, const INTERRUPT: bool>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if core.cpu.cr4 & cr4::UMIP != 0 && core.cpu.cpl > 0 {
        return Err(core.raise_code(vector::GP, 0));
    }
    let table = if INTERRUPT { core.cpu.idtr } else { core.cpu.gdtr };
    let size = if core.cpu.code_bits == CodeBits::Bits64 { 8 } else { 4 };
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&table.limit.to_le_bytes());
    bytes[2..].copy_from_slice(&table.base.to_le_bytes());
    let linear = core.address(op, 2 + size as u64, Intent::Write)?;
    M::store_bytes(core, linear, &bytes[..2 + size])
}

fn check_bases<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    let on = core.cpu.cr4 & cr4::FSGSBASE != 0 && core.cpu.code_bits == CodeBits::Bits64;
    if on { Ok(()) } else { Err(core.raise(vector::UD)) }
}

fn read_base<M: Memory, const SEG: usize>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    check_bases(core)?;
    let base = core.cpu.segments[SEG].base;
    set_sized(core, op, base);
    Ok(())
}

fn write_base<M: Memory, const SEG: usize>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    check_bases(core)?;
    let base = if op.bits & bits::OPERAND_64 != 0 {
        core.reg::<u64>(op.a)
    } else {
        core.reg::<u32>(op.a).u64()
    };
    if ((base << 16) as i64 >> 16) as u64 != base {
        return Err(core.raise_code(vector::GP, 0));
    }
    core.cpu.segments[SEG].base = base;
    core.cpu.seg_base[SEG] = base;
    Ok(())
}

fn swapgs<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    if core.cpu.code_bits != CodeBits::Bits64 || core.cpu.efer & efer::LMA == 0 {
        return Err(core.raise(vector::UD));
    }
    core.require_ring_0()?;
    let base = core.cpu.segments[GS].base;
    core.cpu.segments[GS].base = core.cpu.msr.kernel_gs_base;
    core.cpu.seg_base[GS] = core.cpu.msr.kernel_gs_base;
    core.cpu.msr.kernel_gs_base = base;
    Ok(())
}

/// LMSW, in the family of system instructions, needs the low word of CR0.
pub(super) const MACHINE_STATUS: u64 = cr0::PE | cr0::MP | cr0::EM | cr0::TS;
