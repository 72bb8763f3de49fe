//! Proof, by reading it back, that a thunk cannot reach memory outside its frame.
//!
//! Every thunk passes here before it can be called. Its bytes are decoded anew and walked once; it is
//! accepted only when
//!
//! 1. it is a straight line that ends in its only RET, with nothing behind;
//! 2. the register that holds the frame's address is RDI, or is copied from RDI before any other use,
//!    and nothing writes it afterwards;
//! 3. every memory operand is `[base + constant]` with no index or segment, and lies whole in the frame;
//!    the only others are those of PUSH, POP, PUSHFQ and POPFQ, in balance;
//! 4. nothing else writes RSP, and nothing is privileged or touches a segment, control or debug register.
//!
//! So whatever values the guest puts into a frame, what a thunk reads and writes is the frame, its own
//! stack slots, and registers that the calling convention lets it have.

use crate::admit::is_immediate;
use crate::frame::Frame;
use crate::spec::FXSAVE_BYTES;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

/// Whether `code`, which keeps the frame's address in `base`, is safe to run on any frame.
pub(crate) fn is_confined(code: &[u8], base: Register) -> bool {
    let factory = InstructionInfoFactory::new();
    let mut walk = Walk { base, held: base == Register::RDI, depth: 0, factory };
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.code() == Code::Retnq {
            return walk.depth == 0 && walk.held && !decoder.can_decode();
        }
        if !walk.accepts(&instruction) {
            return false;
        }
    }
    false
}

struct Walk {
    base: Register,
    /// `base` holds the frame's address.
    held: bool,
    /// Quadwords on the stack.
    depth: u32,
    factory: InstructionInfoFactory,
}

impl Walk {
    fn accepts(&mut self, instruction: &Instruction) -> bool {
        if instruction.is_invalid()
            || instruction.flow_control() != FlowControl::Next
            || instruction.is_privileged()
        {
            return false;
        }
        if !self.held && instruction.code() == Code::Mov_r64_rm64 {
            self.held = instruction.op0_register() == self.base
                && instruction.op1_kind() == OpKind::Register
                && instruction.op1_register() == Register::RDI;
            return self.held;
        }
        self.accepts_stack(instruction)
            && self.accepts_writes(instruction)
            && self.accepts_memory(instruction)
    }

    fn accepts_stack(&mut self, instruction: &Instruction) -> bool {
        match instruction.code() {
            Code::Push_r64 | Code::Push_rm64 | Code::Pushfq => self.depth += 1,
            Code::Pop_r64 | Code::Pop_rm64 | Code::Popfq if self.depth > 0 => self.depth -= 1,
            _ => return !instruction.is_stack_instruction(),
        }
        true
    }

    fn accepts_writes(&mut self, instruction: &Instruction) -> bool {
        let base = self.base;
        self.factory.info(instruction).used_registers().iter().all(|used| {
            let register = used.register();
            let read = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let known = register.is_gpr()
                || register.is_vector_register()
                || register.is_mm()
                || register.is_st()
                || register == Register::SS;
            let stack = register == Register::RSP && instruction.is_stack_instruction();
            known
                && (read
                    || stack
                    || !register.is_gpr()
                    || !matches!(register.full_register(), r if r == base || r == Register::RSP))
        })
    }

    fn accepts_memory(&mut self, instruction: &Instruction) -> bool {
        let accesses = self.factory.info(instruction).used_memory().len();
        let mut operands = 0;
        for operand in 0..instruction.op_count() {
            match instruction.op_kind(operand) {
                OpKind::Register => {}
                OpKind::Memory if instruction.mnemonic() == Mnemonic::Lea => {}
                OpKind::Memory if is_offset_by_register(instruction) => return false,
                OpKind::Memory if self.is_in_frame(instruction) => operands += 1,
                kind if is_immediate(kind) => {}
                _ => return false,
            }
        }
        // FXSAVE and FXRSTOR count as any number of accesses; PUSH and POP have one that is no operand.
        instruction.is_save_restore_instruction()
            || accesses == operands + usize::from(instruction.is_stack_instruction())
    }

    fn is_in_frame(&self, instruction: &Instruction) -> bool {
        let length = match instruction.code() {
            Code::Fxsave64_m512byte | Code::Fxrstor64_m512byte => FXSAVE_BYTES,
            _ if instruction.is_save_restore_instruction() => return false,
            _ => instruction.memory_size().size(),
        };
        let end = instruction.memory_displacement64().checked_add(length as u64);
        self.held
            && instruction.memory_base() == self.base
            && instruction.memory_index() == Register::None
            && instruction.segment_prefix() == Register::None
            && length > 0
            && end.is_some_and(|end| end <= size_of::<Frame>() as u64)
    }
}

/// BT and its kin with memory and a register reach any byte (Intel SDM vol. 2A §3.1.1.9).
fn is_offset_by_register(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc)
        && instruction.op_kind(1) == OpKind::Register
}

#[cfg(test)]
mod test {
    use super::*;

    fn confined(code: &[u8]) -> bool {
        is_confined(code, Register::RDI)
    }

    #[test]
    fn a_load_from_the_frame_is_confined() {
        assert!(confined(&[0x48, 0x8B, 0x47, 0x08, 0xC3]), "mov rax, [rdi + 8]; ret");
    }

    #[test]
    fn escapes_are_not() {
        assert!(!confined(&[0x48, 0x8B, 0x46, 0x08, 0xC3]), "mov rax, [rsi + 8]");
        assert!(!confined(&[0x48, 0x8B, 0x04, 0x37, 0xC3]), "mov rax, [rdi + rsi]");
        assert!(!confined(&[0x48, 0x8B, 0x87, 0, 0, 1, 0, 0xC3]), "mov rax, [rdi + 0x10000]");
        assert!(!confined(&[0x48, 0x8B, 0x47, 0xF8, 0xC3]), "mov rax, [rdi - 8]");
        assert!(!confined(&[0x64, 0x48, 0x8B, 0x47, 8, 0xC3]), "mov rax, fs:[rdi + 8]");
        assert!(!confined(&[0x48, 0x89, 0xC7, 0xC3]), "mov rdi, rax");
        assert!(!confined(&[0x48, 0x89, 0xC4, 0xC3]), "mov rsp, rax");
        assert!(!confined(&[0x58, 0xC3]), "pop rax");
        assert!(!confined(&[0x50, 0xC3]), "push rax");
        assert!(!confined(&[0xA4, 0xC3]), "movsb");
        assert!(!confined(&[0xEB, 0x00, 0xC3]), "jmp");
        assert!(!confined(&[0x0F, 0x05, 0xC3]), "syscall");
        assert!(!confined(&[0x0F, 0xF7, 0xC1, 0xC3]), "maskmovq");
        assert!(!confined(&[0x0F, 0xAE, 0x07, 0xC3]), "fxsave [rdi]");
        assert!(!confined(&[0x0F, 0xA3, 0x07, 0xC3]), "bt [rdi], eax");
        assert!(!confined(&[0x90]), "no ret");
        assert!(!confined(&[0xC3, 0x90]), "code behind ret");
    }
}
