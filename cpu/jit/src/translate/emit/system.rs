//! Instructions of the operating system: into the kernel and back, and what it does on every such occasion.
//!
//! Code belongs to a view ([`crate::area::VIEWS`]). An instruction that changes the view goes on in a superblock of
//! the other one, by a slot or the jump cache of that view, and leaves a mark in
//! [`Registers::crossed`]. Rust looks at the mark whenever code leaves, before anything else, and brings CPL,
//! segments and RFLAGS up to date. As long as code does not leave, nobody needs them.
//!
//! | instruction | in line, unless |
//! |---|---|
//! | SYSCALL | EFER.SCE is clear, or IA32_FMASK does not clear TF and AC |
//! | SYSRET | likewise; RCX is in the upper half, R11 has TF, an interrupt waits |
//! | STAC, CLAC | never, with CR4.SMAP set |
//! | RDTSC, RDTSCP | never: Rust has the time, but code goes on where it left |
//! | RDFSBASE and its kin | CR4.FSGSBASE is clear, the base is not canonical |
//! | RDPKRU | CR4.PKE is clear, ECX is not 0 |

use super::*;

const OTHER_FLAGS: usize = offset_of!(Registers, other_flags);
const INTERRUPT_FLAG: usize = offset_of!(Registers, interrupt_flag);
const CROSSED: usize = offset_of!(Registers, crossed);
const VIEW: usize = offset_of!(Registers, view);
/// Status flags of RFLAGS that LAHF has in the same places.
const IN_AH: u32 = 0xd5;
const IF: u32 = 1 << 9;
const TF: u32 = 1 << 8;
const R11: u8 = 11;

impl Emitter<'_> {
    /// Leaves to the interpreter when a byte of the area is zero, or is not. The flags are lost.
    fn unless(&mut self, offset: usize, way_out: u8) {
        let record = self.record(self.here(), Kind::Interpret);
        self.hot.is_zero(offset);
        let hole = self.hot.jump_if(way_out);
        self.leave_by(hole, record, false);
    }

    /// SYSCALL. It reads all status flags, so that they are live here.
    pub(super) fn system_call(&mut self, step: &Step) {
        self.save_live_flags();
        self.unless(offset_of!(Registers, fast_calls), condition::EQUAL);
        self.homes.move_out(&mut self.hot);
        let hot = &mut self.hot;
        hot.store(SAVED_RAX, host::RAX);
        hot.load_32(host::RAX, FLAGS);
        hot.flag_bits(IN_AH);
        hot.or(host::RAX, INTERRUPT_FLAG);
        hot.or(host::RAX, OTHER_FLAGS);
        hot.store(super::super::homes::place(R11), host::RAX);
        hot.and(host::RAX, offset_of!(Registers, call_mask));
        self.load_selectors(0);
        self.spread_flags();
        let hot = &mut self.hot;
        hot.number(host::RCX, step.next());
        hot.load(host::SCRATCH, offset_of!(Registers, call_target));
        self.cross(SUPERVISOR);
    }

    /// SYSRET to 64-bit mode, which replaces all flags.
    pub(super) fn system_return(&mut self) {
        /// Bits of R11 that RFLAGS takes (Intel SDM vol. 2B, SYSRET).
        const TAKEN: u32 = 0x3c_7fd7;
        const MOVE: u8 = 0x8b;
        self.unless(offset_of!(Registers, fast_calls), condition::EQUAL);
        self.unless(offset_of!(Registers, interrupt_waits), condition::NOT_EQUAL);
        let record = self.record(self.here(), Kind::Interpret);
        self.hot.pair(true, MOVE, host::SCRATCH, self.homes.host(R11));
        self.hot.test_scratch_32(TF);
        let traps = self.hot.jump_if(condition::NOT_EQUAL);
        self.hot.copy(host::SCRATCH, host::RCX);
        self.hot.shift_scratch(47);
        let upper = self.hot.jump_if(condition::NOT_EQUAL);
        for hole in [traps, upper] {
            self.leave_by(hole, record, false);
        }
        self.homes.move_out(&mut self.hot);
        let hot = &mut self.hot;
        hot.store(SAVED_RAX, host::RAX);
        hot.load(host::RAX, super::super::homes::place(R11));
        hot.and_number_32(host::RAX, TAKEN);
        hot.copy(host::SCRATCH, host::RCX);
        self.load_selectors(1);
        self.spread_flags();
        self.hot.copy(host::RCX, host::SCRATCH);
        self.cross(USER);
    }

    /// CS and SS, as far as code can see them: those of SYSCALL (0) or of SYSRET (1). RCX is lost.
    fn load_selectors(&mut self, pair: usize) {
        const CS: usize = 1;
        const SS: usize = 2;
        let from = offset_of!(Registers, ring_selectors) + 2 * size_of::<u64>() * pair;
        let to = offset_of!(Registers, selectors);
        for (place, segment) in [(from, CS), (from + size_of::<u64>(), SS)] {
            self.hot.load(host::RCX, place);
            self.hot.store(to + size_of::<u64>() * segment, host::RCX);
        }
    }

    /// RFLAGS, in RAX, to its places: IF, the status flags, the others. RCX is lost, RAX its own again.
    fn spread_flags(&mut self) {
        const STATUS_BITS: u32 = 0x8d5;
        const FIXED: u32 = 2;
        const MOVE: u8 = 0x8b;
        let hot = &mut self.hot;
        hot.pair(false, MOVE, host::RCX, host::RAX);
        hot.and_number_32(host::RCX, IF);
        hot.store(INTERRUPT_FLAG, host::RCX);
        hot.pair(false, MOVE, host::RCX, host::RAX);
        hot.and_number_32(host::RCX, !(IF | STATUS_BITS));
        hot.or_number_32(host::RCX, FIXED);
        hot.store(OTHER_FLAGS, host::RCX);
        hot.bits_to_flags();
        hot.store_32(FLAGS, host::RAX);
        hot.load(host::RAX, SAVED_RAX);
        self.flags = Flags::PARKED;
    }

    /// Goes to the address in the scratch register in another view. Changes no flags.
    fn cross(&mut self, view: u8) {
        self.hot.store_number(CROSSED, 1);
        self.hot.store_number(offset_of!(Registers, crossed_ring), 1);
        self.hot.store_number(VIEW, view.into());
        self.indirect_in(view, 0);
    }

    /// RDTSC or RDTSCP: leaves, and comes back with the registers set.
    pub(super) fn time_stamp(&mut self, step: &Step) {
        let auxiliary = step.instruction.mnemonic() == iced_x86::Mnemonic::Rdtscp;
        self.save_live_flags();
        let record = self.record(self.here(), Kind::TimeStamp { auxiliary, resume: 0 });
        self.leave_for_access(record);
        let here = self.hot.here();
        if let Some(Record { kind: Kind::TimeStamp { resume, .. }, .. }) =
            self.books.records.get_mut(record as usize)
        {
            *resume = here;
        }
        self.come_back();
        self.settle_flags(step);
    }

    /// STAC or CLAC with CR4.SMAP set: RFLAGS.AC and the view agree, so that one of them does nothing.
    pub(super) fn set_access(&mut self, step: &Step, on: bool) {
        const AC: i32 = 1 << 18;
        self.save_live_flags();
        let view = if on { SUPERVISOR_AC } else { SUPERVISOR };
        if view != self.request.view {
            let hot = &mut self.hot;
            hot.load(host::SCRATCH, OTHER_FLAGS);
            hot.lea(host::SCRATCH, Address::at(host::SCRATCH, if on { AC } else { -AC }));
            hot.store(OTHER_FLAGS, host::SCRATCH);
            hot.store_number(CROSSED, 1);
            hot.store_number(VIEW, view.into());
        }
        self.homes.move_out(&mut self.hot);
        self.slot(view, step.next());
    }

    fn base_of(segment: Segment) -> usize {
        match segment {
            Segment::Fs => offset_of!(Registers, fs_base),
            Segment::Gs => offset_of!(Registers, gs_base),
        }
    }

    /// RDFSBASE, RDGSBASE.
    pub(super) fn read_base(&mut self, step: &Step, segment: Segment) {
        self.save_live_flags();
        self.unless(offset_of!(Registers, bases), condition::EQUAL);
        let target = step.instruction.op0_register();
        let register = self.homes.host(target.full_register().number() as u8);
        match target.size() {
            8 => self.hot.load(register, Self::base_of(segment)),
            _ => self.hot.load_32(register, Self::base_of(segment)),
        }
        self.settle_flags(step);
    }

    /// WRFSBASE, WRGSBASE.
    pub(super) fn write_base(&mut self, step: &Step, segment: Segment) {
        const MOVE: u8 = 0x8b;
        const ABOVE: u8 = 7;
        self.save_live_flags();
        self.unless(offset_of!(Registers, bases), condition::EQUAL);
        let source = step.instruction.op0_register();
        let register = self.homes.host(source.full_register().number() as u8);
        let wide = source.size() == 8;
        if wide {
            // Bits 63:47 are alike when they are 0 or -1.
            let record = self.record(self.here(), Kind::Interpret);
            self.hot.copy(host::SCRATCH, register);
            self.hot.shift_right(true, host::SCRATCH, 47);
            self.hot.lea(host::SCRATCH, Address::at(host::SCRATCH, 1));
            self.hot.compare_scratch(1);
            let hole = self.hot.jump_if(ABOVE);
            self.leave_by(hole, record, false);
        }
        self.hot.pair(wide, MOVE, host::SCRATCH, register);
        self.hot.store(Self::base_of(segment), host::SCRATCH);
        self.settle_flags(step);
    }

    /// CLD.
    pub(super) fn clear_direction(&mut self, step: &Step) {
        const DF: i32 = 1 << 10;
        self.save_live_flags();
        self.hot.and_number(OTHER_FLAGS, !DF);
        self.hot.store_number(CROSSED, 1);
        self.settle_flags(step);
    }

    /// RDPKRU.
    pub(super) fn read_keys(&mut self, step: &Step) {
        const TEST: u8 = 0x85;
        self.save_live_flags();
        self.unless(offset_of!(Registers, keys), condition::EQUAL);
        let record = self.record(self.here(), Kind::Interpret);
        self.hot.pair(false, TEST, host::RCX, host::RCX);
        let hole = self.hot.jump_if(condition::NOT_EQUAL);
        self.leave_by(hole, record, false);
        self.hot.load_32(host::RAX, offset_of!(Registers, pkru));
        self.hot.number(host::RDX, 0);
        self.settle_flags(step);
    }

    /// MOV from a control register. Changes no flags.
    pub(super) fn read_control(&mut self, step: &Step) {
        let [target, control] = [0, 1].map(|operand| step.instruction.op_register(operand));
        let register = self.homes.host(target.full_register().number() as u8);
        let place = offset_of!(Registers, control) + size_of::<u64>() * control.number();
        self.hot.load(register, place);
    }

    /// MOV from a segment register. Changes no flags.
    pub(super) fn read_segment(&mut self, step: &Step) {
        let [target, segment] = [0, 1].map(|operand| step.instruction.op_register(operand));
        let register = self.homes.host(target.full_register().number() as u8);
        let place = offset_of!(Registers, selectors) + size_of::<u64>() * segment.number();
        match target.size() {
            2 => self.hot.load_16(register, place),
            _ => self.hot.load_32(register, place),
        }
    }
}
