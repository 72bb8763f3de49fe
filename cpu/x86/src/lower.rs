//! From a decoded instruction to an [`Op`].

use crate::interp;
use crate::memory::Platform;
use crate::op::{FLAT, Op, bits};
use crate::state::{BLOCK, CodeBits, ZERO};
use crate::table;
use crate::{Core, Memory};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How bytes act whose instruction this CPU lacks: the F3 of WBNOINVD is ignored, and the hint space 0F 0D,
/// 0F 18 to 0F 1F is all NOP (Intel SDM vol. 2, NOP and WBNOINVD).
const OPTIONS: u32 = DecoderOptions::NO_WBNOINVD | DecoderOptions::FORCE_RESERVED_NOP;

/// Likewise for the F3 of TZCNT and LZCNT (Intel SDM vol. 2, their entries).
const NO_ZERO_COUNTS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

/// A decoder of this CPU's instructions, over bytes that start `offset` bytes into their block.
pub fn decoder<P: Platform>(code_bits: CodeBits, bytes: &[u8], offset: u16) -> Decoder<'_> {
    decoder_at::<P>(code_bits, bytes, u64::from(offset))
}

/// A decoder over bytes that start at a linear address.
pub fn decoder_at<P: Platform>(code_bits: CodeBits, bytes: &[u8], linear: u64) -> Decoder<'_> {
    let options = if P::COUNTS_ZEROS { OPTIONS } else { OPTIONS | NO_ZERO_COUNTS };
    Decoder::with_ip(code_bits.number(), bytes, linear, options)
}

/// What stands where in the first two operands. Register means any register class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// No operands.
    None,
    /// One register.
    Reg,
    /// One memory operand.
    Mem,
    /// One immediate, branch target or far pointer.
    Imm,
    /// Register, register.
    RegReg,
    /// Register, memory.
    RegMem,
    /// Memory, register.
    MemReg,
    /// Register, immediate.
    RegImm,
    /// Memory, immediate.
    MemImm,
    /// Anything else (immediate first, implicit string operands).
    Other,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Reg,
    Mem,
    Imm,
}

fn kind(instruction: &Instruction, operand: u32) -> Kind {
    match instruction.op_kind(operand) {
        OpKind::Register => Kind::Reg,
        OpKind::Memory
        | OpKind::MemorySegSI
        | OpKind::MemorySegESI
        | OpKind::MemorySegRSI
        | OpKind::MemorySegDI
        | OpKind::MemorySegEDI
        | OpKind::MemorySegRDI
        | OpKind::MemoryESDI
        | OpKind::MemoryESEDI
        | OpKind::MemoryESRDI => Kind::Mem,
        _ => Kind::Imm,
    }
}

/// The form of an instruction's first two operands.
pub fn form(instruction: &Instruction) -> Form {
    match instruction.op_count() {
        0 => Form::None,
        1 => match kind(instruction, 0) {
            Kind::Reg => Form::Reg,
            Kind::Mem => Form::Mem,
            Kind::Imm => Form::Imm,
        },
        _ => match (kind(instruction, 0), kind(instruction, 1)) {
            (Kind::Reg, Kind::Reg) => Form::RegReg,
            (Kind::Reg, Kind::Mem) => Form::RegMem,
            (Kind::Mem, Kind::Reg) => Form::MemReg,
            (Kind::Reg, Kind::Imm) => Form::RegImm,
            (Kind::Mem, Kind::Imm) => Form::MemImm,
            _ => Form::Other,
        },
    }
}

/// Width in bits of operand `operand`: of the register, or of the memory access.
pub fn operand_bits(instruction: &Instruction, operand: u32) -> u32 {
    match kind(instruction, operand) {
        Kind::Reg => instruction.op_register(operand).size() as u32 * 8,
        Kind::Mem => instruction.memory_size().size() as u32 * 8,
        Kind::Imm => match instruction.op_kind(operand) {
            OpKind::Immediate8 | OpKind::Immediate8_2nd => 8,
            OpKind::Immediate16 | OpKind::Immediate8to16 | OpKind::NearBranch16 => 16,
            OpKind::Immediate64
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
            | OpKind::NearBranch64 => 64,
            _ => 32,
        },
    }
}

/// Whether all register operands are general registers.
pub fn is_general(instruction: &Instruction) -> bool {
    (0..instruction.op_count())
        .filter(|operand| kind(instruction, *operand) == Kind::Reg)
        .all(|operand| instruction.op_register(operand).is_gpr())
}

/// The number of a register operand in an [`Op`].
pub fn register_number(register: Register) -> u8 {
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => {
            32 + (register as u8 - Register::AH as u8)
        }
        Register::None => ZERO as u8,
        // Not the number among registers of its own class: SPL to R15L come after AH to BH there.
        _ => register.full_register().number() as u8,
    }
}

/// Whether a block of instructions must end with this one: jumps, and everything that can change how
/// the next instruction is fetched, decoded or interrupted.
pub fn ends_block(instruction: &Instruction) -> bool {
    if instruction.flow_control() != FlowControl::Next {
        return true;
    }
    loads_special_register(instruction) || interp::ends_block(instruction)
}

/// A MOV or POP into a segment, control or debug register.
fn loads_special_register(instruction: &Instruction) -> bool {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
        return false;
    }
    let register = instruction.op0_register();
    let special = register.is_segment_register() || register.is_cr() || register.is_dr();
    special && instruction.mnemonic() != Mnemonic::Push
}

/// Lowers an instruction that starts `offset` bytes into its block. It was decoded with an instruction
/// pointer of `offset`, so that its RIP-relative numbers are relative to the block.
pub fn lower<M: Memory>(instruction: &Instruction, offset: u16, code_bits: CodeBits) -> Op<M> {
    let mut op = Op {
        run: undefined::<M>,
        imm: immediate(instruction),
        disp: 0,
        offset,
        bits: 0,
        code: instruction.code() as u16,
        len: instruction.len() as u8,
        a: 0,
        b: 0,
        c: 0,
        base: ZERO as u8,
        index: ZERO as u8,
        scale: 0,
        seg: FLAT,
        thunk: None,
    };
    registers(instruction, &mut op);
    address(instruction, &mut op, code_bits);
    prefixes(instruction, &mut op);
    if let Some(row) = legal_row(instruction) {
        match interp::select::<M>(row, instruction) {
            Some(run) => op.run = run,
            None => interp::native::attach(instruction, &mut op),
        }
    }
    op
}

fn legal_row(instruction: &Instruction) -> Option<&'static table::Row> {
    let row = table::row(instruction.code())?;
    (!instruction.has_lock_prefix() || lock_is_legal(instruction)).then_some(row)
}

/// LOCK needs a memory destination and an instruction that can be locked; iced-x86 has checked the
/// latter when it decoded, the former is plain here.
pub(crate) fn lock_is_legal(instruction: &Instruction) -> bool {
    instruction.op_count() > 0 && kind(instruction, 0) == Kind::Mem
        || instruction.op_count() > 1 && kind(instruction, 1) == Kind::Mem
}

fn undefined<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> crate::core::Outcome {
    Err(core.raise(crate::fault::vector::UD))
}

fn immediate(instruction: &Instruction) -> u64 {
    let found = (0..instruction.op_count()).find(|n| kind(instruction, *n) == Kind::Imm);
    let Some(operand) = found else { return 0 };
    match instruction.op_kind(operand) {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            instruction.near_branch_target()
        }
        OpKind::FarBranch16 => u64::from(instruction.far_branch16()),
        OpKind::FarBranch32 => u64::from(instruction.far_branch32()),
        OpKind::Immediate8 => instruction.immediate8() as i8 as u64,
        OpKind::Immediate16 => instruction.immediate16() as i16 as u64,
        OpKind::Immediate32 => instruction.immediate32() as i32 as u64,
        _ => instruction.immediate(operand),
    }
}

fn registers<M>(instruction: &Instruction, op: &mut Op<M>) {
    let mut found = (0..instruction.op_count())
        .filter(|n| kind(instruction, *n) == Kind::Reg)
        .map(|n| register_number(instruction.op_register(n)));
    op.a = found.next().unwrap_or(0);
    op.b = found.next().unwrap_or(0);
    op.c = found.next().unwrap_or(0);
    if matches!(instruction.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32) {
        op.disp = i64::from(instruction.far_branch_selector());
    } else if instruction.op_count() == 2 && instruction.op_kind(1) == OpKind::Immediate8_2nd {
        op.disp = i64::from(instruction.immediate8_2nd());
    }
}

fn address<M>(instruction: &Instruction, op: &mut Op<M>, code_bits: CodeBits) {
    let Some(operand) = (0..instruction.op_count()).find(|n| kind(instruction, *n) == Kind::Mem)
    else {
        return;
    };
    let segment = instruction.memory_segment();
    op.seg = segment.number() as u8;
    if segment == Register::SS {
        op.bits |= bits::STACK;
    }
    let size = address_bits(instruction, operand);
    match size {
        16 => op.bits |= bits::ADDRESS_16 | bits::CHECKED_ADDRESS,
        32 => op.bits |= bits::ADDRESS_32 | bits::CHECKED_ADDRESS,
        _ if matches!(segment, Register::FS | Register::GS) => {}
        _ => op.seg = FLAT,
    }
    if code_bits != CodeBits::Bits64 {
        op.bits |= bits::CHECKED_ADDRESS;
    }
    if instruction.op_kind(operand) != OpKind::Memory {
        return;
    }
    op.disp = instruction.memory_displacement64() as i64;
    op.base = match instruction.memory_base() {
        Register::RIP | Register::EIP => BLOCK as u8,
        register => register_number(register),
    };
    op.index = register_number(instruction.memory_index());
    op.scale = instruction.memory_index_scale().trailing_zeros() as u8;
}

/// The address size of a memory operand: 16, 32 or 64.
pub fn address_bits(instruction: &Instruction, operand: u32) -> u32 {
    match instruction.op_kind(operand) {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 16,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 32,
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => 64,
        _ => match (instruction.memory_base(), instruction.memory_index()) {
            (Register::RIP, _) => 64,
            (Register::EIP, _) => 32,
            (Register::None, Register::None) => instruction.memory_displ_size() * 8,
            (Register::None, index) => index.size() as u32 * 8,
            (base, _) => base.size() as u32 * 8,
        },
    }
}

fn prefixes<M>(instruction: &Instruction, op: &mut Op<M>) {
    if instruction.has_lock_prefix() {
        op.bits |= bits::LOCK;
    }
    if instruction.is_stack_instruction() {
        op.bits |= bits::STACK;
    }
    if instruction.has_rep_prefix() {
        op.bits |= bits::REP;
    }
    if instruction.has_repne_prefix() {
        op.bits |= bits::REPNE;
    }
    match instruction.op_code().operand_size() {
        16 => op.bits |= bits::OPERAND_16,
        64 => op.bits |= bits::OPERAND_64,
        _ => {}
    }
}
