//! Instructions that need more than a check of their operand.
//!
//! DIV and IDIV must not raise #DE on the host: the divisor is looked at first, and what would overflow or
//! may do so goes to the interpreter. The divisor is read from memory once, since another vCPU may change
//! it between the look and the division.

use super::*;

impl Emitter<'_> {
    /// DIV and IDIV. All status flags are undefined afterwards, so none is live here.
    pub(super) fn divide(&mut self, step: &Step) -> Done {
        let instruction = &step.instruction;
        let signed = instruction.mnemonic() == iced_x86::Mnemonic::Idiv;
        let (divisor, wide) = match &step.operand {
            Some(operand) => {
                let tail = match operand.size {
                    8 => Tail::Load(host::SCRATCH),
                    _ => Tail::Load32(host::SCRATCH),
                };
                self.access(operand, tail)?;
                (host::SCRATCH, operand.size == 8)
            }
            None => {
                let register = instruction.op0_register();
                let host = self.homes.host(register.full_register().number() as u8);
                (host, register.size() == 8)
            }
        };
        let record = self.record(self.here(), Kind::Interpret);
        if signed {
            self.look_at_signed(divisor, wide, record);
        } else {
            const COMPARE: u8 = 0x3b;
            self.hot.pair(wide, COMPARE, host::RDX, divisor);
            let hole = self.hot.jump_if(condition::ABOVE_OR_EQUAL);
            self.leave_by(hole, record, false);
        }
        self.hot.divide(wide, signed, divisor);
        self.settle_flags(step);
        Ok(())
    }

    /// Only dividends that fit into RAX, and divisors other than 0 and -1, cannot overflow.
    fn look_at_signed(&mut self, divisor: u8, wide: bool, record: u32) {
        const TEST: u8 = 0x85;
        const COMPARE: u8 = 0x3b;
        const MOVE: u8 = 0x8b;
        let kept = divisor == host::SCRATCH;
        self.hot.pair(wide, TEST, divisor, divisor);
        let zero = self.hot.jump_if(condition::EQUAL);
        self.hot.is_minus_one(wide, divisor);
        let minus_one = self.hot.jump_if(condition::EQUAL);
        if kept {
            self.hot.store(SAVED_RCX, host::SCRATCH);
        }
        self.hot.pair(wide, MOVE, host::SCRATCH, host::RAX);
        self.hot.shift_right(wide, host::SCRATCH, if wide { 63 } else { 31 });
        self.hot.pair(wide, COMPARE, host::SCRATCH, host::RDX);
        let long = self.hot.jump_if(condition::NOT_EQUAL);
        if kept {
            self.hot.load(host::SCRATCH, SAVED_RCX);
        }
        for hole in [zero, minus_one, long] {
            self.leave_by(hole, record, false);
        }
    }

    /// PUSHFQ. It reads all flags, so that the check has saved them.
    pub(super) fn push_flags(&mut self) -> Done {
        self.access(&Operand::stack(-8, true), Tail::PushFlags)?;
        self.move_stack(-8);
        if self.live_behind() == 0 {
            self.flags = Flags::RAW;
        }
        Ok(())
    }

    /// STI: with an interrupt waiting, or nothing to run in its shadow, the interpreter's.
    pub(super) fn set_interrupt(&mut self, step: &Step) -> Done {
        const IF: u32 = 1 << 9;
        if self.at + 1 == self.request.steps.len() {
            self.interpret(step.instruction.ip());
            // What follows is never reached; it is emitted all the same.
            return Ok(());
        }
        self.save_live_flags();
        let record = self.record(self.here(), Kind::Interpret);
        self.hot.is_zero(offset_of!(Registers, interrupt_waits));
        let hole = self.hot.jump_if(condition::NOT_EQUAL);
        self.leave_by(hole, record, false);
        self.hot.store_number(offset_of!(Registers, interrupt_flag), IF);
        Ok(())
    }

    /// SWAPGS at CPL 0. Changes no flags.
    pub(super) fn swap_gs(&mut self) -> Done {
        const GS: usize = offset_of!(Registers, gs_base);
        const KERNEL_GS: usize = offset_of!(Registers, kernel_gs_base);
        self.hot.store(SAVED_RAX, host::RAX);
        self.hot.load(host::RAX, GS);
        self.hot.load(host::SCRATCH, KERNEL_GS);
        self.hot.store(GS, host::SCRATCH);
        self.hot.store(KERNEL_GS, host::RAX);
        self.hot.load(host::RAX, SAVED_RAX);
        Ok(())
    }

    /// PUSH of memory: what is read waits in the area until the stack has been checked.
    pub(super) fn push_memory(&mut self, step: &Step) -> Done {
        const PUSHED: usize = offset_of!(Registers, pushed);
        let Some(operand) = &step.operand else { return Ok(()) };
        self.access(operand, Tail::Load(host::SCRATCH))?;
        self.hot.store(PUSHED, host::SCRATCH);
        self.access(&Operand::stack(-8, true), Tail::PushStored)?;
        self.move_stack(-8);
        Ok(())
    }

    /// What waits in the area.
    pub(super) fn store_stored(&mut self, address: Address) {
        const PUSHED: usize = offset_of!(Registers, pushed);
        self.hot.store(SAVED_RCX, host::RCX);
        self.hot.load(host::RCX, PUSHED);
        self.hot.store_to(address, host::RCX);
        self.hot.load(host::RCX, SAVED_RCX);
    }

    /// RFLAGS, from where they lie.
    pub(super) fn store_flags(&mut self, address: Address) {
        const IN_AH: u32 = 0xd5;
        let hot = &mut self.hot;
        hot.store(SAVED_RAX, host::RAX);
        hot.store(SAVED_RCX, host::RCX);
        // OF in AL, the others in AH.
        hot.load_32(host::RAX, FLAGS);
        hot.flag_bits(IN_AH);
        hot.or(host::RAX, offset_of!(Registers, interrupt_flag));
        hot.or(host::RAX, offset_of!(Registers, other_flags));
        hot.store_to(address, host::RAX);
        hot.load(host::RAX, SAVED_RAX);
        hot.load(host::RCX, SAVED_RCX);
    }
}
