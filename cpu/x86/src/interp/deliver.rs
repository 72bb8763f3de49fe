//! Delivery of exceptions and interrupts (Intel SDM vol. 3A chapter 6).
//!
//! ```text
//!   real mode        IVT entry, push FLAGS CS IP
//!   protected mode   8-byte gate, stack out of the TSS when the privilege changes
//!   long mode        16-byte gate, IST or RSPn, SS:RSP always pushed
//! ```
//!
//! A delivery commits nothing before its stack frame is written, whole, by the last access that can
//! fail; so that a fault on the way leaves the interrupted state for the double fault.

use super::descriptor::{Descriptor, null_segment, system};
use super::task::Cause;
use crate::core::{Core, Outcome};
use crate::fault::{Exception, Stop, vector};
use crate::flags;
use crate::memory::Memory;
use crate::state::{CS, CodeBits, ES, RSP, SS};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// INT n, INT3, INTO: the gate's DPL is checked.
    Software,
    /// An exception, or INT1.
    Exception,
    /// An interrupt or NMI from outside.
    External,
}

/// What is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its vector.
    pub vector: u8,
    /// Its error code.
    pub error: Option<u32>,
    /// Where it comes from.
    pub source: Source,
}

/// A gate that passed its checks, with what it leads to.
struct Target {
    code: Descriptor,
    offset: u64,
    cpl: u8,
    /// Interrupt gate: IF is cleared.
    masks: bool,
    /// 32-bit gate (or 64-bit).
    wide: bool,
    ist: u8,
}

fn contributory(vector: u8) -> bool {
    matches!(vector, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP)
}

/// Whether `second`, raised while `first` was delivered, makes a double fault (Intel SDM vol. 3A
/// table 6-5).
fn doubles(first: u8, second: u8) -> bool {
    contributory(first) && contributory(second)
        || first == vector::PF && (second == vector::PF || contributory(second))
}

/// Whether RFLAGS.RF is set in the image that is pushed: for faults, but not for that of an instruction
/// breakpoint (Intel SDM vol. 3B §17.3.1.1).
fn is_fault(exception: &Exception) -> bool {
    let breakpoint = exception.vector == vector::DB && exception.debug & 0xf != 0;
    let other = matches!(exception.vector, vector::BP | vector::OF | vector::DF);
    !(exception.trap || breakpoint || other)
}

/// DR6 after a debug exception: the four breakpoint bits are of this one, the others stay (Intel SDM
/// vol. 3B §17.2.3).
fn dr6(before: u64, cause: u64) -> u64 {
    let stale = if cause & 0xf != 0 { 0xf } else { 0 };
    before & !stale | cause
}

impl<M: Memory> Core<'_, M> {
    /// Delivers the exception that lies in the state, and those that come of it.
    ///
    /// # Errors
    /// [`Stop::Shutdown`] on a triple fault.
    pub fn deliver_exception(&mut self) -> Outcome {
        let mut exception = self.cpu.exception;
        loop {
            match exception.vector {
                vector::PF => self.cpu.cr2 = exception.address,
                vector::DB => {
                    self.cpu.dr6 = dr6(self.cpu.dr6, exception.debug);
                    self.cpu.dr7 &= !(1 << 13);
                }
                _ => {}
            }
            let faulting = is_fault(&exception);
            let resume = self.cpu.rflags;
            if faulting {
                self.cpu.rflags |= flags::RF;
            }
            let event = Event {
                vector: exception.vector,
                error: exception.error,
                source: Source::Exception,
            };
            match self.deliver(event) {
                Err(Stop::Exception) => {}
                other => return other,
            }
            let second = self.cpu.exception;
            if second.trap {
                // A fault of the task that the first one has entered: all is as that task has it.
                exception = second;
                continue;
            }
            self.cpu.rflags = resume;
            if exception.vector == vector::DF {
                return Err(Stop::Shutdown);
            }
            exception = if doubles(exception.vector, second.vector) {
                Exception { vector: vector::DF, error: Some(0), ..Exception::default() }
            } else {
                second
            };
        }
    }

    /// Delivers an interrupt from outside, and the exceptions that come of it.
    ///
    /// # Errors
    /// [`Stop::Shutdown`] on a triple fault.
    pub fn deliver_interrupt(&mut self, vector: u8) -> Outcome {
        self.cpu.rflags &= !flags::RF;
        match self.deliver(Event { vector, error: None, source: Source::External }) {
            Err(Stop::Exception) => self.deliver_exception(),
            other => other,
        }
    }

    /// Delivers one event; a fault on the way is left in the state.
    ///
    /// # Errors
    /// [`Stop::Exception`]
    pub fn deliver(&mut self, event: Event) -> Outcome {
        self.cpu.halted = false;
        self.cpu.interrupt_shadow = false;
        self.cpu.trap_blocked = true;
        if self.cpu.cr0 & crate::state::cr0::PE == 0 {
            return self.deliver_real(event);
        }
        if self.cpu.long_mode() {
            return self.deliver_long(event);
        }
        self.deliver_protected(event)
    }

    fn deliver_real(&mut self, event: Event) -> Outcome {
        let entry = u64::from(event.vector) * 4;
        if entry + 3 > u64::from(self.cpu.idtr.limit) {
            return Err(self.raise(vector::DF));
        }
        let target = M::load_system::<u32>(self, self.cpu.idtr.base.wrapping_add(entry))?;
        let mut frame = [0; 6];
        frame[..2].copy_from_slice(&(self.cpu.rip as u16).to_le_bytes());
        frame[2..4].copy_from_slice(&self.cpu.segments[CS].selector.to_le_bytes());
        frame[4..].copy_from_slice(&(self.cpu.rflags() as u16).to_le_bytes());
        let mask = self.cpu.stack_mask();
        let rsp = self.cpu.gpr[RSP].wrapping_sub(6) & mask;
        let linear = self.cpu.segments[SS].base.wrapping_add(rsp);
        M::store_system_bytes(self, linear, &frame)?;
        self.cpu.gpr[RSP] = self.cpu.gpr[RSP] & !mask | rsp;
        self.cpu.rflags &= !(flags::IF | flags::TF | flags::AC | flags::RF);
        let selector = (target >> 16) as u16;
        let old = self.cpu.segments[CS];
        self.set_segment(CS, super::descriptor::real_segment(&old, selector, false));
        self.cpu.rip = u64::from(target as u16);
        Ok(())
    }

    /// Error code for a fault on the vector's own gate.
    fn gate_error(event: Event) -> u32 {
        u32::from(event.vector) * 8 + 2 + external(event)
    }

    fn deliver_long(&mut self, event: Event) -> Outcome {
        let target = self.interrupt_target(event, 16)?;
        let rsp = self.long_stack(&target, event)?;
        let mut frame = Frame::long();
        frame.push(u64::from(self.cpu.segments[SS].selector));
        frame.push(self.cpu.gpr[RSP]);
        frame.push(self.cpu.rflags());
        frame.push(u64::from(self.cpu.segments[CS].selector));
        frame.push(self.cpu.rip);
        if let Some(error) = event.error {
            frame.push(u64::from(error));
        }
        let top = rsp.wrapping_sub(frame.bytes().len() as u64);
        self.store_frame(top, frame.bytes(), target.cpl)?;
        self.cpu.gpr[RSP] = top;
        if target.cpl < self.cpu.cpl {
            self.cpu.segments[SS] = null_segment(u16::from(target.cpl));
        }
        self.enter(&target)
    }

    /// Writes a stack frame with the privilege of the handler.
    fn store_frame(&mut self, top: u64, raw: &[u8], cpl: u8) -> Outcome {
        if cpl == 3 {
            return M::store_bytes(self, top, raw);
        }
        M::store_system_bytes(self, top, raw)
    }

    fn enter(&mut self, target: &Target) -> Outcome {
        let mut cleared = flags::TF | flags::NT | flags::RF | flags::VM;
        if target.masks {
            cleared |= flags::IF;
        }
        self.cpu.rflags &= !cleared;
        self.set_code_segment(&target.code, target.cpl);
        self.cpu.rip = target.offset;
        Ok(())
    }

    /// Reads and checks the gate of a vector (entries of `size` bytes) and the code segment behind it.
    fn interrupt_target(&mut self, event: Event, size: u64) -> Result<Target, Stop> {
        let entry = u64::from(event.vector) * size;
        let bad = Self::gate_error(event);
        if entry + size - 1 > u64::from(self.cpu.idtr.limit) {
            return Err(self.raise_code(vector::GP, bad));
        }
        let address = self.cpu.idtr.base.wrapping_add(entry);
        let raw = M::load_system::<u64>(self, address)?;
        let gate = Descriptor { selector: 0, address, raw };
        let long = size == 16;
        let kind_fits = match gate.kind() {
            system::INTERRUPT_GATE | system::TRAP_GATE => true,
            system::INTERRUPT_GATE_16 | system::TRAP_GATE_16 => !long,
            _ => false,
        };
        let forbidden = event.source == Source::Software && gate.dpl() < self.cpu.cpl;
        if gate.is_code_or_data() || !kind_fits || forbidden {
            return Err(self.raise_code(vector::GP, bad));
        }
        if !gate.present() {
            return Err(self.raise_code(vector::NP, bad));
        }
        let upper = if long { M::load_system::<u64>(self, address.wrapping_add(8))? } else { 0 };
        let code = self.handler_code(&gate, event, long)?;
        let cpl = if code.is_conforming() { self.cpu.cpl } else { code.dpl() };
        Ok(Target {
            code,
            offset: gate.gate_offset() | upper << 32,
            cpl,
            masks: gate.kind() & 1 == 0,
            wide: gate.kind() & 8 != 0,
            ist: if long { (raw >> 32 & 7) as u8 } else { 0 },
        })
    }

    fn handler_code(
        &mut self,
        gate: &Descriptor,
        event: Event,
        long: bool,
    ) -> Result<Descriptor, Stop> {
        let selector = gate.gate_selector();
        let ext = external(event);
        if selector & !3 == 0 {
            return Err(self.raise_code(vector::GP, ext));
        }
        let error = u32::from(selector & !3) | ext;
        let mut code = self.descriptor(selector, vector::GP, ext)?;
        let width_fits = !long || code.is_long() && !code.is_big();
        if !code.is_code() || code.dpl() > self.cpu.cpl || !width_fits {
            return Err(self.raise_code(vector::GP, error));
        }
        if !code.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        self.mark_accessed(&mut code)?;
        Ok(code)
    }

    /// The stack pointer of a handler in long mode (Intel SDM vol. 3A §6.14.2 to §6.14.5).
    fn long_stack(&mut self, target: &Target, event: Event) -> Result<u64, Stop> {
        let rsp = if target.ist != 0 {
            self.tss_stack_pointer(0x1c + 8 * u32::from(target.ist))?
        } else if target.cpl < self.cpu.cpl {
            self.tss_stack_pointer(4 + 8 * u32::from(target.cpl))?
        } else {
            self.cpu.gpr[RSP]
        };
        let rsp = rsp & !15;
        if ((rsp << 16) as i64 >> 16) as u64 != rsp {
            return Err(self.raise_code(vector::SS, external(event)));
        }
        Ok(rsp)
    }

    /// A stack pointer out of the 64-bit TSS.
    ///
    /// # Errors
    /// #TS when the TSS is too short.
    pub fn tss_stack_pointer(&mut self, offset: u32) -> Result<u64, Stop> {
        if offset + 7 > self.cpu.tr.limit {
            let error = u32::from(self.cpu.tr.selector & !3);
            return Err(self.raise_code(vector::TS, error));
        }
        M::load_system::<u64>(self, self.cpu.tr.base.wrapping_add(u64::from(offset)))
    }

    /// The TSS behind the vector's gate, if that is a task gate.
    fn task_for(&mut self, event: Event) -> Result<Option<u16>, Stop> {
        let entry = u64::from(event.vector) * 8;
        if entry + 7 > u64::from(self.cpu.idtr.limit) {
            return Ok(None);
        }
        let address = self.cpu.idtr.base.wrapping_add(entry);
        let raw = M::load_system::<u64>(self, address)?;
        let gate = Descriptor { selector: 0, address, raw };
        if gate.is_code_or_data() || gate.kind() != system::TASK_GATE {
            return Ok(None);
        }
        if event.source == Source::Software && gate.dpl() < self.cpu.cpl {
            return Err(self.raise_code(vector::GP, Self::gate_error(event)));
        }
        if !gate.present() {
            return Err(self.raise_code(vector::NP, Self::gate_error(event)));
        }
        Ok(Some(gate.gate_selector()))
    }

    fn deliver_protected(&mut self, event: Event) -> Outcome {
        if let Some(task) = self.task_for(event)? {
            return self.switch_task(task, Cause::Event(event), self.cpu.rip);
        }
        let target = self.interrupt_target(event, 8)?;
        let v86 = self.cpu.virtual_8086();
        if v86 && target.cpl != 0 {
            let error = u32::from(target.code.selector & !3);
            return Err(self.raise_code(vector::GP, error));
        }
        let outward = target.cpl < self.cpu.cpl;
        let mut frame = Frame::new(target.wide);
        if v86 {
            for segment in [5, 4, 3, 0] {
                frame.push(u64::from(self.cpu.segments[segment].selector));
            }
        }
        if outward {
            frame.push(u64::from(self.cpu.segments[SS].selector));
            frame.push(self.cpu.gpr[RSP]);
        }
        frame.push(self.cpu.rflags());
        frame.push(u64::from(self.cpu.segments[CS].selector));
        frame.push(self.cpu.rip);
        if let Some(error) = event.error {
            frame.push(u64::from(error));
        }
        let stack = if outward { Some(self.inner_stack(target.cpl)?) } else { None };
        self.write_frame(&frame, stack, target.cpl)?;
        if v86 {
            for segment in [ES, 3, 4, 5] {
                self.cpu.segments[segment] = null_segment(0);
            }
        }
        self.enter(&target)
    }

    /// Writes a frame below the new stack, if the privilege changes, or the present one.
    pub(super) fn write_frame(
        &mut self,
        frame: &Frame,
        stack: Option<(kezhan_hypervisor::Segment, u64)>,
        cpl: u8,
    ) -> Outcome {
        let (segment, rsp) = stack.unwrap_or((self.cpu.segments[SS], self.cpu.gpr[RSP]));
        let mask = if segment.db { 0xffff_ffff } else { 0xffff };
        let bytes = frame.bytes();
        let top = rsp.wrapping_sub(bytes.len() as u64) & mask;
        let last = top + bytes.len() as u64 - 1;
        let expand_down = segment.kind & 0xc == 4;
        if !expand_down && last > u64::from(segment.limit) {
            let error = if stack.is_some() { u32::from(segment.selector & !3) } else { 0 };
            return Err(self.raise_code(vector::SS, error));
        }
        let linear = segment.base.wrapping_add(top) & 0xffff_ffff;
        self.store_frame(linear, bytes, cpl)?;
        let old = if stack.is_some() { rsp } else { self.cpu.gpr[RSP] };
        self.cpu.gpr[RSP] = old & !mask | top;
        if stack.is_some() {
            self.cpu.segments[SS] = segment;
        }
        Ok(())
    }

    /// SS and ESP for privilege level `cpl` out of a 16- or 32-bit TSS.
    pub(super) fn inner_stack(
        &mut self,
        cpl: u8,
    ) -> Result<(kezhan_hypervisor::Segment, u64), Stop> {
        let tr = self.cpu.tr;
        let wide = tr.kind & 8 != 0;
        let (offset, size) =
            if wide { (4 + 8 * u32::from(cpl), 6) } else { (2 + 4 * u32::from(cpl), 4) };
        if offset + size - 1 > tr.limit {
            return Err(self.raise_code(vector::TS, u32::from(tr.selector & !3)));
        }
        let at = tr.base.wrapping_add(u64::from(offset));
        let (rsp, selector) = if wide {
            let esp = M::load_system::<u32>(self, at)?;
            (u64::from(esp), M::load_system::<u16>(self, at.wrapping_add(4))?)
        } else {
            let sp = M::load_system::<u16>(self, at)?;
            (u64::from(sp), M::load_system::<u16>(self, at.wrapping_add(2))?)
        };
        let segment = self.stack_segment(selector, cpl, vector::TS)?;
        Ok((segment, rsp))
    }
}

pub(super) fn external(event: Event) -> u32 {
    u32::from(event.source != Source::Software)
}

/// A stack frame that is put together in the order of its pushes.
pub(super) struct Frame {
    raw: [u8; 64],
    at: usize,
    size: usize,
}

impl Frame {
    /// Of 4-byte words, or 2-byte ones.
    pub(super) fn new(wide: bool) -> Frame {
        Frame { raw: [0; 64], at: 64, size: if wide { 4 } else { 2 } }
    }

    /// Of 8-byte words.
    pub(super) fn long() -> Frame {
        Frame { raw: [0; 64], at: 64, size: 8 }
    }

    pub(super) fn push(&mut self, value: u64) {
        let at = self.at - self.size;
        self.raw[at..self.at].copy_from_slice(&value.to_le_bytes()[..self.size]);
        self.at = at;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.raw[self.at..]
    }
}

impl CodeBits {
    /// Whether this is 64-bit mode.
    pub fn is_64(self) -> bool {
        self == CodeBits::Bits64
    }
}
