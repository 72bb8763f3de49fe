//! The XSAVE family (Intel SDM vol. 1 chapter 13): components x87, SSE, AVX and PKRU.
//!
//! ```text
//!   area   0  legacy region, as FXSAVE: x87 (0..24, 32..160), MXCSR (24..32), XMM (160..416)
//!        512  header: XSTATE_BV, XCOMP_BV, 48 bytes of zero
//!        576  AVX: upper halves of the YMM registers
//!       2688  PKRU; in the compacted format right behind what comes before it
//! ```
//! The compacted format has the same offsets for all but PKRU. IA32_XSS is always zero, so XSAVES and XRSTORS are XSAVEC and XRSTOR of the
//! compacted format, for CPL 0.

use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::convert::{PKRU, PKRU_AT, PKRU_BYTES};
use crate::state::{Fpu, RAX, RCX, RDX, cr0, cr4};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::Instruction;
use kezhan_jit::{X87, X87_BYTES};

/// State components (vol. 1 §13.1).
mod component {
    pub const X87: u64 = 1 << 0;
    pub const SSE: u64 = 1 << 1;
    pub const AVX: u64 = 1 << 2;
}

/// XCOMP_BV: the area is in compacted format (vol. 1 §13.4.2).
const COMPACTED: u64 = 1 << 63;
const MXCSR_AT: usize = 24;
const MXCSR_RESET: u32 = 0x1f80;
const XMM_AT: usize = X87_BYTES;
const HEADER_AT: usize = 512;
const AVX_AT: usize = 576;
const AREA: usize = AVX_AT + 256;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, _instruction: &Instruction) -> Option<Handler<M>> {
    use Operation as O;
    Some(match row.operation {
        O::Xgetbv => xgetbv,
        O::Xsetbv => xsetbv,
        O::Xsave => save::<M, Plain>,
        O::Xsaveopt => save::<M, Optimised>,
        O::Xsavec => save::<M, Compacted>,
        O::Xsaves => save::<M, Supervisor>,
        O::Xrstor => xrstor::<M, Plain>,
        O::Xrstors => xrstor::<M, Supervisor>,
        _ => return None,
    })
}

/// How the instructions of the family differ.
trait Variant: 'static {
    /// Components in their initial state are not written.
    const OPTIMISED: bool = false;
    const COMPACTED: bool = false;
    const SUPERVISOR: bool = false;
}

struct Plain;
struct Optimised;
struct Compacted;
struct Supervisor;

impl Variant for Plain {}
impl Variant for Optimised {
    const OPTIMISED: bool = true;
}
impl Variant for Compacted {
    const OPTIMISED: bool = true;
    const COMPACTED: bool = true;
}
impl Variant for Supervisor {
    const OPTIMISED: bool = true;
    const COMPACTED: bool = true;
    const SUPERVISOR: bool = true;
}

fn edx_eax<M: Memory>(core: &Core<'_, M>) -> u64 {
    core.cpu.gpr[RDX] << 32 | core.cpu.gpr[RAX] & 0xffff_ffff
}

fn require_enabled<M: Memory>(core: &mut Core<'_, M>) -> Outcome {
    if core.cpu.cr4 & cr4::OSXSAVE == 0 {
        return Err(core.raise(vector::UD));
    }
    Ok(())
}

impl Fpu {
    /// Components that are not in their initial state (vol. 1 §13.6).
    fn in_use(&self) -> u64 {
        let X87 { mxcsr, .. } = self.frame.x87;
        let initial = X87 { mxcsr, ..X87::default() };
        let bit = |used: bool, component: u64| if used { component } else { 0 };
        bit(self.frame.x87 != initial, component::X87)
            | bit(self.xmm.iter().any(|xmm| *xmm != 0), component::SSE)
            | bit(self.ymm_high.iter().any(|high| *high != 0), component::AVX)
    }
}

/// As [`Fpu::in_use`], of all components.
fn in_use<M: Memory>(core: &Core<'_, M>) -> u64 {
    core.cpu.fpu.in_use() | if core.cpu.pkru == 0 { 0 } else { PKRU }
}

/// Where PKRU is in an area: at its place in the standard format, behind what else there is in the compacted
/// one, whose components are given.
fn pkru_at(compacted: Option<u64>) -> u64 {
    compacted.map_or(PKRU_AT, length) as u64
}

/// XGETBV: XCR0, or with ECX = 1 what of it is in use.
fn xgetbv<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    require_enabled(core)?;
    let value = match core.cpu.gpr[RCX] as u32 {
        0 => core.cpu.xcr0,
        1 => core.cpu.xcr0 & in_use(core),
        _ => return Err(core.raise_code(vector::GP, 0)),
    };
    core.cpu.gpr[RAX] = value & 0xffff_ffff;
    core.cpu.gpr[RDX] = value >> 32;
    Ok(())
}

/// XSETBV: XCR0 takes what CPUID leaf 0DH offers (vol. 1 §13.3).
fn xsetbv<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    require_enabled(core)?;
    core.require_ring_0()?;
    let value = edx_eax(core);
    let [low, _, _, high] = M::cpuid(core, 0xd, 0);
    let offered = u64::from(high) << 32 | u64::from(low);
    let supported = offered & (component::X87 | component::SSE | component::AVX | PKRU);
    let invalid = core.cpu.gpr[RCX] as u32 != 0
        || value & component::X87 == 0
        || value & !supported != 0
        || value & component::AVX != 0 && value & component::SSE == 0;
    if invalid {
        return Err(core.raise_code(vector::GP, 0));
    }
    core.cpu.xcr0 = value;
    core.advance(op);
    Ok(())
}

/// The area's linear address and what of the state is asked for.
fn area<M: Memory, V: Variant>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    intent: Intent,
) -> Result<(u64, u64), Stop> {
    require_enabled(core)?;
    if core.cpu.cr0 & cr0::TS != 0 {
        return Err(core.raise(vector::NM));
    }
    if V::SUPERVISOR {
        core.require_ring_0()?;
    }
    let requested = core.cpu.xcr0 & edx_eax(core);
    let linear = core.address(op, length(requested) as u64, intent)?;
    core.require_aligned(linear, 64)?;
    Ok((linear, requested))
}

fn length(requested: u64) -> usize {
    if requested & component::AVX != 0 { AREA } else { AVX_AT }
}

/// XSAVE, XSAVEOPT, XSAVEC, XSAVES (vol. 1 §13.7, §13.9 to §13.11). The area is read, changed and
/// written whole, so that it is all or nothing.
fn save<M: Memory, V: Variant>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (linear, requested) = area::<M, V>(core, op, Intent::Write)?;
    let length = length(requested);
    M::probe(core, linear, length as u64, Intent::Write)?;
    let mut area = [0; AREA];
    M::load_bytes(core, linear, &mut area[..length])?;
    let used = in_use(core);
    let keys = linear.wrapping_add(pkru_at(V::COMPACTED.then_some(requested)));
    if requested & PKRU != 0 {
        M::probe(core, keys, PKRU_BYTES as u64, Intent::Write)?;
    }
    let written = if V::OPTIMISED { requested & used } else { requested };
    write_components(core, op, &mut area, written);
    let mxcsr = if V::COMPACTED { component::SSE } else { component::SSE | component::AVX };
    if if V::COMPACTED { written } else { requested } & mxcsr != 0 {
        let value = core.cpu.fpu.frame.x87.to_bytes();
        area[MXCSR_AT..32].copy_from_slice(&value[MXCSR_AT..32]);
    }
    let header = &mut area[HEADER_AT..HEADER_AT + 16];
    let old = if V::COMPACTED { 0 } else { u64::from_bytes(&header[..8]) };
    let present = old & !requested | requested & used;
    header[..8].copy_from_slice(&present.to_le_bytes());
    if V::COMPACTED {
        header[8..].copy_from_slice(&(COMPACTED | requested).to_le_bytes());
    }
    M::store_bytes(core, linear, &area[..length])?;
    if written & PKRU == 0 {
        return Ok(());
    }
    let value = u64::from(core.cpu.pkru);
    M::store(core, keys, value)
}

fn write_components<M: Memory>(core: &Core<'_, M>, op: &Op<M>, area: &mut [u8; AREA], set: u64) {
    if set & component::X87 != 0 {
        let image = core.x87_image(op);
        area[..MXCSR_AT].copy_from_slice(&image[..MXCSR_AT]);
        area[32..X87_BYTES].copy_from_slice(&image[32..]);
    }
    let count = core.xmm_count();
    if set & component::SSE != 0 {
        put(&mut area[XMM_AT..], &core.cpu.fpu.xmm[..count]);
    }
    if set & component::AVX != 0 {
        put(&mut area[AVX_AT..], &core.cpu.fpu.ymm_high[..count]);
    }
}

fn put(bytes: &mut [u8], registers: &[u128]) {
    for (place, register) in bytes.chunks_exact_mut(16).zip(registers) {
        place.copy_from_slice(&register.to_le_bytes());
    }
}

fn take(registers: &mut [u128], bytes: &[u8]) {
    for (register, place) in registers.iter_mut().zip(bytes.chunks_exact(16)) {
        *register = place.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
    }
}

/// XRSTOR and XRSTORS (vol. 1 §13.8, §13.12).
fn xrstor<M: Memory, V: Variant>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (linear, requested) = area::<M, V>(core, op, Intent::Read)?;
    let mut area = [0; AREA];
    M::load_bytes(core, linear, &mut area[..AVX_AT])?;
    let header = Header::read(&area);
    if !header.is_valid::<V>(core.cpu.xcr0) {
        return Err(core.raise_code(vector::GP, 0));
    }
    let mxcsr = u32::from_bytes(&area[MXCSR_AT..MXCSR_AT + 4]);
    if requested & header.present & component::AVX != 0 {
        M::load_bytes(core, linear.wrapping_add(AVX_AT as u64), &mut area[AVX_AT..])?;
    }
    let pkru = if requested & header.present & PKRU != 0 {
        let compacted = header.is_compacted().then_some(header.compaction);
        M::load::<u64>(core, linear.wrapping_add(pkru_at(compacted)))? as u32
    } else {
        0
    };
    let mxcsr = match header.mxcsr(requested) {
        MxcsrFrom::Area => Some(mxcsr),
        MxcsrFrom::Reset => Some(MXCSR_RESET),
        MxcsrFrom::Nowhere => None,
    };
    if let Some(value) = mxcsr {
        core.require_valid_mxcsr(value)?;
        core.cpu.fpu.frame.x87.mxcsr = value;
    }
    if requested & PKRU != 0 {
        core.set_pkru(pkru);
    }
    read_components(core, op, &area, (requested, header.present));
    core.advance(op);
    Ok(())
}

/// Components of `requested` come from the area when they are `present`, and become initial otherwise.
fn read_components<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    area: &[u8; AREA],
    (requested, present): (u64, u64),
) {
    let count = core.xmm_count();
    let initial = Fpu::default();
    if requested & present & component::X87 != 0 {
        if let Some(image) = area.first_chunk() {
            core.set_x87_image(op, image);
        }
    } else if requested & component::X87 != 0 {
        let X87 { mxcsr, .. } = core.cpu.fpu.frame.x87;
        core.cpu.fpu.frame.x87 = X87 { mxcsr, ..X87::default() };
    }
    let fpu = &mut core.cpu.fpu;
    if requested & present & component::SSE != 0 {
        take(&mut fpu.xmm[..count], &area[XMM_AT..]);
    } else if requested & component::SSE != 0 {
        fpu.xmm[..count].copy_from_slice(&initial.xmm[..count]);
    }
    if requested & present & component::AVX != 0 {
        take(&mut fpu.ymm_high[..count], &area[AVX_AT..]);
    } else if requested & component::AVX != 0 {
        fpu.ymm_high[..count].copy_from_slice(&initial.ymm_high[..count]);
    }
}

struct Header {
    present: u64,
    compaction: u64,
    /// The 48 bytes behind are zero.
    rest_is_zero: bool,
}

enum MxcsrFrom {
    Area,
    Reset,
    Nowhere,
}

impl Header {
    fn read(area: &[u8; AREA]) -> Header {
        Header {
            present: u64::from_bytes(&area[HEADER_AT..HEADER_AT + 8]),
            compaction: u64::from_bytes(&area[HEADER_AT + 8..HEADER_AT + 16]),
            rest_is_zero: area[HEADER_AT + 16..AVX_AT].iter().all(|byte| *byte == 0),
        }
    }

    fn is_compacted(&self) -> bool {
        self.compaction & COMPACTED != 0
    }

    /// The checks that end in #GP(0).
    fn is_valid<V: Variant>(&self, xcr0: u64) -> bool {
        if self.present & !xcr0 != 0 || !self.rest_is_zero || V::COMPACTED && !self.is_compacted() {
            return false;
        }
        let components = self.compaction & !COMPACTED;
        if self.is_compacted() {
            components & !xcr0 == 0 && self.present & !components == 0
        } else {
            self.compaction == 0
        }
    }

    /// The standard format loads MXCSR with SSE or AVX, present or not; the compacted one treats it as
    /// part of SSE.
    fn mxcsr(&self, requested: u64) -> MxcsrFrom {
        let sse = requested & component::SSE != 0;
        match (self.is_compacted(), self.present & component::SSE != 0) {
            (false, _) if requested & (component::SSE | component::AVX) != 0 => MxcsrFrom::Area,
            (true, true) if sse => MxcsrFrom::Area,
            (true, false) if sse => MxcsrFrom::Reset,
            _ => MxcsrFrom::Nowhere,
        }
    }
}
