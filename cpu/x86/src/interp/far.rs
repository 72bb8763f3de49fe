//! Far control flow: JMP, CALL, RET far, IRET and INT.

use super::deliver::{Event, Frame, Source};
use super::descriptor::{Descriptor, null_segment, real_segment, system};
use super::task::Cause;
use crate::core::{Core, Outcome};
use crate::fault::{Stop, vector};
use crate::flags;
use crate::lower::{Form, form};
use crate::memory::{Intent, Memory};
use crate::op::{Handler, Op, bits};
use crate::state::{CS, CodeBits, ES, RSP, SS};
use crate::table::{Operation, Row};
use crate::word::Word;
use iced_x86::{Code, Instruction};
use kezhan_hypervisor::Segment;

/// Handlers of this family.
pub fn select<M: Memory>(row: &Row, instruction: &Instruction) -> Option<Handler<M>> {
    use Code as C;
    use Operation as O;
    let far = instruction.is_jmp_far() || instruction.is_call_far();
    let indirect = instruction.is_jmp_far_indirect() || instruction.is_call_far_indirect();
    Some(match (row.operation, form(instruction)) {
        (O::Jmp, Form::Imm) if far => jmp_far,
        (O::Call, Form::Imm) if far => call_far,
        (O::Jmp, Form::Mem) if indirect => jmp_far_mem,
        (O::Call, Form::Mem) if indirect => call_far_mem,
        (O::RetFar, _) => match instruction.code() {
            C::Retfw | C::Retfw_imm16 => ret_far::<M, u16>,
            C::Retfd | C::Retfd_imm16 => ret_far::<M, u32>,
            _ => ret_far::<M, u64>,
        },
        (O::Iret, _) => match instruction.code() {
            C::Iretw => iret::<M, u16>,
            C::Iretd => iret::<M, u32>,
            _ => iret::<M, u64>,
        },
        (O::Int, _) => int,
        (O::Int3, _) => int3,
        (O::Into, _) => into,
        (O::Int1, _) => int1,
        (O::Ud, _) => ud,
        _ => return None,
    })
}

fn ud<M: Memory>(core: &mut Core<'_, M>, _op: &Op<M>) -> Outcome {
    Err(core.raise(vector::UD))
}

/// INT n and its kin: RIP moves behind the instruction before delivery, and back if that faults.
fn software_interrupt<M: Memory>(
    core: &mut Core<'_, M>,
    op: &Op<M>,
    vector: u8,
    source: Source,
) -> Outcome {
    let before = core.cpu.rip;
    core.advance(op);
    let delivered = core.deliver(Event { vector, error: None, source });
    if delivered.is_err() && !core.cpu.exception.trap {
        core.cpu.rip = before;
    }
    delivered
}

fn int<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if core.cpu.virtual_8086() && core.cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(core.raise_code(vector::GP, 0));
    }
    software_interrupt(core, op, op.imm as u8, Source::Software)
}

fn int3<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    software_interrupt(core, op, vector::BP, Source::Software)
}

fn into<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if core.cpu.flags.of() {
        return software_interrupt(core, op, vector::OF, Source::Software);
    }
    core.advance(op);
    Ok(())
}

fn int1<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    software_interrupt(core, op, vector::DB, Source::Exception)
}

fn operand_size<M>(op: &Op<M>) -> u64 {
    if op.bits & bits::OPERAND_64 != 0 {
        8
    } else if op.bits & bits::OPERAND_16 != 0 {
        2
    } else {
        4
    }
}

fn far_pointer<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Result<(u16, u64), Stop> {
    let size = operand_size(op);
    let linear = core.address(op, size + 2, Intent::Read)?;
    let offset = match size {
        2 => M::load::<u16>(core, linear)?.u64(),
        4 => M::load::<u32>(core, linear)?.u64(),
        _ => M::load::<u64>(core, linear)?,
    };
    Ok((M::load::<u16>(core, linear.wrapping_add(size))?, offset))
}

fn jmp_far<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let next = core.behind(op);
    core.jump_far(op.disp as u16, op.imm, next)
}

fn jmp_far_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let (selector, offset) = far_pointer(core, op)?;
    let next = core.behind(op);
    core.jump_far(selector, offset, next)
}

fn call_far<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let back = core.behind(op);
    core.call_far(op.disp as u16, op.imm, back, operand_size(op))
}

fn call_far_mem<M: Memory>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let back = core.behind(op);
    let (selector, offset) = far_pointer(core, op)?;
    core.call_far(selector, offset, back, operand_size(op))
}

/// Whether `rip` is a place that code of this descriptor may be at.
fn fits(code: &Descriptor, long_mode: bool, rip: u64) -> bool {
    if long_mode && code.is_long() {
        return ((rip << 16) as i64 >> 16) as u64 == rip;
    }
    rip <= u64::from(code.segment(0).limit)
}

impl<M: Memory> Core<'_, M> {
    /// The code descriptor of a direct far JMP or CALL, checked for the present privilege.
    fn far_code(&mut self, selector: u16, code: Descriptor, rip: u64) -> Result<Descriptor, Stop> {
        let error = u32::from(selector & !3);
        let rpl = (selector & 3) as u8;
        let privilege = if code.is_conforming() {
            code.dpl() <= self.cpu.cpl
        } else {
            rpl <= self.cpu.cpl && code.dpl() == self.cpu.cpl
        };
        let both = self.cpu.long_mode() && code.is_long() && code.is_big();
        if !code.is_code() || !privilege || both {
            return Err(self.raise_code(vector::GP, error));
        }
        if !code.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        if !fits(&code, self.cpu.long_mode(), rip) {
            return Err(self.raise_code(vector::GP, 0));
        }
        let mut code = code;
        self.mark_accessed(&mut code)?;
        Ok(code)
    }

    fn far_descriptor(&mut self, selector: u16) -> Result<Descriptor, Stop> {
        if selector & !3 == 0 {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.descriptor(selector, vector::GP, 0)
    }

    fn set_real_code(&mut self, selector: u16, rip: u64) -> Outcome {
        let old = self.cpu.segments[CS];
        if rip > u64::from(old.limit) {
            return Err(self.raise_code(vector::GP, 0));
        }
        let v86 = self.cpu.virtual_8086();
        self.set_segment(CS, real_segment(&old, selector, v86));
        self.cpu.rip = rip;
        Ok(())
    }

    /// JMP far (Intel SDM vol. 2A, JMP); `next` is where this task goes on, should it be left for another.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    pub fn jump_far(&mut self, selector: u16, rip: u64, next: u64) -> Outcome {
        if !self.cpu.protected() {
            return self.set_real_code(selector, rip);
        }
        let descriptor = self.far_descriptor(selector)?;
        if descriptor.is_code_or_data() {
            let code = self.far_code(selector, descriptor, rip)?;
            let cpl = self.cpu.cpl;
            self.set_code_segment(&code, cpl);
            self.cpu.rip = rip;
            return Ok(());
        }
        if let Some(task) = self.task_behind(&descriptor)? {
            return self.switch_task(task, Cause::Jump, next);
        }
        let (code, rip) = self.call_gate(&descriptor)?;
        if !code.is_conforming() && code.dpl() != self.cpu.cpl {
            let error = u32::from(code.selector & !3);
            return Err(self.raise_code(vector::GP, error));
        }
        let cpl = self.cpu.cpl;
        self.set_code_segment(&code, cpl);
        self.cpu.rip = rip;
        Ok(())
    }

    /// Follows a call gate: its code descriptor and offset.
    fn call_gate(&mut self, gate: &Descriptor) -> Result<(Descriptor, u64), Stop> {
        let error = u32::from(gate.selector & !3);
        let long = self.cpu.long_mode();
        let known =
            gate.kind() == system::CALL_GATE || !long && gate.kind() == system::CALL_GATE_16;
        let rpl = (gate.selector & 3) as u8;
        if !known || gate.dpl() < self.cpu.cpl || gate.dpl() < rpl {
            return Err(self.raise_code(vector::GP, error));
        }
        if !gate.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        let upper = self.descriptor_upper(gate)?;
        let selector = gate.gate_selector();
        let mut code = self.far_descriptor(selector)?;
        let error = u32::from(selector & !3);
        let width_fits = !long || code.is_long() && !code.is_big();
        if !code.is_code() || code.dpl() > self.cpu.cpl || !width_fits {
            return Err(self.raise_code(vector::GP, error));
        }
        if !code.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        self.mark_accessed(&mut code)?;
        let mask = if gate.kind() == system::CALL_GATE_16 { 0xffff } else { u64::MAX };
        Ok((code, (gate.gate_offset() | upper << 32) & mask))
    }

    /// CALL far (Intel SDM vol. 2A, CALL); `size` is the operand size in bytes, `back` the return address.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    pub fn call_far(&mut self, selector: u16, rip: u64, back: u64, size: u64) -> Outcome {
        let mut frame = match size {
            8 => Frame::long(),
            size => Frame::new(size == 4),
        };
        frame.push(u64::from(self.cpu.segments[CS].selector));
        frame.push(back);
        if !self.cpu.protected() {
            if rip > u64::from(self.cpu.segments[CS].limit) {
                return Err(self.raise_code(vector::GP, 0));
            }
            self.push_frame(&frame)?;
            return self.set_real_code(selector, rip);
        }
        let descriptor = self.far_descriptor(selector)?;
        if descriptor.is_code_or_data() {
            let code = self.far_code(selector, descriptor, rip)?;
            self.push_frame(&frame)?;
            let cpl = self.cpu.cpl;
            self.set_code_segment(&code, cpl);
            self.cpu.rip = rip;
            return Ok(());
        }
        if let Some(task) = self.task_behind(&descriptor)? {
            return self.switch_task(task, Cause::Call, back);
        }
        self.call_through_gate(&descriptor, back)
    }

    fn call_through_gate(&mut self, gate: &Descriptor, back: u64) -> Outcome {
        let (code, rip) = self.call_gate(gate)?;
        let inward = !code.is_conforming() && code.dpl() < self.cpu.cpl;
        let cpl = if inward { code.dpl() } else { self.cpu.cpl };
        let long = self.cpu.long_mode();
        let mut frame = if long { Frame::long() } else { Frame::new(gate.kind() & 8 != 0) };
        if inward {
            frame.push(u64::from(self.cpu.segments[SS].selector));
            frame.push(self.cpu.gpr[RSP]);
            if !long {
                self.copy_parameters(&mut frame, gate)?;
            }
        }
        frame.push(u64::from(self.cpu.segments[CS].selector));
        frame.push(back);
        if !inward {
            self.push_frame(&frame)?;
        } else if long {
            let rsp = self.tss_stack_pointer(4 + 8 * u32::from(cpl))?;
            let top = rsp.wrapping_sub(frame.bytes().len() as u64);
            M::store_system_bytes(self, top, frame.bytes())?;
            self.cpu.gpr[RSP] = top;
            self.cpu.segments[SS] = null_segment(u16::from(cpl));
        } else {
            let stack = self.inner_stack(cpl)?;
            self.write_frame(&frame, Some(stack), cpl)?;
        }
        self.set_code_segment(&code, cpl);
        self.cpu.rip = rip;
        Ok(())
    }

    /// Copies up to 8 words of parameters of a call gate (the gate's count beyond that is refused by #GP).
    fn copy_parameters(&mut self, frame: &mut Frame, gate: &Descriptor) -> Outcome {
        let count = gate.raw >> 32 & 0x1f;
        if count > 8 {
            let error = u32::from(gate.selector & !3);
            return Err(self.raise_code(vector::GP, error));
        }
        for number in (0..count).rev() {
            let value = if gate.kind() & 8 != 0 {
                self.peek::<u32>(4 * number)?.u64()
            } else {
                self.peek::<u16>(2 * number)?.u64()
            };
            frame.push(value);
        }
        Ok(())
    }

    /// Pushes a frame on the present stack, whole or not at all.
    fn push_frame(&mut self, frame: &Frame) -> Outcome {
        let bytes = frame.bytes();
        let length = bytes.len() as u64;
        let mask = self.cpu.stack_mask();
        let rsp = self.cpu.gpr[RSP].wrapping_sub(length) & mask;
        let linear = self.segment_address(SS as u8, rsp, length, Intent::Write)?;
        M::store_bytes(self, linear, bytes)?;
        self.cpu.gpr[RSP] = self.cpu.gpr[RSP] & !mask | rsp;
        Ok(())
    }

    /// The code descriptor for a return to `selector`, which is at its RPL or further in.
    fn return_code(&mut self, selector: u16, rip: u64) -> Result<Descriptor, Stop> {
        if selector & !3 == 0 {
            return Err(self.raise_code(vector::GP, 0));
        }
        let error = u32::from(selector & !3);
        let rpl = (selector & 3) as u8;
        let mut code = self.descriptor(selector, vector::GP, 0)?;
        let privilege = if code.is_conforming() { code.dpl() <= rpl } else { code.dpl() == rpl };
        let both = self.cpu.long_mode() && code.is_long() && code.is_big();
        if !code.is_code() || rpl < self.cpu.cpl || !privilege || both {
            return Err(self.raise_code(vector::GP, error));
        }
        if !code.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        if !fits(&code, self.cpu.long_mode(), rip) {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.mark_accessed(&mut code)?;
        Ok(code)
    }

    /// The stack segment for a return to privilege `rpl`; a null one is fine below CPL 3 in 64-bit code.
    fn return_stack(&mut self, selector: u16, rpl: u8, to_long: bool) -> Result<Segment, Stop> {
        if selector & !3 == 0 && to_long && rpl < 3 {
            return Ok(null_segment(selector & !3 | u16::from(rpl)));
        }
        if selector & !3 == 0 {
            return Err(self.raise_code(vector::GP, 0));
        }
        self.stack_segment(selector, rpl, vector::GP)
    }

    /// After a return outwards: data segments that the outer level may not use become null. Their bases
    /// stay, for 64-bit code goes on using those of FS and GS.
    fn drop_inner_segments(&mut self) {
        for number in [ES, 3, 4, 5] {
            let segment = self.cpu.segments[number];
            let conforming = segment.s && segment.kind & 0xc == 0xc;
            if !segment.unusable && segment.dpl < self.cpu.cpl && !conforming {
                self.cpu.segments[number] = Segment { base: segment.base, ..null_segment(0) };
            }
        }
        self.cpu.derive_bases();
    }

    fn finish_return(&mut self, code: &Descriptor, stack: Option<(Segment, u64)>, rip: u64) {
        let rpl = (code.selector & 3) as u8;
        let outward = rpl > self.cpu.cpl;
        if let Some((segment, rsp)) = stack {
            self.cpu.segments[SS] = segment;
            self.set_code_segment(code, rpl);
            let mask = self.cpu.stack_mask();
            self.cpu.gpr[RSP] = self.cpu.gpr[RSP] & !mask | rsp & mask;
        } else {
            self.set_code_segment(code, rpl);
        }
        self.cpu.rip = rip;
        if outward {
            self.drop_inner_segments();
        }
    }
}

fn ret_far<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    let rip = core.peek::<T>(0)?.u64();
    let selector = core.peek::<T>(T::BYTES)?.u64() as u16;
    let extra = op.imm & 0xffff;
    if !core.cpu.protected() {
        core.set_real_code(selector, rip)?;
        core.drop_stack(2 * T::BYTES + extra);
        return Ok(());
    }
    let code = core.return_code(selector, rip)?;
    let rpl = (selector & 3) as u8;
    if rpl == core.cpu.cpl {
        core.drop_stack(2 * T::BYTES + extra);
        core.finish_return(&code, None, rip);
        return Ok(());
    }
    let rsp = core.peek::<T>(2 * T::BYTES + extra)?.u64();
    let stack_selector = core.peek::<T>(3 * T::BYTES + extra)?.u64() as u16;
    let stack = core.return_stack(stack_selector, rpl, code.is_long())?;
    core.finish_return(&code, Some((stack, rsp)), rip);
    core.drop_stack(extra);
    Ok(())
}

/// The flags that IRET may change at this privilege (Intel SDM vol. 2A, IRET).
fn changeable<M: Memory, T: Word>(core: &Core<'_, M>) -> u64 {
    let mut mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT;
    if T::BYTES > 2 {
        mask |= flags::RF | flags::AC | flags::ID;
    }
    let iopl = core.cpu.rflags >> 12 & 3;
    if u64::from(core.cpu.cpl) <= iopl {
        mask |= flags::IF;
    }
    if core.cpu.cpl == 0 {
        mask |= flags::IOPL;
        if T::BYTES > 2 {
            mask |= flags::VIF | flags::VIP;
        }
    }
    mask
}

fn set_masked_flags<M: Memory>(core: &mut Core<'_, M>, mask: u64, value: u64) {
    let whole = core.cpu.rflags() & !mask | value & mask;
    let changed = (core.cpu.rflags ^ whole) & flags::AC != 0;
    core.cpu.set_rflags(whole);
    if changed {
        M::permissions_changed(core);
    }
}

fn iret<M: Memory, T: Word>(core: &mut Core<'_, M>, op: &Op<M>) -> Outcome {
    if !core.cpu.protected() {
        return iret_real::<M, T>(core);
    }
    if core.cpu.rflags & flags::NT != 0 {
        if core.cpu.long_mode() {
            return Err(core.raise_code(vector::GP, 0));
        }
        let next = core.behind(op);
        return core.return_from_task(next);
    }
    let rip = core.peek::<T>(0)?.u64();
    let selector = core.peek::<T>(T::BYTES)?.u64() as u16;
    let image = core.peek::<T>(2 * T::BYTES)?.u64();
    if image & flags::VM != 0 && core.cpu.cpl == 0 && T::BYTES == 4 && !core.cpu.long_mode() {
        return iret_to_v86(core, rip, selector, image);
    }
    let code = core.return_code(selector, rip)?;
    let rpl = (selector & 3) as u8;
    let mask = changeable::<M, T>(core);
    let with_stack = rpl != core.cpu.cpl || core.cpu.code_bits == CodeBits::Bits64;
    let stack = if with_stack {
        let rsp = core.peek::<T>(3 * T::BYTES)?.u64();
        let stack_selector = core.peek::<T>(4 * T::BYTES)?.u64() as u16;
        Some((core.return_stack(stack_selector, rpl, code.is_long())?, rsp))
    } else {
        core.drop_stack(3 * T::BYTES);
        None
    };
    core.cpu.nmi_masked = false;
    core.finish_return(&code, stack, rip);
    set_masked_flags(core, mask, image);
    Ok(())
}

fn iret_real<M: Memory, T: Word>(core: &mut Core<'_, M>) -> Outcome {
    let v86 = core.cpu.virtual_8086();
    if v86 && core.cpu.rflags & flags::IOPL != flags::IOPL {
        return Err(core.raise_code(vector::GP, 0));
    }
    let rip = core.peek::<T>(0)?.u64();
    let selector = core.peek::<T>(T::BYTES)?.u64() as u16;
    let image = core.peek::<T>(2 * T::BYTES)?.u64();
    core.set_real_code(selector, rip)?;
    core.drop_stack(3 * T::BYTES);
    let mut mask = flags::ARITHMETIC | flags::TF | flags::DF | flags::NT | flags::IF;
    if !v86 {
        mask |= flags::IOPL;
    }
    if T::BYTES > 2 {
        mask |= flags::RF | flags::AC | flags::ID;
    }
    core.cpu.nmi_masked = false;
    set_masked_flags(core, mask, image);
    Ok(())
}

/// Return to virtual-8086 mode: ES, DS, FS, GS follow SS:ESP on the stack.
fn iret_to_v86<M: Memory>(core: &mut Core<'_, M>, rip: u64, selector: u16, image: u64) -> Outcome {
    let mut words = [0_u64; 6];
    for (number, word) in (3..).zip(&mut words) {
        *word = core.peek::<u32>(4 * number)?.u64();
    }
    let [esp, ss, es, ds, fs, gs] = words;
    core.cpu.nmi_masked = false;
    core.cpu.set_rflags(image & 0x3f_7fd7);
    let selectors = [es, u64::from(selector), ss, ds, fs, gs];
    for (number, value) in selectors.into_iter().enumerate() {
        let old = core.cpu.segments[number];
        core.cpu.segments[number] = real_segment(&old, value as u16, true);
    }
    core.cpu.derive();
    core.cpu.gpr[RSP] = esp;
    core.cpu.rip = rip & 0xffff;
    M::permissions_changed(core);
    Ok(())
}
