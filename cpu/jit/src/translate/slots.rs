//! Slots: where branches to other pages lead.
//!
//! There is one for each target in a view, however many branches go there. What a slot holds may be used as
//! long as the target's page is mapped where it was: whoever changes that makes it void.

use std::collections::HashMap;

/// The slots of a vCPU.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    numbers: HashMap<(u8, u64), u32>,
}

impl Slots {
    /// The slot for a target.
    pub fn of(&mut self, view: u8, target: u64) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry((view, target)).or_insert(next)
    }

    /// The slot for a target, if any branch goes there.
    pub fn find(&self, view: u8, target: u64) -> Option<u32> {
        self.numbers.get(&(view, target)).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }
}
