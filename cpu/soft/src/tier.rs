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
//! | flush but global pages | those of the lower half | those to the lower half | |
//! | INVLPG | those of the page | those to the page | |
//! | page gets its first code | those that write | | |
//! | store to code | | those to the page's | those of the page |
//! | SSE switched on or off | | all | |
//!
//! The TLB notes what it forgets; this tier reads that before it goes through the gate again. It never goes
//! through the gate with such a note unread, and notes arise only outside.

use crate::blocks::Spread;
use crate::ram::PAGE;
use crate::tlb::{Forgotten, Tlb};
use kezhan_jit::area::Registers;
use kezhan_jit::translate::{Access, Entry, Record, Refusal, Region, Request, Translator};
use kezhan_x86::flags::{self, LazyFlags};
use kezhan_x86::state::{CpuState, FS, GS, cr0, cr4};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// How often a block runs in the interpreter before it is translated.
pub(crate) const HOT: u32 = 40;

/// How often a block that is hot runs in the interpreter at another linear address, before it is translated there.
pub(crate) const AGAIN: u32 = 6;

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

/// Encodings that the statistics name.
const MOST_SHOWN: usize = 24;

/// What the tier has done.
#[derive(Clone, Debug, Default)]
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
    /// Times that the bell or a note was found in the interpreter.
    pub attended: u64,
    /// Sites dropped with a flush, slots and jumps likewise.
    pub forgotten: u64,
    /// Flushes that reached the translator.
    pub flushes: u64,
    /// Bytes of code at the end.
    pub code_bytes: u64,
    /// Entries from the run loop.
    pub entries: u64,
    /// How often each encoding (by iced-x86's number) was run by itself in the interpreter.
    pub by_code: Vec<u64>,
}

impl Counters {
    /// An encoding was run by itself in the interpreter.
    #[inline]
    pub fn count_code(&mut self, code: u16) {
        let code = usize::from(code);
        if self.by_code.len() <= code {
            self.by_code.resize(code + 1, 0);
        }
        self.by_code[code] += 1;
    }

    /// The encodings that the interpreter ran most often by themselves.
    fn most_interpreted(&self) -> String {
        let mut all: Vec<(u64, usize)> =
            self.by_code.iter().enumerate().map(|(code, count)| (*count, code)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let names = all.iter().take(MOST_SHOWN).filter(|(count, _)| *count != 0);
        let name = |(count, code): &(u64, usize)| match iced_x86::Code::try_from(*code) {
            Ok(code) => format!("{count} {code:?}"),
            Err(_) => format!("{count} code {code}"),
        };
        names.map(name).collect::<Vec<_>>().join(", ")
    }

    /// For people, of one vCPU.
    pub fn lines(&self, cpu: usize) -> Vec<String> {
        vec![
            format!(
                "cpu {cpu}: {} superblocks of {} instructions, {} KiB of code, {} clears",
                self.superblocks,
                self.instructions,
                self.code_bytes >> 10,
                self.clears
            ),
            format!(
                "cpu {cpu}: {} entries; exits: {} access, {} branch, {} indirect, {} interpret, {} bell",
                self.entries,
                self.accesses,
                self.branches,
                self.indirect,
                self.interpreted,
                self.bells
            ),
            format!(
                "cpu {cpu}: {} flushes of {} sites and ways; ticks found in the translated tier {}, elsewhere {}",
                self.flushes, self.forgotten, self.bells, self.attended
            ),
            format!("cpu {cpu}: interpreted by themselves: {}", self.most_interpreted()),
        ]
    }
}

/// The tier of one vCPU.
#[derive(Debug)]
pub(crate) struct Tier {
    translator: Translator,
    superblocks: Map<Name, Entry>,
    pages: Map<u64, Vec<Name>>,
    /// SSE may be used, as of the last look.
    vectors: bool,
    /// The area has the XMM registers and MXCSR, not the CPU's state.
    vectors_away: bool,
    /// Slots that lead somewhere, with their RIPs, by half of linear memory.
    slots: [Vec<(u32, u64)>; 2],
    /// Jumps likewise, with their views.
    jumps: [Vec<(u8, u64)>; 2],
    pub counters: Counters,
}

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
            vectors_away: false,
            slots: Default::default(),
            jumps: Default::default(),
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
    pub fn look_at_vectors(&mut self, cpu: &mut CpuState) -> bool {
        let usable = cpu.cr0 & (cr0::EM | cr0::TS) == 0
            && cpu.cr4 & cr4::OSFXSR != 0
            && cpu.fpu.frame.x87.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
        if usable == self.vectors {
            return false;
        }
        self.bring_vectors_home(cpu);
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
        self.translator.clear();
        self.superblocks.clear();
        self.pages.clear();
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
        self.forget_ways_to(0);
        self.forget_ways_to(1);
    }

    /// Those that lead to one half of linear memory.
    fn forget_ways_to(&mut self, half: usize) {
        let Tier { translator, slots, jumps, counters, .. } = self;
        counters.forgotten += (slots[half].len() + jumps[half].len()) as u64;
        for (slot, _) in slots[half].drain(..) {
            translator.set_slot(slot, None);
        }
        for (view, rip) in jumps[half].drain(..) {
            translator.area().clear_jump(view, rip);
        }
    }

    /// Those that lead to one page.
    fn forget_ways_into(&mut self, page: u64) {
        let Tier { translator, slots, jumps, .. } = self;
        let half = (page >> 63) as usize;
        let leads_there = |rip: u64| rip & !(PAGE - 1) == page;
        for (slot, _) in slots[half].extract_if(.., |(_, rip)| leads_there(*rip)) {
            translator.set_slot(slot, None);
        }
        for (view, rip) in jumps[half].extract_if(.., |(_, rip)| leads_there(*rip)) {
            translator.area().clear_jump(view, rip);
        }
    }

    /// Follows the TLB.
    #[cold]
    pub fn forget(&mut self, forgotten: &Forgotten) {
        self.counters.flushes += 1;
        if forgotten.all {
            self.counters.forgotten += self.translator.empty_sites() as u64;
            self.forget_ways();
            return;
        }
        if forgotten.lower {
            self.counters.forgotten += self.translator.empty_half(0) as u64;
            self.forget_ways_to(0);
        }
        if forgotten.writes {
            self.translator.empty_writers(None);
        }
        for page in &forgotten.written {
            self.translator.empty_writers(Some(*page));
        }
        for page in &forgotten.pages {
            self.translator.empty_page(*page);
            self.forget_ways_into(*page);
        }
    }

    /// Lets an access at `linear` reach a region; where to go on, if it lies in it.
    #[inline(always)]
    pub fn fill(&mut self, access: &Access, linear: u64, region: Region) -> Option<Entry> {
        self.translator.fill(access, linear, region)
    }

    pub fn set_slot(&mut self, slot: u32, rip: u64, entry: Entry) {
        let half = (rip >> 63) as usize;
        if self.slots[half].len() > MOST_WAYS {
            self.forget_ways_to(half);
        }
        self.translator.set_slot(slot, Some(entry));
        self.slots[half].push((slot, rip));
    }

    pub fn set_jump(&mut self, view: u8, rip: u64, entry: Entry) {
        let half = (rip >> 63) as usize;
        if self.jumps[half].len() > MOST_WAYS {
            self.forget_ways_to(half);
        }
        self.translator.set_jump(view, rip, entry);
        self.jumps[half].push((view, rip));
    }

    /// Runs until code leaves.
    #[inline(always)]
    pub fn run(&mut self, entry: Entry) -> Record {
        self.translator.run(entry)
    }

    /// Makes this thread the one that runs the vCPU with this TLB.
    pub fn bind(&mut self, tlb: &Tlb) {
        self.translator.bind();
        self.translator.registers().tlb = tlb.halves();
    }

    /// Gives the registers to translated code.
    pub fn arrive(&mut self, cpu: &CpuState, interrupt_waits: bool) {
        let (vectors, away) = (self.vectors, self.vectors_away);
        let to = self.translator.registers();
        to.gpr.copy_from_slice(&cpu.gpr[..16]);
        to.flags = packed(cpu.flags);
        (to.fs_base, to.gs_base) = (cpu.seg_base[FS], cpu.seg_base[GS]);
        to.kernel_gs_base = cpu.msr.kernel_gs_base;
        for (to, segment) in to.selectors.iter_mut().zip(&cpu.segments) {
            *to = u64::from(segment.selector);
        }
        to.interrupt_flag = cpu.rflags & flags::IF;
        to.other_flags = cpu.rflags & !(flags::IF | flags::VM | flags::RF) | flags::FIXED;
        to.interrupt_waits = interrupt_waits.into();
        if vectors && !away {
            to.vectors_changed = 0;
            to.xmm = cpu.fpu.xmm;
            to.mxcsr = cpu.fpu.frame.x87.mxcsr;
            self.vectors_away = true;
        }
    }

    /// Takes the registers back; the CPU goes on at `rip`.
    pub fn leave(&mut self, cpu: &mut CpuState, rip: u64) {
        let from: &Registers = self.translator.registers();
        cpu.gpr[..16].copy_from_slice(&from.gpr);
        cpu.flags = unpacked(from.flags);
        cpu.rflags = cpu.rflags & !flags::IF | from.interrupt_flag;
        cpu.rip = rip;
        if from.gs_base != cpu.seg_base[GS] || from.kernel_gs_base != cpu.msr.kernel_gs_base {
            cpu.msr.kernel_gs_base = from.kernel_gs_base;
            cpu.segments[GS].base = from.gs_base;
            cpu.seg_base[GS] = from.gs_base;
        }
    }

    /// Gives the XMM registers and MXCSR back to the CPU's state.
    #[inline]
    pub fn bring_vectors_home(&mut self, cpu: &mut CpuState) {
        if !self.vectors_away {
            return;
        }
        self.vectors_away = false;
        let from: &Registers = self.translator.registers();
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
            let bits = ((number & 0x1f) * 0x11) & IN_AH | (number >> 5) << OF_AT;
            assert_eq!(unpacked(packed(LazyFlags::from_bits(bits))).bits(), bits);
        }
    }
}
