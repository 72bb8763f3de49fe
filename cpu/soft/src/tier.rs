//! The second tier: superblocks in host code, for what runs often.
//!
//! ```text
//!   block run HOT times ──► steps ──► Translator ──► entry, by (RIP, physical address, view, vectors)
//!
//!   arrive: registers to the area ──► run ──► why did it leave?
//!      ▲                               ▲        ├ access    ─► fill the site ──────► go on
//!      │                               └────────┼ branch    ─► link, or slot, or jump cache ─► go on
//!   interpreter ◄── leave: registers back ◄─────┴ else      ─► interpreter, run loop
//! ```
//!
//! A superblock knows its linear address, so that pushing RIP and addressing by it cost nothing; the same
//! bytes at another linear address are another superblock. It stays while its page's bytes do.
//!
//! # What is forgotten when
//! | event | sites | slots and jumps | superblocks |
//! |---|---|---|---|
//! | flush | all | all | |
//! | INVLPG | those of the page | those to the page | |
//! | page gets its first code | those that write | | |
//! | store to code | | those to the page's | those of the page |
//! | SSE switched on or off | | all | |
//!
//! The TLB notes what it forgets; this tier reads that before it goes through the gate again. It never goes
//! through the gate with such a note unread, and notes arise only outside.

use crate::blocks::Spread;
use crate::ram::PAGE;
use crate::tlb::Forgotten;
use kezhan_jit::area::Registers;
use kezhan_jit::translate::{Access, Entry, Record, Refusal, Region, Request, Translator};
use kezhan_x86::flags::LazyFlags;
use kezhan_x86::state::{CpuState, FS, GS, cr0, cr4};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// How often a block runs in the interpreter before it is translated.
pub(crate) const HOT: u32 = 40;

/// Slots or jumps after which all of them are forgotten, so that the lists end.
const MOST_WAYS: usize = 1 << 17;

/// MXCSR with every exception masked.
const MXCSR_MASKS: u32 = 0x1f80;

/// Which superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// Linear address.
    pub rip: u64,
    /// Physical address, shifted left by 3; view and vectors in the low bits.
    pub place: u64,
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// What the tier has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Superblocks made.
    pub superblocks: u64,
    /// Guest instructions in them.
    pub instructions: u64,
    /// Times that everything was dropped for want of room.
    pub clears: u64,
    /// Exits for an access whose site had another region.
    pub accesses: u64,
    /// Exits for a branch without a link.
    pub branches: u64,
    /// Exits for an indirect branch that the jump cache did not know.
    pub indirect: u64,
    /// Exits for an instruction of the interpreter's.
    pub interpreted: u64,
    /// Exits for the bell.
    pub bells: u64,
}

/// The tier of one vCPU.
#[derive(Debug)]
pub(crate) struct Tier {
    translator: Translator,
    superblocks: Map<Name, Entry>,
    pages: Map<u64, Vec<Name>>,
    /// SSE may be used, as of the last look.
    vectors: bool,
    /// Sites that have a region, each once.
    filled: Vec<u32>,
    /// For each site: 0, or its page and whether it writes.
    regions: Vec<u64>,
    slots: Vec<(u32, u64)>,
    jumps: Vec<(u8, u64)>,
    pub counters: Counters,
}

/// Bits of [`Tier::regions`] beside the page.
const FILLED: u64 = 1;
const WRITES: u64 = 2;

impl Name {
    /// The superblock at a linear and a physical address.
    pub fn new(rip: u64, physical: u64, view: u8, vectors: bool) -> Name {
        Name { rip, place: physical << 3 | u64::from(view) << 1 | u64::from(vectors) }
    }

    fn view(self) -> u8 {
        (self.place >> 1 & 3) as u8
    }

    fn page(self) -> u64 {
        self.place >> 15
    }
}

impl Tier {
    pub fn new(translator: Translator) -> Tier {
        Tier {
            translator,
            superblocks: Map::default(),
            pages: Map::default(),
            vectors: false,
            filled: Vec::new(),
            regions: Vec::new(),
            slots: Vec::new(),
            jumps: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub fn translator(&mut self) -> &mut Translator {
        &mut self.translator
    }

    pub fn vectors(&self) -> bool {
        self.vectors
    }

    /// Looks whether SSE may be used; true when that has changed, and cached ways to superblocks with it.
    #[inline(always)]
    pub fn look_at_vectors(&mut self, cpu: &CpuState) -> bool {
        let usable = cpu.cr0 & (cr0::EM | cr0::TS) == 0
            && cpu.cr4 & cr4::OSFXSR != 0
            && cpu.fpu.frame.x87.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
        if usable == self.vectors {
            return false;
        }
        self.vectors = usable;
        self.forget_ways();
        true
    }

    /// The superblock, if there is one.
    #[inline(always)]
    pub fn find(&self, name: Name) -> Option<Entry> {
        self.superblocks.get(&name).copied()
    }

    /// Translates and keeps a superblock; `None` when its first instruction is the interpreter's.
    pub fn translate(&mut self, name: Name, request: Request<'_>) -> Option<Entry> {
        let entry = match self.translator.translate(request) {
            Ok(entry) => entry,
            Err(Refusal::Full) => {
                self.clear();
                self.translator.translate(request).ok()?
            }
            Err(Refusal::Untranslatable) => return None,
        };
        self.counters.superblocks += 1;
        self.counters.instructions += request.steps.len() as u64;
        self.superblocks.insert(name, entry);
        self.pages.entry(name.page()).or_default().push(name);
        Some(entry)
    }

    /// Whether a translation would have to drop everything first.
    pub fn is_full(&self) -> bool {
        self.translator.is_full()
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.counters.clears += 1;
        self.forget_ways();
        self.forget_sites();
        self.translator.clear();
        self.superblocks.clear();
        self.pages.clear();
        self.regions.clear();
    }

    /// Drops the superblocks of a physical page (its number).
    pub fn drop_page(&mut self, page: u64) {
        for name in self.pages.remove(&page).unwrap_or_default() {
            self.superblocks.remove(&name);
            self.translator.area().clear_jump(name.view(), name.rip);
            if let Some(slot) = self.translator.slot(name.view(), name.rip) {
                self.translator.set_slot(slot, None);
            }
        }
    }

    /// Forgets which branch to another page goes where.
    fn forget_ways(&mut self) {
        for (slot, _) in self.slots.drain(..) {
            self.translator.set_slot(slot, None);
        }
        for (view, rip) in self.jumps.drain(..) {
            self.translator.area().clear_jump(view, rip);
        }
    }

    fn forget_sites(&mut self) {
        for site in self.filled.drain(..) {
            self.translator.empty(site);
            self.regions[site as usize] = 0;
        }
    }

    /// Follows the TLB.
    #[cold]
    pub fn forget(&mut self, forgotten: &Forgotten) {
        if forgotten.all {
            self.forget_sites();
            self.forget_ways();
            return;
        }
        let Tier { translator, filled, regions, .. } = self;
        filled.retain(|site| {
            let region = regions[*site as usize];
            let gone = forgotten.writes && region & WRITES != 0
                || forgotten.pages.contains(&(region & !(PAGE - 1)));
            if gone {
                translator.empty(*site);
                regions[*site as usize] = 0;
            }
            !gone
        });
        if forgotten.pages.is_empty() {
            return;
        }
        let stays = |rip: u64| !forgotten.pages.contains(&(rip & !(PAGE - 1)));
        self.slots.retain(|(slot, rip)| {
            let stays = stays(*rip);
            if !stays {
                translator.set_slot(*slot, None);
            }
            stays
        });
        self.jumps.retain(|(view, rip)| {
            let stays = stays(*rip);
            if !stays {
                translator.area().clear_jump(*view, *rip);
            }
            stays
        });
    }

    /// Lets an access at `linear` reach its page; where to go on, if it lies in it.
    #[inline(always)]
    pub fn fill(&mut self, access: &Access, linear: u64, host: u64) -> Option<Entry> {
        let start = linear & !(PAGE - 1);
        let entry = self.translator.fill(access, linear, Region { start, length: PAGE, host })?;
        let site = access.site() as usize;
        if self.regions.len() <= site {
            self.regions.resize(site + 1024, 0);
        }
        if self.regions[site] == 0 {
            self.filled.push(site as u32);
        }
        let writes = if access.operand.write { WRITES } else { 0 };
        self.regions[site] = start | FILLED | writes;
        Some(entry)
    }

    pub fn set_slot(&mut self, slot: u32, rip: u64, entry: Entry) {
        if self.slots.len() > MOST_WAYS {
            self.forget_ways();
        }
        self.translator.set_slot(slot, Some(entry));
        self.slots.push((slot, rip));
    }

    pub fn set_jump(&mut self, view: u8, rip: u64, entry: Entry) {
        if self.jumps.len() > MOST_WAYS {
            self.forget_ways();
        }
        self.translator.set_jump(view, rip, entry);
        self.jumps.push((view, rip));
    }

    /// Runs until code leaves.
    #[inline(always)]
    pub fn run(&mut self, entry: Entry) -> Record {
        self.translator.run(entry)
    }

    /// Gives the registers to translated code.
    pub fn arrive(&mut self, cpu: &CpuState) {
        let vectors = self.vectors;
        let to = self.translator.registers();
        to.gpr.copy_from_slice(&cpu.gpr[..16]);
        to.flags = packed(cpu.flags);
        (to.fs_base, to.gs_base) = (cpu.seg_base[FS], cpu.seg_base[GS]);
        to.vectors_changed = 0;
        if vectors {
            to.xmm = cpu.fpu.xmm;
            to.mxcsr = cpu.fpu.frame.x87.mxcsr;
        }
    }

    /// Takes the registers back; the CPU goes on at `rip`.
    pub fn leave(&mut self, cpu: &mut CpuState, rip: u64) {
        let from: &Registers = self.translator.registers();
        cpu.gpr[..16].copy_from_slice(&from.gpr);
        cpu.flags = unpacked(from.flags);
        cpu.rip = rip;
        if from.vectors_changed != 0 {
            cpu.fpu.xmm = from.xmm;
            cpu.fpu.frame.x87.mxcsr = from.mxcsr;
        }
    }
}

/// SF, ZF, AF, PF and CF in RFLAGS, where LAHF has them too.
const IN_AH: u64 = 0xd5;
const OF_AT: u32 = 11;

fn packed(flags: LazyFlags) -> u64 {
    let bits = flags.bits();
    (bits & IN_AH) << 8 | bits >> OF_AT & 1
}

fn unpacked(packed: u64) -> LazyFlags {
    LazyFlags::from_bits(packed >> 8 & IN_AH | (packed & 1) << OF_AT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_pass_the_gate_unchanged() {
        for number in 0..64_u64 {
            let bits = (number & 0x1f) * 0x11 & IN_AH | (number >> 5) << OF_AT;
            assert_eq!(unpacked(packed(LazyFlags::from_bits(bits))).bits(), bits);
        }
    }
}
