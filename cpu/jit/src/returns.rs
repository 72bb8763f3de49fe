//! Where calls return to.
//!
//! CALL notes its return address, and where the code is that goes on there; RET goes there when it has that address in
//! hand, and looks into the jump cache only when not. The jump cache lies all over a megabyte, and each return has a
//! place of its own there; this lies in a few lines.
//!
//! ```text
//!   CALL ─► at += 1; [at] = {return address, its landing}        a ring for each view
//!   RET  ─► address == [at]? ─► landing ─► jmp or slot ─► the superblock behind the CALL
//!           at -= 1, in any case
//! ```
//!
//! The landing is at the end of the superblock with the CALL, a way out like any other: so a return goes to a constant
//! address, which is linked once. It is found by its offset in code memory, which has the landing of void places at
//! offset 0.
//!
//! # States
//! A place is *void* or *known*. A void one has address 0, and its landing leaves to the run loop at RIP 0, where a RET
//! to 0 goes indeed: so that no return address, whatever the guest makes it, leads into nowhere. Known ones become void
//! when the page of their address may be another (as ways do), when superblocks are dropped, and when code is cleared.
//!
//! Programs do without: their calls are often in small loops, which the jump cache serves in fewer instructions. A kernel
//! takes long ways and each one seldom.
//!
//! Rejected: the host's own CALL and RET (RSP is the area's); popping only where the address was found (a thunk that
//! replaces its return address, as against branch target injection, would leave its own on top); places chosen by RSP (more of
//! them, and so more lines).

use crate::area::{Area, VIEWS};

/// Places of a ring; `16 * DEPTH` wraps in a byte.
const DEPTH: usize = 16;

/// A place.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Place {
    rip: u64,
    landing: u64,
}

/// Bytes from a place to the one before it.
pub(crate) const STEP: usize = size_of::<Place>();
/// Bytes from a place to its landing.
pub(crate) const LANDING: usize = std::mem::offset_of!(Place, landing);
/// Bytes of a ring.
pub(crate) const RING: usize = DEPTH * STEP;
const _: () = assert!(RING == 256);

/// The rings of all views.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Returns([[Place; DEPTH]; VIEWS]);

impl Area {
    /// Calls whose return address is so return by the jump cache.
    fn forget_returns(&mut self, is_stale: impl Fn(u64) -> bool) {
        for place in self.registers().returns.0.as_flattened_mut() {
            if is_stale(place.rip) {
                *place = Place::default();
            }
        }
    }

    /// Forgets all.
    pub fn forget_all_returns(&mut self) {
        self.registers().returns = Returns::default();
    }

    /// Forgets those to a half of linear memory: 0 the lower, 1 the upper.
    pub fn forget_returns_to_half(&mut self, half: usize) {
        self.forget_returns(|rip| rip >> 63 == half as u64);
    }

    /// Forgets those to a linear page.
    pub fn forget_returns_to_page(&mut self, page: u64) {
        self.forget_returns(|rip| rip & !0xfff == page);
    }
}
