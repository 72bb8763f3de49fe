//! One case: an instruction and its inputs, run by the interpreter and by the host CPU.

use crate::flat::{BASE, Flat, Nowhere};
use crate::random::Random;
use iced_x86::{CodeSize, Instruction, Mnemonic, OpKind, Register};
use kezhan_jit::oracle::{Fault, Oracle};
use kezhan_jit::{Frame, NotNative};
use kezhan_x86::core::Machine;
use kezhan_x86::lower::lower;
use kezhan_x86::state::{BLOCK, CS, CodeBits, SS, cr0, cr4, efer};
use kezhan_x86::{Core, CpuState, Stop, flags, table};

/// Where the memory operand lies.
pub const OPERAND: u64 = BASE + 0x800;

/// What an instruction did, in the terms of both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Result {
    pub fault: Option<u8>,
    pub gpr: [u64; 16],
    pub flags: u64,
    pub xmm: [u128; 16],
    pub ymm_high: [u128; 16],
    pub x87: kezhan_jit::X87,
    pub memory: [u8; 64],
}

static NOWHERE: Nowhere = Nowhere;

/// A core in 64-bit mode, CPL 3, with everything enabled.
pub fn core() -> Core<'static, Flat> {
    core_in(CodeBits::Bits64)
}

/// A core in protected mode with flat segments, running code of that width.
pub fn core_in(bits: CodeBits) -> Core<'static, Flat> {
    let long = bits == CodeBits::Bits64;
    let mut cpu = CpuState {
        cr0: cr0::PE | cr0::PG | cr0::NE | cr0::ET | cr0::MP,
        cr4: cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE,
        efer: if long { efer::LME | efer::LMA } else { 0 },
        xcr0: 7,
        ..CpuState::default()
    };
    for segment in &mut cpu.segments {
        (segment.base, segment.limit, segment.dpl) = (0, u32::MAX, 3);
        (segment.db, segment.g) = (!long, true);
    }
    cpu.segments[CS].l = long;
    cpu.segments[SS].dpl = 3;
    cpu.derive();
    cpu.gpr[BLOCK] = 0x40_0000;
    Core { cpu, mem: Flat::default(), io: Machine(&NOWHERE) }
}

/// Random registers, flags, x87 state and memory. Address registers point at the operand.
pub fn inputs(instruction: &Instruction, random: &mut Random) -> Frame {
    let narrow = instruction.code_size() != CodeSize::Code64;
    let mut frame = Frame::default();
    frame.gpr = std::array::from_fn(|_| random.integer());
    if narrow {
        frame.gpr = frame.gpr.map(|register| register & 0xffff_ffff);
    }
    frame.flags = random.next() & flags::ARITHMETIC;
    frame.xmm = std::array::from_fn(|_| random.vector());
    frame.ymm_high = std::array::from_fn(|_| random.vector());
    let x87 = &mut frame.x87;
    x87.st = std::array::from_fn(|_| random.x87());
    x87.ftw = random.next() as u8 | random.next() as u8;
    x87.fsw = random.next() as u16 & 0x7f00;
    x87.fcw = random.control_word();
    x87.mxcsr = random.mxcsr();
    for word in frame.memory.chunks_exact_mut(8) {
        word.copy_from_slice(&random.memory().to_le_bytes());
    }
    set_address(instruction, &mut frame);
    keep_bit_offset(instruction, &mut frame);
    if matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Vldmxcsr) {
        // MXCSR.MM, which some hosts have and our CPUs do not.
        frame.memory[2] &= !2;
    }
    frame
}

fn set_address(instruction: &Instruction, frame: &mut Frame) {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if base == Register::None {
        return;
    }
    let offset = instruction.memory_displacement64();
    if index != Register::None {
        frame.gpr[index.number()] = 0x11;
    }
    let indexed = if index == Register::None { 0 } else { 0x11 * 4 };
    frame.gpr[base.number()] =
        OPERAND.wrapping_sub(offset).wrapping_sub(indexed) & address_mask(instruction);
}

/// What addresses are cut to.
pub fn address_mask(instruction: &Instruction) -> u64 {
    if instruction.memory_base().size() == 4 { 0xffff_ffff } else { u64::MAX }
}

/// A bit offset in a register stays inside the memory operand: the oracle has no more memory.
fn keep_bit_offset(instruction: &Instruction, frame: &mut Frame) {
    use Mnemonic as M;
    let bit_test = matches!(instruction.mnemonic(), M::Bt | M::Bts | M::Btr | M::Btc);
    if bit_test
        && instruction.op0_kind() == OpKind::Memory
        && instruction.op1_kind() == OpKind::Register
    {
        let bits = instruction.memory_size().size() as u64 * 8;
        frame.gpr[instruction.op1_register().number()] &= bits - 1;
    }
}

/// Puts the inputs into a core, the memory operand at `place`.
pub fn load(core: &mut Core<'_, Flat>, frame: &Frame, place: u64) {
    core.cpu.gpr[..16].copy_from_slice(&frame.gpr);
    core.cpu.set_rflags(core.cpu.rflags & !flags::ARITHMETIC | frame.flags);
    core.cpu.fpu.xmm = frame.xmm;
    core.cpu.fpu.ymm_high = frame.ymm_high;
    core.cpu.fpu.frame.x87 = frame.x87;
    core.cpu.fpu.frame.x87.update_summary();
    let at = (place - BASE) as usize;
    core.mem.bytes[at..at + 64].copy_from_slice(&frame.memory);
}

/// What of the core the guest can see, the 64 bytes at `place` among it.
pub fn snapshot(core: &Core<'_, Flat>, place: u64, fault: Option<u8>) -> Result {
    let at = (place - BASE) as usize;
    let mut gpr = [0; 16];
    gpr.copy_from_slice(&core.cpu.gpr[..16]);
    let mut memory = [0; 64];
    memory.copy_from_slice(&core.mem.bytes[at..at + 64]);
    let mut x87 = core.cpu.fpu.frame.x87;
    (x87.fip, x87.fdp, x87.fop) = (0, 0, 0);
    Result {
        fault,
        gpr,
        flags: core.cpu.rflags() & flags::ARITHMETIC,
        xmm: core.cpu.fpu.xmm,
        ymm_high: core.cpu.fpu.ymm_high,
        x87,
        memory,
    }
}

/// Executes one instruction; the vector of its exception, if it raised one.
pub fn step(core: &mut Core<'_, Flat>, instruction: &Instruction) -> Option<u8> {
    let op = lower::<Flat>(instruction, 0, core.cpu.code_bits);
    match (op.run)(core, &op) {
        Ok(()) => None,
        Err(Stop::Exception) => Some(core.cpu.exception.vector),
        Err(stop) => panic!("{stop:?}"),
    }
}

/// Width of the code that an instruction was decoded from.
pub fn bits(instruction: &Instruction) -> CodeBits {
    if instruction.code_size() == CodeSize::Code64 { CodeBits::Bits64 } else { CodeBits::Bits32 }
}

/// By the interpreter.
pub fn interpret(instruction: &Instruction, inputs: &Frame) -> Result {
    let mut core = core_in(bits(instruction));
    load(&mut core, inputs, OPERAND);
    let fault = step(&mut core, instruction);
    snapshot(&core, OPERAND, fault)
}

/// By the host CPU.
pub fn execute(
    oracle: &mut Oracle,
    instruction: &Instruction,
    inputs: &Frame,
) -> std::result::Result<Result, NotNative> {
    let mut frame = inputs.clone();
    let fault = oracle.run(instruction, &mut frame)?.err().map(|fault| match fault {
        Fault::Divide => 0,
        Fault::Protection => 13,
        Fault::X87 => 16,
        Fault::Simd => 19,
    });
    let mut x87 = frame.x87;
    (x87.fip, x87.fdp, x87.fop) = (0, 0, 0);
    x87.mxcsr_mask = inputs.x87.mxcsr_mask;
    let st = x87.st.map(|register| register & (u128::MAX >> 48));
    Ok(Result {
        fault,
        gpr: frame.gpr,
        flags: frame.flags,
        xmm: frame.xmm,
        ymm_high: frame.ymm_high,
        x87: kezhan_jit::X87 { st, ..x87 },
        memory: frame.memory,
    })
}

/// Makes equal what the architecture leaves open, or what a trial run cannot tell (see
/// `kezhan_jit::thunk`).
pub fn forget_undefined(instruction: &Instruction, inputs: &Frame, result: &mut Result) {
    use Mnemonic as M;
    const PRECISION: u32 = 1 << 5;
    let undefined = table::row(instruction.code()).map_or(0, |row| row.undefined);
    result.flags &= !undefined;
    let st = result.x87.st.map(|register| register & (u128::MAX >> 48));
    result.x87.st = st;
    result.x87.mxcsr_mask = 0;
    if instruction.mnemonic() == M::Fnstenv {
        let pointers = if instruction.memory_size().size() == 14 { 6 } else { 12 };
        result.memory[pointers..28].fill(0);
    }
    let unmasked = !(inputs.x87.mxcsr >> 7) & result.x87.mxcsr & 0x18;
    if result.fault == Some(19) {
        if unmasked != 0 {
            result.x87.mxcsr &= !PRECISION;
        }
        // DPPS multiplies, then adds: after an exception in the first step the second sets no flags.
        if matches!(instruction.mnemonic(), M::Dpps | M::Dppd | M::Vdpps | M::Vdppd) {
            result.x87.mxcsr &= !0x3f;
        }
        // Whether MMX mode is entered before #XM is not said.
        result.x87.enter_mmx();
    }
}
