//! Two processors at once: order of memory, locked instructions, code and page tables that another one changes
//! (Intel SDM vol. 3A §8.1 to §8.3, §4.10.5), interrupts between them.
//!
//! Loops are long enough for both to be in the faster tier of an engine. What must hold, holds however
//! the host schedules them; how often the interesting order comes up depends on the host.

use crate::Case;
use crate::kit::*;
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use kezhan_hypervisor::{Hypervisor, flat};
use vm_memory::{Bytes, GuestAddress};

type Check = fn(&dyn Hypervisor);

pub fn cases() -> Vec<Case> {
    const SLOW: &str = "needs two processors that run side by side";
    let all: [(_, Check); 7] = [
        ("locked_instructions_lose_nothing", count),
        ("a_lock_of_exchange_keeps_the_other_out", exclude),
        ("a_message_is_there_when_its_flag_is", pass_messages),
        ("fenced_stores_are_seen_by_one_at_least", buffer_stores),
        ("code_that_the_other_has_rewritten_runs_anew", cross_modify),
        ("a_mapping_taken_away_everywhere_is_used_no_more", shoot_down),
        ("a_processor_that_halts_wakes_up_for_every_interrupt", ping_pong),
    ];
    all.into_iter().map(|(name, run)| Case::new(name, run).on_hardware(SLOW)).collect()
}

/// Where the other processor begins.
const OTHER: u64 = 0x3_0000;
/// What both of them have to do.
const ROUNDS: i32 = 20_000;
/// Places among the results, a cache line each.
const WRONG: u64 = DATA;
const FLAG: u64 = DATA + 0x840;
const ANSWER: u64 = DATA + 0x880;
const X: u64 = DATA + 0x8c0;
const Y: u64 = DATA + 0x900;
const FINISHED: u64 = DATA + 0x940;
/// The other processor takes interrupts.
const READY: u64 = DATA + 0x980;

type Part = fn(&mut CodeAssembler) -> Code;

/// A guest of two, each with its part; it is done when both are.
fn both(engine: &dyn Hypervisor, first: Part, other: Part) -> Guest {
    let mut guest = Guest::with_cpus(engine, 2, |a| {
        first(a)?;
        a.mov(ecx, 1)?;
        wait_for_rcx(a, FINISHED)
    });
    guest.start_others_at(OTHER);
    guest.put_code(OTHER, |a| {
        other(a)?;
        a.mov(qword_ptr(FINISHED), 1)?;
        let mut forever = a.create_label();
        a.set_label(&mut forever)?;
        a.hlt()?;
        a.jmp(forever)
    });
    guest
}

/// Spins until the value at an address is RCX, or above.
fn wait_for_rcx(a: &mut CodeAssembler, address: u64) -> Code {
    let mut again = a.create_label();
    let mut over = a.create_label();
    a.set_label(&mut again)?;
    a.cmp(qword_ptr(address), rcx)?;
    a.jae(over)?;
    a.pause()?;
    a.jmp(again)?;
    a.set_label(&mut over)?;
    a.nop()
}

/// The first processor's start: it waits for the other, which would miss interrupts.
fn enable_apics(a: &mut CodeAssembler) -> Code {
    enable_apic(a)?;
    a.mov(ecx, 1)?;
    wait_for_rcx(a, READY)
}

/// The other processor's start.
fn enable_own_apic(a: &mut CodeAssembler) -> Code {
    enable_apic(a)?;
    a.mov(qword_ptr(READY), 1)
}

/// What follows runs for RCX from 1 on, until [`end`].
fn begin(a: &mut CodeAssembler) -> Result<CodeLabel, IcedError> {
    a.xor(ecx, ecx)?;
    let mut again = a.create_label();
    a.set_label(&mut again)?;
    a.inc(rcx)?;
    Ok(again)
}

fn end(a: &mut CodeAssembler, again: CodeLabel, rounds: i32) -> Code {
    a.cmp(rcx, rounds)?;
    a.jb(again)
}

/// Counts a mistake unless the flags say "equal".
fn wrong_unless_equal(a: &mut CodeAssembler) -> Code {
    let mut right = a.create_label();
    a.je(right)?;
    a.lock().inc(qword_ptr(WRONG))?;
    a.set_label(&mut right)?;
    a.nop()
}

const ACROSS: u64 = FREE + 0x1000 - 3;

/// Locked additions of several kinds; the last, now and then, goes over the border of two pages.
fn add_locked(a: &mut CodeAssembler) -> Code {
    let again = begin(a)?;
    a.lock().inc(qword_ptr(DATA))?;
    a.lock().add(dword_ptr(DATA + 8), 1)?;
    a.mov(eax, 1)?;
    a.lock().xadd(word_ptr(DATA + 16), ax)?;
    let mut lost = a.create_label();
    a.set_label(&mut lost)?;
    a.mov(rax, qword_ptr(DATA + 24))?;
    a.lea(rdx, rax + 1)?;
    a.lock().cmpxchg(qword_ptr(DATA + 24), rdx)?;
    a.jne(lost)?;
    let mut seldom = a.create_label();
    a.test(ecx, 15)?;
    a.jne(seldom)?;
    a.lock().add(qword_ptr(ACROSS), 1)?;
    a.set_label(&mut seldom)?;
    end(a, again, ROUNDS)
}

fn count(engine: &dyn Hypervisor) {
    let guest = both(engine, add_locked, add_locked);
    guest.run();
    let all = 2 * ROUNDS as u64;
    assert_eq!([0, 1, 3].map(|n| guest.result(n)), [all; 3]);
    assert_eq!(guest.result(2), all & 0xffff);
    assert_eq!(guest.read::<u64>(ACROSS), all / 16);
}

/// Additions without LOCK, under a lock of XCHG that a plain store opens.
fn add_exclusively(a: &mut CodeAssembler) -> Code {
    let again = begin(a)?;
    let mut closed = a.create_label();
    let mut open = a.create_label();
    a.set_label(&mut closed)?;
    a.mov(eax, 1)?;
    a.xchg(dword_ptr(FLAG), eax)?;
    a.test(eax, eax)?;
    a.je(open)?;
    a.pause()?;
    a.jmp(closed)?;
    a.set_label(&mut open)?;
    a.inc(qword_ptr(DATA))?;
    a.add(qword_ptr(DATA + 64), 3)?;
    a.mov(dword_ptr(FLAG), 0)?;
    end(a, again, ROUNDS)
}

fn exclude(engine: &dyn Hypervisor) {
    let guest = both(engine, add_exclusively, add_exclusively);
    guest.run();
    assert_eq!((guest.result(0), guest.result(8)), (2 * ROUNDS as u64, 6 * ROUNDS as u64));
}

fn send_messages(a: &mut CodeAssembler) -> Code {
    let again = begin(a)?;
    a.mov(qword_ptr(X), rcx)?;
    a.mov(qword_ptr(FLAG), rcx)?;
    end(a, again, ROUNDS)
}

fn take_messages(a: &mut CodeAssembler) -> Code {
    let mut again = a.create_label();
    let mut right = a.create_label();
    a.set_label(&mut again)?;
    a.mov(rax, qword_ptr(FLAG))?;
    a.mov(rdx, qword_ptr(X))?;
    a.cmp(rdx, rax)?;
    a.jae(right)?;
    a.lock().inc(qword_ptr(WRONG))?;
    a.set_label(&mut right)?;
    a.cmp(rax, ROUNDS)?;
    a.jb(again)
}

fn pass_messages(engine: &dyn Hypervisor) {
    let guest = both(engine, send_messages, take_messages);
    guest.run();
    assert_eq!(guest.result(0), 0);
}

/// What one of two stores to, where it keeps what it saw of the other's, and how far it has come.
#[derive(Clone, Copy)]
struct Side {
    place: u64,
    seen: u64,
    steps: u64,
}

const SIDES: [Side; 2] = [
    Side { place: X, seen: DATA + 0x100, steps: DATA + 0xa00 },
    Side { place: Y, seen: DATA + 0x180, steps: DATA + 0xb00 },
];

/// Waits until both have come to step `step` of this round.
fn meet(a: &mut CodeAssembler, [mine, theirs]: [Side; 2], step: u64) -> Code {
    a.mov(qword_ptr(mine.steps + 8 * step), rcx)?;
    wait_for_rcx(a, theirs.steps + 8 * step)
}

/// Stores, looks at what the other stores behind a fence, and compares.
fn store_and_look(a: &mut CodeAssembler, sides: [Side; 2]) -> Code {
    let [mine, theirs] = sides;
    let again = begin(a)?;
    meet(a, sides, 0)?;
    a.mov(qword_ptr(mine.place), rcx)?;
    a.mfence()?;
    a.mov(rax, qword_ptr(theirs.place))?;
    a.mov(qword_ptr(mine.seen), rax)?;
    meet(a, sides, 1)?;
    let mut seen = a.create_label();
    for side in sides {
        a.cmp(qword_ptr(side.seen), rcx)?;
        a.je(seen)?;
    }
    a.lock().inc(qword_ptr(WRONG))?;
    a.set_label(&mut seen)?;
    meet(a, sides, 2)?;
    end(a, again, ROUNDS / 4)
}

fn store_and_look_here(a: &mut CodeAssembler) -> Code {
    store_and_look(a, SIDES)
}

fn store_and_look_there(a: &mut CodeAssembler) -> Code {
    store_and_look(a, [SIDES[1], SIDES[0]])
}

fn buffer_stores(engine: &dyn Hypervisor) {
    let guest = both(engine, store_and_look_here, store_and_look_there);
    guest.run();
    assert_eq!(guest.result(0), 0);
}

/// `mov eax, number` · `ret`, which is rewritten.
const REWRITTEN: u64 = FREE + 0x2000;
const CALLS: i32 = 1000;

fn rewrite(a: &mut CodeAssembler) -> Code {
    let again = begin(a)?;
    a.mov(dword_ptr(REWRITTEN + 1), ecx)?;
    a.mov(qword_ptr(FLAG), rcx)?;
    wait_for_rcx(a, ANSWER)?;
    end(a, again, CALLS)
}

fn call_rewritten(a: &mut CodeAssembler) -> Code {
    let again = begin(a)?;
    wait_for_rcx(a, FLAG)?;
    // Serialises (Intel SDM vol. 3A §8.3).
    a.mov(rax, cr3)?;
    a.mov(cr3, rax)?;
    a.mov(edx, REWRITTEN as u32)?;
    a.call(rdx)?;
    a.cmp(eax, ecx)?;
    wrong_unless_equal(a)?;
    a.mov(qword_ptr(ANSWER), rcx)?;
    end(a, again, CALLS)
}

fn cross_modify(engine: &dyn Hypervisor) {
    let guest = both(engine, rewrite, call_rewritten);
    guest.memory.write_slice(&[0xb8, 0, 0, 0, 0, 0xc3], GuestAddress(REWRITTEN)).unwrap();
    guest.run();
    assert_eq!((guest.result(0), guest.read::<u64>(ANSWER)), (0, CALLS as u64));
}

/// Linear address of a page that moves between two frames.
const MOVING: u64 = 0x80_0000_0000;
/// Its tables, one behind the other: a PDPT, a page directory, a page table.
const TABLES: u64 = FREE + 0x8000;
const FRAMES: [u64; 2] = [FREE + 0x4000, FREE + 0x5000];
const PRESENT_AND_WRITABLE: u64 = 3;
const MOVES: i32 = 1000;
const SHOOT: u8 = 0x51;

fn send(a: &mut CodeAssembler, to: u32, vector: u8) -> Code {
    const ASSERT: u32 = 1 << 14;
    write_apic(a, 0x310, to << 24)?;
    write_apic(a, 0x300, ASSERT | u32::from(vector))
}

/// Gives the page the other frame, has the other processor forget the first, and spoils that: from then on the
/// other must neither read nor write it.
fn move_page(a: &mut CodeAssembler) -> Code {
    enable_apics(a)?;
    a.mov(rdi, MOVING)?;
    let again = begin(a)?;
    for (frame, old) in [(FRAMES[1], FRAMES[0]), (FRAMES[0], FRAMES[1])] {
        a.mov(qword_ptr(frame), rcx)?;
        a.mov(qword_ptr(TABLES + 0x2000), (frame | PRESENT_AND_WRITABLE) as i32)?;
        a.invlpg(ptr(rdi))?;
        a.mov(qword_ptr(ANSWER), 0)?;
        send(a, 1, SHOOT)?;
        a.mov(rbx, rcx)?;
        a.mov(ecx, 1)?;
        wait_for_rcx(a, ANSWER)?;
        a.mov(rcx, rbx)?;
        a.mov(qword_ptr(old), 0)?;
        a.mov(qword_ptr(old + 8), 0)?;
        for _ in 0..8 {
            a.pause()?;
        }
        a.cmp(qword_ptr(old + 8), 0)?;
        wrong_unless_equal(a)?;
    }
    end(a, again, MOVES)?;
    a.mov(qword_ptr(FLAG), 1)
}

fn use_page(a: &mut CodeAssembler) -> Code {
    enable_own_apic(a)?;
    a.mov(rdi, MOVING)?;
    a.sti()?;
    let mut again = a.create_label();
    let mut right = a.create_label();
    a.set_label(&mut again)?;
    a.mov(qword_ptr(rdi + 8), 1)?;
    a.cmp(qword_ptr(rdi), 0)?;
    a.jne(right)?;
    a.lock().inc(qword_ptr(WRONG))?;
    a.set_label(&mut right)?;
    a.cmp(qword_ptr(FLAG), 0)?;
    a.je(again)?;
    a.cli()
}

/// Acknowledges an interrupt, in a handler.
fn finish_interrupt(a: &mut CodeAssembler) -> Code {
    write_apic(a, 0xb0, 0)?;
    a.pop(rax)?;
    a.iretq()
}

fn shoot_down(engine: &dyn Hypervisor) {
    let guest = both(engine, move_page, use_page);
    let root = flat::start(&Default::default(), 0, 0).system.cr3;
    let entries = [
        (root + 8, TABLES),
        (TABLES, TABLES + 0x1000),
        (TABLES + 0x1000, TABLES + 0x2000),
        (TABLES + 0x2000, FRAMES[0]),
    ];
    for (at, to) in entries {
        guest.memory.write_obj(to | PRESENT_AND_WRITABLE, GuestAddress(at)).unwrap();
    }
    guest.memory.write_obj(1_u64, GuestAddress(FRAMES[0])).unwrap();
    guest.on_vector(SHOOT, |a| {
        a.push(rax)?;
        a.mov(rax, MOVING)?;
        a.invlpg(ptr(rax))?;
        a.mov(qword_ptr(ANSWER), 1)?;
        finish_interrupt(a)
    });
    guest.run();
    assert_eq!(guest.result(0), 0);
}

const PING: u8 = 0x52;
const PONG: u8 = 0x53;
const PINGS: u64 = DATA;
const PONGS: u64 = DATA + 8;
const TURNS: i32 = 500;

/// Halts until the count at an address is RCX, or above.
fn halt_for_rcx(a: &mut CodeAssembler, address: u64) -> Code {
    let mut again = a.create_label();
    let mut over = a.create_label();
    a.set_label(&mut again)?;
    a.cli()?;
    a.cmp(qword_ptr(address), rcx)?;
    a.jae(over)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(again)?;
    a.set_label(&mut over)?;
    a.nop()
}

fn send_pings(a: &mut CodeAssembler) -> Code {
    enable_apics(a)?;
    let again = begin(a)?;
    send(a, 1, PING)?;
    halt_for_rcx(a, PONGS)?;
    end(a, again, TURNS)
}

fn take_pings(a: &mut CodeAssembler) -> Code {
    enable_own_apic(a)?;
    a.mov(ecx, TURNS)?;
    halt_for_rcx(a, PINGS)
}

fn ping_pong(engine: &dyn Hypervisor) {
    let guest = both(engine, send_pings, take_pings);
    guest.on_vector(PING, |a| {
        a.push(rax)?;
        a.inc(qword_ptr(PINGS))?;
        send(a, 0, PONG)?;
        finish_interrupt(a)
    });
    guest.on_vector(PONG, |a| {
        a.push(rax)?;
        a.inc(qword_ptr(PONGS))?;
        finish_interrupt(a)
    });
    guest.run();
    assert_eq!((guest.result(0), guest.result(1)), (TURNS as u64, TURNS as u64));
}
