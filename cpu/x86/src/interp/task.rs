//! Hardware task switches, outside long mode (Intel SDM vol. 3A chapter 7).
//!
//! ```text
//!   JMP, CALL ──► TSS descriptor ──┐
//!   JMP, CALL ──► task gate ───────┤   checks, read the new TSS     faults belong to the old task
//!   event ──────► task gate ───────┼─► write the old TSS ───────── commit ─────────────────────
//!   IRET with NT ► back link ──────┘   load registers, segments      faults belong to the new task
//! ```
//!
//! A fault of the new task carries [`Exception::trap`]: RIP and flags are the new task's already, and what
//! began the switch is not at fault any more.
//!
//! The old TSS is written after the new one was read, so that nearly all faults come before the commit.

use super::deliver::{Event, external};
use super::descriptor::{Descriptor, null_segment, real_segment, system};
use crate::core::{Core, Outcome};
use crate::fault::{Exception, Stop, vector};
use crate::flags;
use crate::memory::Memory;
use crate::state::{CS, SS, cr0, cr4};
use crate::word::Word;

/// What a switch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// JMP: the old task ends.
    Jump,
    /// CALL: the new task is nested in the old one.
    Call,
    /// INT n, an exception or an interrupt through a task gate: nested too.
    Event(Event),
    /// IRET with RFLAGS.NT: back to the task that the link names.
    Return,
}

impl Cause {
    fn nests(self) -> bool {
        matches!(self, Cause::Call | Cause::Event(_))
    }

    /// The EXT bit of the error codes of its faults.
    fn external(self) -> u32 {
        if let Cause::Event(event) = self { external(event) } else { 0 }
    }
}

/// Where the fields of a TSS lie (Intel SDM vol. 3A figures 7-2 and 7-10).
struct Layout {
    /// Bytes of a field of the dynamic part: 2 or 4.
    width: u64,
    /// (E)IP; (E)FLAGS and the eight general registers follow, then the segment selectors.
    eip: u64,
    segments: u64,
    ldt: u64,
    /// Smallest limit.
    limit: u32,
}

const SHORT: Layout = Layout { width: 2, eip: 0x0e, segments: 0x22, ldt: 0x2a, limit: 0x2b };
const WIDE: Layout = Layout { width: 4, eip: 0x20, segments: 0x48, ldt: 0x60, limit: 0x67 };
/// CR3 and the T flag, in a 32-bit TSS.
const CR3: u64 = 0x1c;
const TRAP: u64 = 0x64;

fn layout(kind: u8) -> &'static Layout {
    if kind & 8 != 0 { &WIDE } else { &SHORT }
}

/// The dynamic part of a TSS.
#[derive(Default)]
struct Image {
    eip: u64,
    flags: u64,
    general: [u64; 8],
    segments: [u16; 6],
    ldt: u16,
    cr3: Option<u64>,
    trap: bool,
}

impl<M: Memory> Core<'_, M> {
    /// Switches to the task of the TSS that `selector` names; the old one goes on at `next`.
    ///
    /// # Errors
    /// [`Stop::Exception`], of the new task when [`Exception::trap`] is set.
    pub fn switch_task(&mut self, selector: u16, cause: Cause, next: u64) -> Outcome {
        let tss = self.task_descriptor(selector, cause)?;
        let image = self.read_task(&tss)?;
        self.leave_task(cause, next)?;
        self.enter_task(&tss, cause)?;
        match self.load_task(&image, cause) {
            Err(Stop::Exception) => {
                self.cpu.exception.trap = true;
                Err(Stop::Exception)
            }
            other => other,
        }
    }

    /// The TSS that a far JMP or CALL to `target` means: itself, or the one behind a task gate. `None` where
    /// it is neither, or in long mode, which has no tasks.
    ///
    /// # Errors
    /// #GP with its selector for want of privilege, #NP.
    pub fn task_behind(&mut self, target: &Descriptor) -> Result<Option<u16>, Stop> {
        let gate = target.kind() == system::TASK_GATE;
        let task = gate || matches!(target.kind() & !8, system::TSS_16 | system::TSS_16_BUSY);
        if self.cpu.long_mode() || target.is_code_or_data() || !task {
            return Ok(None);
        }
        let error = u32::from(target.selector & !3);
        let rpl = (target.selector & 3) as u8;
        if target.dpl() < self.cpu.cpl || target.dpl() < rpl {
            return Err(self.raise_code(vector::GP, error));
        }
        if gate && !target.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        Ok(Some(if gate { target.gate_selector() } else { target.selector }))
    }

    /// IRET in a nested task.
    ///
    /// # Errors
    /// As [`Core::switch_task`].
    pub fn return_from_task(&mut self, next: u64) -> Outcome {
        let link = M::load_system::<u16>(self, self.cpu.tr.base & 0xffff_ffff)?;
        self.switch_task(link, Cause::Return, next)
    }

    fn task_descriptor(&mut self, selector: u16, cause: Cause) -> Result<Descriptor, Stop> {
        let external = cause.external();
        let error = u32::from(selector & !3) | external;
        let bad = if cause == Cause::Return { vector::TS } else { vector::GP };
        if selector & 4 != 0 || selector & !3 == 0 {
            return Err(self.raise_code(bad, error));
        }
        let tss = self.descriptor(selector, bad, external)?;
        let kinds = match cause {
            Cause::Return => [system::TSS_16_BUSY, system::TSS_BUSY],
            _ => [system::TSS_16, system::TSS],
        };
        if tss.is_code_or_data() || !kinds.contains(&tss.kind()) {
            return Err(self.raise_code(bad, error));
        }
        if !tss.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        if tss.segment(0).limit < layout(tss.kind()).limit {
            return Err(self.raise_code(vector::TS, error));
        }
        Ok(tss)
    }

    fn task_field(&mut self, width: u64, linear: u64) -> Result<u64, Stop> {
        let linear = linear & 0xffff_ffff;
        Ok(match width {
            2 => M::load_system::<u16>(self, linear)?.u64(),
            _ => M::load_system::<u32>(self, linear)?.u64(),
        })
    }

    fn set_task_field(&mut self, width: u64, linear: u64, value: u64) -> Outcome {
        let linear = linear & 0xffff_ffff;
        match width {
            2 => M::store_system::<u16>(self, linear, value as u16),
            _ => M::store_system::<u32>(self, linear, value as u32),
        }
    }

    fn read_task(&mut self, tss: &Descriptor) -> Result<Image, Stop> {
        let (base, places) = (tss.segment(0).base, layout(tss.kind()));
        let width = places.width;
        let mut image = Image {
            eip: self.task_field(width, base + places.eip)?,
            flags: self.task_field(width, base + places.eip + width)?,
            ldt: self.task_field(2, base + places.ldt)? as u16,
            ..Image::default()
        };
        for (number, register) in (2..).zip(&mut image.general) {
            *register = self.task_field(width, base + places.eip + width * number)?;
        }
        let segments = if width == 2 { 4 } else { 6 };
        for (number, segment) in (0..).zip(image.segments.iter_mut().take(segments)) {
            *segment = self.task_field(2, base + places.segments + width * number)? as u16;
        }
        if width == 4 {
            image.cr3 = Some(self.task_field(4, base + CR3)?);
            image.trap = self.task_field(2, base + TRAP)? & 1 != 0;
        }
        Ok(image)
    }

    /// Saves the old task and, unless it waits for the new one, makes its TSS available again.
    fn leave_task(&mut self, cause: Cause, next: u64) -> Outcome {
        let (old, places) = (self.cpu.tr, layout(self.cpu.tr.kind));
        if old.limit < places.limit {
            return Err(self.raise_code(vector::TS, u32::from(old.selector & !3)));
        }
        let width = places.width;
        let mut image = self.cpu.rflags();
        if cause == Cause::Return {
            image &= !flags::NT;
        }
        self.set_task_field(width, old.base + places.eip, next)?;
        self.set_task_field(width, old.base + places.eip + width, image)?;
        for number in 0..8 {
            let value = self.cpu.gpr[number as usize];
            self.set_task_field(width, old.base + places.eip + width * (number + 2), value)?;
        }
        let segments = if width == 2 { 4 } else { 6 };
        for number in 0..segments {
            let value = u64::from(self.cpu.segments[number as usize].selector);
            self.set_task_field(2, old.base + places.segments + width * number, value)?;
        }
        if cause.nests() {
            return Ok(());
        }
        let descriptor = self.descriptor(old.selector, vector::TS, 0)?;
        self.set_busy(&descriptor, false)
    }

    fn set_busy(&mut self, tss: &Descriptor, busy: bool) -> Outcome {
        let kind = (tss.raw >> 40) as u8;
        let kind = if busy { kind | 2 } else { kind & !2 };
        M::store_system::<u8>(self, tss.address.wrapping_add(5), kind)
    }

    /// Links the new task to the old one and loads the task register.
    fn enter_task(&mut self, tss: &Descriptor, cause: Cause) -> Outcome {
        let mut segment = tss.segment(0);
        if cause.nests() {
            let link = u64::from(self.cpu.tr.selector);
            self.set_task_field(2, segment.base, link)?;
        }
        self.set_busy(tss, true)?;
        segment.kind |= 2;
        self.cpu.tr = segment;
        self.cpu.cr0 |= cr0::TS;
        Ok(())
    }

    fn load_task(&mut self, image: &Image, cause: Cause) -> Outcome {
        let paging = self.cpu.cr0 & cr0::PG != 0;
        if let Some(cr3) = image.cr3.filter(|_| paging) {
            self.load_task_cr3(cr3)?;
        }
        let nested = if cause.nests() { flags::NT } else { 0 };
        self.cpu.set_rflags(image.flags & 0x3f_7fd7 | flags::FIXED | nested);
        self.cpu.rip = image.eip;
        self.cpu.gpr[..8].copy_from_slice(&image.general);
        self.cpu.interrupt_shadow = false;
        self.cpu.dr7 &= !0x155;
        self.load_task_segments(image)?;
        M::permissions_changed(self);
        if let Cause::Event(Event { error: Some(error), .. }) = cause {
            self.push_task_error(error)?;
        }
        if image.trap {
            let cause = Exception { vector: vector::DB, debug: 1 << 15, ..Exception::default() };
            self.cpu.exception = cause;
            return Err(Stop::Exception);
        }
        Ok(())
    }

    fn load_task_cr3(&mut self, cr3: u64) -> Outcome {
        if self.cpu.cr4 & cr4::PAE != 0 {
            self.load_pdptrs(cr3)?;
        }
        self.cpu.cr3 = cr3;
        M::flush(self, true);
        Ok(())
    }

    /// Loads LDTR and the segment registers; until a descriptor is checked its register is not usable.
    fn load_task_segments(&mut self, image: &Image) -> Outcome {
        let v86 = image.flags & flags::VM != 0;
        let cpl = if v86 { 3 } else { (image.segments[CS] & 3) as u8 };
        for (segment, &selector) in self.cpu.segments.iter_mut().zip(&image.segments) {
            *segment = null_segment(selector);
        }
        self.cpu.segments[SS].dpl = cpl;
        self.cpu.derive();
        self.cpu.ldtr = null_segment(image.ldt);
        M::permissions_changed(self);
        self.load_task_table(image.ldt)?;
        if v86 {
            for (segment, &selector) in self.cpu.segments.iter_mut().zip(&image.segments) {
                *segment = real_segment(segment, selector, true);
            }
            self.cpu.derive();
            return Ok(());
        }
        let code = self.task_code(image.segments[CS])?;
        let stack = self.stack_segment(image.segments[SS], cpl, vector::TS)?;
        self.cpu.segments[SS] = stack;
        self.set_code_segment(&code, cpl);
        for (number, &selector) in image.segments.iter().enumerate() {
            if number != CS && number != SS {
                self.load_task_data(number, selector)?;
            }
        }
        Ok(())
    }

    fn load_task_table(&mut self, selector: u16) -> Outcome {
        if selector & !3 == 0 {
            return Ok(());
        }
        let error = u32::from(selector & !3);
        if selector & 4 != 0 {
            return Err(self.raise_code(vector::TS, error));
        }
        let table = self.descriptor(selector, vector::TS, 0)?;
        if table.is_code_or_data() || table.kind() != system::LDT || !table.present() {
            return Err(self.raise_code(vector::TS, error));
        }
        self.cpu.ldtr = table.segment(0);
        Ok(())
    }

    fn task_code(&mut self, selector: u16) -> Result<Descriptor, Stop> {
        let error = u32::from(selector & !3);
        if selector & !3 == 0 {
            return Err(self.raise_code(vector::TS, error));
        }
        let mut code = self.descriptor(selector, vector::TS, 0)?;
        let rpl = (selector & 3) as u8;
        let privilege = if code.is_conforming() { code.dpl() <= rpl } else { code.dpl() == rpl };
        if !code.is_code() || !privilege {
            return Err(self.raise_code(vector::TS, error));
        }
        if !code.present() {
            return Err(self.raise_code(vector::NP, error));
        }
        self.mark_accessed(&mut code)?;
        Ok(code)
    }

    /// A data segment: as any load of one, but #TS where that has #GP.
    fn load_task_data(&mut self, number: usize, selector: u16) -> Outcome {
        let loaded = self.load_segment(number, selector);
        if loaded == Err(Stop::Exception) && self.cpu.exception.vector == vector::GP {
            self.cpu.exception.vector = vector::TS;
        }
        loaded
    }

    fn push_task_error(&mut self, error: u32) -> Outcome {
        if self.cpu.tr.kind & 8 != 0 {
            return self.push::<u32>(error);
        }
        self.push::<u16>(error as u16)
    }
}

#[cfg(test)]
mod tests;
