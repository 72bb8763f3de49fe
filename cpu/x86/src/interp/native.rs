//! Instructions that run as themselves on the host: x87, MMX, SSE, AVX, AES, bit manipulation …
//!
//! ```text
//!   registers, memory ──► Frame ──thunk──► Frame ──► memory, then registers
//! ```
//!
//! [`attach`] gives an instruction its thunk when it is lowered, and the handler that fits: a short one
//! for the commonest shapes (`op xmm, xmm` and `op xmm, memory`), [`general`] for all others. x87 state
//! and MXCSR live in the frame for good; other registers are copied in and out.
//!
//! What the host cannot know is done here: whether the unit may be used, alignment, page faults, and that
//! nothing is changed when a store fails after the thunk has run.

use super::unit::{Avx, Integer, Mmx, Sse, Unit, X87};
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::flags::LazyFlags;
use crate::lower::register_number;
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op, bits};
use crate::state::{BLOCK, Fpu};
use crate::word::Word;
use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind, Register};
use kezhan_jit::{Binding, Class, Frame, MEMORY_OPERAND, MemoryUse, Source, Thunk};

/// Makes `op` run natively if its instruction can.
pub fn attach<M: Memory>(instruction: &Instruction, op: &mut Op<M>) {
    let Ok(thunk) = Thunk::get(instruction) else { return };
    (op.thunk, op.run) = match with_register(instruction) {
        Some(thunk) => (Some(thunk), vector_and_memory::<M> as Handler<M>),
        None => (Some(thunk), select(instruction, thunk)),
    };
    if needs_alignment(instruction) {
        op.bits |= bits::ALIGNED;
    }
    let mut registers =
        (0..instruction.op_count()).filter(|n| instruction.op_kind(*n) == OpKind::Register);
    if let Some(fourth) = registers.nth(3) {
        op.imm = u64::from(register_number(instruction.op_register(fourth)));
    }
}

/// The thunk of `op xmm, xmm` for `op xmm, 16 bytes`: the bytes reach it as a register.
fn with_register(instruction: &Instruction) -> Option<Thunk> {
    use iced_x86::OpCodeOperandKind::xmm_or_mem;
    let memory = instruction.op_count() >= 2
        && instruction.op1_kind() == OpKind::Memory
        && instruction.op_code().op1_kind() == xmm_or_mem
        && instruction.memory_size().size() == 16;
    if !memory || instruction.op_code().encoding() != EncodingKind::Legacy {
        return None;
    }
    let mut copy = *instruction;
    copy.set_op1_kind(OpKind::Register);
    copy.set_op1_register(Register::XMM0);
    let thunk = Thunk::get(&copy).ok()?;
    is_two_vectors(thunk).then_some(thunk)
}

fn select<M: Memory>(instruction: &Instruction, thunk: Thunk) -> Handler<M> {
    if thunk.is_mmx() {
        return general::<M, Mmx>;
    }
    if thunk.uses_x87() {
        return x87::<M>;
    }
    if !works_on_vectors(thunk) {
        return general::<M, Integer>;
    }
    if instruction.op_code().encoding() == EncodingKind::VEX {
        return general::<M, Avx>;
    }
    short(thunk).unwrap_or(general::<M, Sse>)
}

fn works_on_vectors(thunk: Thunk) -> bool {
    thunk.bindings().iter().any(|bound| bound.class == Class::Vector)
}

const fn vector(operand: u8, written: bool) -> Binding {
    let source = Source::Operand(operand);
    Binding { class: Class::Vector, source, slot: operand + 1, written }
}

/// `op xmm, xmm` (or with an immediate besides), without flags or implicit operands.
fn is_two_vectors(thunk: Thunk) -> bool {
    !(thunk.uses_x87() || thunk.reads_flags() || thunk.writes_flags())
        && thunk.memory().is_none()
        && *thunk.bindings() == [vector(1, false), vector(0, true)]
}

/// Handlers for `op xmm, xmm` and `op xmm, 4 or 8 bytes`.
fn short<M: Memory>(thunk: Thunk) -> Option<Handler<M>> {
    if is_two_vectors(thunk) {
        return Some(two_vectors::<M>);
    }
    let one =
        *thunk.bindings() == [vector(0, true)] && !thunk.reads_flags() && !thunk.writes_flags();
    match thunk.memory() {
        Some(MemoryUse { bytes: 4, write: false, .. }) if one => Some(vector_and_word::<M, u32>),
        Some(MemoryUse { bytes: 8, write: false, .. }) if one => Some(vector_and_word::<M, u64>),
        _ => None,
    }
}

/// Whether a memory operand must be aligned to its size: legacy SSE with 16 bytes, but for the moves and
/// string compares that say otherwise (Intel SDM vol. 1 §11.6.10.1, §14.9); with VEX only the aligned and
/// non-temporal moves.
fn needs_alignment(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    match instruction.op_code().encoding() {
        EncodingKind::Legacy => {
            let unaligned = matches!(
                instruction.mnemonic(),
                M::Movups
                    | M::Movupd
                    | M::Movdqu
                    | M::Lddqu
                    | M::Pcmpestri
                    | M::Pcmpestri64
                    | M::Pcmpestrm
                    | M::Pcmpestrm64
                    | M::Pcmpistri
                    | M::Pcmpistrm
            );
            instruction.memory_size().size() == 16 && !unaligned
        }
        EncodingKind::VEX => matches!(
            instruction.mnemonic(),
            M::Vmovaps
                | M::Vmovapd
                | M::Vmovdqa
                | M::Vmovntps
                | M::Vmovntpd
                | M::Vmovntdq
                | M::Vmovntdqa
        ),
        _ => false,
    }
}

#[inline(always)]
fn run_short<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let Some(thunk) = op.thunk else { return Err(core.raise(vector::UD)) };
    let left = usize::from(op.a & 15);
    core.cpu.fpu.frame.xmm[1] = core.cpu.fpu.xmm[left];
    finish(core, thunk)?;
    core.cpu.fpu.xmm[left] = core.cpu.fpu.frame.xmm[1];
    Ok(())
}

/// Runs the thunk.
#[inline(always)]
fn finish<M: Memory>(core: &mut Core<'_, M>, thunk: Thunk) -> Outcome {
    match thunk.run(&mut core.cpu.fpu.frame) {
        kezhan_jit::Outcome::Done => Ok(()),
        kezhan_jit::Outcome::SimdException => Err(core.raise_simd()),
        kezhan_jit::Outcome::X87Pending => Err(core.raise(vector::MF)),
    }
}

fn two_vectors<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    core.cpu.fpu.frame.xmm[2] = core.cpu.fpu.xmm[usize::from(op.b & 15)];
    run_short(core, op)
}

fn vector_and_memory<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let linear = core.address(op, 16, Intent::Read)?;
    if op.bits & bits::ALIGNED != 0 {
        core.require_aligned(linear, 16)?;
    }
    core.cpu.fpu.frame.xmm[2] = core.load_16(linear)?;
    run_short(core, op)
}

fn vector_and_word<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Sse::ready(core)?;
    let value = core.load::<T>(op)?.u64();
    core.cpu.fpu.frame.memory[..8].copy_from_slice(&value.to_le_bytes());
    run_short(core, op)
}

/// x87: as [`general`], and the pointers to instruction and operand are brought up to date (Intel SDM
/// vol. 1 §8.1.8). FOP stays zero, as on processors that set it only for unmasked exceptions.
fn x87<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    general::<M, X87>(core, op)?;
    let start = core.cpu.gpr[BLOCK].wrapping_add(u64::from(op.offset));
    let fip = start & core.cpu.rip_mask;
    let operand = op.thunk.and_then(Thunk::memory).map(|_| core.offset(op) & op.address_mask());
    let state = &mut core.cpu.fpu.frame.x87;
    state.fip = fip;
    state.fdp = operand.unwrap_or(state.fdp);
    Ok(())
}

/// Any native instruction.
fn general<M: Memory, U: Unit>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let Some(thunk) = op.thunk else { return Err(core.raise(vector::UD)) };
    U::ready(core)?;
    let place = match thunk.memory() {
        Some(memory) => Some((load_operand::<M, U>(core, op, memory)?, memory)),
        None => None,
    };
    copy_in(core, op, thunk);
    match place {
        Some((linear, memory)) if memory.write => {
            let before = core.cpu.fpu.frame.x87;
            finish(core, thunk)?;
            let stored = store_operand(core, linear, memory);
            if stored.is_err() {
                core.cpu.fpu.frame.x87 = before;
                return stored;
            }
        }
        _ => finish(core, thunk)?,
    }
    copy_out(core, op, thunk);
    Ok(())
}

/// The linear address of the memory operand, after all checks, and its bytes in the frame.
fn load_operand<M: Memory, U: Unit>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    memory: MemoryUse,
) -> Result<u64, Stop> {
    let length = u64::from(memory.bytes);
    let intent = if memory.write { Intent::Write } else { Intent::Read };
    let linear = core.address(op, length, intent)?;
    if op.bits & bits::ALIGNED != 0 {
        core.require_aligned(linear, length)?;
    }
    if memory.write {
        M::probe(core, linear, length, Intent::Write)?;
    }
    // An x87 store that raises an unmasked exception leaves its destination (vol. 1 §8.5).
    let may_skip = U::IS_X87 && core.cpu.fpu.frame.x87.fcw & 0x3f != 0x3f;
    if memory.read || memory.write && may_skip {
        let mut bytes = [0; MEMORY_OPERAND];
        let bytes = &mut bytes[..usize::from(memory.bytes).min(MEMORY_OPERAND)];
        M::load_bytes(core, linear, bytes)?;
        core.cpu.fpu.frame.memory[..bytes.len()].copy_from_slice(bytes);
    }
    Ok(linear)
}

fn store_operand<M: Memory>(core: &mut Core<'_, M>, linear: u64, memory: MemoryUse) -> Outcome {
    let bytes = core.cpu.fpu.frame.memory;
    match memory.bytes {
        1 => M::store(core, linear, bytes[0]),
        2 => M::store(core, linear, u16::from_bytes(&bytes[..2])),
        4 => M::store(core, linear, u32::from_bytes(&bytes[..4])),
        8 => M::store(core, linear, u64::from_bytes(&bytes[..8])),
        length => {
            let length = usize::from(length).min(MEMORY_OPERAND);
            M::store_bytes(core, linear, &bytes[..length])
        }
    }
}

/// The guest register that a binding speaks of.
fn number<M>(op: &Op<M>, source: Source) -> u8 {
    match source {
        Source::Operand(0) => op.a,
        Source::Operand(1) => op.b,
        Source::Operand(2) => op.c,
        Source::Operand(_) => op.imm as u8,
        Source::Fixed(number) => number,
    }
}

fn copy_in<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, thunk: Thunk) {
    for bound in thunk.bindings() {
        let number = number(op, bound.source);
        let slot = usize::from(bound.slot & 15);
        match bound.class {
            Class::General => {
                let value = core.cpu.gpr[usize::from(number & 31)];
                let high = number & 32 != 0;
                core.cpu.fpu.frame.gpr[slot] = if high { value >> 8 } else { value };
            }
            Class::Vector => {
                let Fpu { xmm, ymm_high, frame } = &mut core.cpu.fpu;
                frame.xmm[slot] = xmm[usize::from(number & 15)];
                frame.ymm_high[slot] = ymm_high[usize::from(number & 15)];
            }
        }
    }
    if thunk.reads_flags() {
        core.cpu.fpu.frame.flags = core.cpu.flags.bits();
    }
}

fn copy_out<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, thunk: Thunk) {
    for bound in thunk.bindings().iter().filter(|bound| bound.written) {
        let number = number(op, bound.source);
        let slot = usize::from(bound.slot & 15);
        match bound.class {
            Class::General => write_general(core, number, slot),
            Class::Vector => {
                let Fpu { xmm, ymm_high, frame } = &mut core.cpu.fpu;
                xmm[usize::from(number & 15)] = frame.xmm[slot];
                if thunk.is_wide() {
                    ymm_high[usize::from(number & 15)] = frame.ymm_high[slot];
                }
            }
        }
    }
    if thunk.writes_flags() {
        core.cpu.flags = LazyFlags::from_bits(core.cpu.fpu.frame.flags);
    }
}

fn write_general<M: Memory>(core: &mut Core<'_, M>, number: u8, slot: usize) {
    let Frame { gpr, .. } = &core.cpu.fpu.frame;
    let value = gpr[slot];
    let register = &mut core.cpu.gpr[usize::from(number & 31)];
    if number & 32 != 0 {
        *register = *register & !0xff00 | (value & 0xff) << 8;
    } else {
        *register = value;
    }
}
