//! The second tier: superblocks in host code, for what runs often.
//!
//! ```text
//!   block run HOT times ──► steps ──► Translator ──► entry, by (RIP, physical address, view, modes)
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
//! | flush but global pages | those of the lower half | those to the lower half whose page is another now | |
//! | INVLPG | those of the page | those to the page | |
//! | page gets its first code | those that write | | |
//! | store to code | | those to the page's | those of the page |
//! | SSE or x87 switched on or off | | all | |
//! | SMAP switched on or off | all | all | all |
//!
//! The TLB notes what it forgets; this tier reads that before it goes through the gate again. It never goes
//! through the gate with such a note unread, and notes arise only outside.

use crate::blocks::Spread;
use crate::perf_map::PerfMap;
use crate::ram::PAGE;
use crate::tlb::{Forgotten, Tlb};
use crate::traffic::Traffic;
use crate::ways::{Tables, Target, Way, Ways};
use kezhan_jit::area::Registers;
use kezhan_jit::translate::{Access, Entry, Record, Refusal, Region, Request, Translator};
use kezhan_x86::flags::{self, LazyFlags};
use kezhan_x86::interp::fast_call::ring_selectors;
use kezhan_x86::state::{CpuState, FS, GS, cr0, cr4, efer};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

/// How often a block runs in the interpreter before it is translated.
pub(crate) const HOT: u32 = 40;

/// How often a block that is hot runs in the interpreter at another linear address, before it is translated there.
pub(crate) const AGAIN: u32 = 6;

/// How often a block that was translated before its bytes changed runs in the interpreter before it is again.
pub(crate) const ONCE_MORE: u32 = 2;

/// Vectors may be used, and no SIMD exception is unmasked.
pub(crate) const VECTORS: u8 = 1;
/// The x87 stack may be used, and no x87 exception is unmasked.
pub(crate) const X87: u8 = 2;

/// The x87 control word with every exception masked.
const FCW_MASKS: u16 = 0x3f;
/// MXCSR with every exception masked.
const MXCSR_MASKS: u32 = 0x1f80;

/// Which superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    /// Linear address.
    pub rip: u64,
    /// Physical address, shifted left by 4; view and [`Tier::modes`] in the low bits.
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
    /// With the other vCPUs.
    pub traffic: Traffic,
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
            self.traffic.line(cpu),
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
    /// What may be used, as of the last look: [`VECTORS`] and [`X87`].
    modes: u8,
    /// The area has x87 state, not the CPU's state.
    x87_away: bool,
    /// CR4.SMAP is set, as of the last look: STAC and CLAC change the view.
    guarded: bool,
    /// For superblocks of one instruction that lies over its page's end: the physical page (its number) of the rest.
    second: Map<Name, u64>,
    /// The area has the XMM registers and MXCSR, not the CPU's state.
    vectors_away: bool,
    /// EFER, CR0, CR4, IA32_FMASK, IA32_STAR and IA32_LSTAR as the area knows them.
    system: [u64; 6],
    /// Ways that lead somewhere, by half of linear memory.
    ways: [Ways; 2],
    pub counters: Counters,
    perf_map: Option<Arc<PerfMap>>,
}

impl Name {
    /// The superblock at a linear and a physical address.
    pub fn new(rip: u64, physical: u64, view: u8, modes: u8) -> Name {
        Name { rip, place: physical << 4 | u64::from(view) << 2 | u64::from(modes) }
    }

    fn view(self) -> u8 {
        (self.place >> 2 & 3) as u8
    }

    fn page(self) -> u64 {
        self.place >> 16
    }
}

impl Tier {
    pub fn new(translator: Translator, perf_map: Option<Arc<PerfMap>>) -> Tier {
        Tier {
            translator,
            superblocks: Map::default(),
            pages: Map::default(),
            modes: 0,
            x87_away: false,
            guarded: false,
            second: Map::default(),
            vectors_away: false,
            system: [u64::MAX; 6],
            ways: Default::default(),
            counters: Counters::default(),
            perf_map,
        }
    }

    pub fn translator(&mut self) -> &mut Translator {
        &mut self.translator
    }

    pub fn modes(&self) -> u8 {
        self.modes
    }

    /// Looks whether SSE may be used, and whether there is SMAP; true when that has changed, and cached ways to
    /// superblocks with it.
    #[inline(always)]
    pub fn look_at_modes(&mut self, cpu: &mut CpuState) -> bool {
        if self.guarded != (cpu.cr4 & cr4::SMAP != 0) {
            self.guarded = !self.guarded;
            self.clear();
            return true;
        }
        let modes = usable(cpu);
        if modes == self.modes {
            return false;
        }
        self.bring_vectors_home(cpu);
        self.modes = modes;
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
        if let Some(map) = &self.perf_map {
            map.tell(name.rip, name.view() == 0, self.translator.last());
        }
        self.pages.entry(name.page()).or_default().push(name);
        Some(entry)
    }

    /// Translates a superblock that only another one of its page leads to.
    pub fn translate_apart(&mut self, name: Name, request: Request<'_>) -> Option<Entry> {
        let entry = self.translator.translate(request).ok()?;
        self.counters.superblocks += 1;
        self.counters.instructions += request.steps.len() as u64;
        if let Some(map) = &self.perf_map {
            map.tell(name.rip, name.view() == 0, self.translator.last());
        }
        Some(entry)
    }

    /// Keeps a superblock of one instruction that lies over its page's end, and goes on in physical page `second` (its
    /// number).
    pub fn translate_across(
        &mut self,
        name: Name,
        second: u64,
        request: Request<'_>,
    ) -> Option<Entry> {
        let entry = self.translate(name, request)?;
        self.second.insert(name, second);
        self.pages.entry(second).or_default().push(name);
        Some(entry)
    }

    /// The physical page (its number) in which such a superblock's instruction ends.
    pub fn second_page(&self, name: Name) -> Option<u64> {
        self.second.get(&name).copied()
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
        self.second.clear();
        self.pages.clear();
    }

    /// Drops the superblocks of a physical page (its number), and lists their physical addresses.
    pub fn drop_page(&mut self, page: u64, dropped: &mut Vec<u64>) {
        let names = self.pages.remove(&page).unwrap_or_default();
        if !names.is_empty() {
            self.translator.area().forget_all_returns();
            self.ways.iter_mut().for_each(|ways| ways.drop_page(page));
        }
        let mut last = None;
        for name in names {
            let linear = name.rip & !(PAGE - 1);
            if last.replace(linear) != Some(linear) {
                self.ways[(linear >> 63) as usize].forget_page(&mut self.translator, linear);
            }
            dropped.push(name.place >> 4);
            self.superblocks.remove(&name);
            self.second.remove(&name);
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
        self.counters.forgotten += self.ways[half].len() as u64;
        self.translator.area().forget_returns_to_half(half);
        self.ways[half].forget_all(&mut self.translator);
    }

    /// Makes those void, and has some of them sleep.
    fn void_ways_to(&mut self, half: usize) {
        self.counters.forgotten += self.ways[half].len() as u64;
        self.translator.area().forget_returns_to_half(half);
        self.ways[half].void_all(&mut self.translator);
    }

    /// Follows the TLB.
    #[cold]
    pub fn forget(&mut self, forgotten: &Forgotten, tables: &Tables<'_>) {
        self.counters.flushes += 1;
        if forgotten.all {
            self.counters.forgotten += self.translator.empty_sites() as u64;
            self.void_ways_to(0);
            self.void_ways_to(1);
            return;
        }
        if forgotten.lower {
            self.translator.area().forget_returns_to_half(0);
            self.counters.forgotten += self.translator.empty_half(0) as u64;
            self.counters.forgotten += self.ways[0].look_again(&mut self.translator, tables) as u64;
        }
        if forgotten.writes {
            self.translator.empty_writers(None);
        }
        for page in &forgotten.written {
            self.translator.empty_writers(Some(*page));
        }
        for page in &forgotten.pages {
            self.translator.empty_page(*page);
            self.translator.area().forget_returns_to_page(*page);
            self.ways[(*page >> 63) as usize].void_page(&mut self.translator, *page);
        }
    }

    /// Lets an access at `linear` reach a region; where to go on, if it lies in it.
    #[inline(always)]
    pub fn fill(&mut self, access: &Access, linear: u64, region: Region) -> Option<Entry> {
        self.translator.fill(access, linear, region)
    }

    /// Leads a slot, or the jump cache, to a superblock.
    pub fn open_way(&mut self, way: Way, target: Target) {
        let half = self.make_way(target.rip);
        self.ways[half].open(way, target, &mut self.translator);
    }

    /// Leads the jump cache to a superblock once more; false when it has to be noted.
    pub fn open_again(&mut self, view: u8, rip: u64, entry: Entry) -> bool {
        self.ways[(rip >> 63) as usize].open_again(view, rip, entry, &mut self.translator)
    }

    /// The half of linear memory that an address is in, with room for one more way into it.
    fn make_way(&mut self, rip: u64) -> usize {
        let half = (rip >> 63) as usize;
        if self.ways[half].is_crowded() {
            self.forget_ways_to(half);
        }
        half
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
    pub fn arrive(&mut self, cpu: &CpuState, view: u8, interrupt_waits: bool) {
        let vectors = self.modes & VECTORS != 0 && !self.vectors_away;
        let x87 = self.modes & X87 != 0 && !self.x87_away;
        let to = self.translator.registers();
        to.gpr.copy_from_slice(&cpu.gpr[..16]);
        to.flags = packed(cpu.flags);
        (to.fs_base, to.gs_base) = (cpu.seg_base[FS], cpu.seg_base[GS]);
        to.kernel_gs_base = cpu.msr.kernel_gs_base;
        to.interrupt_flag = cpu.rflags & flags::IF;
        to.other_flags = cpu.rflags & !(flags::IF | flags::VM | flags::RF) | flags::FIXED;
        to.interrupt_waits = interrupt_waits.into();
        (to.crossed, to.crossed_ring) = (0, 0);
        for (to, segment) in to.selectors.iter_mut().zip(&cpu.segments) {
            *to = u64::from(segment.selector);
        }
        to.control = [cpu.cr0, 0, cpu.cr2, cpu.cr3, cpu.cr4];
        to.pkru = cpu.pkru.into();
        let system = [cpu.efer, cpu.cr0, cpu.cr4, cpu.msr.fmask, cpu.msr.star, cpu.msr.lstar];
        if system != self.system {
            self.system = system;
            arrive_system(to, cpu);
        }
        to.view = view.into();
        if x87 {
            to.set_x87(&cpu.fpu.frame.x87);
            self.x87_away = true;
        }
        if vectors {
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
        if from.fs_base != cpu.seg_base[FS] {
            cpu.segments[FS].base = from.fs_base;
            cpu.seg_base[FS] = from.fs_base;
        }
        if from.gs_base != cpu.seg_base[GS] || from.kernel_gs_base != cpu.msr.kernel_gs_base {
            cpu.msr.kernel_gs_base = from.kernel_gs_base;
            cpu.segments[GS].base = from.gs_base;
            cpu.seg_base[GS] = from.gs_base;
        }
    }

    /// Takes over RFLAGS, if code has changed more of it than the flags that always pass; whether it has
    /// run SYSCALL or SYSRET as well, and if so whether CPL 3 is where it is.
    #[inline(always)]
    pub fn crossed(&mut self, cpu: &mut CpuState) -> Option<Crossing> {
        let registers = self.translator.registers();
        if registers.crossed == 0 {
            return None;
        }
        registers.crossed = 0;
        let ring = std::mem::take(&mut registers.crossed_ring) != 0;
        cpu.rflags = registers.other_flags | registers.interrupt_flag;
        Some(Crossing { ring, user: registers.view == 0 })
    }

    /// Gives the XMM registers, MXCSR and x87 state back to the CPU's state.
    #[inline]
    pub fn bring_vectors_home(&mut self, cpu: &mut CpuState) {
        let (vectors, x87) = (self.vectors_away, self.x87_away);
        (self.vectors_away, self.x87_away) = (false, false);
        let from: &Registers = self.translator.registers();
        if let Some(changed) = from.x87(&cpu.fpu.frame.x87).filter(|_| x87) {
            cpu.fpu.frame.x87 = changed;
        }
        if vectors && from.vectors_changed != 0 {
            cpu.fpu.xmm = from.xmm;
            cpu.fpu.frame.x87.mxcsr = from.mxcsr;
        }
    }
}

/// Which of vectors and x87 translated code may use.
#[inline(always)]
fn usable(cpu: &CpuState) -> u8 {
    let x87 = &cpu.fpu.frame.x87;
    if cpu.cr0 & (cr0::EM | cr0::TS) != 0 {
        return 0;
    }
    let vectors = cpu.cr4 & cr4::OSFXSR != 0 && x87.mxcsr & MXCSR_MASKS == MXCSR_MASKS;
    let stack = x87.fcw & FCW_MASKS == FCW_MASKS && has_xsave();
    (if vectors { VECTORS } else { 0 }) | (if stack { X87 } else { 0 })
}

/// Whether the host has XSAVE and lets programs use it.
#[inline(always)]
fn has_xsave() -> bool {
    std::arch::is_x86_feature_detected!("xsave")
}

/// What translated code has done beside what every instruction may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// It has run SYSCALL or SYSRET.
    pub ring: bool,
    /// It is at CPL 3.
    pub user: bool,
}

/// What the instructions of the operating system need to know of [`Tier::system`].
#[cold]
fn arrive_system(to: &mut Registers, cpu: &CpuState) {
    let clears = flags::TF | flags::AC;
    let enabled = cpu.efer & efer::SCE != 0 && cpu.cr0 & cr0::PE != 0;
    to.fast_calls = (enabled && cpu.msr.fmask & clears == clears).into();
    to.call_target = cpu.msr.lstar;
    to.ring_selectors = ring_selectors(cpu.msr.star).map(|pair| pair.map(u64::from));
    to.call_mask = !cpu.msr.fmask;
    to.keys = (cpu.cr4 & cr4::PKE != 0).into();
    to.bases = (cpu.cr4 & cr4::FSGSBASE != 0).into();
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
