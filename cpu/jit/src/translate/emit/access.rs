//! The check of an access.
//!
//! ```text
//!   lea  r11, [address]             what the guest addresses
//!   sub  r11, gs:[site.lo]
//!   cmp  r11, gs:[site.limit]       less than the region's length - size + 1?
//!   jae  cold                       ──► the engine fills the site, or interprets the instruction
//!   mov  r11, gs:[site.delta]       then the operand is [base + r11 + displacement]
//!   add  r11, gs:[site.host]        or, with an index or a segment, [r11]
//! ```
//!
//! The loads from the site do not depend on the address: the processor predicts that the region is the same
//! as last time and goes on. An access that crosses into the next page is beyond the limit, whatever its
//! size. A constant address (relative to RIP) is checked once, when the site is filled:
//!
//! ```text
//!   mov  r11, gs:[site.host];  test r11, r11;  jz cold
//! ```

use super::*;
use crate::area::TLB_SETS;
use crate::translate::step::Operand;

const LO: usize = offset_of!(Site, lo);
const LIMIT: usize = offset_of!(Site, limit);
const DELTA: usize = offset_of!(Site, delta);
const HOST: usize = offset_of!(Site, host);

/// Where a checked operand is in host memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// At the scratch register.
    Scratch,
    /// At `base` + scratch register + displacement.
    Offset { base: u8, displacement: i32 },
}

impl Place {
    pub fn address(self) -> Address {
        match self {
            Place::Scratch => Address::at(host::SCRATCH, 0),
            Place::Offset { base, displacement } => {
                Address::indexed(base, host::SCRATCH, displacement)
            }
        }
    }
}

impl Emitter<'_> {
    /// Checks an access of the present step. Flags that are live are saved first.
    pub(super) fn check(&mut self, operand: &Operand) -> Place {
        if self.live[self.at] != 0 && !self.saved {
            self.save_flags();
        }
        let site = *self.books.sites;
        *self.books.sites += 1;
        self.books.writes.push(operand.write);
        let resume = self.hot.here();
        let at = SITES_AT + site as usize * size_of::<Site>();
        let access = Access { operand: *operand, site, resume: 0 };
        let record = self.record(self.here(), Kind::Access(access));
        if operand.is_constant() {
            self.hot.load(host::SCRATCH, at + HOST);
            self.hot.test(host::SCRATCH);
            self.miss(condition::EQUAL, record, resume, false);
            Place::Scratch
        } else {
            self.linear(operand);
            self.hot.sub(host::SCRATCH, at + LO);
            self.align(operand, record, resume);
            self.hot.compare(host::SCRATCH, at + LIMIT);
            self.miss(condition::ABOVE_OR_EQUAL, record, resume, true);
            self.locate(operand, at)
        }
    }

    /// The linear address, in the scratch register.
    fn linear(&mut self, operand: &Operand) {
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

    /// Regions start at a page, so the offset in the region tells.
    fn align(&mut self, operand: &Operand, record: u32, resume: u64) {
        if operand.alignment > 1 {
            self.hot.test_scratch((operand.alignment - 1) as u8);
            self.miss(condition::NOT_EQUAL, record, resume, false);
        }
    }

    fn miss(&mut self, when: u8, record: u32, resume: u64, probe: bool) {
        let hole = self.hot.jump_if(when);
        let (saved, resume) = (self.saved, Some(resume));
        self.stubs.push(Stub { hole, record, saved, rcx: false, homes: true, resume, probe });
    }

    /// On the cold side: is the page in the TLB? Then the site gets it, and the check is made again.
    pub(super) fn probe(&mut self, access: &Access, check: u64) {
        let at = SITES_AT + access.site as usize * size_of::<Site>();
        let half =
            TLB_SETS as u32 * (2 * u32::from(self.request.view) + u32::from(access.operand.write));
        let cold = &mut self.cold;
        cold.add(host::SCRATCH, at + LO);
        cold.store_number(offset_of!(Registers, probed_site), at as u32);
        cold.store_number(offset_of!(Registers, probed_half), half);
        cold.store_number(offset_of!(Registers, probed_size), access.operand.size - 1);
        cold.call_through(offset_of!(Registers, probe));
        let hole = cold.jump_if(condition::EQUAL);
        cold.fill(hole, check);
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
