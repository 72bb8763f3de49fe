//! The stack, RFLAGS and single flags.

use crate::fault::{Stop, vector};
use crate::flags::{AC, CF, DF, ID, IF, IOPL, NT, RF, TF, VIF, VM};
use crate::state::{RAX, RBP, RBX, RCX, RDI, RSP, SS, cr0};
use crate::testkit::{Bench, STACK_TOP};

#[test]
fn push_and_pop_move_operands_of_the_code_s_width() {
    let mut bench = Bench::bits64().with(RAX, 0x1122_3344_5566_7788);
    bench.run(/* push rax; push -2; push ax */ &[0x50, 0x6a, 0xfe, 0x66, 0x50]).unwrap();
    assert_eq!(bench.cpu.gpr[RSP], STACK_TOP - 18);
    assert_eq!(bench.mem.get::<u64>(STACK_TOP - 16), u64::MAX - 1);
    assert_eq!(bench.mem.get::<u16>(STACK_TOP - 18), 0x7788);
    bench.run(/* pop cx; pop rdx; pop rbx */ &[0x66, 0x59, 0x5a, 0x5b]).unwrap();
    assert_eq!((bench.cpu.gpr[RCX], bench.cpu.gpr[RBX]), (0x7788, 0x1122_3344_5566_7788));
    let mut bench = Bench::bits32().with(RAX, 0x5566_7788);
    bench
        .run(
            /* push eax; push ax; push 0x12345678 */
            &[0x50, 0x66, 0x50, 0x68, 0x78, 0x56, 0x34, 0x12],
        )
        .unwrap();
    assert_eq!(bench.cpu.gpr[RSP], STACK_TOP - 10);
}

#[test]
fn the_stack_pointer_itself_is_pushed_as_it_was_and_popped_as_it_is() {
    let mut bench = Bench::bits64();
    bench.run(/* push rsp */ &[0x54]).unwrap();
    assert_eq!(bench.mem.get::<u64>(STACK_TOP - 8), STACK_TOP);
    bench.mem.set(STACK_TOP - 8, 0x1234_u64);
    bench.run(/* pop rsp */ &[0x5c]).unwrap();
    assert_eq!(bench.cpu.gpr[RSP], 0x1234);
    bench.cpu.gpr[RSP] = 0x6000;
    bench.mem.set(0x6000, 0xabcd_u64);
    bench
        .run(
            /* pop qword ptr [rsp + 8]; push qword ptr [rsp + 8] */
            &[0x8f, 0x44, 0x24, 0x08, 0xff, 0x74, 0x24, 0x08],
        )
        .unwrap();
    assert_eq!(bench.mem.get::<u64>(0x6010), 0xabcd, "addressed after the pop");
    assert_eq!(bench.mem.get::<u64>(0x6000), 0xabcd, "addressed before the push");
}

#[test]
fn a_pop_to_memory_that_faults_leaves_the_stack_pointer() {
    let mut bench = Bench::bits64().with(RBX, 0x3000);
    bench.mem.holes.push(0x3000..0x3001);
    assert_eq!(bench.fault(/* pop qword ptr [rbx] */ &[0x8f, 0x03]), (vector::PF, Some(2)));
    assert_eq!(bench.cpu.gpr[RSP], STACK_TOP);
    bench.mem.holes.clear();
    bench.mem.decoded.push(0x3000..0x3001);
    assert_eq!(bench.run(/* pop qword ptr [rbx] */ &[0x8f, 0x03]), Err(Stop::CodeWrite));
    assert_eq!(bench.cpu.gpr[RSP], STACK_TOP);
}

#[test]
fn a_16_bit_stack_wraps_and_keeps_the_upper_half_of_the_pointer() {
    let mut bench = Bench::real_mode().with(RSP, 0xdead_0000).with(RAX, 0x1234);
    bench.cpu.segments[SS].base = 0x4_0000;
    bench.cpu.derive();
    bench.run(/* push ax */ &[0x50]).unwrap();
    assert_eq!(bench.cpu.gpr[RSP], 0xdead_fffe);
    assert_eq!(bench.mem.get::<u16>(0x4_fffe), 0x1234);
    bench.run(/* pop cx */ &[0x59]).unwrap();
    assert_eq!((bench.cpu.gpr[RSP], bench.cpu.gpr[RCX]), (0xdead_0000, 0x1234));
    bench.cpu.gpr[RSP] = 1;
    assert_eq!(bench.fault(/* push ax */ &[0x50]), (vector::SS, Some(0)), "a word across the end");
}

#[test]
fn all_registers_are_pushed_or_none() {
    let mut bench = Bench::bits32();
    for number in 0..8 {
        bench.cpu.gpr[number] = number as u64 + 0x100;
    }
    bench.cpu.gpr[RSP] = STACK_TOP;
    bench.run(/* pusha */ &[0x60]).unwrap();
    let pushed: Vec<u32> = (1..=8).map(|n| bench.mem.get(STACK_TOP - 4 * n)).collect();
    assert_eq!(pushed, [0x100, 0x101, 0x102, 0x103, STACK_TOP as u32, 0x105, 0x106, 0x107]);
    bench.mem.set(STACK_TOP - 20, 0x999_u32);
    bench.cpu.gpr[RDI] = 0;
    bench.run(/* popa */ &[0x61]).unwrap();
    assert_eq!((bench.cpu.gpr[RSP], bench.cpu.gpr[RDI]), (STACK_TOP, 0x107), "ESP is skipped");
    bench.mem.holes.push(STACK_TOP - 32..STACK_TOP - 31);
    bench.mem.set(STACK_TOP - 4, 0_u32);
    assert_eq!(bench.fault(/* pusha */ &[0x60]), (vector::PF, Some(2)));
    assert_eq!(bench.mem.get::<u32>(STACK_TOP - 4), 0);
    assert_eq!(bench.cpu.gpr[RSP], STACK_TOP);
}

#[test]
fn pushed_flags_show_neither_resume_nor_virtual_8086() {
    let mut bench = Bench::bits64();
    bench.cpu.set_rflags(CF | RF | IF | ID | AC);
    bench.run(/* pushfq */ &[0x9c]).unwrap();
    assert_eq!(bench.mem.get::<u64>(STACK_TOP - 8), CF | IF | ID | AC | 2);
}

/// RFLAGS after popping all ones at a privilege level with an IOPL, having started from IOPL alone.
fn popped(bench: Bench, code: &[u8]) -> u64 {
    let mut bench = bench;
    bench.mem.set(STACK_TOP, u64::MAX);
    bench.run(code).unwrap();
    bench.cpu.rflags() & (TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | ID)
}

#[test]
fn popped_flags_respect_privilege() {
    let free = TF | DF | NT | AC | ID;
    assert_eq!(popped(Bench::bits64(), /* popfq */ &[0x9d]), free | IF | IOPL);
    assert_eq!(popped(Bench::bits64(), /* popfw */ &[0x66, 0x9d]), TF | DF | NT | IF | IOPL);
    assert_eq!(
        popped(Bench::bits64().at_ring_3(0), /* popfq */ &[0x9d]),
        free,
        "neither IF nor IOPL"
    );
    assert_eq!(popped(Bench::bits64().at_ring_3(3), /* popfq */ &[0x9d]), free | IF | IOPL);
    assert_eq!(popped(Bench::bits32(), /* popf */ &[0x9d]), free | IF | IOPL);
    assert_eq!(popped(Bench::real_mode(), /* popf */ &[0x9d]), TF | DF | NT | IF | IOPL);
}

#[test]
fn popping_the_access_flag_tells_the_memory() {
    let mut bench = Bench::bits64();
    bench.mem.set(STACK_TOP, AC);
    bench.mem.set(STACK_TOP + 8, AC);
    bench.run(/* popfq; popfq */ &[0x9d, 0x9d]).unwrap();
    assert_eq!(bench.mem.permission_changes, 1, "only when it changes");
    bench.run(/* clac; stac */ &[0x0f, 0x01, 0xca, 0x0f, 0x01, 0xcb]).unwrap();
    assert_eq!(bench.mem.permission_changes, 3);
}

#[test]
fn virtual_8086_mode_guards_the_flags_with_iopl() {
    let virtual_8086 = |iopl: u64| {
        let mut bench = Bench::real_mode();
        bench.cpu.cr0 |= cr0::PE;
        bench.cpu.set_rflags(VM | iopl << 12);
        bench.cpu.derive();
        bench
    };
    for code in [
        /* pushf */ &[0x9c][..],
        /* popf */ &[0x9d],
        /* cli */ &[0xfa],
        /* sti */ &[0xfb],
    ] {
        assert_eq!(virtual_8086(2).fault(code), (vector::GP, Some(0)), "{code:02x?}");
        virtual_8086(3).run(code).unwrap();
    }
}

#[test]
fn nested_frames_copy_the_outer_ones() {
    let mut bench = Bench::bits64().with(RBP, 0x5000);
    bench.mem.set(0x4ff8, 0x111_u64);
    bench.mem.set(0x4ff0, 0x222_u64);
    bench.run(/* enter 0x20, 3 */ &[0xc8, 0x20, 0x00, 0x03]).unwrap();
    let slots: Vec<u64> = (1..=4).map(|n| bench.mem.get(STACK_TOP - 8 * n)).collect();
    assert_eq!(slots, [0x5000, 0x111, 0x222, STACK_TOP - 8]);
    assert_eq!((bench.cpu.gpr[RBP], bench.cpu.gpr[RSP]), (STACK_TOP - 8, STACK_TOP - 0x40));
    bench.run(/* leave */ &[0xc9]).unwrap();
    assert_eq!((bench.cpu.gpr[RBP], bench.cpu.gpr[RSP]), (0x5000, STACK_TOP));
}

#[test]
fn a_frame_copied_from_the_stack_itself_sees_its_own_pushes() {
    let mut bench = Bench::bits64().with(RBP, STACK_TOP);
    bench.run(/* enter 0, 2 */ &[0xc8, 0x00, 0x00, 0x02]).unwrap();
    assert_eq!(bench.mem.get::<u64>(STACK_TOP - 16), STACK_TOP, "what was pushed just before");
}

#[test]
fn enter_faults_before_it_changes_anything() {
    for hole in [0x4ff8, STACK_TOP - 8, STACK_TOP - 24, STACK_TOP - 24 - 0x1000] {
        let mut bench = Bench::bits64().with(RBP, 0x5000);
        bench.mem.holes.push(hole..hole + 1);
        assert_eq!(
            bench.fault(/* enter 0x1000, 2 */ &[0xc8, 0x00, 0x10, 0x02]).0,
            vector::PF,
            "{hole:#x}"
        );
        assert_eq!((bench.cpu.gpr[RBP], bench.cpu.gpr[RSP]), (0x5000, STACK_TOP));
        assert_eq!(bench.mem.get::<u64>(STACK_TOP - 8), 0);
    }
}

#[test]
fn enter_and_leave_on_a_16_bit_stack_keep_upper_halves() {
    let mut bench = Bench::real_mode().with(RBP, 0xaaaa_1234).with(RSP, 0xbbbb_0002);
    bench.run(/* enter 4, 0 */ &[0xc8, 0x04, 0x00, 0x00]).unwrap();
    assert_eq!((bench.cpu.gpr[RBP], bench.cpu.gpr[RSP]), (0xaaaa_0000, 0xbbbb_fffc));
    bench.run(/* leave */ &[0xc9]).unwrap();
    assert_eq!((bench.cpu.gpr[RBP], bench.cpu.gpr[RSP]), (0xaaaa_1234, 0xbbbb_0002));
}

#[test]
fn setting_the_interrupt_flag_holds_interrupts_off_once() {
    let mut bench = Bench::bits64();
    bench.run(/* sti */ &[0xfb]).unwrap();
    assert!(bench.cpu.interrupt_shadow);
    bench.run(/* sti */ &[0xfb]).unwrap();
    assert!(!bench.cpu.interrupt_shadow, "it was set already");
    bench.run(/* cli */ &[0xfa]).unwrap();
    assert_eq!(bench.cpu.rflags() & IF, 0);
    for code in [/* sti */ &[0xfb][..], /* cli */ &[0xfa]] {
        assert_eq!(Bench::bits64().at_ring_3(2).fault(code), (vector::GP, Some(0)));
        Bench::bits64().at_ring_3(3).run(code).unwrap();
    }
    assert_eq!(
        Bench::bits64().at_ring_3(3).fault(/* stac */ &[0x0f, 0x01, 0xcb]),
        (vector::UD, None)
    );
}

#[test]
fn carry_and_direction_are_set_and_cleared() {
    let mut bench = Bench::bits64();
    bench.run(/* stc; std; cmc */ &[0xf9, 0xfd, 0xf5]).unwrap();
    assert_eq!(bench.cpu.rflags() & (CF | DF), DF);
    bench.run(/* cmc; cld */ &[0xf5, 0xfc]).unwrap();
    assert_eq!(bench.cpu.rflags() & (CF | DF), CF);
    bench.run(/* clc; lahf */ &[0xf8, 0x9f]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX] & CF << 8, 0);
}
