//! Instructions that work on the state of x87, MMX and SSE as a whole: control words, environments,
//! FXSAVE, EMMS, MXCSR. The XSAVE family is in [`super::xsave`].
//!
//! The state is [`kezhan_jit::X87`]: tag bits as FXSAVE has them, pointers as the guest's. Segment
//! selectors of the pointers are always zero, as on processors that deprecate them (Intel SDM vol. 1
//! §8.1.8).

use super::unit::{Avx, Mmx, Sse, Unit, X87};
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::lower::{Form, form};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op, bits};
use crate::state::{CodeBits, MXCSR_BITS, RAX, cr0};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Code, EncodingKind, Instruction, Mnemonic};
use kezhan_jit::{X87 as State, X87_BYTES};

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    use Operation as O;
    let vex = instruction.op_code().encoding() == EncodingKind::VEX;
    Some(match row.operation {
        O::Fninit => fninit,
        O::Fnclex => fnclex,
        O::Fldcw => fldcw,
        O::Fnstcw => fnstcw,
        O::Fnstsw if form(instruction) == Form::Reg => fnstsw_ax,
        O::Fnstsw => fnstsw_mem,
        O::Fnstenv if is_16_bit(instruction) => fnstenv::<M, u16>,
        O::Fnstenv => fnstenv::<M, u32>,
        O::Fldenv if is_16_bit(instruction) => fldenv::<M, u16>,
        O::Fldenv => fldenv::<M, u32>,
        O::Fnsave if is_16_bit(instruction) => fnsave::<M, u16>,
        O::Fnsave => fnsave::<M, u32>,
        O::Frstor if is_16_bit(instruction) => frstor::<M, u16>,
        O::Frstor => frstor::<M, u32>,
        O::Wait => wait,
        O::Emms => emms,
        O::Fxsave => fxsave,
        O::Fxrstor => fxrstor,
        O::Ldmxcsr if vex => ldmxcsr::<M, Avx>,
        O::Ldmxcsr => ldmxcsr::<M, Sse>,
        O::Stmxcsr if vex => stmxcsr::<M, Avx>,
        O::Stmxcsr => stmxcsr::<M, Sse>,
        O::ZeroVectors if row.mnemonic == Mnemonic::Vzeroall => zero_vectors::<M, true>,
        O::ZeroVectors => zero_vectors::<M, false>,
        _ => return None,
    })
}

fn is_16_bit(instruction: &Instruction) -> bool {
    use Code as C;
    matches!(
        instruction.code(),
        C::Fnstenv_m14byte | C::Fldenv_m14byte | C::Fnsave_m94byte | C::Frstor_m94byte
    )
}

/// A control word as the processor keeps it: bit 6 is always one, bits 7 and 13 to 15 never
/// (Intel SDM vol. 1 §8.1.5).
pub(super) fn control_word(value: u16) -> u16 {
    value & 0x1f3f | 0x40
}

fn fninit<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let state = &mut core.cpu.fpu.frame.x87;
    state.set_fsw(0);
    *state = State { st: state.st, mxcsr: state.mxcsr, ..State::default() };
    Ok(())
}

fn fnclex<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    core.cpu.fpu.frame.x87.fsw &= 0x7f00;
    Ok(())
}

fn fldcw<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    core.check_x87_pending()?;
    let value = core.load::<u16>(op)?;
    let state = &mut core.cpu.fpu.frame.x87;
    state.fcw = control_word(value);
    state.update_summary();
    Ok(())
}

fn fnstcw<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let value = core.cpu.fpu.frame.x87.fcw;
    core.store(op, value)
}

fn fnstsw_ax<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let value = core.cpu.fpu.frame.x87.fsw;
    core.set_reg(RAX as u8, value);
    Ok(())
}

fn fnstsw_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let value = core.cpu.fpu.frame.x87.fsw;
    core.store(op, value)
}

/// WAIT obeys CR0.TS only together with CR0.MP (Intel SDM vol. 3A §2.5).
fn wait<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    let both = cr0::TS | cr0::MP;
    if core.cpu.cr0 & both == both {
        return Err(core.raise(vector::NM));
    }
    core.check_x87_pending()
}

fn emms<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    Mmx::ready(core)?;
    core.check_x87_pending()?;
    let state = &mut core.cpu.fpu.frame.x87;
    state.enter_mmx();
    state.ftw = 0;
    Ok(())
}

// Environments (Intel SDM vol. 1 §8.1.10, figures 8-9 to 8-12): seven fields of 16 or 32 bits.

/// ST(0) to ST(7) behind an environment, 10 bytes each.
const REGISTERS: usize = 80;
const LONGEST: usize = 28 + REGISTERS;

/// The two bits of a tag word for each register (Intel SDM vol. 1 §8.1.7).
fn tag_word(state: &State) -> u16 {
    const EMPTY: u16 = 3;
    let top = state.fsw >> 11 & 7;
    (0..8).fold(0, |word, register| {
        let value = state.st[usize::from((register + 8 - top) & 7)];
        let full = state.ftw >> register & 1 != 0;
        let tag = if full { tag(value) } else { EMPTY };
        word | tag << (2 * register)
    })
}

fn tag(value: u128) -> u16 {
    const VALID: u16 = 0;
    const ZERO: u16 = 1;
    const SPECIAL: u16 = 2;
    let (exponent, significand) = ((value >> 64) as u16 & 0x7fff, value as u64);
    match (exponent, significand) {
        (0, 0) => ZERO,
        (0 | 0x7fff, _) => SPECIAL,
        _ if significand >> 63 == 0 => SPECIAL,
        _ => VALID,
    }
}

fn abridged(tag_word: u16) -> u8 {
    (0..8).fold(0, |tags, register| {
        let full = tag_word >> (2 * register) & 3 != 3;
        tags | u8::from(full) << register
    })
}

/// The fields of an environment: FCW, FSW, FTW and four of pointers, whose layout depends on the mode.
fn environment<M: Memory, T: Word>(core: &Core<'_, M>) -> [u32; 7] {
    let state = &core.cpu.fpu.frame.x87;
    let (fip, fdp, fop) = (state.fip as u32, state.fdp as u32, u32::from(state.fop));
    let pointers = match (core.cpu.protected(), T::BITS) {
        (true, 16) => [fip, 0, fdp, 0],
        (true, _) => [fip, fop << 16, fdp, 0xffff_0000],
        (false, 16) => [fip, fip >> 4 & 0xf000 | fop, fdp, fdp >> 4 & 0xf000],
        (false, _) => {
            let low = |pointer: u32| pointer & 0xffff | 0xffff_0000;
            let high = |pointer: u32| (pointer >> 16) << 12;
            [low(fip), high(fip) | fop, low(fdp), high(fdp)]
        }
    };
    let word = |value: u16| 0xffff_0000 | u32::from(value);
    let [first, second, third, fourth] = pointers;
    let words = [word(state.fcw), word(state.fsw), word(tag_word(state))];
    [words[0], words[1], words[2], first, second, third, fourth]
}

/// The state with control words and pointers from an environment; what the formats lack is zero.
fn with_environment<M: Memory, T: Word>(core: &Core<'_, M>, fields: [u32; 7]) -> State {
    let low = |field: u32| u64::from(field & 0xffff);
    let (fip, fop, fdp) = match (core.cpu.protected(), T::BITS) {
        (true, 16) => (low(fields[3]), 0, low(fields[5])),
        (true, _) => (u64::from(fields[3]), fields[4] >> 16, u64::from(fields[5])),
        (false, 16) => {
            let high = |field: u32| u64::from(field & 0xf000) << 4;
            (low(fields[3]) | high(fields[4]), fields[4], low(fields[5]) | high(fields[6]))
        }
        (false, _) => {
            let high = |field: u32| u64::from(field >> 12 & 0xffff) << 16;
            (low(fields[3]) | high(fields[4]), fields[4], low(fields[5]) | high(fields[6]))
        }
    };
    let mut state = State {
        fcw: control_word(fields[0] as u16),
        ftw: abridged(fields[2] as u16),
        fop: fop as u16 & 0x7ff,
        fip,
        fdp,
        ..core.cpu.fpu.frame.x87
    };
    state.set_fsw(fields[1] as u16);
    state.update_summary();
    state
}

fn field_bytes<T: Word>(fields: [u32; 7], bytes: &mut [u8]) {
    let width = T::BYTES as usize;
    for (place, field) in bytes.chunks_exact_mut(width).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes()[..width]);
    }
}

fn fields<T: Word>(bytes: &[u8]) -> [u32; 7] {
    let width = T::BYTES as usize;
    std::array::from_fn(|field| {
        bytes.get(field * width..(field + 1) * width).map_or(0, |bytes| T::from_bytes(bytes).u64())
            as u32
    })
}

fn fnstenv<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let mut bytes = [0; LONGEST];
    let bytes = &mut bytes[..7 * T::BYTES as usize];
    field_bytes::<T>(environment::<M, T>(core), bytes);
    let linear = core.address(op, bytes.len() as u64, Intent::Write)?;
    M::store_bytes(core, linear, bytes)?;
    let state = &mut core.cpu.fpu.frame.x87;
    state.fcw |= 0x3f;
    state.update_summary();
    Ok(())
}

fn fldenv<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    core.check_x87_pending()?;
    let mut bytes = [0; LONGEST];
    let bytes = &mut bytes[..7 * T::BYTES as usize];
    let linear = core.address(op, bytes.len() as u64, Intent::Read)?;
    M::load_bytes(core, linear, bytes)?;
    core.cpu.fpu.frame.x87 = with_environment::<M, T>(core, fields::<T>(bytes));
    Ok(())
}

fn fnsave<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    let mut bytes = [0; LONGEST];
    let bytes = &mut bytes[..7 * T::BYTES as usize + REGISTERS];
    let (head, tail) = bytes.split_at_mut(7 * T::BYTES as usize);
    field_bytes::<T>(environment::<M, T>(core), head);
    for (place, register) in tail.chunks_exact_mut(10).zip(&core.cpu.fpu.frame.x87.st) {
        place.copy_from_slice(&register.to_le_bytes()[..10]);
    }
    let linear = core.address(op, bytes.len() as u64, Intent::Write)?;
    M::store_bytes(core, linear, bytes)?;
    fninit(core, op)
}

fn frstor<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    X87::ready(core)?;
    core.check_x87_pending()?;
    let mut bytes = [0; LONGEST];
    let bytes = &mut bytes[..7 * T::BYTES as usize + REGISTERS];
    let linear = core.address(op, bytes.len() as u64, Intent::Read)?;
    M::load_bytes(core, linear, bytes)?;
    let (head, tail) = bytes.split_at(7 * T::BYTES as usize);
    let mut state = with_environment::<M, T>(core, fields::<T>(head));
    for (register, place) in state.st.iter_mut().zip(tail.chunks_exact(10)) {
        *register = place.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
    }
    core.cpu.fpu.frame.x87 = state;
    Ok(())
}

// FXSAVE images (Intel SDM vol. 1 §10.5.1).

/// Bytes of an FXSAVE image up to the last XMM register.
const IMAGE: usize = X87_BYTES + 16 * 16;

impl<M: Memory> Core<'_, M> {
    /// XMM registers that the running mode has.
    pub(super) fn xmm_count(&self) -> usize {
        if self.cpu.code_bits == CodeBits::Bits64 { 16 } else { 8 }
    }

    /// The x87 part of a saved image; without REX.W the pointers are 32 bits and a selector of zero.
    pub(super) fn x87_image(&self, op: &Op<M>) -> [u8; X87_BYTES] {
        let mut state = self.cpu.fpu.frame.x87;
        if op.bits & bits::OPERAND_64 == 0 {
            state.fip &= 0xffff_ffff;
            state.fdp &= 0xffff_ffff;
        }
        state.to_bytes()
    }

    /// Takes the x87 part of an image, MXCSR apart.
    pub(super) fn set_x87_image(&mut self, op: &Op<M>, image: &[u8; X87_BYTES]) {
        let mut state = State::from_bytes(image);
        if op.bits & bits::OPERAND_64 == 0 {
            state.fip &= 0xffff_ffff;
            state.fdp &= 0xffff_ffff;
        }
        state.fcw = control_word(state.fcw);
        state.mxcsr = self.cpu.fpu.frame.x87.mxcsr;
        state.update_summary();
        self.cpu.fpu.frame.x87 = state;
    }

    /// #GP(0) for an MXCSR value with reserved bits.
    pub(super) fn require_valid_mxcsr(&mut self, value: u32) -> Outcome {
        if value & !MXCSR_BITS != 0 {
            return Err(self.raise_code(vector::GP, 0));
        }
        Ok(())
    }
}

/// FXSAVE and FXRSTOR are #UD with CR0.EM, #NM with CR0.TS, whatever CR4.OSFXSR says.
fn image_address<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    intent: Intent,
) -> Result<u64, Stop> {
    Mmx::ready(core)?;
    let linear = core.address(op, 512, intent)?;
    core.require_aligned(linear, 16)?;
    Ok(linear)
}

fn fxsave<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let linear = image_address(core, op, Intent::Write)?;
    let mut image = [0; IMAGE];
    let length = X87_BYTES + 16 * core.xmm_count();
    image[..X87_BYTES].copy_from_slice(&core.x87_image(op));
    for (place, xmm) in image[X87_BYTES..].chunks_exact_mut(16).zip(&core.cpu.fpu.xmm) {
        place.copy_from_slice(&xmm.to_le_bytes());
    }
    M::store_bytes(core, linear, &image[..length])
}

fn fxrstor<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let linear = image_address(core, op, Intent::Read)?;
    let mut image = [0; IMAGE];
    let count = core.xmm_count();
    M::load_bytes(core, linear, &mut image[..X87_BYTES + 16 * count])?;
    let mxcsr = u32::from_bytes(&image[24..28]);
    core.require_valid_mxcsr(mxcsr)?;
    if let Some(x87) = image.first_chunk() {
        core.set_x87_image(op, x87);
    }
    core.cpu.fpu.frame.x87.mxcsr = mxcsr;
    let vectors = image[X87_BYTES..].chunks_exact(16).take(count);
    for (xmm, place) in core.cpu.fpu.xmm.iter_mut().zip(vectors) {
        *xmm = place.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
    }
    core.advance(op);
    Ok(())
}

// MXCSR and the upper halves.

fn ldmxcsr<M: Memory, U: Unit>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    U::ready(core)?;
    let value = core.load::<u32>(op)?;
    core.require_valid_mxcsr(value)?;
    core.cpu.fpu.frame.x87.mxcsr = value;
    Ok(())
}

fn stmxcsr<M: Memory, U: Unit>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    U::ready(core)?;
    let value = core.cpu.fpu.frame.x87.mxcsr;
    core.store(op, value)
}

fn zero_vectors<M: Memory, const ALL: bool>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    Avx::ready(core)?;
    let count = core.xmm_count();
    core.cpu.fpu.ymm_high[..count].fill(0);
    if ALL {
        core.cpu.fpu.xmm[..count].fill(0);
    }
    Ok(())
}
