//! A vCPU: the run loop.
//!
//! ```text
//!          ┌────────────────────────────────────────────────┐
//!          ▼                                                │
//!   notes, time? ──► interrupt? ──► block at RIP ──► its ops ──► next RIP
//!        │ kick          │ deliver      │ fault         │ stop
//!        ▼               ▼              ▼               ▼
//!      return        (frame, RIP)   deliver         deliver, or the op once more with
//!                                                   stores to code allowed
//! ```
//!
//! Notes are looked for before each block; the clock every [`TIME_CHECK`] blocks. With RFLAGS.TF set or a
//! breakpoint enabled, blocks are one instruction long and are not kept.

use crate::blocks::{BlockCache, Key, Warm};
use crate::code::Shared;
use crate::debug;
use crate::halt::Halt;
use crate::mailbox::Drops;
use crate::memory::{SoftMemory, canonical, translate};
use crate::ram::{PAGE, Page};
use crate::tier::{HOT, ONCE_MORE, Tier};
use crate::traffic::Traffic;
use kezhan_hypervisor::{CpuIo, EngineError, Exit, MpState, Vcpu, VcpuState};
use kezhan_x86::block::{Block, LONGEST, LONGEST_INSTRUCTION, decode};
use kezhan_x86::core::Machine;
use kezhan_x86::fault::{Exception, vector};
use kezhan_x86::memory::{Intent, Memory};
use kezhan_x86::op::bits;
use kezhan_x86::paging::Privilege;
use kezhan_x86::state::{BLOCK, CS, CodeBits};
use kezhan_x86::{Core, CpuState, Op, Stop, flags};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

mod save;
mod translated;

/// Blocks between two looks at the clock.
const TIME_CHECK: u32 = 256;

/// How often another vCPU is waited for before the host may run somebody else.
const MOST_SPINS: u32 = 200;

type SoftCore<'r> = Core<'r, SoftMemory>;

/// The parts of a core while it is not at work.
#[derive(Debug)]
struct Parts {
    cpu: CpuState,
    mem: SoftMemory,
}

/// A vCPU of the software engine.
#[derive(Debug)]
pub struct SoftVcpu {
    parts: Option<Parts>,
    runner: Runner,
}

/// What the run loop keeps beside the core.
#[derive(Debug)]
struct Runner {
    shared: Arc<Shared>,
    index: usize,
    cache: BlockCache,
    tier: Option<Box<Tier>>,
    itlb: Box<[Fetch; 64]>,
    waiting_for_sipi: bool,
    /// NMIs that wait for delivery.
    nmis: u8,
    until_time_check: u32,
    halt: Halt,
}

/// A translation for instruction fetch.
#[derive(Clone, Copy, Debug, Default)]
struct Fetch {
    page: u64,
    tag: u64,
    physical: u64,
}

impl SoftVcpu {
    /// In the reset state; all but number 0 wait for SIPI.
    pub(crate) fn new(mem: SoftMemory, tier: Option<Tier>, cache: BlockCache) -> SoftVcpu {
        let (shared, index) = (mem.shared.clone(), mem.index as usize);
        let tier = tier.map(|mut tier| {
            shared.mailboxes[index].hang(tier.translator().area().bell());
            Box::new(tier)
        });
        mem.apic.publish(&shared.identities[index]);
        let runner = Runner {
            shared,
            index,
            cache,
            tier,
            itlb: Box::new([Fetch::default(); 64]),
            waiting_for_sipi: index != 0,
            nmis: 0,
            until_time_check: 0,
            halt: Halt::default(),
        };
        SoftVcpu { parts: Some(Parts { cpu: CpuState::default(), mem }), runner }
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self, io: &dyn CpuIo) -> Exit {
        let Some(Parts { cpu, mem }) = self.parts.take() else {
            return Exit::Failed("the vCPU was lost in an earlier failure".to_owned());
        };
        let mut core = Core { cpu, mem, io: Machine(io) };
        SoftMemory::permissions_changed(&mut core);
        self.runner.enter(&core.mem);
        let exit = self.runner.run(&mut core);
        self.runner.bring_vectors_home(&mut core);
        self.runner.mailbox().set_running(false);
        self.runner.publish_counters(&core.mem.traffic);
        self.parts = Some(Parts { cpu: core.cpu, mem: core.mem });
        exit
    }

    fn state(&self) -> Result<VcpuState, EngineError> {
        self.save()
    }

    fn set_state(&mut self, state: &VcpuState) -> Result<(), EngineError> {
        self.restore(state)
    }
}

impl Runner {
    fn mailbox(&self) -> &crate::mailbox::Mailbox {
        &self.shared.mailboxes[self.index]
    }

    /// From here on others wait for this vCPU's answers; it looks at its notes before anything else.
    fn enter(&mut self, mem: &SoftMemory) {
        self.mailbox().set_running(true);
        self.until_time_check = 0;
        if let Some(tier) = &mut self.tier {
            tier.bind(&mem.tlb);
        }
    }

    fn publish_counters(&mut self, traffic: &Traffic) {
        let Some(tier) = &mut self.tier else { return };
        tier.counters.traffic = traffic.clone();
        tier.counters.code_bytes = tier.translator().used() as u64;
        let mut all = self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.get_mut(self.index) {
            *place = tier.counters.clone();
        }
    }

    fn run(&mut self, core: &mut SoftCore<'_>) -> Exit {
        if let Some(exit) = self.attend(core) {
            return exit;
        }
        loop {
            self.until_time_check = self.until_time_check.wrapping_sub(1);
            let busy = self.until_time_check > TIME_CHECK;
            if self.mailbox().wants_attention() || busy || core.cpu.halted || self.waiting_for_sipi
            {
                if let Some(exit) = self.attend(core) {
                    return exit;
                }
                continue;
            }
            let waits = self.interrupt_waits(core);
            let result = if waits { self.interrupt(core) } else { self.step(core) };
            if let Err(stop) = result
                && let Err(stop) = self.handle(core, stop)
            {
                return self.give_up(core, stop);
            }
        }
    }

    /// Whether an interrupt may have to be delivered: quick, and sometimes wrongly true.
    #[inline(always)]
    fn interrupt_waits(&self, core: &SoftCore<'_>) -> bool {
        self.requested(core) && core.cpu.rflags & flags::IF != 0 || self.nmis != 0
    }

    /// Whether an interrupt waits for IF at most.
    #[inline(always)]
    fn requested(&self, core: &SoftCore<'_>) -> bool {
        core.mem.apic.requested() || self.mailbox().external()
    }

    /// Notes, time, sleep. `Some` when `run` is to return.
    #[cold]
    fn attend(&mut self, core: &mut SoftCore<'_>) -> Option<Exit> {
        loop {
            self.until_time_check = TIME_CHECK;
            if let Some(tier) = &mut self.tier {
                tier.counters.attended += 1;
            }
            if self.mailbox().wants_attention() && self.read_notes(core) {
                return Some(Exit::Kicked);
            }
            let now = core.mem.clock.now();
            core.mem.apic.tick(now);
            let asleep = self.waiting_for_sipi || core.cpu.halted && !self.wakes(core);
            if !asleep {
                core.cpu.halted = false;
                core.mem.tell_deadline();
                return None;
            }
            let deadline = core.mem.apic.deadline().filter(|_| !self.waiting_for_sipi);
            let time = deadline.map(|at| Duration::from_nanos(at.saturating_sub(now)));
            self.wait(core, time);
        }
    }

    /// Waits for a note, or for so long, as HLT does (Intel SDM vol. 3A §8.10.1). First the machine may use the thread,
    /// and often has a note then.
    fn wait(&mut self, core: &mut SoftCore<'_>, time: Option<Duration>) {
        let (start, traffic) = (Instant::now(), &mut core.mem.traffic);
        let shared = self.shared.clone();
        let mailbox = &shared.mailboxes[self.index];
        mailbox.set_running(false);
        let running = shared.mailboxes.iter().filter(|other| other.running()).count();
        core.io.idle(running == 0);
        let looked = mailbox.wants_attention() || {
            let left = time.map(|time| time.saturating_sub(start.elapsed()));
            self.halt.wait(mailbox, left, running)
        };
        mailbox.set_running(true);
        if looked {
            traffic.looked += 1
        } else {
            traffic.slept += 1
        }
        traffic.halted += start.elapsed();
    }

    /// Whether a halted CPU has something to wake up for.
    fn wakes(&self, core: &SoftCore<'_>) -> bool {
        let interrupt = core.mem.apic.next().is_some()
            || self.mailbox().external() && core.mem.apic.passes_external();
        self.nmis != 0 && !core.cpu.nmi_masked || interrupt && core.cpu.rflags & flags::IF != 0
    }

    /// Reads the notes; true when one says to return.
    fn read_notes(&mut self, core: &mut SoftCore<'_>) -> bool {
        let notes = self.mailbox().take();
        self.answer(core, &notes.drops);
        core.mem.traffic.stale += notes.stale.len() as u64;
        core.mem.traffic.received += notes.interrupts.len() as u64;
        for page in &notes.stale {
            self.cache.drop_page(*page);
            let mut translated = Vec::new();
            if let Some(tier) = &mut self.tier {
                tier.drop_page(*page, &mut translated);
            }
            for physical in translated {
                self.cache.note_worth(Key::new(physical, CodeBits::Bits64));
            }
        }
        if !notes.stale.is_empty() {
            core.mem.forget_fetches();
        }
        for (vector, level) in notes.interrupts {
            core.mem.apic.accept(vector, level);
        }
        // One can be in service while another waits (Intel SDM vol. 3A §6.7.1); one that is sent to a CPU
        // that is not in a handler counts as in service, whenever this thread comes to see it.
        let most = if core.cpu.nmi_masked { 1 } else { 2 };
        self.nmis = self.nmis.saturating_add(notes.nmis).min(most);
        if notes.init {
            self.init(core);
        }
        if let Some(vector) = notes.sipi.filter(|_| self.waiting_for_sipi) {
            self.start_up(core, vector);
        }
        notes.kick
    }

    /// INIT (Intel SDM vol. 3A §9.1): the bootstrap processor starts over, the others wait for SIPI.
    fn init(&mut self, core: &mut SoftCore<'_>) {
        self.bring_vectors_home(core);
        let fpu = core.cpu.fpu.clone();
        core.cpu = CpuState { fpu, ..CpuState::default() };
        core.mem.apic.init();
        core.mem.apic.publish(&self.shared.identities[self.index]);
        SoftMemory::flush(core, false);
        SoftMemory::permissions_changed(core);
        self.waiting_for_sipi = core.mem.apic.base() & crate::apic::spec::BASE_BOOTSTRAP == 0;
    }

    /// SIPI: real mode at vector × 4096 (Intel SDM vol. 3A §9.4).
    fn start_up(&mut self, core: &mut SoftCore<'_>, vector: u8) {
        let cs = &mut core.cpu.segments[CS];
        cs.selector = u16::from(vector) << 8;
        cs.base = u64::from(vector) << 12;
        core.cpu.rip = 0;
        core.cpu.derive();
        self.waiting_for_sipi = false;
    }

    /// Delivers the interrupt that comes first, if any may come now, and goes on. In the shadow of STI or
    /// MOV SS the one instruction that it protects is run first, by itself: the next may be CLI.
    #[cold]
    fn interrupt(&mut self, core: &mut SoftCore<'_>) -> Result<(), Stop> {
        if core.cpu.interrupt_shadow {
            return self.single_step(core);
        }
        if self.nmis != 0 && !core.cpu.nmi_masked {
            self.nmis -= 1;
            self.with_code_writes(core, |core| core.deliver_interrupt(2))?;
            core.cpu.nmi_masked = true;
            return Ok(());
        }
        if core.cpu.rflags & flags::IF == 0 {
            return self.step(core);
        }
        let vector = if self.mailbox().external() && core.mem.apic.passes_external() {
            core.io.acknowledge_interrupt()
        } else if let Some(vector) = core.mem.apic.next() {
            core.mem.apic.begin(vector);
            vector
        } else {
            return self.step(core);
        };
        self.with_code_writes(core, |core| core.deliver_interrupt(vector))
    }

    fn with_code_writes(
        &mut self,
        core: &mut SoftCore<'_>,
        act: impl FnOnce(&mut SoftCore<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        core.mem.code_writes_pass = true;
        let done = act(core);
        core.mem.code_writes_pass = false;
        done
    }

    /// What comes of a stop: an exception is delivered.
    #[cold]
    fn handle(&mut self, core: &mut SoftCore<'_>, stop: Stop) -> Result<(), Stop> {
        match stop {
            Stop::Exception => self.with_code_writes(core, |core| core.deliver_exception()),
            other => Err(other),
        }
    }

    #[cold]
    fn give_up(&mut self, core: &SoftCore<'_>, stop: Stop) -> Exit {
        match stop {
            Stop::Shutdown => Exit::Shutdown,
            other => Exit::Failed(format!("{other:?} at RIP {:#x}", core.cpu.rip)),
        }
    }

    /// One block.
    #[inline(always)]
    fn step(&mut self, core: &mut SoftCore<'_>) -> Result<(), Stop> {
        if core.wants_single_step() {
            return self.single_step(core);
        }
        core.cpu.interrupt_shadow = false;
        if let Some(tier) = &mut self.tier
            && tier.look_at_modes(&mut core.cpu)
        {
            core.mem.forget_fetches();
        }
        let linear = fetch_address(core)?;
        let tag = fetch_tag(core, linear);
        let Some(jump) = self.cache.jump(linear, tag) else {
            return match self.find_block(core, linear, tag)? {
                Some(alone) => self.interpret(core, &alone),
                // The jump cache has it now.
                None => Ok(()),
            };
        };
        if let Some(entry) = jump.entry {
            return self.run_translated(core, entry);
        }
        let Some(warm) = &jump.block else { return Ok(()) };
        if self.tier.is_some() && warm.warm_up() >= HOT {
            return self.hot(core, linear, tag);
        }
        if warm.vectors
            && let Some(tier) = &mut self.tier
        {
            tier.bring_vectors_home(&mut core.cpu);
        }
        execute(core, &warm.block)
    }

    /// Runs a block in the interpreter.
    fn interpret(&mut self, core: &mut SoftCore<'_>, warm: &Warm) -> Result<(), Stop> {
        if warm.vectors {
            self.bring_vectors_home(core);
        }
        execute(core, &warm.block)
    }

    /// XMM registers and MXCSR are the interpreter's from here on.
    fn bring_vectors_home(&mut self, core: &mut SoftCore<'_>) {
        if let Some(tier) = &mut self.tier {
            tier.bring_vectors_home(&mut core.cpu);
        }
    }

    /// Fills the jump cache, or gives a block of one instruction that lies over a page's end.
    #[cold]
    fn find_block(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        tag: u64,
    ) -> Result<Option<Arc<Warm>>, Stop> {
        if crosses(linear)
            && let Some(alone) = self.cache.single(linear, tag)
            && alone.reaches_beyond(PAGE - (linear & (PAGE - 1)))
        {
            let alone = alone.clone();
            return self.hot_across(core, linear, alone);
        }
        let physical = self.fetch(core, linear, tag)?;
        if let Some(entry) = self.superblock(core, linear, physical) {
            self.cache.remember_entry(linear, fetch_tag(core, linear), entry);
            return Ok(None);
        }
        let code_bits = core.cpu.code_bits;
        let key = Key::new(physical, code_bits);
        let block = match self.cache.find(key) {
            Some(block) => block,
            None => match self.decode_page(core, physical, code_bits, LONGEST)? {
                Some(block) => self.cache.insert(key, block, HOT - ONCE_MORE),
                None => {
                    let block = self.decode_across(core, linear, physical, tag)?;
                    let tag = fetch_tag(core, linear);
                    let alone = self.cache.remember_single(linear, tag, block);
                    return self.hot_across(core, linear, alone);
                }
            },
        };
        // Decoding may have moved the generation on.
        self.cache.remember(linear, fetch_tag(core, linear), block, None);
        Ok(None)
    }

    /// The physical address of an instruction.
    fn fetch(&mut self, core: &mut SoftCore<'_>, linear: u64, tag: u64) -> Result<u64, Stop> {
        let (page, offset) = (linear & !(PAGE - 1), linear & (PAGE - 1));
        let slot = (linear >> 12 & 63) as usize;
        let cached = self.itlb[slot];
        if cached.page == page && cached.tag == tag {
            return Ok(cached.physical | offset);
        }
        let user = core.cpu.cpl == 3;
        let privilege = if user { Privilege::User } else { Privilege::Supervisor };
        let found = translate(core, linear, Intent::Execute, privilege)?;
        let physical = found.physical;
        core.mem.tlb.note(linear, &found);
        core.mem.fetched.insert(page);
        self.itlb[slot] = Fetch { page, tag, physical: physical & !(PAGE - 1) };
        Ok(physical)
    }

    /// Decodes at a physical address, up to the page's end. `None` when not even one instruction fits.
    fn decode_page(
        &mut self,
        core: &mut SoftCore<'_>,
        physical: u64,
        code_bits: CodeBits,
        limit: usize,
    ) -> Result<Option<Block<SoftMemory>>, Stop> {
        let shared = self.shared.clone();
        let Some(page) = shared.ram.page(physical) else {
            return Err(core.raise_code(vector::GP, 0));
        };
        let offset = physical & (PAGE - 1);
        // The bits are set before the bytes are read; a block's length is known only after. So the most
        // that a block can span is marked.
        let span = (PAGE - offset).min((LONGEST_INSTRUCTION * LONGEST.min(limit)) as u64);
        self.mark(core, &page, physical, span);
        let mut bytes = [0; PAGE as usize];
        let bytes = &mut bytes[..span as usize];
        page.host.at(offset).copy_to(bytes);
        Ok(decode(bytes, code_bits, limit))
    }

    /// Marks bytes as decoded, before they are read.
    fn mark(&mut self, core: &mut SoftCore<'_>, page: &Page<'_>, physical: u64, span: u64) {
        let shared = self.shared.clone();
        let mut marking = shared.mark_code(core.mem.index, page, physical, span);
        if marking.is_first {
            core.mem.traffic.first_code += 1;
            if marking.has_entries {
                let own = Drops { pages: vec![physical], ..Drops::default() };
                core.mem.flush_writes(&own);
            } else {
                core.mem.flush_write_regions(page.host.at(0));
            }
        }
        if shared.is_settled(page, &mut marking) {
            return;
        }
        let (start, mut turns) = (Instant::now(), 0_u32);
        while !shared.is_settled(page, &mut marking) {
            // Two vCPUs that wait for each other go on.
            if let Some(drops) = self.mailbox().take_drops() {
                self.answer(core, &drops);
            }
            turns += 1;
            if turns > MOST_SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        core.mem.traffic.waited += start.elapsed();
    }

    /// Drops what others ask to be dropped.
    fn answer(&mut self, core: &mut SoftCore<'_>, drops: &Drops) {
        if drops.ticket != 0 {
            core.mem.traffic.dropped += 1;
            core.mem.flush_writes(drops);
            self.mailbox().acknowledge(drops.ticket);
        }
    }

    /// Decodes the one instruction that lies over the end of its page.
    fn decode_across(
        &mut self,
        core: &mut SoftCore<'_>,
        linear: u64,
        physical: u64,
        tag: u64,
    ) -> Result<Block<SoftMemory>, Stop> {
        let first = (PAGE - (linear & (PAGE - 1))) as usize;
        let mut bytes = [0; LONGEST_INSTRUCTION];
        let next = self.fetch(core, linear.wrapping_add(first as u64), tag)?;
        let first = first.min(LONGEST_INSTRUCTION);
        let shared = self.shared.clone();
        let spans = [(physical, first), (next, LONGEST_INSTRUCTION - first)];
        for (at, length) in spans {
            if let Some(page) = shared.ram.page(at) {
                self.mark(core, &page, at, length.max(1) as u64);
            }
        }
        for (part, at) in [(0..first, physical), (first..LONGEST_INSTRUCTION, next)] {
            match self.shared.ram.page(at) {
                Some(page) => page.host.at(at).copy_to(&mut bytes[part]),
                None => return Err(core.raise_code(vector::GP, 0)),
            }
        }
        match decode(&bytes, core.cpu.code_bits, 1) {
            Some(block) => Ok(block),
            None => Err(core.raise_code(vector::GP, 0)),
        }
    }

    /// One instruction, with breakpoints before and the trap flag after it (Intel SDM vol. 3B §17.3).
    #[cold]
    fn single_step(&mut self, core: &mut SoftCore<'_>) -> Result<(), Stop> {
        let linear = fetch_address(core)?;
        // A load of SS holds breakpoints off as well (Intel SDM vol. 3A §6.8.3).
        let after_ss = core.cpu.interrupt_shadow && core.cpu.trap_blocked;
        core.cpu.interrupt_shadow = false;
        if core.cpu.rflags & flags::RF == 0 && !after_ss {
            let hits = debug::instruction_hits(&core.cpu, linear);
            if hits != 0 {
                core.cpu.exception =
                    Exception { vector: vector::DB, debug: hits, ..Exception::default() };
                return Err(Stop::Exception);
            }
        }
        let tag = fetch_tag(core, linear);
        let physical = self.fetch(core, linear, tag)?;
        let code_bits = core.cpu.code_bits;
        let block = match self.decode_page(core, physical, code_bits, 1)? {
            Some(block) => block,
            None => self.decode_across(core, linear, physical, tag)?,
        };
        let before = debug::Before::of(core, &block);
        core.cpu.rflags &= !flags::RF;
        core.cpu.trap_blocked = false;
        self.bring_vectors_home(core);
        execute(core, &block)?;
        before.trap(core)
    }
}

/// Whether the longest instruction at an address would lie over its page's end.
fn crosses(linear: u64) -> bool {
    linear & (PAGE - 1) > PAGE - LONGEST_INSTRUCTION as u64
}

/// The linear address of the next instruction.
#[inline(always)]
fn fetch_address(core: &mut SoftCore<'_>) -> Result<u64, Stop> {
    if core.cpu.code_bits == CodeBits::Bits64 {
        return Ok(core.cpu.rip);
    }
    if core.cpu.rip > u64::from(core.cpu.segments[CS].limit) {
        return Err(core.raise_code(vector::GP, 0));
    }
    Ok(core.cpu.rip.wrapping_add(core.cpu.segments[CS].base) & 0xffff_ffff)
}

/// What a linear address' block depends on: generation, view, width.
#[inline(always)]
fn fetch_tag(core: &SoftCore<'_>, linear: u64) -> u64 {
    let view = u64::from(core.mem.view.number());
    core.mem.generation[(linear >> 63) as usize] << 4 | view << 2 | core.cpu.code_bits as u64
}

/// Runs a block from its start.
#[inline(always)]
fn execute(core: &mut SoftCore<'_>, block: &Block<SoftMemory>) -> Result<(), Stop> {
    core.cpu.gpr[BLOCK] = core.cpu.rip;
    for op in &block.ops {
        if let Err(stop) = (op.run)(core, op) {
            return stopped(core, block, op, stop);
        }
    }
    Ok(())
}

/// An op has stopped: RIP becomes its own; a store to code is done by itself, and leaves the block.
#[cold]
fn stopped(
    core: &mut SoftCore<'_>,
    block: &Block<SoftMemory>,
    op: &Op<SoftMemory>,
    stop: Stop,
) -> Result<(), Stop> {
    let here = core.cpu.gpr[BLOCK].wrapping_add(u64::from(op.offset)) & core.cpu.rip_mask;
    if stop != Stop::CodeWrite {
        return Err(refine(core, op, here, stop));
    }
    core.mem.code_writes_pass = true;
    let done = (op.run)(core, op);
    core.mem.code_writes_pass = false;
    match done {
        Ok(()) => {
            let last = block.ops.last().is_some_and(|last| last.offset == op.offset);
            if !last {
                core.advance(op);
            }
            Ok(())
        }
        Err(stop) => Err(refine(core, op, here, stop)),
    }
}

fn refine(core: &mut SoftCore<'_>, op: &Op<SoftMemory>, here: u64, stop: Stop) -> Stop {
    let exception = &mut core.cpu.exception;
    if stop == Stop::Exception && !exception.trap {
        core.cpu.rip = here;
    }
    let exception = &mut core.cpu.exception;
    let not_canonical = exception.vector == vector::GP && !canonical(exception.address);
    if not_canonical && op.bits & bits::STACK != 0 {
        exception.vector = vector::SS;
    }
    stop
}

/// How a vCPU that is not running is described.
fn mp_state(core_halted: bool, waiting: bool) -> MpState {
    match (waiting, core_halted) {
        (true, _) => MpState::WaitForSipi,
        (_, true) => MpState::Halted,
        _ => MpState::Running,
    }
}
