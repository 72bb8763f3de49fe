//! The ways out of a superblock.
//!
//! | way | code |
//! |---|---|
//! | branch within the page | `jmp`, patched once there is a translation |
//! | branch to another page, or to its last bytes | `jmp gs:[slot]`: void when the address space changes |
//! | branch back | a look at the bell before |
//! | return, indirect branch | jump cache by RIP, the bell in the same look |
//! | anything else | number of the record, `jmp gs:[leave]` |
//!
//! A branch within the page can be patched for good: as long as this code may be entered at this linear
//! address, the page is mapped there, and whoever changes the page's bytes drops all of its
//! superblocks. A slot is one memory operand and costs no flags.
//!
//! The look into the jump cache costs no flags either: differences are made with LEA and judged by JRCXZ.
//! The low 16 bits of a tag and of RIP agree, so the bell (0 or 1) cannot make a wrong entry look right.

use super::*;

impl Emitter<'_> {
    /// The bell, where the flags may be live.
    fn poll(&mut self, rip: u64) {
        let record = self.record(rip, Kind::Leave);
        let live = self.request.page.live_at(rip) != 0 && !self.saved;
        if live {
            self.hot.store(SAVED_RCX, host::RCX);
            self.hot.load_byte(host::RCX, BELL);
            let quiet = self.hot.jump_if_rcx_is_zero();
            let hole = self.hot.jump();
            self.hot.land(quiet);
            self.hot.load(host::RCX, SAVED_RCX);
            self.leave_by(hole, record, true);
        } else {
            self.hot.is_zero(BELL);
            let hole = self.hot.jump_if(condition::NOT_EQUAL);
            self.leave_by(hole, record, false);
        }
    }

    pub(super) fn leave_by(&mut self, hole: Hole, record: u32, rcx: bool) {
        let saved = self.saved;
        self.stubs.push(Stub { hole, record, saved, rcx, homes: true, resume: None });
    }

    fn start(&self) -> u64 {
        self.request.steps[0].instruction.ip()
    }

    /// Goes to a constant address for good.
    pub(super) fn go_on(&mut self, target: u64) {
        if self.saved && self.request.page.live_at(target) != 0 {
            self.restore_flags();
        }
        self.saved = false;
        if target <= self.here_or_end() {
            self.poll(target);
        }
        if target == self.start() {
            let hole = self.hot.jump();
            return self.hot.fill(hole, self.body);
        }
        self.homes.move_out(&mut self.hot);
        self.link(target);
    }

    fn here_or_end(&self) -> u64 {
        let steps = self.request.steps;
        steps.get(self.at).or(steps.last()).map_or(0, |step| step.instruction.ip())
    }

    /// The branch itself, with registers in their places.
    fn link(&mut self, target: u64) {
        if self.is_near(target) {
            let hole = self.hot.jump();
            self.patchable(hole, target);
            return;
        }
        self.slot(self.request.view, target);
    }

    /// Goes to an address by the slot that a view has for it.
    pub(super) fn slot(&mut self, view: u8, target: u64) {
        let slot = self.books.slots.of(view, target);
        let record = self.record(target, Kind::Slot { slot });
        self.hot.number(host::SCRATCH, u64::from(record));
        self.hot.jump_through(SLOTS_AT + 8 * slot as usize);
    }

    /// In this page, and so far from its end that no instruction there can reach into the next.
    fn is_near(&self, target: u64) -> bool {
        (target ^ self.request.page.start) >> 12 == 0 && !may_cross(target)
    }

    fn patchable(&mut self, hole: Hole, target: u64) {
        let record = self.record(target, Kind::Link { hole: self.hot.address_of(hole) });
        self.stubs.push(Stub {
            hole,
            record,
            saved: false,
            rcx: false,
            homes: false,
            resume: None,
        });
    }

    /// Jcc: the way that is taken is out of line, unless it is this superblock's own loop.
    pub(super) fn branch(&mut self, step: &Step) -> Done {
        let Some(target) = step.target() else {
            self.interpret(step.instruction.ip());
            return Ok(());
        };
        self.prepare_flags(step);
        let taken = condition_number(&step.instruction);
        let backward = target <= step.instruction.ip();
        let near = self.is_near(target);
        if near && !backward && self.homes.are_usual() {
            let hole = self.hot.jump_if(taken);
            self.patchable(hole, target);
        } else if target == self.start() || near {
            let past = self.hot.jump_if(taken ^ 1);
            self.go_on(target);
            self.hot.fill_here(past);
        } else {
            let hole = self.hot.jump_if(taken);
            self.far_side(hole, target, backward);
        }
        self.saved = false;
        Ok(())
    }

    /// The taken side of a branch to another page, on the cold side.
    fn far_side(&mut self, hole: Hole, target: u64, backward: bool) {
        let here = self.cold.here();
        self.hot.fill(hole, here);
        std::mem::swap(&mut self.hot, &mut self.cold);
        if backward {
            self.poll_cold(target);
        }
        self.homes.move_out(&mut self.hot);
        self.link(target);
        std::mem::swap(&mut self.hot, &mut self.cold);
    }

    /// The bell on the cold side, whatever becomes of speed.
    fn poll_cold(&mut self, target: u64) {
        let record = self.record(target, Kind::Leave);
        self.hot.store(SAVED_RCX, host::RCX);
        self.hot.load_byte(host::RCX, BELL);
        let quiet = self.hot.jump_if_rcx_is_zero();
        self.hot.load(host::RCX, SAVED_RCX);
        let over = self.hot.bytes.len();
        self.homes.move_out(&mut self.hot);
        self.hot.store_number(EXIT, record);
        self.hot.jump_through(LEAVE);
        debug_assert!(self.hot.bytes.len() - over < 100);
        self.hot.land(quiet);
        self.hot.load(host::RCX, SAVED_RCX);
    }

    pub(super) fn jump(&mut self, step: &Step) -> Done {
        match step.target() {
            Some(target) => self.go_on(target),
            None => {
                self.target_to_scratch(step)?;
                self.indirect(0);
            }
        }
        Ok(())
    }

    /// The address that an indirect branch goes to.
    fn target_to_scratch(&mut self, step: &Step) -> Done {
        match &step.operand {
            Some(operand) => self.access(operand, Tail::Load(host::SCRATCH))?,
            None => {
                let register = step.instruction.op0_register();
                let guest = register.full_register().number() as u8;
                self.hot.copy(host::SCRATCH, self.homes.host(guest));
            }
        }
        Ok(())
    }

    pub(super) fn call(&mut self, step: &Step) -> Done {
        const RIP: usize = offset_of!(Registers, rip);
        let target = step.target();
        if target.is_none() {
            self.target_to_scratch(step)?;
            self.hot.store(RIP, host::SCRATCH);
        }
        self.access(&Operand::stack(-8, true), Tail::PushNumber(step.next()))?;
        self.move_stack(-8);
        match target {
            Some(target) => self.go_on(target),
            None => {
                self.hot.load(host::SCRATCH, RIP);
                self.indirect(-8);
            }
        }
        Ok(())
    }

    pub(super) fn ret(&mut self, step: &Step) -> Done {
        self.access(&Operand::stack(0, false), Tail::Load(host::SCRATCH))?;
        let released = released(step);
        self.move_stack(released);
        self.indirect(released);
        Ok(())
    }

    /// Goes where the scratch register says. RSP has been moved by `moved`.
    pub(super) fn indirect(&mut self, moved: i32) {
        if self.saved {
            self.restore_flags();
        }
        self.homes.move_out(&mut self.hot);
        self.indirect_in(self.request.view, moved);
    }

    /// As [`Emitter::indirect`] to code of any view, with flags and registers in their places.
    pub(super) fn indirect_in(&mut self, view: u8, moved: i32) {
        const RIP: usize = offset_of!(Registers, rip);
        let record = self.record(self.here(), Kind::Indirect { moved });
        let jumps = jumps_of(view);
        let hot = &mut self.hot;
        hot.store(RIP, host::SCRATCH);
        hot.store(SAVED_RCX, host::RCX);
        hot.jump_index();
        hot.load_by_rcx(host::RCX, jumps);
        hot.add_scratch_to_rcx();
        hot.load_byte(host::SCRATCH, BELL);
        hot.add_scratch_to_rcx();
        let hit = hot.jump_if_rcx_is_zero();
        let hole = hot.jump();
        hot.land(hit);
        hot.load(host::SCRATCH, RIP);
        hot.jump_index();
        hot.load_by_rcx(host::SCRATCH, jumps + 8);
        hot.load(host::RCX, SAVED_RCX);
        hot.jump_scratch();
        let saved = false;
        self.stubs.push(Stub { hole, record, saved, rcx: true, homes: false, resume: None });
    }

    /// Leaves to the interpreter.
    pub(super) fn interpret(&mut self, rip: u64) {
        let record = self.record(rip, Kind::Interpret);
        self.homes.move_out(&mut self.hot);
        self.hot.store_number(EXIT, record);
        let exit = if self.saved { LEAVE_SAVED } else { LEAVE };
        self.hot.jump_through(exit);
    }

    /// The cold side of every way out.
    pub(super) fn write_stubs(&mut self) {
        for stub in std::mem::take(&mut self.stubs) {
            let here = self.cold.here();
            self.hot.fill(stub.hole, here);
            if stub.rcx {
                self.cold.load(host::RCX, SAVED_RCX);
            }
            if stub.homes {
                self.homes.move_out(&mut self.cold);
            }
            self.cold.store_number(EXIT, stub.record);
            self.cold.jump_through(if stub.saved { LEAVE_SAVED } else { LEAVE });
            if let Some(resume) = stub.resume {
                self.write_resume(stub.record, resume);
            }
        }
    }

    /// Behind the gate, in the middle of the superblock: registers to their homes. Changes no flags.
    pub(super) fn come_back(&mut self) {
        self.homes.move_in(&mut self.hot);
        if self.vectors {
            self.hot.call_through(LOAD_VECTORS);
        }
        if self.x87 {
            self.hot.call_through(LOAD_X87);
        }
    }

    /// Where the engine comes back when it has filled a site.
    pub(super) fn write_resume(&mut self, record: u32, check: u64) {
        let mut resume = check;
        if self.vectors || self.x87 || !self.homes.are_usual() {
            resume = self.cold.here();
            std::mem::swap(&mut self.hot, &mut self.cold);
            self.come_back();
            std::mem::swap(&mut self.hot, &mut self.cold);
            let hole = self.cold.jump();
            self.cold.fill(hole, check);
        }
        if let Some(Record { kind: Kind::Access(access), .. }) =
            self.books.records.get_mut(record as usize)
        {
            access.resume = resume;
        }
    }
}

/// How far RET moves RSP.
pub(super) fn released(step: &Step) -> i32 {
    match step.instruction.op_count() {
        0 => 8,
        _ => 8 + step.instruction.immediate16() as i32,
    }
}

/// Whether the longest instruction at an address would reach into the next page.
fn may_cross(address: u64) -> bool {
    const PAGE: u64 = 4096;
    const LONGEST_INSTRUCTION: u64 = 15;
    address % PAGE > PAGE - LONGEST_INSTRUCTION
}
