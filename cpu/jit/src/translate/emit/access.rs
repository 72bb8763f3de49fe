//! The check of an access.
//!
//! ```text
//!   lea  r11, [address]             what the guest addresses
//!   sub  r11, [site.lo]
//!   cmp  r11, [site.limit]       less than the region's length - size + 1?
//!   jae  cold                       ──► the engine fills the site, or interprets the instruction
//!   mov  r11, [site.delta]       then the operand is [base + r11 + displacement]
//!   add  r11, [site.host]        or, with an index or a segment, [r11]
//! ```
//!
//! The loads from the site do not depend on the address: the processor predicts that the region is the same
//! as last time and goes on. An access that crosses into the next page is beyond the limit, whatever its
//! size. A constant address (relative to RIP) is checked once, when the site is filled:
//!
//! ```text
//!   mov  r11, [site.host];  test r11, r11;  jz cold
//! ```
//!
//! On the cold side the software TLB is asked: when it knows the page, the access is made there and then, at the
//! address that the TLB gives, and the code goes on behind the hot one. A site whose accesses hop between pages
//! is served so, at the price of a TLB.
//!
//! ```text
//!   lea  r11, [address]
//!   rcx = set of the page
//!   missed there the last time?  dec byte [site.patience];  je fill      ──► the page becomes the site's region
//!   rcx += [tlb.half]                                                        ([`crate::gate`])
//!   xor  r11 + size - 1, [rcx]                  within a page from the tag?
//!   cmp  r11, 4096;  jae engine
//!   add  r11, [rcx + 8]                         then the operand is [r11 - (size - 1)]
//! ```
//!
//! The tag of a set in which there is nothing is a page that belongs to another set, so that no access agrees.

use super::*;
use crate::area::TLB_SETS;

const LO: usize = offset_of!(Site, lo);
const LIMIT: usize = offset_of!(Site, limit);
const LIMITS: usize = offset_of!(Site, limits);
const DELTA: usize = offset_of!(Site, delta);
const HOST: usize = offset_of!(Site, host);

/// What is done at the place that an access was found to be at. It is emitted twice, hot and cold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tail<'a> {
    /// The instruction itself.
    Copy(&'a Step),
    /// The store of PUSH.
    Push(&'a Step),
    /// The store of CALL: this return address.
    PushNumber(u64),
    /// The store of PUSHFQ.
    PushFlags,
    /// The store of PUSH of memory.
    PushStored,
    /// A load of 64 bits into a host register.
    Load(u8),
    /// A load of 32 bits.
    Load32(u8),
    /// The load of LEAVE into host register RBP, and RSP behind it.
    Leave(u8),
    /// Pushes or pops in a row, the last of which may be RET.
    Row(&'a [Step]),
}

/// An access whose check has been emitted.
struct Checked {
    place: Place,
    /// Where it goes when the site's region is another, if the TLB may be asked then.
    miss: Option<Hole>,
    record: u32,
    check: u64,
    site: usize,
}

/// Where a checked operand is in host memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// At the scratch register.
    Scratch,
    /// So far from the scratch register.
    Near(i32),
    /// At `base` + scratch register + displacement.
    Offset { base: u8, displacement: i32 },
}

impl Place {
    pub fn address(self) -> Address {
        match self {
            Place::Scratch => Address::at(host::SCRATCH, 0),
            Place::Near(displacement) => Address::at(host::SCRATCH, displacement),
            Place::Offset { base, displacement } => {
                Address::indexed(base, host::SCRATCH, displacement)
            }
        }
    }
}

impl Emitter<'_> {
    /// An access of the present step: the check, and what follows it. Flags that are live are saved first.
    pub(super) fn access(&mut self, operand: &Operand, tail: Tail<'_>) -> Done {
        self.save_live_flags();
        let steps = match tail {
            Tail::Row(steps) => steps.len(),
            _ => 1,
        };
        let checked = self.check(operand, steps as u32);
        let before = self.flags;
        self.tail(tail, checked.place)?;
        let Some(miss) = checked.miss else { return Ok(()) };
        let (back, behind) = (self.hot.here(), self.flags);
        let cold = self.cold.here();
        self.hot.fill(miss, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.flags = before;
        let (fill, unknown) = self.look_up(operand, checked.site);
        self.tail(tail, Place::Near(1 - operand.size as i32))?;
        let over = self.hot.jump();
        self.hot.fill(over, back);
        self.flags = before;
        self.hot.fill_here(fill);
        self.hot.load(host::RCX, SAVED_RCX);
        let nowhere = self.fill_site(operand, checked.site, checked.check);
        self.hot.fill_here(unknown);
        self.hot.load(host::RCX, SAVED_RCX);
        self.hot.fill_here(nowhere);
        self.leave_for_access(checked.record);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.write_resume(checked.record, checked.check);
        self.flags = behind;
        Ok(())
    }

    /// On the cold side: leaves for the engine to fill the site.
    pub(super) fn leave_for_access(&mut self, record: u32) {
        self.homes.move_out(&mut self.hot);
        self.hot.store_number(EXIT, record);
        self.hot.jump_through(self.way_out());
    }

    fn check(&mut self, operand: &Operand, steps: u32) -> Checked {
        let (number, limit) = self.site_for(operand);
        let check = self.hot.here();
        let site = SITES_AT + number as usize * size_of::<Site>();
        let room = match limit {
            Some(class) => Site::SIZES[class] - 1,
            None => u64::from(operand.size) - 1,
        };
        let access =
            Access { operand: *operand, steps, faults: steps == 1, site: number, room, resume: 0 };
        let record = self.record(self.here(), Kind::Access(access));
        if operand.is_constant() {
            self.hot.load(host::SCRATCH, site + HOST);
            self.hot.test(host::SCRATCH);
            let checked = Checked { place: Place::Scratch, miss: None, record, check, site };
            self.constant_miss(operand, &checked);
            return checked;
        }
        self.linear(operand);
        self.hot.sub(host::SCRATCH, site + LO);
        self.align(operand, record, check);
        let limit = limit.map_or(LIMIT, |class| LIMITS + size_of::<u64>() * class);
        self.hot.compare(host::SCRATCH, site + limit);
        let miss = Some(self.hot.jump_if(condition::ABOVE_OR_EQUAL));
        let place = self.locate(operand, site);
        Checked { place, miss, record, check, site }
    }

    /// The site of a constant address is void: the TLB may know the page.
    fn constant_miss(&mut self, operand: &Operand, checked: &Checked) {
        let Checked { record, check, site, .. } = *checked;
        if operand.displacement as u64 & u64::from(operand.alignment - 1) != 0 {
            return self.miss(condition::EQUAL, record, check);
        }
        let hole = self.hot.jump_if(condition::EQUAL);
        let cold = self.cold.here();
        self.hot.fill(hole, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.linear(operand);
        let nowhere = self.probe_for(operand, site);
        self.linear(operand);
        self.hot.add(host::SCRATCH, site + DELTA);
        self.hot.store(site + HOST, host::SCRATCH);
        let again = self.hot.jump();
        self.hot.fill(again, check);
        self.hot.fill_here(nowhere);
        self.leave_for_access(record);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.write_resume(record, check);
    }

    /// The site for an access, and which of its limits counts; `None` for the one of the access' own size.
    fn site_for(&mut self, operand: &Operand) -> (u32, Option<usize>) {
        let class = shared::class(operand.size);
        if let Some(site) = shared::site_of(operand, self.request.view, self.here()) {
            return (site, class);
        }
        let shares = OfRegisters::is_shareable(operand);
        if let Some(site) = self.of_registers.find(operand).filter(|_| shares) {
            return (site, class);
        }
        let number = *self.books.sites;
        *self.books.sites += 1;
        self.books.writes.push(operand.write);
        if shares {
            self.of_registers.add(operand, number);
        }
        (number, class.filter(|_| shares))
    }

    /// Where the address of the TLB's half for an operand is in the area.
    fn half(&self, operand: &Operand) -> usize {
        let half = 2 * usize::from(self.request.view) + usize::from(operand.write);
        offset_of!(Registers, tlb) + size_of::<u64>() * half
    }

    /// On the cold side: looks into the TLB. Where it goes
    /// when patience is at its end, and when the TLB does not know (RCX waits in the area then). Otherwise the
    /// address of the operand's last byte is in the scratch register.
    fn look_up(&mut self, operand: &Operand, site: usize) -> (Hole, Hole) {
        const SETS: u32 = (TLB_SETS as u32 - 1) * 16;
        let half = self.half(operand);
        // Sooner there than what the hot side has left.
        self.linear(operand);
        let cold = &mut self.hot;
        cold.store(SAVED_RCX, host::RCX);
        cold.set_offset_to_rcx(SETS);
        cold.exchange_with_cx(site + offset_of!(Site, missed));
        let elsewhere = cold.jump_if(condition::NOT_EQUAL);
        cold.decrement_byte(site + offset_of!(Site, patience));
        let fill = cold.jump_if(condition::EQUAL);
        cold.fill_here(elsewhere);
        cold.add(host::RCX, half);
        if operand.size > 1 {
            cold.lea(host::SCRATCH, Address::at(host::SCRATCH, operand.size as i32 - 1));
        }
        cold.compare_page_at_rcx();
        let unknown = cold.jump_if(condition::ABOVE_OR_EQUAL);
        cold.add_second_at_rcx();
        cold.load(host::RCX, SAVED_RCX);
        (fill, unknown)
    }

    /// On the cold side, with the linear address in the scratch register: lets the site have its page, and goes to
    /// the check; where it goes when the TLB does not know the page.
    pub(super) fn fill_site(&mut self, operand: &Operand, site: usize, check: u64) -> Hole {
        let nowhere = self.probe_for(operand, site);
        let again = self.hot.jump();
        self.hot.fill(again, check);
        nowhere
    }

    /// The same, and goes on here.
    fn probe_for(&mut self, operand: &Operand, site: usize) -> Hole {
        let half = self.half(operand) as u32;
        let cold = &mut self.hot;
        cold.store_number(offset_of!(Registers, probed_site), site as u32);
        cold.store_number(offset_of!(Registers, probed_half), half);
        cold.store_number(offset_of!(Registers, probed_size), operand.size - 1);
        cold.call_through(offset_of!(Registers, probe));
        cold.jump_if(condition::NOT_EQUAL)
    }

    fn tail(&mut self, tail: Tail<'_>, place: Place) -> Done {
        let address = place.address();
        match tail {
            Tail::Copy(step) if step.names_high_byte() => self.copy_high_byte(step, address)?,
            Tail::Copy(step) => {
                self.prepare_flags(step);
                self.encode_at(step, address)?;
            }
            Tail::Push(step) => self.store_pushed(step, address),
            Tail::PushNumber(value) => self.store_number(value, address),
            Tail::PushStored => self.store_stored(address),
            Tail::PushFlags => self.store_flags(address),
            Tail::Load(register) => self.hot.load_from(register, address),
            Tail::Load32(register) => self.hot.load_32_from(register, address),
            Tail::Row(steps) => self.store_or_load_row(steps, address),
            Tail::Leave(rbp) => {
                self.hot.lea(host::STACK, Address::at(rbp, 8));
                self.hot.load_from(rbp, address);
            }
        }
        Ok(())
    }

    /// An instruction on AH, CH, DH or BH and memory, which has no REX prefix: the address is in a register that it does
    /// not use otherwise.
    fn copy_high_byte(&mut self, step: &Step, address: Address) -> Done {
        const USABLE: [u8; 6] = [3, 6, 7, 5, 2, 1];
        let free = USABLE.into_iter().find(|register| step.registers >> register & 1 == 0);
        let register = free.unwrap_or(host::RCX);
        self.hot.lea(host::SCRATCH, address);
        self.prepare_flags(step);
        self.hot.store(SAVED_RCX, register);
        self.hot.copy(register, host::SCRATCH);
        self.encode_at(step, Address::at(register, 0))?;
        self.hot.load(register, SAVED_RCX);
        Ok(())
    }

    pub(super) fn store_pushed(&mut self, step: &Step, address: Address) {
        let instruction = &step.instruction;
        if instruction.op0_kind() == OpKind::Register {
            let guest = instruction.op0_register().full_register().number() as u8;
            self.hot.store_to(address, self.homes.host(guest));
        } else {
            self.hot.store_number_to(address, instruction.immediate(0) as i64 as i32);
        }
    }

    fn store_number(&mut self, value: u64, address: Address) {
        if let Ok(short) = i32::try_from(value as i64) {
            return self.hot.store_number_to(address, short);
        }
        self.hot.store(SAVED_RCX, host::RCX);
        self.hot.number(host::RCX, value);
        self.hot.store_to(address, host::RCX);
        self.hot.load(host::RCX, SAVED_RCX);
    }

    /// The instruction with its memory operand where the check says.
    pub(super) fn encode_at(&mut self, step: &Step, address: Address) -> Done {
        let mut instruction = self.homes.rename(&step.instruction);
        let register = |number: Option<u8>| {
            number.map_or(Register::None, |number| Register::RAX + u32::from(number))
        };
        instruction.set_memory_base(register(address.base));
        instruction.set_memory_index(register(address.index));
        instruction.set_memory_index_scale(1);
        instruction.set_memory_displacement64(i64::from(address.displacement) as u64);
        instruction.set_memory_displ_size(u32::from(address.displacement != 0));
        instruction.set_segment_prefix(Register::None);
        self.encode(instruction)
    }

    /// The linear address, in the scratch register.
    pub(super) fn linear(&mut self, operand: &Operand) {
        let segment = operand.segment.map(|segment| match segment {
            Segment::Fs => offset_of!(Registers, fs_base),
            Segment::Gs => offset_of!(Registers, gs_base),
        });
        let base = operand.base.map(|base| self.homes.host(base));
        let index = operand.index.map(|index| self.homes.host(index));
        let hot = &mut self.hot;
        let Ok(displacement) = i32::try_from(operand.displacement) else {
            hot.number(host::SCRATCH, operand.displacement as u64);
            if let Some(segment) = segment {
                hot.add(host::SCRATCH, segment);
            }
            return;
        };
        let scale = operand.scale;
        match (segment, base, index) {
            (None, Some(base), None) if displacement == 0 => hot.copy(host::SCRATCH, base),
            (None, None, None) => hot.number(host::SCRATCH, displacement as i64 as u64),
            (None, ..) => hot.lea(host::SCRATCH, Address { base, index, scale, displacement }),
            (Some(segment), Some(base), Some(_)) => {
                hot.lea(host::SCRATCH, Address { base: Some(base), index, scale, displacement });
                hot.add(host::SCRATCH, segment);
            }
            (Some(segment), Some(base), None) => {
                hot.load(host::SCRATCH, segment);
                hot.lea(host::SCRATCH, Address::indexed(base, host::SCRATCH, displacement));
            }
            (Some(segment), None, _) => {
                hot.load(host::SCRATCH, segment);
                let address = Address { base: Some(host::SCRATCH), index, scale, displacement };
                hot.lea(host::SCRATCH, address);
            }
        }
    }

    /// The operand with the bit that its register counts to. The flags are lost.
    pub(super) fn linear_of_bit(&mut self, operand: &Operand) {
        self.linear(operand);
        let Some(bit) = operand.bit else { return };
        let bit = self.homes.host(bit);
        let hot = &mut self.hot;
        hot.store(SAVED_RCX, host::RCX);
        match operand.size {
            4 => hot.sign_extend_to_rcx(bit),
            _ => hot.copy(host::RCX, bit),
        }
        hot.shift_right(true, host::RCX, operand.bit_shift());
        let scale = operand.size.trailing_zeros() as u8;
        let index = Some(host::RCX);
        hot.lea(
            host::SCRATCH,
            Address { base: Some(host::SCRATCH), index, scale, displacement: 0 },
        );
        hot.load(host::RCX, SAVED_RCX);
    }

    /// Regions start at a page, so the offset in the region tells.
    fn align(&mut self, operand: &Operand, record: u32, check: u64) {
        if operand.alignment > 1 {
            self.hot.test_scratch((operand.alignment - 1) as u8);
            self.miss(condition::NOT_EQUAL, record, check);
        }
    }

    /// Leaves, and comes back to the check when the engine has filled the site.
    fn miss(&mut self, when: u8, record: u32, check: u64) {
        let hole = self.hot.jump_if(when);
        let (saved, resume) = (self.flags.are_in_area(), Some(check));
        self.stubs.push(Stub { hole, record, saved, rcx: false, homes: true, resume });
    }

    fn locate(&mut self, operand: &Operand, at: usize) -> Place {
        let plain = operand.index.is_none() && operand.segment.is_none();
        match (operand.base, i32::try_from(operand.displacement)) {
            (Some(base), Ok(displacement)) if plain => {
                self.hot.load(host::SCRATCH, at + DELTA);
                Place::Offset { base: self.homes.host(base), displacement }
            }
            _ => {
                self.hot.add(host::SCRATCH, at + HOST);
                Place::Scratch
            }
        }
    }
}
