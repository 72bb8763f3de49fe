//! Strings and ports.

use super::super::string::BUDGET;
use crate::fault::{Stop, vector};
use crate::flags::{DF, TF, VM};
use crate::state::{DS, ES, FS, RAX, RCX, RDI, RDX, RSI, cr0};
use crate::testkit::{Bench, CODE};
use kezhan_hypervisor::Segment;
use kezhan_hypervisor::testkit::Access;

/// Where a string instruction stands: rCX, rSI, rDI.
fn place(bench: &Bench) -> (u64, u64, u64) {
    (bench.cpu.gpr[RCX], bench.cpu.gpr[RSI], bench.cpu.gpr[RDI])
}

fn at(bench: Bench, (count, source, destination): (u64, u64, u64)) -> Bench {
    bench.with(RCX, count).with(RSI, source).with(RDI, destination)
}

#[test]
fn single_moves_go_up_or_down() {
    let mut bench = at(Bench::bits64(), (5, 0x3000, 0x4000));
    bench.mem.put(0x3000, &[1, 2, 3, 4, 5, 6, 7, 8]);
    bench.run(/* movsd; movsb */ &[0xa5, 0xa4]).unwrap();
    assert_eq!(bench.mem.get::<u64>(0x4000), 0x05_0403_0201);
    bench.run(/* std; movsw */ &[0xfd, 0x66, 0xa5]).unwrap();
    assert_eq!(place(&bench), (5, 0x3003, 0x4003), "RCX counts repeats only");
}

#[test]
fn a_repeated_move_goes_in_bulk_and_across_pages() {
    let mut bench = at(Bench::bits64(), (0x300, 0x3ff3, 0x6001));
    for (n, byte) in bench.mem.bytes[0x3ff3..][..0x1800].iter_mut().enumerate() {
        *byte = (n % 251) as u8;
    }
    bench.run(/* rep movsq */ &[0xf3, 0x48, 0xa5]).unwrap();
    assert_eq!(place(&bench), (0, 0x3ff3 + 0x1800, 0x6001 + 0x1800));
    let (from, to) = (&bench.mem.bytes[0x3ff3..][..0x1800], &bench.mem.bytes[0x6001..][..0x1800]);
    assert_eq!(from, to);
    assert!(bench.mem.bulk > 0x200);
}

#[test]
fn a_move_behind_repne_repeats_too() {
    let mut bench = at(Bench::bits64(), (4, 0x3000, 0x4000));
    bench.mem.put(0x3000, b"abcd");
    bench.run(/* repne movsb */ &[0xf2, 0xa4]).unwrap();
    assert_eq!(&bench.mem.bytes[0x4000..0x4004], b"abcd");
}

#[test]
fn an_overlapping_move_repeats_the_pattern() {
    let mut bench = at(Bench::bits64(), (10, 0x3000, 0x3002));
    bench.mem.put(0x3000, b"ab");
    bench.run(/* rep movsb */ &[0xf3, 0xa4]).unwrap();
    assert_eq!(&bench.mem.bytes[0x3000..0x300c], b"abababababab");
    let mut bench = at(Bench::bits64(), (3, 0x3002, 0x3003));
    bench.mem.put(0x3000, b"abc");
    bench.cpu.rflags |= DF;
    bench.run(/* rep movsb */ &[0xf3, 0xa4]).unwrap();
    assert_eq!(&bench.mem.bytes[0x3000..0x3004], b"aabc");
}

#[test]
fn a_fault_in_the_middle_leaves_exactly_what_was_done() {
    for hole in [0x4800, 0x5000] {
        let mut bench = at(Bench::bits64(), (0x300, 0x8000, 0x4000));
        bench.mem.holes.push(hole..hole + 8);
        assert_eq!(bench.fault(/* rep movsq */ &[0xf3, 0x48, 0xa5]), (vector::PF, Some(2)));
        assert_eq!(bench.fault_address(), Some(hole));
        let done = hole - 0x4000;
        assert_eq!(place(&bench), (0x300 - done / 8, 0x8000 + done, hole), "hole at {hole:#x}");
        assert_eq!(bench.cpu.rip, CODE);
        bench.mem.holes.clear();
        bench.run(/* rep movsq */ &[0xf3, 0x48, 0xa5]).unwrap();
        assert_eq!(place(&bench), (0, 0x9800, 0x5800));
    }
}

#[test]
fn a_store_that_meets_code_goes_on_from_there() {
    let mut bench = at(Bench::bits64(), (0x100, 0, 0x4000)).with(RAX, 0x55);
    bench.mem.decoded.push(0x4080..0x4081);
    assert_eq!(bench.run(/* rep stosb */ &[0xf3, 0xaa]), Err(Stop::CodeWrite));
    assert_eq!(place(&bench), (0x80, 0, 0x4080));
    bench.mem.decoded.clear();
    bench.run(/* rep stosb */ &[0xf3, 0xaa]).unwrap();
    assert!(bench.mem.bytes[0x4000..0x4100].iter().all(|byte| *byte == 0x55));
}

#[test]
fn a_long_repetition_stops_in_between_with_rip_at_the_instruction() {
    let mut bench = at(Bench::bits64(), (BUDGET + 5, 0, 0x1_0000));
    bench.mem.put(CODE, /* rep stosb */ &[0xf3, 0xaa]);
    bench.cpu.rip = CODE;
    bench.step().unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.gpr[RCX]), (CODE, 5));
    bench.step().unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.gpr[RCX]), (CODE + 2, 0));
    bench.cpu.gpr[RCX] = 2;
    bench.cpu.rflags |= TF;
    bench.cpu.rip = CODE;
    bench.step().unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.gpr[RCX]), (CODE, 1), "single steps stop at each element");
}

#[test]
fn a_count_of_zero_touches_nothing() {
    let mut bench = at(Bench::bits64(), (0, 1 << 40, 1 << 40));
    let flags = bench.cpu.flags;
    bench
        .run(
            /* rep movsb; repe cmpsb; repne scasb; rep lodsd */
            &[0xf3, 0xa4, 0xf3, 0xa6, 0xf2, 0xae, 0xf3, 0xad],
        )
        .unwrap();
    assert_eq!(bench.cpu.flags, flags);
}

#[test]
fn comparisons_end_at_the_condition() {
    let mut bench = at(Bench::bits64(), (100, 0x3000, 0x4000));
    bench.mem.put(0x3000, b"same, then not");
    bench.mem.put(0x4000, b"same, than not");
    bench.run(/* repe cmpsb */ &[0xf3, 0xa6]).unwrap();
    assert_eq!(place(&bench), (100 - 9, 0x3009, 0x4009));
    assert!(!bench.cpu.flags.zf() && !bench.cpu.flags.cf(), "e is above a");
    let mut bench = at(Bench::bits64(), (100, 0, 0x3000)).with(RAX, 0);
    bench.mem.put(0x3000, b"length");
    bench.run(/* repne scasb */ &[0xf2, 0xae]).unwrap();
    assert_eq!(place(&bench), (93, 0, 0x3007));
    assert!(bench.cpu.flags.zf());
    bench.run(/* repe scasw */ &[0x66, 0xf3, 0xaf]).unwrap();
    assert_eq!(bench.cpu.gpr[RCX], 0);
}

#[test]
fn a_load_takes_another_segment_and_a_store_does_not() {
    let mut bench = at(Bench::bits64(), (0, 0x10, 0x4000));
    bench.cpu.segments[FS].base = 0x3000;
    bench.cpu.segments[ES].base = 0x9000;
    bench.cpu.derive();
    bench.mem.set(0x3010, 0x1234_u16);
    bench.run(/* lods ax, word ptr fs:[rsi]; stosw */ &[0x64, 0x66, 0xad, 0x66, 0xab]).unwrap();
    assert_eq!(bench.mem.get::<u16>(0x4000), 0x1234, "ES has no base in 64-bit mode");
}

#[test]
fn short_address_sizes_cut_counters_and_indices() {
    let high = 0xffff_ffff_0000_0000;
    let mut bench = at(Bench::bits64(), (high | 2, high | 0x3000, high | 0x4000));
    bench.mem.put(0x3000, &[7, 8]);
    bench.run(/* addr32 rep movsb */ &[0x67, 0xf3, 0xa4]).unwrap();
    assert_eq!(bench.mem.get::<u16>(0x4000), 0x0807);
    assert_eq!(place(&bench), (0, 0x3002, 0x4002));
    let mut bench = at(Bench::real_mode(), (0xabcd_0004, 0x3000, 0xabcd_fffe));
    bench.cpu.segments[ES].base = 0x5_0000;
    bench.cpu.derive();
    bench.mem.put(0x3000, &[1, 2, 3, 4]);
    bench.run(/* rep movsb */ &[0xf3, 0xa4]).unwrap();
    assert_eq!(place(&bench), (0xabcd_0000, 0x3004, 0xabcd_0002));
    assert_eq!(bench.mem.get::<u16>(0x5_fffe), 0x0201);
    assert_eq!(bench.mem.get::<u16>(0x5_0000), 0x0403, "the index wraps");
}

#[test]
fn a_segment_limit_ends_a_bulk_move_at_the_right_element() {
    let mut bench = at(Bench::bits32(), (0x100, 0x3000, 0x4000));
    bench.cpu.segments[ES].limit = 0x4081;
    assert_eq!(bench.fault(/* rep movsd */ &[0xf3, 0xa5]), (vector::GP, Some(0)));
    assert_eq!(place(&bench), (0x100 - 0x20, 0x3080, 0x4080));
    bench.cpu.segments[DS].unusable = true;
    assert_eq!(bench.fault(/* lodsb */ &[0xac]), (vector::GP, Some(0)));
}

#[test]
fn ports_are_read_and_written_in_three_widths() {
    let mut bench = Bench::bits64().with(RAX, u64::MAX).with(RDX, 0x1_03f8);
    bench.io.answer(0x12);
    bench.io.answer(0x3456);
    bench.io.answer(0x789a_bcde);
    bench.run(/* in al, 0xfe; in ax, dx */ &[0xe4, 0xfe, 0x66, 0xed]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0xffff_ffff_ffff_3456);
    bench.run(/* in eax, dx; out 0x80, al; out dx, eax */ &[0xed, 0xe6, 0x80, 0xef]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x789a_bcde);
    let accesses = [
        Access::ReadPort(0xfe, 1),
        Access::ReadPort(0x3f8, 2),
        Access::ReadPort(0x3f8, 4),
        Access::WritePort(0x80, 0xde, 1),
        Access::WritePort(0x3f8, 0x789a_bcde, 4),
    ];
    assert_eq!(bench.io.take(), accesses);
}

#[test]
fn string_input_probes_before_it_reads_the_port() {
    let mut bench = at(Bench::bits64(), (3, 0, 0x4000)).with(RDX, 0x1f0);
    bench.mem.holes.push(0x4004..0x4005);
    bench.io.answer(0x1111);
    bench.io.answer(0x2222);
    bench.io.answer(0x3333);
    assert_eq!(bench.fault(/* rep insw */ &[0x66, 0xf3, 0x6d]), (vector::PF, Some(2)));
    assert_eq!(bench.io.take().len(), 2, "the third word stays in the device");
    assert_eq!(place(&bench), (1, 0, 0x4004));
    bench.mem.holes.clear();
    bench.run(/* rep insw */ &[0x66, 0xf3, 0x6d]).unwrap();
    assert_eq!(bench.mem.get::<u64>(0x4000), 0x3333_2222_1111);
    bench.cpu.gpr[RSI] = 0x4000;
    bench.cpu.gpr[RCX] = 2;
    bench.run(/* rep outsb; outsd */ &[0xf3, 0x6e, 0x6f]).unwrap();
    let write = |value, size| Access::WritePort(0x1f0, value, size);
    assert_eq!(bench.io.take()[1..], [write(0x11, 1), write(0x11, 1), write(0x3333_2222, 4)]);
    assert_eq!(bench.cpu.gpr[RSI], 0x4006);
}

/// A bench at ring 3 with a task-state segment whose bitmap lets ports 0x60 and 0x64 pass.
fn guarded(limit: u32) -> Bench {
    let mut bench = Bench::bits64().at_ring_3(0);
    bench.cpu.tr = Segment { base: 0x7000, limit, kind: 11, present: true, ..Segment::default() };
    bench.mem.set(0x7066, 0x68_u16);
    bench.mem.bytes[0x7068..0x7100].fill(0xff);
    bench.mem.put(0x7068 + 0x60 / 8, &[0b1110_1110]);
    bench
}

#[test]
fn the_permission_bitmap_decides_above_iopl() {
    let mut bench = guarded(0x7f);
    bench
        .run(
            /* in al, 0x60; in al, 0x64; out 0x64, al */
            &[0xe4, 0x60, 0xe4, 0x64, 0xe6, 0x64],
        )
        .unwrap();
    bench.io.take();
    for code in [
        /* in al, 0x61 */ &[0xe4, 0x61][..],
        /* in ax, 0x60 */ &[0x66, 0xe5, 0x60],
        /* out 0x70, al */ &[0xe6, 0x70],
        /* insb */ &[0x6c],
        /* rep outsb */ &[0xf3, 0x6e],
    ] {
        assert_eq!(bench.fault(code), (vector::GP, Some(0)), "{code:02x?}");
    }
    assert_eq!(bench.io.take(), []);
    assert_eq!(
        guarded(0x74).fault(/* in al, 0x60 */ &[0xe4, 0x60]).0,
        vector::GP,
        "its second byte is outside"
    );
    guarded(0x75).run(/* in al, 0x60 */ &[0xe4, 0x60]).unwrap();
    assert_eq!(
        guarded(0x66).fault(/* in al, 0x60 */ &[0xe4, 0x60]).0,
        vector::GP,
        "no bitmap at all"
    );
    let mut open = Bench::bits64().at_ring_3(3);
    open.run(/* in al, 0x61 */ &[0xe4, 0x61]).unwrap();
}

#[test]
fn virtual_8086_mode_asks_the_bitmap_whatever_the_iopl() {
    let mut bench = Bench::real_mode();
    bench.cpu.cr0 |= cr0::PE;
    bench.cpu.set_rflags(VM | 3 << 12);
    bench.cpu.derive();
    let tr = guarded(0x7f);
    bench.cpu.tr = tr.cpu.tr;
    bench.mem = tr.mem;
    bench.run(/* in al, 0x60 */ &[0xe4, 0x60]).unwrap();
    assert_eq!(bench.fault(/* in al, 0x61 */ &[0xe4, 0x61]), (vector::GP, Some(0)));
}
