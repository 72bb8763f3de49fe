//! MOVS and STOS, once or repeated; and the bit instructions that reach beyond their operand.
//!
//! ```text
//!   rcx = 0 ──────────────────────────────────────────────────► behind
//!   RFLAGS.DF ─► interpreter
//!   RDI, and RSI: in the site's region, and as many elements as RCX says? ─► engine, interpreter
//!   rdi += delta;  rsi += delta';  rep movsb;  rsi -= delta';  rdi -= delta
//! ```
//!
//! The instruction runs as itself, on host addresses; nothing can stop it half way, since all of what it
//! touches was checked. What reaches beyond a region is the interpreter's, which goes page by page. Pages that
//! are mapped twice are no matter: the host moves the same bytes in the same order.

use super::access::Found;
use super::*;

const RSI: u8 = 6;
const RDI: u8 = 7;
const LO: usize = offset_of!(Site, lo);
const LIMIT: usize = offset_of!(Site, limit);
const DELTA: usize = offset_of!(Site, delta);

impl Emitter<'_> {
    pub(super) fn string(&mut self, step: &Step) {
        const OTHER_FLAGS: usize = offset_of!(Registers, other_flags);
        /// RFLAGS.DF in the second byte.
        const DIRECTION: u8 = 1 << 2;
        self.save_live_flags();
        let repeated = step.instruction.has_rep_prefix();
        let record = self.record(self.here(), Kind::Interpret);
        let mut nothing = None;
        if repeated {
            self.hot.test(host::RCX);
            nothing = Some(self.hot.jump_if(condition::EQUAL));
        }
        self.hot.test_byte(OTHER_FLAGS + 1, DIRECTION);
        let backwards = self.hot.jump_if(condition::NOT_EQUAL);
        self.leave_by(backwards, record, false);
        let size = step.instruction.memory_size().size() as u32;
        let destination = Operand { size, ..Operand::at(RDI, 0, true) };
        let mut moved = vec![(RDI, self.check_string(&destination, repeated, record))];
        if step.rule == Rule::MoveString {
            let source = Operand { size, ..Operand::at(RSI, 0, false) };
            moved.push((RSI, self.check_string(&source, repeated, record)));
        }
        for (register, site) in &moved {
            self.hot.add(*register, site + DELTA);
        }
        self.raw(step);
        for (register, site) in &moved {
            self.hot.sub(*register, site + DELTA);
        }
        if let Some(nothing) = nothing {
            self.hot.fill_here(nothing);
        }
        self.settle_flags(step);
    }

    /// The check of one of its operands; where the site is in the area.
    fn check_string(&mut self, operand: &Operand, repeated: bool, too_long: u32) -> usize {
        let (site, record, check) = self.new_site(operand);
        self.linear(operand);
        let miss = self.compare_with_region(site);
        if repeated {
            self.compare_with_count(operand, site, too_long);
        }
        self.fill_and_check_again(operand, miss, (site, record, check));
        site
    }

    /// BT, BTS, BTR, BTC: the host adds the register to the address as well, so that only the region's distance is
    /// added here.
    pub(super) fn bit_string(&mut self, step: &Step) -> Done {
        let Some(operand) = step.operand else { return Ok(()) };
        self.save_live_flags();
        let (site, record, check) = self.new_site(&operand);
        self.linear_of_bit(&operand);
        let miss = self.compare_with_region(site);
        self.fill_and_check_again(&operand, miss, (site, record, check));
        self.hot.load(host::SCRATCH, site + DELTA);
        self.prepare_flags(step);
        let displacement = operand.displacement as i32;
        let address = match operand.base {
            Some(base) => Address::indexed(self.homes.host(base), host::SCRATCH, displacement),
            None => Address::at(host::SCRATCH, displacement),
        };
        self.encode_at(step, address)?;
        self.settle_flags(step);
        Ok(())
    }

    /// Where a new site is in the area, the record of its access, and where the check begins.
    pub(super) fn new_site(&mut self, operand: &Operand) -> (usize, u32, u64) {
        let number = *self.books.sites;
        *self.books.sites += 1;
        self.books.writes.push(operand.write);
        let check = self.hot.here();
        let room = u64::from(operand.size) - 1;
        let access = Access {
            operand: *operand,
            steps: 1,
            faults: false,
            hole: None,
            parked: false,
            span: (0, operand.size),
            site: number,
            room,
            resume: 0,
        };
        let record = self.record(self.here(), Kind::Access(access));
        (SITES_AT + number as usize * size_of::<Site>(), record, check)
    }

    /// From the linear address in the scratch register to the offset in the region; where it goes if it is not there.
    pub(super) fn compare_with_region(&mut self, site: usize) -> Hole {
        self.hot.sub(host::SCRATCH, site + LO);
        self.hot.compare(host::SCRATCH, site + LIMIT);
        self.hot.jump_if(condition::ABOVE_OR_EQUAL)
    }

    /// Leaves when there are fewer elements from the offset in the scratch register to the region's end than RCX says.
    fn compare_with_count(&mut self, operand: &Operand, site: usize, too_long: u32) {
        const COMPARE: u8 = 0x3b;
        self.hot.negate_scratch();
        self.hot.add(host::SCRATCH, site + LIMIT);
        if operand.size > 1 {
            let last = operand.size as i32 - 1;
            self.hot.lea(host::SCRATCH, Address::at(host::SCRATCH, last));
            self.hot.shift_scratch(operand.size.trailing_zeros() as u8);
        }
        self.hot.pair(true, COMPARE, host::SCRATCH, host::RCX);
        let short = self.hot.jump_if(condition::BELOW);
        self.leave_by(short, too_long, false);
    }

    /// The cold side: the page becomes the site's region, and it is checked again.
    pub(super) fn fill_and_check_again(
        &mut self,
        operand: &Operand,
        miss: Hole,
        numbers: (usize, u32, u64),
    ) {
        let (site, record, check) = numbers;
        let cold = self.cold.here();
        self.hot.fill(miss, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.hot.add(host::SCRATCH, site + LO);
        self.look_up(operand, site, Found::Filled);
        let found = self.hot.jump_if(condition::BELOW);
        self.hot.fill(found, check);
        self.leave_for_access(record);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.write_resume(record, check);
    }
}
