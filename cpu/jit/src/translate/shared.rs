//! Sites that several accesses share.
//!
//! Where the accesses of many places go to one page as a rule, they have one site: it is filled once for all of them
//! after the address space has changed, and lies in the nearest cache. A check looks at the limit for accesses of its
//! size or more ([`Site::SIZES`]); what is so near to the region's end that only its own size would tell asks the TLB.
//!
//! | accesses | their site |
//! |---|---|
//! | off RSP | one for each of [`STACK`] groups of code pages |
//! | off a segment's base alone | one for each of [`PAGES`] groups of pages behind it |
//!
//! Sites belong to a view, and those that write are others than those that read.
//!
//! Rejected: one site for all of the stack (a caller and a callee on either side of a page's end would take it from each
//! other again and again).

use super::step::{Operand, RSP, Segment};
use crate::area::{Site, VIEWS};

/// Groups of code pages.
const STACK: u32 = 64;
/// Groups of pages behind a segment's base.
const PAGES: u32 = 8;
const OF_VIEW: u32 = STACK + 2 * PAGES;

/// How many sites are shared by superblocks: the first ones.
pub(crate) const SHARED: u32 = 2 * VIEWS as u32 * OF_VIEW;

/// Whether each of them writes.
pub(super) fn writers() -> Vec<bool> {
    (0..SHARED).map(|number| number / OF_VIEW % 2 == 1).collect()
}

/// The site that an access at `rip` in a view shares with other superblocks.
pub(super) fn site_of(operand: &Operand, view: u8, rip: u64) -> Option<u32> {
    class(operand.size)?;
    let alone = operand.index.is_none() && operand.bit.is_none();
    let group = match (operand.base, operand.segment) {
        (Some(RSP), None) if alone => ((rip >> 12 ^ rip >> 18) as u32) % STACK,
        (None, Some(segment)) if alone => {
            let group = (operand.displacement >> 12) as u32 % PAGES;
            STACK + group + if segment == Segment::Gs { PAGES } else { 0 }
        }
        _ => return None,
    };
    Some((2 * u32::from(view) + u32::from(operand.write)) * OF_VIEW + group)
}

/// Which of a site's limits is for accesses of so many bytes.
pub(super) fn class(size: u32) -> Option<usize> {
    Site::SIZES.iter().position(|most| u64::from(size) <= *most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_writers_and_views_share_no_site() {
        let writers = writers();
        let mut seen = std::collections::HashSet::new();
        for view in 0..VIEWS as u8 {
            for write in [false, true] {
                let site = site_of(&Operand::stack(-8, write), view, 0x40_1000).unwrap();
                assert!(seen.insert(site) && site < SHARED);
                assert_eq!(writers[site as usize], write);
            }
        }
    }

    #[test]
    fn long_or_indexed_accesses_share_none() {
        let stack = Operand::stack(0, false);
        assert!(site_of(&Operand { size: 264, ..stack }, 0, 0).is_none());
        assert!(site_of(&Operand { index: Some(1), ..stack }, 0, 0).is_none());
    }
}
