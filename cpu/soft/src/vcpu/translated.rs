//! Running translated code, and making more of it.
//!
//! Here is what happens outside of it: looking up superblocks, translating blocks that have become hot, and what
//! is to be done each time that code leaves ([`crate::tier`] has the picture).

use super::{Runner, SoftCore, execute, fetch_tag};
use crate::blocks::Warm;
use crate::memory::{self, SoftMemory, canonical};
use crate::ram::{PAGE, Page};
use crate::tier::{AGAIN, HOT, Name, VECTORS, X87};
use crate::ways::{Tables, Target, Way};
use iced_x86::{Instruction, InstructionInfoFactory};
use kezhan_jit::translate::{
    Access, CodePage, Entry, Kind, LONGEST, Operand, PEEK, Record, Request, Rule, Step, Translator,
};
use kezhan_x86::Stop;
use kezhan_x86::block::LONGEST_INSTRUCTION;
use kezhan_x86::fault::vector;
use kezhan_x86::interp::fast_call::{load_call_segments, load_return_segments};
use kezhan_x86::lower::decoder_at;
use kezhan_x86::memory::{Memory, Platform};
use kezhan_x86::paging::Paging;
use kezhan_x86::state::{CodeBits, RAX, RCX, RDX, RSP, cr4};
use kezhan_x86::table::rule::{Conditions, rule};
use std::sync::Arc;

/// What follows when code has left.
enum Next {
    /// Back into translated code.
    Enter(Entry),
    /// The run loop goes on at a RIP.
    Loop(u64),
    /// The interpreter runs the one instruction at a RIP.
    Interpret(u64),
    /// It runs so many from there on, which do not branch but for the last.
    InterpretRow(u64, u32),
    /// The accesses that were checked together from a RIP on are checked apart.
    Apart(u64, Access),
    /// The page fault that lies in the state is that of the instruction at a RIP.
    Fault(u64),
}

impl Runner {
    /// The superblock at a linear and a physical address.
    pub(super) fn superblock(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        physical: u64,
    ) -> Option<Entry> {
        let tier = self.tier.as_ref()?;
        if !is_translatable(core) {
            return None;
        }
        let name = Name::new(linear, physical, core.mem.view.number(), tier.modes());
        let entry = tier.find(name)?;
        let Some(second) = tier.second_page(name) else { return Some(entry) };
        // The rest of the instruction has to be where it was.
        let next = (linear | (PAGE - 1)).wrapping_add(1);
        let rest = self.fetch(core, next, fetch_tag(core, next)).ok()?;
        (rest / PAGE == second).then_some(entry)
    }

    /// The instruction at `linear`, which may lie over its page's end, by itself: a superblock when it is hot.
    #[cold]
    pub(super) fn hot_across(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        alone: Arc<Warm>,
    ) -> Result<Option<Arc<Warm>>, Stop> {
        let physical = self.fetch(core, linear, fetch_tag(core, linear))?;
        let hot = self.tier.is_some()
            && is_translatable(core)
            && !alone.is_refused()
            && self.cache.warm_up_across(physical) >= HOT;
        if !hot {
            return Ok(Some(alone));
        }
        let Some(entry) = self.translate_across(core, linear)? else {
            alone.refuse();
            return Ok(Some(alone));
        };
        self.cache.remember_entry(linear, fetch_tag(core, linear), entry);
        self.run_translated(core, entry)?;
        Ok(None)
    }

    /// Makes a superblock of an instruction that lies over its page's end.
    fn translate_across(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
    ) -> Result<Option<Entry>, Stop> {
        let physical = self.fetch(core, linear, fetch_tag(core, linear))?;
        let next = (linear | (PAGE - 1)).wrapping_add(1);
        let rest = self.fetch(core, next, fetch_tag(core, next))?;
        self.make_room(core);
        let Some(modes) = self.tier.as_ref().map(|tier| tier.modes()) else { return Ok(None) };
        let shared = self.shared.clone();
        let (Some(first), Some(second)) = (shared.ram.page(physical), shared.ram.page(rest)) else {
            return Ok(None);
        };
        self.mark(core, &first, physical, PAGE - (physical & (PAGE - 1)));
        self.mark(core, &second, rest, LONGEST_INSTRUCTION as u64);
        let mut bytes = [0; 2 * PAGE as usize];
        let (low, high) = bytes.split_at_mut(PAGE as usize);
        first.host.at(0).copy_to(low);
        second.host.at(0).copy_to(high);
        let steps = steps(&bytes, linear, conditions(core, modes), 1);
        let crosses = steps.first().is_some_and(|step| (step.next() - 1) & !(PAGE - 1) == next);
        let view = core.mem.view.number();
        let page = CodePage { start: linear & !(PAGE - 1), bytes: &bytes, watched: &[] };
        let name = Name::new(linear, physical, view, modes);
        let request = Request { steps: &steps, page, view, apart: false };
        let Some(tier) = self.tier.as_mut().filter(|_| crosses) else { return Ok(None) };
        Ok(tier.translate_across(name, rest / PAGE, request))
    }

    /// Drops all translated code when there is no room for more.
    fn make_room(&mut self, core: &mut SoftCore<'_>) {
        if let Some(tier) = self.tier.as_mut().filter(|tier| tier.is_full()) {
            self.cache.clear();
            tier.clear();
            core.mem.forget_fetches();
        }
    }

    /// The block at a linear address has run often enough, or was refused before.
    #[cold]
    pub(super) fn hot(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        tag: u64,
    ) -> Result<(), Stop> {
        let Some(warm) = self.cache.jump(linear, tag).and_then(|jump| jump.block.clone()) else {
            return Ok(());
        };
        if !is_translatable(core) {
            warm.cool_down(0);
            return self.interpret(core, &warm);
        }
        if warm.is_refused() {
            return self.interpret_one(core, linear);
        }
        let physical = self.fetch(core, linear, tag)?;
        match self.translate(core, (linear, physical), false) {
            Some(entry) => {
                // At another address, or for another view, it is to become hot once more.
                warm.cool_down(HOT - AGAIN);
                self.cache.remember(linear, fetch_tag(core, linear), warm, Some(entry));
                self.run_translated(core, entry)
            }
            None => {
                warm.refuse();
                self.interpret_one(core, linear)
            }
        }
    }

    /// Makes a superblock; `apart`: each access is checked by itself, and only another superblock leads there.
    fn translate(
        &mut self,
        core: &mut SoftCore<'_>,
        (linear, physical): (u64, u64),
        apart: bool,
    ) -> Option<Entry> {
        self.make_room(core);
        let modes = self.tier.as_ref()?.modes();
        let now = conditions(core, modes);
        let shared = self.shared.clone();
        let page = shared.ram.page(physical)?;
        let offset = physical & (PAGE - 1);
        let span = (PAGE - offset).min((15 * LONGEST) as u64);
        self.mark(core, &page, physical, span);
        let mut bytes = [0; PAGE as usize];
        read(&page, &mut bytes, offset, span);
        let start = linear & !(PAGE - 1);
        let steps = steps(&bytes[..(offset + span) as usize], linear, now, LONGEST);
        // What branches lead to is looked at as well, so it is watched before it is read.
        let mut watched = Vec::new();
        for target in steps.iter().filter_map(Step::target) {
            if target & !(PAGE - 1) == start {
                let at = target & (PAGE - 1);
                let length = (PEEK as u64).min(PAGE - at);
                self.mark(core, &page, physical & !(PAGE - 1) | at, length);
                read(&page, &mut bytes, at, length);
                watched.push(target);
            }
        }
        let view = core.mem.view.number();
        let page = CodePage { start, bytes: &bytes, watched: &watched };
        let name = Name::new(linear, physical, view, modes);
        let request = Request { steps: &steps, page, view, apart };
        let tier = self.tier.as_mut()?;
        if apart { tier.translate_apart(name, request) } else { tier.translate(name, request) }
    }

    /// A superblock from an access on in which each is checked by itself, and the way to it: only what an instruction itself
    /// reaches may raise its exceptions (Intel SDM vol. 3A §6.5).
    #[cold]
    fn apart(&mut self, core: &mut SoftCore<'_>, rip: u64, access: &Access) -> Option<Entry> {
        let physical = self.fetch(core, rip, fetch_tag(core, rip)).ok()?;
        let clears = self.tier.as_ref()?.counters.clears;
        let entry = self.translate(core, (rip, physical), true)?;
        let tier = self.tier.as_mut()?;
        if let Some(hole) = access.hole.filter(|_| tier.counters.clears == clears) {
            tier.translator().link(hole, access.parked, entry);
        }
        Some(entry)
    }

    /// Runs a superblock, and what follows it, until something else is to be done.
    pub(super) fn run_translated(
        &mut self,
        core: &mut SoftCore<'_>,
        first: Entry,
    ) -> Result<(), Stop> {
        self.arrive(core);
        let mut entry = first;
        loop {
            let Some(tier) = &mut self.tier else { return Ok(()) };
            let record = tier.run(entry);
            let next = self.after(core, &record);
            match next {
                Next::Enter(next) => entry = next,
                Next::Loop(rip) => {
                    self.leave(core, rip);
                    return Ok(());
                }
                Next::Apart(rip, access) => {
                    self.leave(core, rip);
                    match self.apart(core, rip, &access) {
                        Some(next) => entry = next,
                        None => return self.interpret_one(core, rip),
                    }
                    self.arrive(core);
                }
                Next::Interpret(_) | Next::InterpretRow(..) | Next::Fault(_) => {
                    self.step_outside(core, &next)?;
                    match self.entry_at_rip(core) {
                        Some(next) => entry = next,
                        None => return Ok(()),
                    }
                    self.arrive(core);
                }
            }
        }
    }

    /// Does in the interpreter what code has left for.
    #[inline(always)]
    fn step_outside(&mut self, core: &mut SoftCore<'_>, next: &Next) -> Result<(), Stop> {
        match *next {
            Next::Interpret(rip) => {
                self.leave(core, rip);
                self.interpret_one(core, rip)
            }
            Next::InterpretRow(rip, steps) => {
                self.leave(core, rip);
                for _ in 0..steps {
                    let rip = core.cpu.rip;
                    self.interpret_one(core, rip)?;
                    // What is next may have been written to just now.
                    if self.mailbox().wants_attention() {
                        break;
                    }
                }
                Ok(())
            }
            Next::Fault(rip) => {
                self.leave(core, rip);
                self.handle(core, Stop::Exception)
            }
            Next::Enter(_) | Next::Loop(_) | Next::Apart(..) => Ok(()),
        }
    }

    /// Follows the TLB, and gives the registers to translated code.
    #[inline(always)]
    fn arrive(&mut self, core: &mut SoftCore<'_>) {
        let waits = self.requested(core);
        let Some(tier) = &mut self.tier else { return };
        if let Some(forgotten) = core.mem.tlb.take_forgotten() {
            let tables = Tables::new(Paging::of(&core.cpu), &core.mem.shared);
            tier.forget(&forgotten, &tables);
        }
        tier.arrive(&core.cpu, core.mem.view.number(), waits);
        tier.counters.entries += 1;
    }

    /// The superblock at RIP, if the run loop has nothing to do but enter it.
    #[inline(always)]
    fn entry_at_rip(&mut self, core: &mut SoftCore<'_>) -> Option<Entry> {
        let busy = self.mailbox().wants_attention()
            || core.cpu.halted
            || self.interrupt_waits(core)
            || core.wants_single_step()
            || core.cpu.code_bits != CodeBits::Bits64;
        if busy {
            return None;
        }
        core.cpu.interrupt_shadow = false;
        if self.tier.as_mut()?.look_at_modes(&mut core.cpu) {
            core.mem.forget_fetches();
            return None;
        }
        let rip = core.cpu.rip;
        self.cache.jump(rip, fetch_tag(core, rip))?.entry
    }

    fn leave(&mut self, core: &mut SoftCore<'_>, rip: u64) {
        if let Some(tier) = &mut self.tier {
            tier.leave(&mut core.cpu, rip);
        }
    }

    /// Code has left: why, and what now?
    #[inline(always)]
    fn after(&mut self, core: &mut SoftCore<'_>, record: &Record) -> Next {
        if let Some(crossing) = self.tier.as_mut().and_then(|tier| tier.crossed(&mut core.cpu)) {
            match (crossing.ring, crossing.user) {
                (true, true) => load_return_segments(core, true),
                (true, false) => load_call_segments(core),
                (false, _) => SoftMemory::permissions_changed(core),
            }
        }
        match record.kind {
            Kind::Access(access) => self.serve(core, record, &access),
            Kind::Link { .. } | Kind::Slot { .. } => self.follow(core, record),
            Kind::Indirect { moved } => self.follow_indirect(core, record, moved),
            Kind::Interpret => {
                if let Some(tier) = &mut self.tier {
                    tier.counters.interpreted += 1;
                }
                Next::Interpret(record.rip)
            }
            Kind::TimeStamp { auxiliary, .. } => self.time_stamp(core, record, auxiliary),
            Kind::Leave => {
                self.mailbox().silence();
                if let Some(tier) = &mut self.tier {
                    tier.counters.bells += 1;
                }
                Next::Loop(record.rip)
            }
        }
    }

    /// RDTSC or RDTSCP.
    fn time_stamp(&mut self, core: &mut SoftCore<'_>, record: &Record, auxiliary: bool) -> Next {
        let interpret = Next::Interpret(record.rip);
        if core.cpu.cr4 & cr4::TSD != 0 && core.cpu.cpl != 0 {
            return interpret;
        }
        let now = SoftMemory::time_stamp(core);
        let Some(tier) = &mut self.tier else { return interpret };
        let gpr = &mut tier.translator().registers().gpr;
        (gpr[RAX], gpr[RDX]) = (now & 0xffff_ffff, now >> 32);
        if auxiliary {
            gpr[RCX] = core.cpu.msr.tsc_aux & 0xffff_ffff;
        }
        tier.translator().behind(record).map_or(interpret, Next::Enter)
    }

    /// An access is outside of its site's region.
    fn serve(&mut self, core: &mut SoftCore<'_>, record: &Record, access: &Access) -> Next {
        let interpret = Next::Interpret(record.rip);
        let Some(tier) = &mut self.tier else { return interpret };
        tier.counters.accesses += 1;
        let operand = &access.operand;
        let registers = tier.translator().registers();
        let linear = operand.linear(&registers.gpr, registers.fs_base, registers.gs_base);
        let region = match memory::reach(core, linear, u64::from(operand.size), operand.write) {
            Ok(region) => region,
            Err(Stop::Exception) if access.faults && is_page_fault(core, operand, linear) => {
                return Next::Fault(record.rip);
            }
            Err(_) => return interpret,
        };
        match region.and_then(|region| tier.fill(access, linear, region)) {
            Some(entry) => Next::Enter(entry),
            None if access.hole.is_some() => Next::Apart(record.rip, *access),
            None => Next::InterpretRow(record.rip, access.steps),
        }
    }

    /// A branch to a constant address has no link.
    fn follow(&mut self, core: &mut SoftCore<'_>, record: &Record) -> Next {
        let rip = record.rip;
        let found = self.look_up(core, rip);
        let busy = self.mailbox().wants_attention();
        let Some(tier) = &mut self.tier else { return Next::Loop(rip) };
        tier.counters.branches += 1;
        let Some(entry) = found else { return self.unfound(core, rip) };
        match record.kind {
            Kind::Link { hole, parked } => tier.translator().link(hole, parked, entry),
            Kind::Slot { slot } => self.open_way(core, Way::Slot(slot), rip, entry),
            _ => {}
        }
        if busy { Next::Loop(rip) } else { Next::Enter(entry) }
    }

    /// There is no superblock at `rip`: the interpreter's instruction, or not hot yet.
    fn unfound(&self, core: &SoftCore<'_>, rip: u64) -> Next {
        let jump = self.cache.jump(rip, fetch_tag(core, rip));
        let refused = jump.and_then(|jump| jump.block.as_ref()).is_some_and(|it| it.is_refused());
        if refused { Next::Interpret(rip) } else { Next::Loop(rip) }
    }

    /// An indirect branch goes where the jump cache does not know, or the bell rings.
    fn follow_indirect(&mut self, core: &mut SoftCore<'_>, record: &Record, moved: i32) -> Next {
        let Some(tier) = &mut self.tier else { return Next::Loop(record.rip) };
        tier.counters.indirect += 1;
        let registers = tier.translator().registers();
        let rip = registers.rip;
        if !canonical(rip) {
            // The instruction faults as a whole.
            registers.gpr[RSP] = registers.gpr[RSP].wrapping_sub(moved as i64 as u64);
            return Next::Interpret(record.rip);
        }
        self.mailbox().silence();
        let found = self.look_up(core, rip);
        let busy = self.mailbox().wants_attention();
        let Some(entry) = found else { return self.unfound(core, rip) };
        let view = core.mem.view.number();
        if !self.tier.as_mut().is_some_and(|tier| tier.open_again(view, rip, entry)) {
            self.open_way(core, Way::Jump, rip, entry);
        }
        if busy { Next::Loop(rip) } else { Next::Enter(entry) }
    }

    /// Leads a way to the superblock at a linear address.
    fn open_way(&mut self, core: &mut SoftCore<'_>, way: Way, rip: u64, entry: Entry) {
        let physical = self.fetch(core, rip, fetch_tag(core, rip));
        if let (Ok(physical), Some(tier)) = (physical, &mut self.tier) {
            let view = core.mem.view.number();
            tier.open_way(way, Target { view, rip, physical: physical / PAGE, entry });
        }
    }

    /// The superblock at a linear address, if there is one. That the fetch might fault is found later.
    fn look_up(&mut self, core: &mut SoftCore<'_>, rip: u64) -> Option<Entry> {
        let tag = fetch_tag(core, rip);
        if let Some(jump) = self.cache.jump(rip, tag) {
            return jump.entry;
        }
        let physical = self.fetch(core, rip, tag).ok()?;
        self.superblock(core, rip, physical)
    }

    /// Runs one instruction in the interpreter.
    pub(super) fn interpret_one(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
    ) -> Result<(), Stop> {
        let tag = fetch_tag(core, linear);
        let found;
        let warm = match self.cache.single(linear, tag) {
            Some(warm) => warm,
            None => {
                found = self.find_single(core, linear, tag)?;
                &found
            }
        };
        if let (Some(tier), Some(op)) = (&mut self.tier, warm.block.ops.first()) {
            tier.counters.count_code(op.code);
            if warm.vectors {
                tier.bring_vectors_home(&mut core.cpu);
            }
        }
        execute(core, &warm.block)
    }

    #[cold]
    fn find_single(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        tag: u64,
    ) -> Result<Arc<Warm>, Stop> {
        let physical = self.fetch(core, linear, tag)?;
        let block = match self.decode_page(core, physical, core.cpu.code_bits, 1)? {
            Some(block) => block,
            None => self.decode_across(core, linear, physical, tag)?,
        };
        // Decoding may have moved the generation on.
        Ok(self.cache.remember_single(linear, fetch_tag(core, linear), block))
    }
}

/// Whether the exception in the state is a page fault, and what else the access to `linear` may raise comes after it: an
/// address that is not aligned comes before (Intel SDM vol. 3A §6.9).
fn is_page_fault(core: &SoftCore<'_>, operand: &Operand, linear: u64) -> bool {
    core.cpu.exception.vector == vector::PF && linear & u64::from(operand.alignment - 1) == 0
}

/// Whether the code that runs is the translator's at all. Rings 1 and 2 share a view with ring 0, but not its
/// instructions.
fn is_translatable(core: &SoftCore<'_>) -> bool {
    core.cpu.code_bits == CodeBits::Bits64 && !matches!(core.cpu.cpl, 1 | 2)
}

/// Reads bytes of a page that have been marked to where they lie in it.
fn read(page: &Page<'_>, bytes: &mut [u8], at: u64, length: u64) {
    if let Some(bytes) = bytes.get_mut(at as usize..(at + length) as usize) {
        page.host.at(at).copy_to(bytes);
    }
}

fn conditions(core: &SoftCore<'_>, modes: u8) -> Conditions {
    Conditions {
        vectors: modes & VECTORS != 0,
        x87: modes & X87 != 0,
        supervisor: core.cpu.cpl == 0,
        guarded: core.cpu.cr4 & cr4::SMAP != 0,
    }
}

/// The instructions of a superblock that starts at `linear`, in the pages that these are the bytes of.
fn steps(page: &[u8], linear: u64, now: Conditions, most: usize) -> Vec<Step> {
    let bytes = &page[(linear & (PAGE - 1)) as usize..];
    let mut decoder = decoder_at::<SoftMemory>(CodeBits::Bits64, bytes, linear);
    let mut factory = InstructionInfoFactory::new();
    let mut instruction = Instruction::default();
    let mut steps = Vec::with_capacity(LONGEST);
    while steps.len() < most && decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
            break;
        }
        let step = Step::new(&instruction, rule(&instruction, now), &mut factory);
        steps.push(step);
        if step.ends() {
            break;
        }
    }
    steps.truncate(Translator::fitting(&steps));
    debug_assert!(steps.iter().rev().skip(1).all(|step| step.rule != Rule::Interpret));
    steps
}
