//! Near control flow: Jcc, JMP, CALL, RET, LOOP, JCXZ.
//!
//! Each handler here ends its block and sets RIP, as the last thing it does that can be seen.

use crate::core::{Core, Outcome};
use crate::fault::vector;
use crate::flags::LazyFlags;
use crate::lower::{Form, form, operand_bits};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op};
use crate::state::{BLOCK, CS, CodeBits, RCX, RSP};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{ConditionCode, Instruction, Register};

/// A condition of Jcc, SETcc and CMOVcc (Intel SDM vol. 1 appendix B), by its number in the opcode.
#[inline(always)]
pub fn condition<const CC: u8>(flags: &LazyFlags) -> bool {
    let holds = match CC >> 1 {
        0 => flags.of(),
        1 => flags.cf(),
        2 => flags.zf(),
        3 => flags.cf() || flags.zf(),
        4 => flags.sf(),
        5 => flags.pf(),
        6 => flags.sf() != flags.of(),
        _ => flags.zf() || flags.sf() != flags.of(),
    };
    holds != (CC & 1 == 1)
}

/// The number in the opcode of an instruction's condition.
pub fn condition_number(instruction: &Instruction) -> u8 {
    match instruction.condition_code() {
        ConditionCode::o => 0,
        ConditionCode::no => 1,
        ConditionCode::b => 2,
        ConditionCode::ae => 3,
        ConditionCode::e => 4,
        ConditionCode::ne => 5,
        ConditionCode::be => 6,
        ConditionCode::a => 7,
        ConditionCode::s => 8,
        ConditionCode::ns => 9,
        ConditionCode::p => 10,
        ConditionCode::np => 11,
        ConditionCode::l => 12,
        ConditionCode::ge => 13,
        ConditionCode::le => 14,
        _ => 15,
    }
}

/// Gives `$function::<M, CC $(, $parameter)*>` for the condition numbered `$number`.
macro_rules! by_condition {
    ($number:expr, $function:ident $(, $parameter:ty)*) => {
        match $number {
            0 => $function::<M, 0 $(, $parameter)*> as Handler<M>,
            1 => $function::<M, 1 $(, $parameter)*>,
            2 => $function::<M, 2 $(, $parameter)*>,
            3 => $function::<M, 3 $(, $parameter)*>,
            4 => $function::<M, 4 $(, $parameter)*>,
            5 => $function::<M, 5 $(, $parameter)*>,
            6 => $function::<M, 6 $(, $parameter)*>,
            7 => $function::<M, 7 $(, $parameter)*>,
            8 => $function::<M, 8 $(, $parameter)*>,
            9 => $function::<M, 9 $(, $parameter)*>,
            10 => $function::<M, 10 $(, $parameter)*>,
            11 => $function::<M, 11 $(, $parameter)*>,
            12 => $function::<M, 12 $(, $parameter)*>,
            13 => $function::<M, 13 $(, $parameter)*>,
            14 => $function::<M, 14 $(, $parameter)*>,
            _ => $function::<M, 15 $(, $parameter)*>,
        }
    };
}
pub(crate) use by_condition;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    let short = operand_bits(instruction, 0) == 16;
    let form = form(instruction);
    Some(match (row.operation, form) {
        (Operation::Jcc, _) if short => by_condition!(condition_number(instruction), jcc_short),
        (Operation::Jcc, _) => by_condition!(condition_number(instruction), jcc),
        (Operation::Jmp, Form::Imm) if is_far(instruction) => return None,
        (Operation::Jmp, Form::Imm) if short => jmp_short,
        (Operation::Jmp, Form::Imm) => jmp,
        (Operation::Jmp, Form::Reg) => jmp_reg,
        (Operation::Jmp, Form::Mem) => return jmp_mem_for(instruction),
        (Operation::Call, Form::Imm) if is_far(instruction) => return None,
        (Operation::Call, Form::Imm) => return call_for(instruction),
        (Operation::Call, Form::Reg) => return call_reg_for(instruction),
        (Operation::Call, Form::Mem) => return call_mem_for(instruction),
        (Operation::Ret, _) => return ret_for(instruction),
        (Operation::Loop, _) => by_counter(
            instruction,
            [looping::<M, u16, 0>, looping::<M, u32, 0>, looping::<M, u64, 0>],
        ),
        (Operation::Loope, _) => by_counter(
            instruction,
            [looping::<M, u16, 1>, looping::<M, u32, 1>, looping::<M, u64, 1>],
        ),
        (Operation::Loopne, _) => by_counter(
            instruction,
            [looping::<M, u16, 2>, looping::<M, u32, 2>, looping::<M, u64, 2>],
        ),
        (Operation::Jcxz, _) => {
            by_counter(instruction, [jcxz::<M, u16>, jcxz::<M, u32>, jcxz::<M, u64>])
        }
        _ => return None,
    })
}

fn is_far(instruction: &Instruction) -> bool {
    instruction.is_jmp_far() || instruction.is_call_far()
}

/// CX, ECX or RCX, by the address size of LOOP and JCXZ.
fn by_counter<M>(instruction: &Instruction, handlers: [Handler<M>; 3]) -> Handler<M> {
    let counter = iced_x86::InstructionInfoFactory::new()
        .info(instruction)
        .used_registers()
        .iter()
        .map(|used| used.register())
        .find(|register| register.full_register() == Register::RCX);
    match counter {
        Some(Register::CX) => handlers[0],
        Some(Register::ECX) => handlers[1],
        _ => handlers[2],
    }
}

fn is_far_indirect(instruction: &Instruction) -> bool {
    instruction.is_jmp_far_indirect() || instruction.is_call_far_indirect()
}

fn jmp_mem_for<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    match operand_bits(instruction, 0) {
        _ if is_far_indirect(instruction) => None,
        16 => Some(jmp_mem::<M, u16>),
        32 => Some(jmp_mem::<M, u32>),
        _ => Some(jmp_mem::<M, u64>),
    }
}

fn call_for<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    match operand_bits(instruction, 0) {
        16 => Some(call::<M, u16>),
        32 => Some(call::<M, u32>),
        _ => Some(call::<M, u64>),
    }
}

fn call_reg_for<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    match operand_bits(instruction, 0) {
        16 => Some(call_reg::<M, u16>),
        32 => Some(call_reg::<M, u32>),
        _ => Some(call_reg::<M, u64>),
    }
}

fn call_mem_for<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    match operand_bits(instruction, 0) {
        _ if is_far_indirect(instruction) => None,
        16 => Some(call_mem::<M, u16>),
        32 => Some(call_mem::<M, u32>),
        _ => Some(call_mem::<M, u64>),
    }
}

fn ret_for<M: Memory>(instruction: &Instruction) -> Option<Handler<M>> {
    use iced_x86::Code as C;
    Some(match instruction.code() {
        C::Retnw | C::Retnw_imm16 => ret::<M, u16>,
        C::Retnd | C::Retnd_imm16 => ret::<M, u32>,
        _ => ret::<M, u64>,
    })
}

/// The linear RIP that an operand relative to the block stands for.
#[inline(always)]
fn target<M: Memory>(core: &Core<'_, M>, op: &Op<M>) -> u64 {
    core.cpu.gpr[BLOCK].wrapping_add(op.imm)
}

impl<M: Memory> Core<'_, M> {
    /// Jumps near: #GP(0) when the target is not canonical (64-bit mode) or beyond the code segment.
    ///
    /// # Errors
    /// [`crate::Stop::Exception`]
    #[inline(always)]
    pub fn jump(&mut self, rip: u64) -> Outcome {
        if self.cpu.code_bits == CodeBits::Bits64 {
            if ((rip << 16) as i64 >> 16) as u64 != rip {
                return Err(self.raise_code(vector::GP, 0));
            }
            self.cpu.rip = rip;
            return Ok(());
        }
        self.jump_in_segment(rip)
    }

    #[cold]
    fn jump_in_segment(&mut self, rip: u64) -> Outcome {
        if rip > u64::from(self.cpu.segments[CS].limit) {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.cpu.rip = rip;
        Ok(())
    }

    /// Pushes a value of the stack's own width rules: the pointer is cut to the stack size.
    ///
    /// # Errors
    /// [`crate::Stop::Exception`], [`crate::Stop::CodeWrite`]
    #[inline(always)]
    pub fn push<T: Word>(&mut self, value: T) -> Outcome {
        if self.cpu.code_bits == CodeBits::Bits64 {
            let rsp = self.cpu.gpr[RSP].wrapping_sub(T::BYTES);
            M::store(self, rsp, value)?;
            self.cpu.gpr[RSP] = rsp;
            return Ok(());
        }
        self.push_in_segment(value)
    }

    #[cold]
    fn push_in_segment<T: Word>(&mut self, value: T) -> Outcome {
        let mask = self.cpu.stack_mask();
        let rsp = self.cpu.gpr[RSP].wrapping_sub(T::BYTES) & mask;
        let linear = self.segment_address(crate::state::SS as u8, rsp, T::BYTES, Intent::Write)?;
        M::store(self, linear, value)?;
        self.cpu.gpr[RSP] = self.cpu.gpr[RSP] & !mask | rsp;
        Ok(())
    }

    /// Reads the value `skip` bytes above the top of the stack, leaving the pointer.
    ///
    /// # Errors
    /// [`crate::Stop::Exception`]
    #[inline(always)]
    pub fn peek<T: Word>(&mut self, skip: u64) -> Result<T, crate::Stop> {
        if self.cpu.code_bits == CodeBits::Bits64 {
            let rsp = self.cpu.gpr[RSP].wrapping_add(skip);
            return M::load(self, rsp);
        }
        let rsp = self.cpu.gpr[RSP].wrapping_add(skip) & self.cpu.stack_mask();
        let linear = self.segment_address(crate::state::SS as u8, rsp, T::BYTES, Intent::Read)?;
        M::load(self, linear)
    }

    /// Moves the stack pointer up.
    #[inline(always)]
    pub fn drop_stack(&mut self, bytes: u64) {
        let mask = self.cpu.stack_mask();
        let rsp = self.cpu.gpr[RSP].wrapping_add(bytes) & mask;
        self.cpu.gpr[RSP] = self.cpu.gpr[RSP] & !mask | rsp;
    }
}

fn jcc<M: Memory, const CC: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if condition::<CC>(&core.cpu.flags) {
        let rip = target(core, op) & core.cpu.rip_mask;
        return core.jump(rip);
    }
    core.advance(op);
    Ok(())
}

fn jcc_short<M: Memory, const CC: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if condition::<CC>(&core.cpu.flags) {
        let rip = target(core, op) & 0xffff;
        return core.jump(rip);
    }
    core.advance(op);
    Ok(())
}

fn jmp<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = target(core, op) & core.cpu.rip_mask;
    core.jump(rip)
}

fn jmp_short<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = target(core, op) & 0xffff;
    core.jump(rip)
}

fn jmp_reg<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = if op.bits & crate::op::bits::OPERAND_16 != 0 {
        core.reg::<u16>(op.a).u64()
    } else {
        core.reg::<u64>(op.a) & core.cpu.rip_mask
    };
    core.jump(rip)
}

fn jmp_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = core.load::<T>(op)?.u64();
    core.jump(rip)
}

#[inline(always)]
fn call_to<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>, rip: u64) -> Outcome {
    let back = T::low(core.behind(op));
    let before = core.cpu.rip;
    core.jump(rip)?;
    let pushed = core.push(back);
    if pushed.is_err() {
        core.cpu.rip = before;
    }
    pushed
}

fn call<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = target(core, op) & T::MASK;
    call_to::<M, T>(core, op, rip)
}

fn call_reg<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = core.reg::<T>(op.a).u64();
    call_to::<M, T>(core, op, rip)
}

fn call_mem<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = core.load::<T>(op)?.u64();
    call_to::<M, T>(core, op, rip)
}

fn ret<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = core.peek::<T>(0)?.u64();
    core.jump(rip)?;
    core.drop_stack(T::BYTES + (op.imm & 0xffff));
    Ok(())
}

/// LOOP (`ZERO` 0), LOOPE (1), LOOPNE (2).
fn looping<M: Memory, T: Word, const ZERO: u8>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let count = T::low(core.reg::<T>(RCX as u8).u64().wrapping_sub(1));
    let zero = core.cpu.flags.zf();
    let again = count != T::low(0)
        && match ZERO {
            0 => true,
            1 => zero,
            _ => !zero,
        };
    if again {
        let rip = target(core, op) & core.cpu.rip_mask;
        core.jump(rip)?;
    } else {
        core.advance(op);
    }
    core.set_reg(RCX as u8, count);
    Ok(())
}

fn jcxz<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if core.reg::<T>(RCX as u8) == T::low(0) {
        let rip = target(core, op) & core.cpu.rip_mask;
        return core.jump(rip);
    }
    core.advance(op);
    Ok(())
}
