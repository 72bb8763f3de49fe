//! The check of an access.
//!
//! ```text
//!   lea  r11, [address]             what the guest addresses
//!   sub  r11, [site.lo]
//!   cmp  r11, [site.limit]       less than the region's length - size + 1?
//!   jae  cold                       ──► the engine fills the site, or interprets the instruction
//!   mov  r11, [site.delta]       then the operand is [base + r11 + displacement]
//!   add  r11, base               or, with an index, [r11 + index * scale + displacement]
//!   add  r11, [site.host]        or, with a segment, [r11]
//! ```
//!
//! The loads from the site do not depend on the address: the processor predicts that the region is the same
//! as last time and goes on. What the address is made of is added to the distance as late as can be: a load waits for
//! its index, and for nothing behind that. An access that crosses into the next page is beyond the limit, whatever its
//! size. A constant address (relative to RIP) is checked once, when the site is filled:
//!
//! ```text
//!   mov  r11, [site.host];  test r11, r11;  jz cold
//! ```
//!
//! On the cold side a look-up ([`crate::probe`]) asks the software TLB, and comes back with what the site would have
//! said: the hot side goes on as if nothing had been amiss. A site whose accesses hop between pages is served so, at the
//! price of a TLB. There is little code there, since it lies in no cache when it is wanted.
//!
//! ```text
//!   lea  r11, [address];  mov [wanted], site and size;  call [look-up];  jb hot
//!   leave
//! ```
//!
//! Accesses beside one that has been checked need no check (`translate::groups`):
//!
//! ```text
//!   mov  r11, [place]               then the operand is [base + r11 + displacement]
//! ```

use super::*;
use crate::area::{PLACES, TLB_SETS};

const LO: usize = offset_of!(Site, lo);
const LIMIT: usize = offset_of!(Site, limit);
const LIMITS: usize = offset_of!(Site, limits);
const DELTA: usize = offset_of!(Site, delta);
const HOST: usize = offset_of!(Site, host);

/// What is done at the place that an access was found to be at.
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

impl Tail<'_> {
    /// How many steps it is of.
    fn steps(&self) -> usize {
        match self {
            Tail::Row(steps) => steps.len(),
            _ => 1,
        }
    }

    /// Whether it leaves the scratch register alone, and flags that are live may stay where they are.
    fn is_plain(&self) -> bool {
        match self {
            Tail::Copy(step) => !step.names_high_byte(),
            Tail::Load(register) => *register != host::SCRATCH,
            Tail::Row(steps) => steps.last().is_none_or(|last| last.rule != Rule::Return),
            Tail::Push(_) | Tail::PushNumber(_) | Tail::PushStored | Tail::Leave(_) => true,
            Tail::PushFlags | Tail::Load32(_) => false,
        }
    }
}

/// What a look-up comes back with in the scratch register, by its number in [`Registers::look_ups`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// What to add to a linear address for the host's.
    Delta = 0,
    /// The host address.
    Host = 1,
    /// The host address; the page is the site's region.
    Filled = 2,
    /// As [`Found::Delta`], when patience has ended.
    Anew = 3,
}

/// Where a checked operand is in host memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// At the scratch register.
    Scratch,
    /// Where the guest's registers say, with the scratch register for what lies between.
    Beside(Address),
}

impl Place {
    pub fn address(self) -> Address {
        match self {
            Place::Scratch => Address::at(host::SCRATCH, 0),
            Place::Beside(address) => address,
        }
    }
}

/// Where the outcome of a check waits in the area.
fn outcome(place: usize) -> usize {
    offset_of!(Registers, deltas) + size_of::<u64>() * (place % PLACES)
}

impl Emitter<'_> {
    /// An access of the present step: the check, and what follows it. Flags that are live are saved before a check.
    pub(super) fn access(&mut self, operand: &Operand, tail: Tail<'_>) -> Done {
        let plain = tail.is_plain();
        if !plain {
            self.save_live_flags();
        }
        let place = match self.groups.find(operand) {
            Some(place) => {
                if self.at_hand != Some(place) {
                    self.hot.load(host::SCRATCH, outcome(place));
                    self.at_hand = Some(place);
                }
                self.beside_delta(operand)
            }
            None => {
                self.save_live_flags();
                self.at_hand = None;
                self.check(operand, tail.steps())
            }
        };
        self.tail(tail, place)?;
        let added = matches!(place, Place::Beside(Address { base: Some(host::SCRATCH), .. }));
        self.at_hand = self.at_hand.filter(|_| plain && !added);
        Ok(())
    }

    /// On the cold side: leaves for the engine to fill the site.
    pub(super) fn leave_for_access(&mut self, record: u32) {
        self.homes.move_out(&mut self.hot);
        self.hot.store_number(EXIT, record);
        self.hot.jump_through(self.way_out());
    }

    fn check(&mut self, operand: &Operand, steps: usize) -> Place {
        let span = self.groups.span((self.at, steps), operand);
        let displacement = operand.displacement.wrapping_sub(span.below.into());
        let wide = Operand { displacement, size: span.size, ..*operand };
        let (number, limit) = self.site_for(&wide);
        let check = self.hot.here();
        let site = SITES_AT + number as usize * size_of::<Site>();
        let room = limit.map_or(u64::from(wide.size), |class| Site::SIZES[class]) - 1;
        let access = Access {
            operand: *operand,
            steps: steps as u32,
            faults: steps == 1,
            hole: None,
            parked: self.flags.are_in_area(),
            span: (span.below, span.size),
            site: number,
            room,
            resume: 0,
        };
        let record = self.record(self.here(), Kind::Access(access));
        if operand.is_constant() {
            self.hot.load(host::SCRATCH, site + HOST);
            self.hot.test(host::SCRATCH);
            self.constant_miss(operand, site, (record, check));
            return Place::Scratch;
        }
        self.linear(&wide);
        self.hot.sub(host::SCRATCH, site + LO);
        self.align(operand, record, check);
        let limit = limit.map_or(LIMIT, |class| LIMITS + size_of::<u64>() * class);
        self.hot.compare(host::SCRATCH, site + limit);
        let miss = self.hot.jump_if(condition::ABOVE_OR_EQUAL);
        let found = if is_segmented_or_far(operand) { Found::Host } else { Found::Delta };
        match found {
            Found::Host => self.hot.add(host::SCRATCH, site + HOST),
            _ => self.hot.load(host::SCRATCH, site + DELTA),
        }
        self.ask_for(&wide, (miss, site, found), (record, check));
        if let Some(place) = span.place {
            self.hot.store(outcome(place), host::SCRATCH);
            self.at_hand = Some(place);
        }
        match found {
            Found::Host => Place::Scratch,
            _ => self.beside_delta(operand),
        }
    }

    /// The site of a constant address is void: the TLB may know the page.
    fn constant_miss(&mut self, operand: &Operand, site: usize, (record, check): (u32, u64)) {
        if operand.displacement as u64 & u64::from(operand.alignment - 1) != 0 {
            return self.miss(condition::EQUAL, record, check);
        }
        let miss = self.hot.jump_if(condition::EQUAL);
        let (back, cold) = (self.hot.here(), self.cold.here());
        self.hot.fill(miss, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.linear(operand);
        self.look_up(operand, site, Found::Filled);
        let unknown = self.hot.jump_if(condition::ABOVE_OR_EQUAL);
        self.hot.store(site + HOST, host::SCRATCH);
        let known = self.hot.jump();
        self.hot.fill(known, back);
        self.hot.fill_here(unknown);
        self.leave_for_access(record);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.write_resume(record, check);
    }

    /// The cold side of a check: asks the TLB, and goes on here with the same in the scratch register; or leaves.
    fn ask_for(
        &mut self,
        wide: &Operand,
        (miss, site, found): (Hole, usize, Found),
        (record, check): (u32, u64),
    ) {
        let (back, cold) = (self.hot.here(), self.cold.here());
        self.hot.fill(miss, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.linear(wide);
        if may_hop(wide) {
            self.look_up_in_line(wide, site, back);
        } else {
            self.look_up(wide, site, found);
            let known = self.hot.jump_if(condition::BELOW);
            self.hot.fill(known, back);
        }
        self.homes.move_out(&mut self.hot);
        self.lead_apart(record);
        self.hot.store_number(EXIT, record);
        self.hot.jump_through(self.way_out());
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.write_resume(record, check);
    }

    /// Where a check fails that covers more than one access: a branch to where each has its own, once there is such a
    /// superblock.
    fn lead_apart(&mut self, record: u32) {
        let Some(Record { kind: Kind::Access(access), .. }) =
            self.books.records.get_mut(record as usize)
        else {
            return;
        };
        if access.span.1 != access.operand.size || access.steps > 1 {
            let hole = self.hot.jump();
            self.hot.fill_here(hole);
            access.hole = Some(self.hot.address_of(hole));
        }
    }

    /// The site for a check, and which of its limits counts; `None` for the one of the check's own size.
    fn site_for(&mut self, operand: &Operand) -> (u32, Option<usize>) {
        if let Some(site) = shared::site_of(operand, self.request.view, self.here()) {
            return (site, shared::class(operand.size));
        }
        let number = *self.books.sites;
        *self.books.sites += 1;
        self.books.writes.push(operand.write);
        (number, None)
    }

    /// On the cold side, with the linear address in the scratch register: asks the TLB. CF is set when it knows.
    pub(super) fn look_up(&mut self, operand: &Operand, site: usize, found: Found) {
        let half = 2 * usize::from(self.request.view) + usize::from(operand.write);
        let kinds = offset_of!(Registers, look_ups) + size_of::<[u64; 4]>() * half;
        let number = (site - SITES_AT) / size_of::<Site>();
        let wanted = (number as u32) << 8 | (operand.size - 1);
        self.hot.store_number(offset_of!(Registers, wanted), wanted);
        self.hot.call_through(kinds + size_of::<u64>() * found as usize);
    }

    /// The same in line, where accesses often hop between pages; goes on at `back` when the TLB knows.
    fn look_up_in_line(&mut self, operand: &Operand, site: usize, back: u64) {
        const SETS: u32 = (TLB_SETS as u32 - 1) * 16;
        let half = 2 * usize::from(self.request.view) + usize::from(operand.write);
        let cold = &mut self.hot;
        cold.decrement_word(site + offset_of!(Site, patience));
        let anew = cold.jump_if(condition::EQUAL);
        cold.store(SAVED_RCX, host::RCX);
        cold.set_offset_to_rcx(SETS);
        cold.add(host::RCX, offset_of!(Registers, tlb) + size_of::<u64>() * half);
        if operand.size > 1 {
            cold.lea(host::SCRATCH, Address::at(host::SCRATCH, operand.size as i32 - 1));
        }
        cold.compare_page_at_rcx();
        cold.load_second_at_rcx();
        cold.load(host::RCX, SAVED_RCX);
        let known = cold.jump_if(condition::BELOW);
        cold.fill(known, back);
        let unknown = cold.jump();
        cold.fill_here(anew);
        self.look_up(operand, site, Found::Anew);
        let known = self.hot.jump_if(condition::BELOW);
        self.hot.fill(known, back);
        self.hot.fill_here(unknown);
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
        instruction.set_memory_index_scale(1 << address.scale);
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

    /// The operand's place, with the distance to the host's memory in the scratch register.
    fn beside_delta(&mut self, operand: &Operand) -> Place {
        const ADD: u8 = 0x03;
        let displacement = operand.displacement as i32;
        let base = operand.base.map(|base| self.homes.host(base));
        let Some(index) = operand.index.map(|index| self.homes.host(index)) else {
            return Place::Beside(Address {
                base,
                index: Some(host::SCRATCH),
                scale: 0,
                displacement,
            });
        };
        if let Some(base) = base {
            self.hot.pair(true, ADD, host::SCRATCH, base);
        }
        let (base, scale) = (Some(host::SCRATCH), operand.scale);
        Place::Beside(Address { base, index: Some(index), scale, displacement })
    }
}

/// Whether the accesses of a place may well hop between pages: elements, and what is pointed to by itself.
fn may_hop(wide: &Operand) -> bool {
    let pointed = wide.base.is_some_and(|base| base != super::super::step::RSP) && wide.size <= 8;
    wide.segment.is_none() && (wide.index.is_some() || pointed)
}

/// Whether an operand is addressed by more than registers and a short number.
fn is_segmented_or_far(operand: &Operand) -> bool {
    operand.segment.is_some()
        || operand.is_constant()
        || i32::try_from(operand.displacement).is_err()
}
