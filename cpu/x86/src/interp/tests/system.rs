//! Control and debug registers, traps, system segments.

use crate::core::{Core, Machine};
use crate::fault::{Exception, vector};
use crate::flags::{IF, RF, TF};
use crate::interp::control::is_possible_cr0;
use crate::state::{GS, RAX, RBX, RCX, RDX, RSP, cr4};
use crate::testkit::Bench;

/// Delivers a debug exception in 64-bit mode to a handler at 0x5000.
fn debug_exception(mut bench: Bench, debug: u64, trap: bool) -> Bench {
    bench.mem.set::<u64>(0x2008, 0x00af_9b00_0000_ffff);
    (bench.cpu.gdtr.base, bench.cpu.gdtr.limit) = (0x2000, 0xf);
    bench.mem.set::<u64>(0x3010, 0x8e00_0008_5000);
    (bench.cpu.idtr.base, bench.cpu.idtr.limit) = (0x3000, 0xfff);
    let Bench { mut cpu, mem, io } = bench;
    cpu.exception = Exception { vector: vector::DB, debug, trap, ..Exception::default() };
    let mut core = Core { cpu, mem, io: Machine(&io) };
    core.deliver_exception().unwrap();
    let (cpu, mem) = (core.cpu, core.mem);
    assert_eq!(cpu.rip, 0x5000);
    Bench { cpu, mem, io }
}

#[test]
fn loading_ss_blocks_the_trap_and_sti_does_not() {
    let mut bench = Bench::bits64();
    (bench.cpu.gdtr.base, bench.cpu.gdtr.limit) = (0x2000, 0x17);
    bench.mem.set::<u64>(0x2010, 0x00cf_9300_0000_ffff);
    bench.run(/* mov eax, ss; mov ss, eax */ &[0x8c, 0xd0, 0x8e, 0xd0]).unwrap();
    assert!(bench.cpu.trap_blocked && bench.cpu.interrupt_shadow);
    let mut bench = Bench::bits64();
    bench.run(/* sti */ &[0xfb]).unwrap();
    assert!(!bench.cpu.trap_blocked && bench.cpu.interrupt_shadow);
}

#[test]
fn a_write_to_dr7_ends_the_resume_flag() {
    let mut bench = Bench::bits64().with(RAX, 1);
    bench.cpu.rflags |= RF;
    bench.run(/* mov dr7, rax */ &[0x0f, 0x23, 0xf8]).unwrap();
    assert_eq!(bench.cpu.rflags & RF, 0);
    assert_eq!(bench.cpu.dr7, 0x401);
}

#[test]
fn a_debug_exception_replaces_the_breakpoint_bits_of_dr6_and_keeps_the_others() {
    for (cause, after) in [(0b0100, 0x4004), (1 << 14, 0x4002), (0, 0x4002)] {
        let mut bench = Bench::bits64();
        bench.cpu.dr6 = 0x4002;
        let bench = debug_exception(bench, cause, true);
        assert_eq!(bench.cpu.dr6, after, "{cause:#x}");
    }
}

#[test]
fn the_resume_flag_is_pushed_for_faults_but_not_for_instruction_breakpoints() {
    for (debug, trap, pushed) in [(1, false, 0), (1 << 13, false, RF), (1 << 14, true, 0)] {
        let bench = debug_exception(Bench::bits64(), debug, trap);
        let image = bench.mem.get::<u64>(bench.cpu.gpr[RSP] + 16);
        assert_eq!(image & RF, pushed, "{debug:#x}");
    }
}

#[test]
fn sysret_traps_when_it_sets_the_trap_flag_itself() {
    let mut bench = Bench::bits64().with(RCX, 0x1234);
    bench.cpu.efer |= crate::state::efer::SCE;
    bench.cpu.gpr[11] = TF | IF;
    assert_eq!(bench.fault(/* sysretq */ &[0x48, 0x0f, 0x07]), (vector::DB, None));
    assert!(bench.cpu.exception.trap);
    assert_eq!(bench.cpu.exception.debug, 1 << 14);
}

#[test]
fn pcid_asks_for_long_mode_an_untagged_cr3_and_paging() {
    let set = [0x0f, 0x22, 0xe0]; // mov cr4, rax
    let mut bench = Bench::bits64();
    let value = bench.cpu.cr4 | cr4::PAE | cr4::PCIDE;
    bench.cpu.cr3 |= 1;
    assert_eq!(bench.with(RAX, value).fault(&set), (vector::GP, Some(0)));
    assert_eq!(Bench::bits32().with(RAX, value).fault(&set), (vector::GP, Some(0)));
    let mut bench = Bench::bits64().with(RAX, value);
    assert_eq!(bench.fault(&set), (vector::GP, Some(0)), "CPUID does not tell of it");
    bench.mem.cpuid.insert((1, 0), [0, 0, 1 << 17, 0]);
    bench.run(&set).unwrap();
    let mut bench = bench.with(RAX, 1 << 63 | 0x1005);
    bench.run(/* mov cr3, rax */ &[0x0f, 0x22, 0xd8]).unwrap();
    assert_eq!(bench.cpu.cr3, 0x1005, "bit 63 is an order, not a part of CR3");
    let without_paging = bench.cpu.cr0 & !(1 << 31);
    let mut bench = bench.with(RAX, without_paging);
    assert_eq!(bench.fault(/* mov cr0, rax */ &[0x0f, 0x22, 0xc0]), (vector::GP, Some(0)));
}

#[test]
fn cr0_has_combinations_that_cannot_be() {
    for (value, possible) in
        [(0x8000_0011, true), (0x8000_0010, false), (0x2000_0010, false), (1 << 32, false)]
    {
        assert_eq!(is_possible_cr0(value), possible, "{value:#x}");
    }
}

#[test]
fn a_task_state_segment_at_an_address_that_is_not_canonical_is_refused() {
    let mut bench = Bench::bits64().with(RAX, 0x10);
    (bench.cpu.gdtr.base, bench.cpu.gdtr.limit) = (0x3000, 0xfff);
    let descriptor = 0x67 | 0x89_u64 << 40;
    bench.mem.put(0x3010, &descriptor.to_le_bytes());
    bench.mem.put(0x3018, &0xaaaa_aaaa_u64.to_le_bytes());
    assert_eq!(bench.fault(/* ltr ax */ &[0x0f, 0x00, 0xd8]), (vector::GP, Some(0x10)));
    bench.mem.put(0x3018, &0xffff_8000_u64.to_le_bytes());
    bench.run(&[0x0f, 0x00, 0xd8]).unwrap();
    assert_eq!(bench.cpu.tr.base, 0xffff_8000_0000_0000);
}

#[test]
fn a_return_outwards_empties_inner_segments_and_keeps_their_bases() {
    let mut bench = Bench::bits64();
    bench.cpu.segments[GS].base = 0x1234_5000;
    (bench.cpu.gdtr.base, bench.cpu.gdtr.limit) = (0x3000, 0xfff);
    bench.mem.put(0x3018, &0x00af_fb00_0000_ffff_u64.to_le_bytes());
    bench.mem.put(0x3020, &0x00cf_f300_0000_ffff_u64.to_le_bytes());
    let frame: Vec<u8> =
        [0x7000_u64, 0x1b, 2, 0x6000, 0x23].iter().flat_map(|word| word.to_le_bytes()).collect();
    bench.mem.put(0x4000, &frame);
    let mut bench = bench.with(RSP, 0x4000);
    bench.run(/* iretq */ &[0x48, 0xcf]).unwrap();
    assert_eq!(bench.cpu.cpl, 3);
    let gs = bench.cpu.segments[GS];
    assert_eq!((gs.selector, gs.base, gs.unusable), (0, 0x1234_5000, true));
    assert_eq!(bench.cpu.seg_base[GS], 0x1234_5000);
}

#[test]
fn pkru_is_read_and_written_when_keys_are_on() {
    let (read, write) = ([0x0f, 0x01, 0xee], [0x0f, 0x01, 0xef]);
    assert_eq!(Bench::bits64().fault(&write), (vector::UD, None));
    let mut bench = Bench::bits64().with(RAX, 0x5555_5554).with(RDX, 0);
    bench.cpu.cr4 |= cr4::PKE;
    bench.run(&write).unwrap();
    let mut bench = bench.with(RAX, 0).with(RDX, 7);
    bench.run(&read).unwrap();
    assert_eq!((bench.cpu.gpr[RAX], bench.cpu.gpr[RDX]), (0x5555_5554, 0));
    let mut bench = bench.with(RDX, 1);
    assert_eq!(bench.fault(&write), (vector::GP, Some(0)));
    let mut bench = bench.with(RCX, 1);
    assert_eq!(bench.fault(&read), (vector::GP, Some(0)));
}

#[test]
fn pkru_travels_in_either_format_of_the_xsave_area() {
    let area = 0x6000;
    let ops: [(&[u8], u64); 2] = [
        (/* xsave [rbx] */ &[0x0f, 0xae, 0x23], 2688),
        (/* xsavec [rbx] */ &[0x0f, 0xc7, 0x23], 576),
    ];
    for (save, at) in ops {
        let mut bench = Bench::bits64().with(RAX, 0x203).with(RDX, 0).with(RBX, area);
        bench.cpu.cr4 |= cr4::OSXSAVE | cr4::PKE;
        (bench.cpu.xcr0, bench.cpu.pkru) = (0x203, 0x0bad_cafe);
        bench.run(save).unwrap();
        assert_eq!(bench.mem.get::<u64>(area + at), 0x0bad_cafe);
        assert_eq!(bench.mem.get::<u64>(area + 512) & 0x200, 0x200);
        bench.cpu.pkru = 5;
        let restore = /* xrstor [rbx] */ [0x0f, 0xae, 0x2b];
        bench.run(&restore).unwrap();
        assert_eq!(bench.cpu.pkru, 0x0bad_cafe);
        bench.mem.set::<u64>(area + 512, 0);
        bench.run(&restore).unwrap();
        assert_eq!(bench.cpu.pkru, 0, "initial when the area has none");
    }
}

#[test]
fn the_performance_counters_of_amd_are_there_for_its_name_and_count_nothing() {
    let write = [0x0f, 0x30]; // wrmsr
    let bench = || Bench::bits64().with(RCX, 0xc001_0000).with(RAX, 0x43);
    assert_eq!(bench().fault(&write), (vector::GP, Some(0)));
    let mut amd = bench();
    amd.mem.cpuid.insert((0, 0), [1, 0, u32::from_le_bytes(*b"cAMD"), 0]);
    amd.run(&write).unwrap();
    amd.run(/* rdmsr */ &[0x0f, 0x32]).unwrap();
    assert_eq!(amd.cpu.gpr[RAX], 0);
}
