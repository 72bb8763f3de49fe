//! The ways out of a superblock.
//!
//! | way | code |
//! |---|---|
//! | branch within the page | `jmp`, patched once there is a translation, with the flags where they are |
//! | branch to another page, or to its last bytes | `jmp [slot]`: void when the address space changes |
//! | branch back | a look at the bell before |
//! | return | where the call has noted, or as an indirect branch, the bell in the same look |
//! | indirect branch | jump cache by RIP, likewise |
//! | anything else | number of the record, `jmp [leave]` |
//!
//! A branch within the page can be patched for good: as long as this code may be entered at this linear
//! address, the page is mapped there, and whoever changes the page's bytes drops all of its
//! superblocks. A slot is one memory operand.
//!
//! Through slots and the jump cache the flags go in the area: whether anybody wants them in RFLAGS is known there.

use super::*;

impl Emitter<'_> {
    /// The bell, where the flags may be live.
    fn poll(&mut self, rip: u64) {
        let record = self.record(rip, Kind::Leave);
        if self.flags == Flags::RAW && self.request.page.live_at(rip) != 0 {
            self.hot.load_byte(host::SCRATCH, BELL);
            self.hot.exchange_scratch_and_rcx();
            let quiet = self.hot.jump_if_rcx_is_zero();
            let hole = self.hot.jump();
            self.hot.land(quiet);
            self.hot.exchange_scratch_and_rcx();
            self.leave_by(hole, record, true);
        } else {
            if self.flags.copied {
                self.flags = Flags::PARKED;
            }
            self.hot.is_zero(BELL);
            let hole = self.hot.jump_if(condition::NOT_EQUAL);
            self.leave_by(hole, record, false);
        }
    }

    /// Out of line, to leave; `rcx`: its value is in the scratch register.
    pub(super) fn leave_by(&mut self, hole: Hole, record: u32, rcx: bool) {
        let saved = self.flags.are_in_area();
        self.stubs.push(Stub { hole, record, saved, rcx, homes: true, resume: None });
    }

    /// Where code goes that leaves.
    pub(super) fn way_out(&self) -> usize {
        if self.flags.are_in_area() { LEAVE_SAVED } else { LEAVE }
    }

    fn start(&self) -> u64 {
        self.request.steps[0].instruction.ip()
    }

    /// Goes to a constant address for good.
    pub(super) fn go_on(&mut self, target: u64) {
        let body = target == self.start();
        let far = !body && !self.is_near(target);
        if far || body && self.body_flags.parked {
            self.save_flags();
        }
        if target <= self.here_or_end() {
            self.poll(target);
        }
        if body {
            if !self.body_flags.parked {
                self.restore_flags();
            }
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
    pub(super) fn link(&mut self, target: u64) {
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
        let (hole_at, parked) = (self.hot.address_of(hole), self.flags.parked);
        let record = self.record(target, Kind::Link { hole: hole_at, parked });
        let saved = self.flags.are_in_area();
        self.stubs.push(Stub { hole, record, saved, rcx: false, homes: false, resume: None });
    }

    /// Jcc: the way that is taken is out of line, unless it is this superblock's own loop.
    pub(super) fn branch(&mut self, step: &Step) -> Done {
        let Some(target) = step.target() else {
            self.interpret(step.instruction.ip());
            return Ok(());
        };
        let taken = self.condition(step);
        let backward = target <= step.instruction.ip();
        let near = self.is_near(target);
        let before = self.flags;
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
        self.flags = before;
        Ok(())
    }

    /// The condition of a Jcc in opcodes. Flags in the area are looked at there, if one look is enough.
    fn condition(&mut self, step: &Step) -> u8 {
        let number = condition_number(&step.instruction);
        if self.flags.parked
            && let Some((byte, mask)) = in_area(number)
        {
            self.hot.test_byte(FLAGS + byte, mask);
            // "Some is set" is the even one.
            return condition::NOT_EQUAL ^ number & 1;
        }
        self.prepare_flags(step);
        number
    }

    /// The taken side of a branch to another page, on the cold side.
    fn far_side(&mut self, hole: Hole, target: u64, backward: bool) {
        let here = self.cold.here();
        self.hot.fill(hole, here);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.save_flags();
        if backward {
            let record = self.record(target, Kind::Leave);
            self.hot.is_zero(BELL);
            let quiet = self.hot.jump_if(condition::EQUAL);
            self.homes.move_out(&mut self.hot);
            self.hot.store_number(EXIT, record);
            self.hot.jump_through(LEAVE_SAVED);
            self.hot.fill_here(quiet);
        }
        self.homes.move_out(&mut self.hot);
        self.slot(self.request.view, target);
        std::mem::swap(&mut self.hot, &mut self.cold);
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
                self.save_flags();
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
        let returns = self.note_return(step.next());
        match target {
            Some(target) => self.go_on(target),
            None => {
                self.hot.load(host::SCRATCH, RIP);
                self.indirect(-8);
            }
        }
        self.land(returns, step.next());
        Ok(())
    }

    pub(super) fn ret(&mut self, step: &Step) -> Done {
        self.access(&Operand::stack(0, false), Tail::Load(host::SCRATCH))?;
        let released = released(step);
        self.move_stack(released);
        self.go_back(released);
        Ok(())
    }

    /// Goes where the scratch register says, with the flags in the area. RSP has been moved by `moved`.
    pub(super) fn indirect(&mut self, moved: i32) {
        debug_assert!(self.flags.are_in_area());
        self.homes.move_out(&mut self.hot);
        self.indirect_in(self.request.view, moved);
    }

    /// As [`Emitter::indirect`] to code of any view, with registers in their places.
    pub(super) fn indirect_in(&mut self, view: u8, moved: i32) {
        let record = self.record(self.here(), Kind::Indirect { moved });
        self.hot.store(SAVED_RCX, host::RCX);
        let holes = self.by_jump_cache(view);
        self.nowhere(holes, record);
    }

    /// Goes on by the jump cache, with RCX in the area. Where it goes when that does not know, and when the bell rings.
    pub(super) fn by_jump_cache(&mut self, view: u8) -> [Hole; 2] {
        let jumps = jumps_of(view);
        let hot = &mut self.hot;
        hot.jump_index();
        hot.compare_by_rcx(jumps);
        let unknown = hot.jump_if(condition::NOT_EQUAL);
        hot.is_zero(BELL);
        let rung = hot.jump_if(condition::NOT_EQUAL);
        hot.load_by_rcx(host::SCRATCH, jumps + 8);
        hot.load(host::RCX, SAVED_RCX);
        hot.jump_scratch();
        [unknown, rung]
    }

    /// On the cold side: an indirect branch leaves.
    pub(super) fn nowhere(&mut self, holes: impl IntoIterator<Item = Hole>, record: u32) {
        const RIP: usize = offset_of!(Registers, rip);
        let cold = self.cold.here();
        for hole in holes {
            self.hot.fill(hole, cold);
        }
        self.cold.store(RIP, host::SCRATCH);
        self.cold.load(host::RCX, SAVED_RCX);
        self.cold.store_number(EXIT, record);
        self.cold.jump_through(LEAVE_SAVED);
    }

    /// Leaves to the interpreter.
    pub(super) fn interpret(&mut self, rip: u64) {
        let record = self.record(rip, Kind::Interpret);
        self.homes.move_out(&mut self.hot);
        self.hot.store_number(EXIT, record);
        self.hot.jump_through(self.way_out());
    }

    /// The cold side of every way out.
    pub(super) fn write_stubs(&mut self) {
        for stub in std::mem::take(&mut self.stubs) {
            let here = self.cold.here();
            self.hot.fill(stub.hole, here);
            if stub.rcx {
                self.cold.exchange_scratch_and_rcx();
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

/// Which byte of the flags in the area, and which of its bits, an even condition and the odd one behind it look at;
/// `None` when they compare two.
fn in_area(condition: u8) -> Option<(usize, u8)> {
    const CARRY: u8 = 1;
    const PARITY: u8 = 1 << 2;
    const ZERO: u8 = 1 << 6;
    const SIGN: u8 = 1 << 7;
    Some(match condition & !1 {
        0x0 => (0, 1),
        0x2 => (1, CARRY),
        0x4 => (1, ZERO),
        0x6 => (1, ZERO | CARRY),
        0x8 => (1, SIGN),
        0xa => (1, PARITY),
        _ => return None,
    })
}
