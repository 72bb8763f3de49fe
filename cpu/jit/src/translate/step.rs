//! What the translator needs to know of one instruction.

use iced_x86::{
    Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, RflagsBits,
};

/// How the translator treats an instruction. The instruction table says which (`table` in cpu/x86),
/// so that interpreter and translator never disagree about what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Runs as itself on general registers, with at most one memory operand.
    Copy,
    /// As [`Rule::Copy`], and works on XMM registers or MXCSR.
    Vector,
    /// As [`Rule::Copy`], and works on x87 registers, control word or status word; cannot raise #MF.
    X87,
    /// DIV or IDIV of 32 or 64 bits.
    Divide,
    /// CMPXCHG16B.
    ExchangePair,
    /// PUSH of memory.
    PushMemory,
    /// SWAPGS at CPL 0.
    SwapGs,
    /// PUSHFQ.
    PushFlags,
    /// CLI at CPL 0.
    ClearInterrupt,
    /// STI at CPL 0, followed by another instruction.
    SetInterrupt,
    /// MOVS, repeated or not, with 64-bit addresses in DS and ES.
    MoveString,
    /// STOS likewise.
    StoreString,
    /// MOV from a segment register to a general register.
    ReadSegment,
    /// BT, BTS, BTR or BTC of memory at [base + number] or [number], by a register of 32 or 64 bits.
    BitString,
    /// SYSCALL at CPL 3.
    SystemCall,
    /// SYSRET to 64-bit mode at CPL 0.
    SystemReturn,
    /// RDTSC or RDTSCP.
    TimeStamp,
    /// STAC at CPL 0 with CR4.SMAP set.
    SetAccess,
    /// CLAC likewise.
    ClearAccess,
    /// RDFSBASE or RDGSBASE.
    ReadBase(Segment),
    /// WRFSBASE or WRGSBASE.
    WriteBase(Segment),
    /// CLD.
    ClearDirection,
    /// RDPKRU.
    ReadKeys,
    /// MOV from CR0, CR2, CR3 or CR4 to a general register at CPL 0.
    ReadControl,
    /// LEA.
    Address,
    /// Does nothing.
    Nothing,
    /// PUSH of a register or number.
    Push,
    /// POP of a register.
    Pop,
    /// LEAVE.
    Leave,
    /// CALL near.
    Call,
    /// RET near.
    Return,
    /// JMP near.
    Jump,
    /// Jcc.
    Branch,
    /// The interpreter's.
    Interpret,
}

/// The six status flags, as iced-x86 numbers them.
pub(super) const STATUS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// Number of guest RSP.
pub(super) const RSP: u8 = 4;

/// Segments with a base in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// A memory operand in the guest's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Base register.
    pub base: Option<u8>,
    /// Index register.
    pub index: Option<u8>,
    /// Shift of the index.
    pub scale: u8,
    /// Displacement; the address itself when it is relative to RIP.
    pub displacement: i64,
    /// Segment whose base is added.
    pub segment: Option<Segment>,
    /// Bytes.
    pub size: u32,
    /// Is written, perhaps after being read.
    pub write: bool,
    /// Must be a multiple of this: a power of two.
    pub alignment: u32,
    /// A register that counts bits from the operand on, as many as its size has: the operand is the one with that bit.
    pub bit: Option<u8>,
}

impl Operand {
    /// `size` bytes at RSP + `displacement`.
    pub(super) fn stack(displacement: i64, write: bool) -> Operand {
        Operand::at(RSP, displacement, write)
    }

    pub(super) fn at(base: u8, displacement: i64, write: bool) -> Operand {
        Operand {
            base: Some(base),
            index: None,
            scale: 0,
            displacement,
            segment: None,
            size: 8,
            write,
            alignment: 1,
            bit: None,
        }
    }

    /// Log2 of the operand's bits.
    pub(super) fn bit_shift(&self) -> u8 {
        (8 * self.size).trailing_zeros() as u8
    }

    /// How far the operand with the bit is from the first, in bytes.
    fn bit_distance(&self, number: u64) -> u64 {
        let number = if self.size == 4 { i64::from(number as i32) } else { number as i64 };
        (number >> self.bit_shift()) as u64 * u64::from(self.size)
    }

    /// The linear address with these registers and segment bases.
    pub fn linear(&self, gpr: &[u64; 16], fs_base: u64, gs_base: u64) -> u64 {
        let register = |number: Option<u8>| number.map_or(0, |n| gpr[usize::from(n & 15)]);
        let segment = match self.segment {
            None => 0,
            Some(Segment::Fs) => fs_base,
            Some(Segment::Gs) => gs_base,
        };
        register(self.base)
            .wrapping_add(register(self.index) << self.scale)
            .wrapping_add(self.displacement as u64)
            .wrapping_add(segment)
            .wrapping_add(self.bit.map_or(0, |bit| self.bit_distance(register(Some(bit)))))
    }

    /// Neither register nor segment: the address is always the same.
    pub(super) fn is_constant(&self) -> bool {
        let registers = [self.base, self.index, self.bit];
        registers.iter().all(Option::is_none) && self.segment.is_none()
    }
}

/// An instruction with what the translator needs to know of it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The instruction, decoded at its linear address.
    pub instruction: Instruction,
    /// How it is treated.
    pub rule: Rule,
    /// Guest registers that take part in it.
    pub(super) registers: u16,
    /// Those that it changes.
    pub(super) changes: u16,
    /// Status flags that it reads.
    pub(super) reads: u32,
    /// Status flags that it may change.
    pub(super) modifies: u32,
    /// Status flags that it always changes.
    pub(super) kills: u32,
    /// Its explicit memory operand.
    pub(super) operand: Option<Operand>,
}

impl Step {
    /// An instruction that the table wants treated by `rule`. What has no encoding beside the check of its
    /// operand becomes [`Rule::Interpret`].
    pub fn new(
        instruction: &Instruction,
        rule: Rule,
        factory: &mut InstructionInfoFactory,
    ) -> Step {
        let modifies = instruction.rflags_modified() & STATUS;
        let mut step = Step {
            instruction: *instruction,
            rule,
            registers: 0,
            changes: 0,
            reads: instruction.rflags_read() & STATUS,
            modifies,
            kills: kills(instruction),
            operand: None,
        };
        if matches!(rule, Rule::Interpret | Rule::Nothing) {
            return step;
        }
        let info = factory.info(instruction);
        for used in info.used_registers() {
            let register = used.register().full_register();
            if register.is_gpr64() {
                let bit = 1 << register.number();
                step.registers |= bit;
                if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead) {
                    step.changes |= bit;
                }
            }
        }
        step.operand = match rule {
            Rule::Address => None,
            _ => memory(instruction),
        };
        if let Some(operand) = &mut step.operand {
            if rule == Rule::ExchangePair {
                operand.alignment = 16;
            }
            operand.write =
                explicit_memory(instruction).is_some_and(|operand| writes(info.op_access(operand)));
        }
        match rule {
            Rule::SystemCall => {
                (step.reads, step.modifies, step.kills) = (STATUS, STATUS, STATUS);
            }
            Rule::SystemReturn => {
                (step.reads, step.modifies, step.kills) = (0, STATUS, STATUS);
            }
            // Undefined ones stay as they are.
            Rule::ReadControl => (step.reads, step.modifies, step.kills) = (0, 0, 0),
            Rule::BitString => {
                let bit = number(instruction.op1_register());
                if let Some(operand) = &mut step.operand {
                    operand.bit = bit;
                }
            }
            _ => {}
        }
        if !step.is_encodable() {
            step.rule = Rule::Interpret;
        }
        step
    }

    /// The linear address of the next instruction.
    pub fn next(&self) -> u64 {
        self.instruction.next_ip()
    }

    /// Whether nothing follows it in a superblock.
    pub fn ends(&self) -> bool {
        matches!(
            self.rule,
            Rule::Call
                | Rule::Return
                | Rule::Jump
                | Rule::SystemCall
                | Rule::SystemReturn
                | Rule::SetAccess
                | Rule::ClearAccess
                | Rule::Interpret
        )
    }

    /// Where it may go to, if that is a constant.
    pub fn target(&self) -> Option<u64> {
        let direct = matches!(self.rule, Rule::Call | Rule::Jump | Rule::Branch)
            && self.instruction.op0_kind() == OpKind::NearBranch64;
        direct.then(|| self.instruction.near_branch_target())
    }

    /// Whether it can be encoded with other registers and the scratch register in its operand: AH to BH
    /// exclude the REX prefix, so that their operand is addressed by another register; direct offsets have no ModRM byte, and some address sizes wrap.
    fn is_encodable(&self) -> bool {
        if matches!(self.rule, Rule::MoveString | Rule::StoreString) {
            return true;
        }
        let based = self.operand.as_ref().is_some_and(|operand| operand.segment.is_some());
        if self.rule == Rule::X87 && based {
            return false;
        }
        if self.rule == Rule::BitString && !self.has_reachable_bits() {
            return false;
        }
        let instruction = &self.instruction;
        let renamed = self.registers & (1 << 4 | 1 << 10 | 1 << 11) != 0;
        let apart = match self.operand {
            Some(_) => self.rule != Rule::Copy,
            None => renamed,
        };
        if self.names_high_byte() && apart {
            return false;
        }
        if self.rule == Rule::Address {
            let narrow = instruction.op0_register().size() == 2
                || instruction.memory_base() == Register::EIP;
            return !narrow;
        }
        let Some(operand) = &self.operand else { return self.has_only_plain_operands() };
        let wide = instruction.memory_base().size() != 4 && instruction.memory_index().size() != 4;
        wide && operand.size > 0
            && operand.size <= 16
            && i32::try_from(operand.displacement).is_ok() | operand.is_constant_but_segment()
            && !is_direct_offset(instruction.code())
            && !instruction.is_vsib()
    }

    /// Whether AH, CH, DH or BH takes part in it.
    pub(super) fn names_high_byte(&self) -> bool {
        let instruction = &self.instruction;
        (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && matches!(
                    instruction.op_register(operand),
                    Register::AH | Register::CH | Register::DH | Register::BH
                )
        })
    }

    /// Whether the operand can be addressed by a base, or none, and a short number.
    fn has_reachable_bits(&self) -> bool {
        self.operand.as_ref().is_some_and(|operand| {
            operand.index.is_none()
                && operand.segment.is_none()
                && i32::try_from(operand.displacement).is_ok()
                && operand.bit.is_some()
        })
    }

    fn has_only_plain_operands(&self) -> bool {
        (0..self.instruction.op_count()).all(|operand| {
            !matches!(
                self.instruction.op_kind(operand),
                OpKind::MemorySegSI
                    | OpKind::MemorySegDI
                    | OpKind::MemorySegESI
                    | OpKind::MemorySegEDI
                    | OpKind::MemorySegRSI
                    | OpKind::MemorySegRDI
                    | OpKind::MemoryESDI
                    | OpKind::MemoryESEDI
                    | OpKind::MemoryESRDI
            )
        })
    }
}

impl Operand {
    fn is_constant_but_segment(&self) -> bool {
        self.base.is_none() && self.index.is_none()
    }
}

/// Status flags that an instruction always changes.
pub(super) fn kills(instruction: &Instruction) -> u32 {
    let modifies = instruction.rflags_modified() & STATUS;
    if changes_flags_always(instruction) { modifies } else { 0 }
}

/// Shifts and rotations by CL, or by a multiple of the width, may leave all flags alone.
fn changes_flags_always(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    if instruction.has_rep_prefix() || instruction.has_repne_prefix() {
        return false;
    }
    if !matches!(
        instruction.mnemonic(),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
    ) {
        return true;
    }
    let last = instruction.op_count() - 1;
    match instruction.op_kind(last) {
        OpKind::Register => false,
        _ => instruction.immediate(last) & 0x1f != 0,
    }
}

fn number(register: Register) -> Option<u8> {
    register.is_gpr().then(|| register.full_register().number() as u8)
}

/// Which operand is the explicit one in memory.
fn explicit_memory(instruction: &Instruction) -> Option<u32> {
    (0..instruction.op_count()).find(|operand| instruction.op_kind(*operand) == OpKind::Memory)
}

fn writes(access: OpAccess) -> bool {
    use OpAccess as A;
    matches!(access, A::Write | A::CondWrite | A::ReadWrite | A::ReadCondWrite)
}

fn memory(instruction: &Instruction) -> Option<Operand> {
    explicit_memory(instruction)?;
    let size = instruction.memory_size().size() as u32;
    Some(Operand {
        base: number(instruction.memory_base()),
        index: number(instruction.memory_index()),
        scale: instruction.memory_index_scale().trailing_zeros() as u8,
        displacement: instruction.memory_displacement64() as i64,
        segment: match instruction.memory_segment() {
            Register::FS => Some(Segment::Fs),
            Register::GS => Some(Segment::Gs),
            _ => None,
        },
        size,
        write: false,
        alignment: alignment(instruction, size),
        bit: None,
    })
}

/// What a memory operand must be a multiple of (Intel SDM vol. 1 §4.1.1, vol. 2A §2.4): legacy SSE wants its
/// 16-byte operands aligned, but for those that say they are unaligned.
fn alignment(instruction: &Instruction, size: u32) -> u32 {
    use Mnemonic as M;
    let lenient = matches!(
        instruction.mnemonic(),
        M::Movups
            | M::Movupd
            | M::Movdqu
            | M::Lddqu
            | M::Pcmpestri
            | M::Pcmpestrm
            | M::Pcmpistri
            | M::Pcmpistrm
    );
    if size == 16 && !lenient { 16 } else { 1 }
}

/// MOV with a direct offset (opcodes A0 to A3).
fn is_direct_offset(code: Code) -> bool {
    matches!(
        code,
        Code::Mov_AL_moffs8
            | Code::Mov_AX_moffs16
            | Code::Mov_EAX_moffs32
            | Code::Mov_RAX_moffs64
            | Code::Mov_moffs8_AL
            | Code::Mov_moffs16_AX
            | Code::Mov_moffs32_EAX
            | Code::Mov_moffs64_RAX
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn writes_memory(bytes: &[u8], rule: Rule) -> bool {
        let instruction = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
        let step = Step::new(&instruction, rule, &mut InstructionInfoFactory::new());
        step.operand.unwrap_or_else(|| panic!("{instruction}: no operand")).write
    }

    #[test]
    fn a_write_is_one_whatever_the_address_is_relative_to() {
        // MOV m, eax; OR m, imm8; SETO m; LOCK XADD m, eax; SAR m, imm8: [rip], [rdx], [absolute]
        let writes: &[(&[u8], &[u8])] = &[
            (&[0x89], &[]),
            (&[0x83], &[1]),
            (&[0x0f, 0x90], &[]),
            (&[0xf0, 0x0f, 0xc1], &[]),
            (&[0xc1], &[3]),
        ];
        let places: [(&[u8], u8); 3] = [(&[], 0x05), (&[], 0x82), (&[0x25], 0x04)];
        for (opcode, immediate) in writes {
            let extension = match opcode.last() {
                Some(0x83) => 1 << 3,
                Some(0xc1) if opcode.len() == 1 => 7 << 3,
                _ => 0,
            };
            for (sib, modrm) in places {
                let parts = [*opcode, &[modrm | extension], sib, &[0, 1, 0, 0], *immediate];
                assert!(writes_memory(&parts.concat(), Rule::Copy), "{:02x?}", parts.concat());
            }
        }
    }

    #[test]
    fn a_read_is_none_even_when_the_stack_is_written() {
        // MOV eax, [rip]; CMP [rip], eax; CALL [rip]; CALL [rsp + 8]
        assert!(!writes_memory(&[0x8b, 0x05, 0, 1, 0, 0], Rule::Copy));
        assert!(!writes_memory(&[0x39, 0x05, 0, 1, 0, 0], Rule::Copy));
        assert!(!writes_memory(&[0xff, 0x15, 0, 1, 0, 0], Rule::Call));
        assert!(!writes_memory(&[0xff, 0x54, 0x24, 8], Rule::Call));
    }
}
