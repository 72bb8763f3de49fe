use crate::core::{Core, Machine};
use crate::fault::vector;
use crate::flags::NT;
use crate::interp::deliver::{Event, Source};
use crate::state::{CS, DS, RAX, RBX, RSP, SS, cr0};
use crate::testkit::{Bench, CODE};
use kezhan_hypervisor::Segment;

const GDT: u64 = 0x2000;
const IDT: u64 = 0x2800;
/// The task that runs.
const OLD: (u16, u64) = (0x18, 0x3000);
/// The task to come.
const NEW: (u16, u64) = (0x20, 0x3100);
const GATE: u16 = 0x28;
const SHORT: (u16, u64) = (0x30, 0x3200);
const ENTRY: u64 = 0x4000;
const STACK: u64 = 0x5000;

const IRET: [u8; 1] = [0xcf];

/// `jmp` (0xea) or `call` (0x9a) to a selector; the offset does not count.
fn far(opcode: u8, selector: u16) -> [u8; 7] {
    let [low, high] = selector.to_le_bytes();
    [opcode, 0xef, 0xbe, 0xad, 0xde, low, high]
}

fn tss(base: u64, limit: u64, kind: u64) -> u64 {
    limit | base << 16 | (0x80 | kind) << 40
}

/// 32-bit protected mode in task [`OLD`]; [`NEW`] starts at [`ENTRY`] with EAX 7 and EBX 8.
fn bench() -> Bench {
    let mut bench = Bench::bits32();
    (bench.cpu.gdtr.base, bench.cpu.gdtr.limit) = (GDT, 0x37);
    (bench.cpu.idtr.base, bench.cpu.idtr.limit) = (IDT, 0x7ff);
    bench.mem.set::<u64>(GDT + 8, 0x00cf_9b00_0000_ffff);
    bench.mem.set::<u64>(GDT + 0x10, 0x00cf_9300_0000_ffff);
    bench.mem.set::<u64>(GDT + 0x18, tss(OLD.1, 0x67, 11));
    bench.mem.set::<u64>(GDT + 0x20, tss(NEW.1, 0x67, 9));
    bench.mem.set::<u64>(GDT + 0x28, u64::from(NEW.0) << 16 | 0x85 << 40);
    bench.mem.set::<u64>(GDT + 0x30, tss(SHORT.1, 0x2b, 1));
    bench.cpu.tr = Segment {
        selector: OLD.0,
        base: OLD.1,
        limit: 0x67,
        kind: 11,
        present: true,
        ..Segment::default()
    };
    for (offset, value) in [(0x20, ENTRY), (0x24, 2), (0x28, 7), (0x34, 8), (0x38, STACK)] {
        bench.mem.set::<u32>(NEW.1 + offset, value as u32);
    }
    for (offset, selector) in [(0x48, 0x10), (0x4c, 8), (0x50, 0x10), (0x54, 0x10)] {
        bench.mem.set::<u16>(NEW.1 + offset, selector);
    }
    bench
}

fn busy(bench: &Bench, selector: u16) -> bool {
    bench.mem.get::<u8>(GDT + u64::from(selector) + 5) & 2 != 0
}

#[test]
fn a_jump_leaves_the_old_task_for_good() {
    let mut bench = bench().with(RAX, 0x11).with(RBX, 0x22);
    bench.run(&far(0xea, NEW.0)).unwrap();
    assert_eq!(bench.cpu.rip, ENTRY);
    assert_eq!((bench.cpu.gpr[RAX], bench.cpu.gpr[RBX], bench.cpu.gpr[RSP]), (7, 8, STACK));
    assert_eq!(bench.cpu.tr.selector, NEW.0);
    assert_eq!((bench.cpu.cr0 & cr0::TS, bench.cpu.rflags() & NT), (cr0::TS, 0));
    assert_eq!((busy(&bench, OLD.0), busy(&bench, NEW.0)), (false, true));
    let saved = |offset| bench.mem.get::<u32>(OLD.1 + offset);
    assert_eq!((u64::from(saved(0x20)), saved(0x28), saved(0x34)), (CODE + 7, 0x11, 0x22));
    assert_eq!((saved(0x4c) as u16, saved(0x50) as u16), (8, 0x10));
}

#[test]
fn a_call_through_a_task_gate_comes_back_by_iret() {
    let mut bench = bench().with(RAX, 0x11);
    bench.run(&far(0x9a, GATE)).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.rflags() & NT), (ENTRY, NT));
    assert_eq!(bench.mem.get::<u16>(NEW.1), OLD.0);
    assert!(busy(&bench, OLD.0) && busy(&bench, NEW.0));
    bench.mem.set::<u16>(OLD.1 + 0x60, 0);
    bench.run(&IRET).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.gpr[RAX], bench.cpu.tr.selector), (CODE + 7, 0x11, OLD.0));
    assert_eq!((busy(&bench, OLD.0), busy(&bench, NEW.0)), (true, false));
    assert_eq!(
        bench.mem.get::<u32>(NEW.1 + 0x24) & NT as u32,
        0,
        "the task that ended is not nested"
    );
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_error_code_on_the_new_stack() {
    let mut bench = bench();
    let vector = vector::GP;
    bench.mem.set::<u64>(IDT + u64::from(vector) * 8, u64::from(NEW.0) << 16 | 0x85 << 40);
    let Bench { cpu, mem, io } = bench;
    let mut core = Core { cpu, mem, io: Machine(&io) };
    core.cpu.rip = 0x1234;
    core.deliver(Event { vector, error: Some(0x58), source: Source::Exception }).unwrap();
    assert_eq!((core.cpu.rip, core.cpu.gpr[RSP]), (ENTRY, STACK - 4));
    assert_eq!(core.mem.get::<u32>(STACK - 4), 0x58);
    assert_eq!(core.mem.get::<u32>(OLD.1 + 0x20), 0x1234);
}

#[test]
fn a_bad_segment_is_a_fault_of_the_new_task() {
    for (offset, selector, fault) in [
        (0x50, 0x08, (vector::TS, Some(8))),
        (0x4c, 0x10, (vector::TS, Some(0x10))),
        (0x54, 0x18, (vector::TS, Some(0x18))),
    ] {
        let mut bench = bench();
        bench.mem.set::<u16>(NEW.1 + offset, selector);
        assert_eq!(bench.fault(&far(0xea, NEW.0)), fault);
        assert!(bench.cpu.exception.trap);
        assert_eq!((bench.cpu.rip, bench.cpu.tr.selector), (ENTRY, NEW.0));
    }
}

#[test]
fn a_task_that_may_not_be_entered_leaves_all_as_it_was() {
    let mut busy = bench();
    assert_eq!(busy.fault(&far(0xea, OLD.0)), (vector::GP, Some(u32::from(OLD.0))));
    let mut short = bench();
    short.mem.set::<u16>(GDT + 0x20, 0x66);
    assert_eq!(short.fault(&far(0xea, NEW.0)), (vector::TS, Some(u32::from(NEW.0))));
    let mut absent = bench();
    absent.mem.set::<u64>(GDT + 0x20, tss(NEW.1, 0x67, 9) & !(1 << 47));
    assert_eq!(absent.fault(&far(0x9a, NEW.0)), (vector::NP, Some(u32::from(NEW.0))));
    let mut privileged = bench().at_ring_3(0);
    assert_eq!(privileged.fault(&far(0x9a, GATE)), (vector::GP, Some(u32::from(GATE))));
    for bench in [busy, short, absent, privileged] {
        assert_eq!((bench.cpu.rip, bench.cpu.tr.selector), (CODE, OLD.0));
    }
}

#[test]
fn a_link_to_a_task_that_is_not_busy_is_refused() {
    let mut bench = bench();
    bench.cpu.rflags |= NT;
    bench.mem.set::<u16>(OLD.1, NEW.0);
    assert_eq!(bench.fault(&IRET), (vector::TS, Some(u32::from(NEW.0))));
}

#[test]
fn a_16_bit_task_has_words_and_four_segments() {
    let mut bench = bench();
    for (offset, value) in [
        (0x0e, 0x4000),
        (0x10, 2),
        (0x12, 7),
        (0x1a, 0x5000),
        (0x24, 8),
        (0x26, 0x10),
        (0x28, 0x10),
    ] {
        bench.mem.set::<u16>(SHORT.1 + offset, value);
    }
    bench.run(&far(0xea, SHORT.0)).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.gpr[RAX], bench.cpu.gpr[RSP]), (ENTRY, 7, STACK));
    let selectors = [CS, SS, DS].map(|number| bench.cpu.segments[number].selector);
    assert_eq!(selectors, [8, 0x10, 0x10]);
}

#[test]
fn the_trap_flag_of_a_task_raises_a_debug_exception_at_its_start() {
    let mut bench = bench();
    bench.mem.set::<u16>(NEW.1 + 0x64, 1);
    assert_eq!(bench.fault(&far(0xea, NEW.0)), (vector::DB, None));
    assert_eq!((bench.cpu.exception.debug, bench.cpu.rip), (1 << 15, ENTRY));
}
