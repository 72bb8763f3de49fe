//! Calls and returns that find each other: see [`crate::returns`].

use super::*;
use crate::returns::{LANDING, RING, STEP};

const CODE: usize = offset_of!(Registers, code);

/// Where a view's last call is in its ring, in bytes.
fn at(view: u8) -> usize {
    offset_of!(Registers, returns_at) + usize::from(view)
}

/// A view's ring.
fn ring(view: u8) -> usize {
    offset_of!(Registers, returns) + usize::from(view) * RING
}

/// The landing of void places, which is to lie at the beginning of code memory and leaves by record 0.
pub(in crate::translate) fn void_landing(base: u64) -> Vec<u8> {
    let mut code = Asm::new(base);
    code.store_number(EXIT, 0);
    code.jump_through(LEAVE_SAVED);
    code.bytes
}

impl Emitter<'_> {
    /// CALL: notes where it returns to. Changes no flags; the scratch register is lost. The landing is to be filled in.
    /// Programs note nothing.
    pub(super) fn note_return(&mut self, to: u64) -> Option<Hole> {
        if self.request.view == USER {
            return None;
        }
        let (at, ring) = (at(self.request.view), ring(self.request.view));
        let hot = &mut self.hot;
        hot.load_byte(host::SCRATCH, at);
        hot.lea(host::SCRATCH, Address::at(host::SCRATCH, STEP as i32));
        hot.store_byte(at, host::SCRATCH);
        hot.cut_scratch_to_byte();
        if let Ok(short) = i32::try_from(to as i64) {
            hot.store_number_at_scratch(ring, short);
        } else {
            hot.store(SAVED_RCX, host::RCX);
            hot.number(host::RCX, to);
            hot.store_rcx_at_scratch(ring);
            hot.load(host::RCX, SAVED_RCX);
        }
        Some(hot.store_number_at_scratch(ring + LANDING, 0))
    }

    /// Behind all else of a superblock: the landing of its call.
    pub(super) fn land(&mut self, noted: Option<Hole>, to: u64) {
        let Some(noted) = noted else { return };
        let offset = self.hot.here() - self.code;
        self.hot.fill_number(noted, offset as u32);
        self.flags = Flags::PARKED;
        self.link(to);
    }

    /// RET: goes where the scratch register says, with the flags in the area. RSP has been moved by `moved`.
    pub(super) fn go_back(&mut self, moved: i32) {
        if self.request.view == USER {
            return self.indirect(moved);
        }
        debug_assert!(self.flags.are_in_area());
        self.homes.move_out(&mut self.hot);
        let view = self.request.view;
        let (at, ring) = (at(view), ring(view));
        let record = self.record(self.here(), Kind::Indirect { moved });
        let hot = &mut self.hot;
        hot.store(SAVED_RCX, host::RCX);
        hot.load_byte(host::RCX, at);
        hot.compare_at_rcx(ring);
        hot.lea(host::RCX, Address::at(host::RCX, -(STEP as i32)));
        hot.store_byte(at, host::RCX);
        let other = hot.jump_if(condition::NOT_EQUAL);
        hot.is_zero(BELL);
        let rung = hot.jump_if(condition::NOT_EQUAL);
        hot.load_32_at_rcx(ring + LANDING + STEP);
        hot.load(host::RCX, SAVED_RCX);
        hot.add(host::SCRATCH, CODE);
        hot.jump_scratch();
        let cold = self.cold.here();
        self.hot.fill(other, cold);
        std::mem::swap(&mut self.hot, &mut self.cold);
        let [unknown, also_rung] = self.by_jump_cache(view);
        for hole in [unknown, also_rung] {
            self.hot.fill_here(hole);
        }
        std::mem::swap(&mut self.hot, &mut self.cold);
        self.nowhere([rung], record);
    }
}
