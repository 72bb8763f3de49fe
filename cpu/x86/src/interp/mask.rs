//! Moves whose accesses depend on data: MASKMOVDQU, VMASKMOVPS and their kin, gathers. They cannot run
//! natively, since the host would access memory at addresses that the guest's data choose.
//!
//! Elements that the mask leaves out are not accessed and raise no fault (Intel SDM vol. 2B, MASKMOVDQU;
//! vol. 2C, VMASKMOV, VPGATHERDD).

use super::unit::{Avx, Mmx, Sse, Unit};
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::lower::{Form, form};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::RDI;
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Instruction, Mnemonic};

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    match row.operation {
        Operation::MaskedStore => Some(match instruction.mnemonic() {
            Mnemonic::Maskmovq => maskmovq,
            Mnemonic::Maskmovdqu => maskmovdqu::<M, Sse>,
            _ => maskmovdqu::<M, Avx>,
        }),
        Operation::MaskedMove => masked_move(instruction),
        Operation::Gather => gather(instruction),
        _ => None,
    }
}

/// A YMM register as bytes.
type Vector = [u8; 32];

impl<M: Memory> Core<'_, M> {
    fn vector(&self, number: u8) -> Vector {
        let number = usize::from(number & 15);
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.cpu.fpu.xmm[number].to_le_bytes());
        bytes[16..].copy_from_slice(&self.cpu.fpu.ymm_high[number].to_le_bytes());
        bytes
    }

    fn set_vector(&mut self, number: u8, bytes: &Vector) {
        let half = |bytes: &[u8]| {
            bytes.iter().rev().fold(0_u128, |value, byte| value << 8 | u128::from(*byte))
        };
        let number = usize::from(number & 15);
        self.cpu.fpu.xmm[number] = half(&bytes[..16]);
        self.cpu.fpu.ymm_high[number] = half(&bytes[16..]);
    }
}

fn sign(element: &[u8]) -> bool {
    element.last().is_some_and(|byte| byte & 0x80 != 0)
}

// MASKMOVQ, MASKMOVDQU: bytes at RDI.

fn maskmovq<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    Mmx::ready(core)?;
    core.check_x87_pending()?;
    let mut state = core.cpu.fpu.frame.x87;
    state.enter_mmx();
    let register = |number: u8| (state.st[usize::from(number & 7)] as u64).to_le_bytes();
    store_bytes(core, op, &register(op.a), &register(op.b))?;
    core.cpu.fpu.frame.x87 = state;
    Ok(())
}

fn maskmovdqu<M: Memory, U: Unit>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    U::ready(core)?;
    let [value, mask] = [op.a, op.b].map(|number| core.vector(number));
    store_bytes(core, op, &value[..16], &mask[..16])
}

fn store_bytes<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    value: &[u8],
    mask: &[u8],
) -> Outcome {
    let start = core.cpu.gpr[RDI];
    let chosen = || (0..).zip(value.iter().zip(mask)).filter(|(_, (_, mask))| **mask & 0x80 != 0);
    for (position, _) in chosen() {
        let linear = byte_address(core, op, start.wrapping_add(position))?;
        M::probe(core, linear, 1, Intent::Write)?;
    }
    for (position, (byte, _)) in chosen() {
        let linear = byte_address(core, op, start.wrapping_add(position))?;
        M::store(core, linear, *byte)?;
    }
    Ok(())
}

fn byte_address<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>, offset: u64) -> Result<u64, Stop> {
    core.segment_address(op.seg, offset & op.address_mask(), 1, Intent::Write)
}

// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ.

fn masked_move<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    let double = matches!(instruction.mnemonic(), Mnemonic::Vmaskmovpd | Mnemonic::Vpmaskmovq);
    let load = form(instruction) == Form::RegReg;
    let wide = instruction.op_register(if load { 0 } else { 1 }).is_ymm();
    Some(match (load, double, wide) {
        (true, false, false) => masked_load::<M, u32, 16>,
        (true, false, true) => masked_load::<M, u32, 32>,
        (true, true, false) => masked_load::<M, u64, 16>,
        (true, true, true) => masked_load::<M, u64, 32>,
        (false, false, false) => masked_store::<M, u32, 16>,
        (false, false, true) => masked_store::<M, u32, 32>,
        (false, true, false) => masked_store::<M, u64, 16>,
        (false, true, true) => masked_store::<M, u64, 32>,
    })
}

/// The linear address of element `position` of the memory operand.
fn element_address<M: Memory, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    position: u64,
    intent: Intent,
) -> Result<u64, Stop> {
    let offset = core.offset(op).wrapping_add(position * T::BYTES) & op.address_mask();
    core.segment_address(op.seg, offset, T::BYTES, intent)
}

fn masked_load<M: Memory, T: Word, const BYTES: usize>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    Avx::ready(core)?;
    let width = T::BYTES as usize;
    let mask = core.vector(op.b);
    let mut result = [0; 32];
    let elements = result[..BYTES].chunks_exact_mut(width).zip(mask.chunks_exact(width));
    for (position, (element, mask)) in (0..).zip(elements) {
        if sign(mask) {
            let linear = element_address::<M, T>(core, op, position, Intent::Read)?;
            let value = M::load::<T>(core, linear)?.u64();
            element.copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
    core.set_vector(op.a, &result);
    Ok(())
}

fn masked_store<M: Memory, T: Word, const BYTES: usize>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    Avx::ready(core)?;
    let width = T::BYTES as usize;
    let (mask, value) = (core.vector(op.a), core.vector(op.b));
    let chosen = || {
        let elements = value[..BYTES].chunks_exact(width).zip(mask.chunks_exact(width));
        (0..).zip(elements).filter(|(_, (_, mask))| sign(mask))
    };
    for (position, _) in chosen() {
        let linear = element_address::<M, T>(core, op, position, Intent::Write)?;
        M::probe(core, linear, T::BYTES, Intent::Write)?;
    }
    for (position, (element, _)) in chosen() {
        let linear = element_address::<M, T>(core, op, position, Intent::Write)?;
        M::store(core, linear, T::from_bytes(element))?;
    }
    Ok(())
}

// Gathers: indices in a vector register, progress kept in the mask when an element faults.

fn gather<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    use Mnemonic as N;
    let wide_index = instruction.memory_index().is_ymm();
    let wide = wide_index || instruction.op0_register().is_ymm();
    Some(match (instruction.mnemonic(), wide) {
        (N::Vgatherdps | N::Vpgatherdd, false) => gather_elements::<M, u32, u32, 4>,
        (N::Vgatherdps | N::Vpgatherdd, true) => gather_elements::<M, u32, u32, 8>,
        (N::Vgatherdpd | N::Vpgatherdq, false) => gather_elements::<M, u32, u64, 2>,
        (N::Vgatherdpd | N::Vpgatherdq, true) => gather_elements::<M, u32, u64, 4>,
        (N::Vgatherqps | N::Vpgatherqd, false) => gather_elements::<M, u64, u32, 2>,
        (N::Vgatherqps | N::Vpgatherqd, true) => gather_elements::<M, u64, u32, 4>,
        (N::Vgatherqpd | N::Vpgatherqq, false) => gather_elements::<M, u64, u64, 2>,
        (N::Vgatherqpd | N::Vpgatherqq, true) => gather_elements::<M, u64, u64, 4>,
        _ => return None,
    })
}

fn gather_elements<M: Memory, I: Word, T: Word, const COUNT: usize>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
) -> Outcome {
    Avx::ready(core)?;
    if op.a == op.b || op.a == op.index || op.b == op.index {
        return Err(core.raise(vector::UD));
    }
    let (width, index_width) = (T::BYTES as usize, I::BYTES as usize);
    let indices = core.vector(op.index);
    let (mut result, mut mask) = (core.vector(op.a), core.vector(op.b));
    result[COUNT * width..].fill(0);
    mask[COUNT * width..].fill(0);
    let mut outcome = Ok(());
    for (element, index) in indices.chunks_exact(index_width).take(COUNT).enumerate() {
        let place = element * width..(element + 1) * width;
        if sign(&mask[place.clone()]) {
            match load_indexed::<M, T>(core, op, I::from_bytes(index).sign_extended()) {
                Ok(value) => {
                    result[place.clone()].copy_from_slice(&value.u64().to_le_bytes()[..width]);
                }
                Err(stop) => {
                    outcome = Err(stop);
                    break;
                }
            }
        }
        mask[place].fill(0);
    }
    core.set_vector(op.a, &result);
    core.set_vector(op.b, &mask);
    outcome
}

fn load_indexed<M: Memory, T: Word>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    index: u64,
) -> Result<T, Stop> {
    let base = core.cpu.gpr[usize::from(op.base & 31)].wrapping_add(op.disp as u64);
    let offset = base.wrapping_add(index << (op.scale & 3)) & op.address_mask();
    let linear = core.segment_address(op.seg, offset, T::BYTES, Intent::Read)?;
    M::load(core, linear)
}
