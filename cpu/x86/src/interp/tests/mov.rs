//! Moves, exchanges and hints.

use crate::fault::{Stop, vector};
use crate::flags::{CF, ZF};
use crate::state::{CS, DS, FS, RAX, RBX, RCX, RDI, RDX, RSI, SS};
use crate::testkit::Bench;

#[test]
fn a_32_bit_destination_loses_its_upper_half_and_a_shorter_one_keeps_the_rest() {
    let full = || Bench::bits64().with(RAX, u64::MAX).with(RCX, 0x1122_3344_5566_7788);
    for (code, expected) in [
        (/* mov al, cl */ &[0x88, 0xc8][..], 0xffff_ffff_ffff_ff88),
        (/* mov ah, cl */ &[0x88, 0xcc], 0xffff_ffff_ffff_88ff),
        (/* mov ax, cx */ &[0x66, 0x89, 0xc8], 0xffff_ffff_ffff_7788),
        (/* mov eax, ecx */ &[0x89, 0xc8], 0x5566_7788),
        (/* mov eax, -1 */ &[0xb8, 0xff, 0xff, 0xff, 0xff], 0xffff_ffff),
        (/* mov rax, -2 */ &[0x48, 0xc7, 0xc0, 0xfe, 0xff, 0xff, 0xff], u64::MAX - 1),
        (/* movzx eax, ch */ &[0x0f, 0xb6, 0xc5], 0x77),
        (/* movsx ax, cl */ &[0x66, 0x0f, 0xbe, 0xc1], 0xffff_ffff_ffff_ff88),
        (/* movsx eax, cl */ &[0x0f, 0xbe, 0xc1], 0xffff_ff88),
        (/* movsxd rax, ecx */ &[0x48, 0x63, 0xc1], 0x5566_7788),
        (/* lea eax, [rcx + rcx] */ &[0x8d, 0x04, 0x09], 0xaacc_ef10),
        (
            /* lea rax, [ecx + ecx * 4 + 1] */ &[0x67, 0x48, 0x8d, 0x44, 0x89, 0x01],
            0xab00_55a9,
        ),
        (/* bswap eax */ &[0x0f, 0xc8], 0xffff_ffff),
    ] {
        let mut bench = full();
        bench.run(code).unwrap();
        assert_eq!(bench.cpu.gpr[RAX], expected, "{code:02x?}");
    }
}

#[test]
fn byte_registers_behind_a_prefix_are_the_low_ones() {
    let mut bench = Bench::bits64().with(RSI, 0x1234).with(RDI, 0xff00).with(9, 7);
    bench.run(/* mov dil, sil; mov r10b, r9b */ &[0x40, 0x88, 0xf7, 0x45, 0x88, 0xca]).unwrap();
    assert_eq!((bench.cpu.gpr[RDI], bench.cpu.gpr[10]), (0xff34, 7));
}

#[test]
fn a_false_cmov_zero_extends_and_still_faults() {
    let mut bench = Bench::bits64().with(RAX, u64::MAX).with(RCX, 1 << 40);
    bench.cpu.set_rflags(ZF);
    bench.run(/* cmovne eax, ecx */ &[0x0f, 0x45, 0xc1]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0xffff_ffff);
    assert_eq!(bench.fault(/* cmovne eax, [rcx] */ &[0x0f, 0x45, 0x01]), (vector::PF, Some(0)));
    assert_eq!(bench.fault_address(), Some(1 << 40));
}

#[test]
fn an_offset_without_registers_has_the_address_size_of_the_code() {
    let mut bench = Bench::bits64();
    bench.mem.set(0x3000, 0x1234_5678_9abc_def0_u64);
    bench
        .run(/* movabs rax, ds:0x3000; movabs ds:0x4000, al */ &[
            0x48, 0xa1, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa2, 0x00, 0x40, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x00,
        ])
        .unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x1234_5678_9abc_def0);
    assert_eq!(bench.mem.get::<u16>(0x4000), 0xf0);
    let mut bench = Bench::real_mode();
    bench.cpu.segments[DS].base = 0x1_0000;
    bench.cpu.derive();
    bench.mem.set(0x1_3000, 0xbeef_u16);
    bench.run(/* mov ax, ds:0x3000 */ &[0xa1, 0x00, 0x30]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0xbeef);
}

#[test]
fn sixteen_bit_addresses_wrap_inside_the_segment() {
    let mut bench = Bench::real_mode().with(RBX, 0xffff).with(RSI, 3);
    bench.cpu.segments[DS].base = 0x2_0000;
    bench.cpu.derive();
    bench.mem.set(0x2_0002, 0x55_u8);
    bench.run(/* mov al, [bx + si] */ &[0x8a, 0x00]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x55);
    assert_eq!(
        bench.fault(/* mov ax, [bx] */ &[0x8b, 0x07]),
        (vector::GP, Some(0)),
        "a word across the end"
    );
}

#[test]
fn rip_relative_and_fs_relative_operands_are_found() {
    let mut bench = Bench::bits64();
    bench.cpu.segments[FS].base = 0x5000;
    bench.cpu.derive();
    bench.mem.set(0x5010, 0xfeed_u16);
    bench.mem.set(crate::testkit::CODE + 0x107, 0xcafe_u16);
    bench.run(/* mov cx, [rip + 0x100] */ &[0x66, 0x8b, 0x0d, 0x00, 0x01, 0x00, 0x00]).unwrap();
    assert_eq!(bench.cpu.gpr[RCX], 0xcafe);
    bench
        .run(/* mov dx, fs:[0x10] */ &[0x64, 0x66, 0x8b, 0x14, 0x25, 0x10, 0x00, 0x00, 0x00])
        .unwrap();
    assert_eq!(bench.cpu.gpr[RDX] & 0xffff, 0xfeed);
}

#[test]
fn a_write_needs_a_writable_segment() {
    let mut bench = Bench::bits32().with(RBX, 0x3000);
    assert_eq!(bench.fault(/* mov cs:[ebx], al */ &[0x2e, 0x88, 0x03]), (vector::GP, Some(0)));
    bench.cpu.segments[SS].limit = 0x2fff;
    assert_eq!(bench.fault(/* mov ss:[ebx], al */ &[0x36, 0x88, 0x03]), (vector::SS, Some(0)));
    bench.cpu.segments[DS].unusable = true;
    assert_eq!(bench.fault(/* mov al, [ebx] */ &[0x8a, 0x03]), (vector::GP, Some(0)));
    bench.cpu.segments[CS].kind = 8;
    assert_eq!(
        bench.fault(/* mov al, cs:[ebx] */ &[0x2e, 0x8a, 0x03]),
        (vector::GP, Some(0)),
        "execute-only"
    );
}

#[test]
fn xlat_indexes_with_al_alone() {
    let mut bench = Bench::bits64().with(RAX, 0xffff_ff05).with(RBX, 0x3000);
    bench.mem.put(0x3005, &[0x77]);
    bench.run(/* xlatb */ &[0xd7]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0xffff_ff77);
    let mut bench = Bench::real_mode().with(RAX, 0xff).with(RBX, 0xff81);
    bench.mem.put(0x80, &[0x66]);
    bench.run(/* xlatb */ &[0xd7]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x66, "the offset wraps at 64 KiB");
}

#[test]
fn movbe_turns_bytes_around() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RCX, 0x0102_0304);
    bench
        .run(
            /* movbe [rbx], ecx; movbe ax, [rbx + 2] */
            &[0x0f, 0x38, 0xf1, 0x0b, 0x66, 0x0f, 0x38, 0xf0, 0x43, 0x02],
        )
        .unwrap();
    assert_eq!(bench.mem.get::<u32>(0x3000), 0x0403_0201);
    assert_eq!(bench.cpu.gpr[RAX], 0x0304);
}

#[test]
fn salc_spreads_the_carry() {
    for (carry, al) in [(0, 0), (CF, 0xff)] {
        let mut bench = Bench::bits32().with(RAX, 0x1234);
        bench.cpu.set_rflags(carry);
        bench.run(&[0xd6]).unwrap();
        assert_eq!(bench.cpu.gpr[RAX], 0x1200 | al);
    }
    assert_eq!(Bench::bits64().fault(&[0xd6]).0, vector::UD);
}

#[test]
fn a_store_to_decoded_bytes_changes_nothing() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RAX, 5).with(RCX, 5);
    bench.mem.decoded.push(0x3000..0x3001);
    bench.mem.put(0x3000, &[5]);
    for code in [
        /* mov [rbx], cl */ &[0x88, 0x0b][..],
        /* xchg [rbx], cl */ &[0x86, 0x0b],
        /* xadd [rbx], cl */ &[0x0f, 0xc0, 0x0b],
        /* lock xadd [rbx], cl */ &[0xf0, 0x0f, 0xc0, 0x0b],
        /* cmpxchg [rbx], cl */ &[0x0f, 0xb0, 0x0b],
        /* lock cmpxchg [rbx], cl */ &[0xf0, 0x0f, 0xb0, 0x0b],
        /* cmpxchg8b [rbx] */ &[0x0f, 0xc7, 0x0b],
        /* setne [rbx] */ &[0x0f, 0x95, 0x03],
    ] {
        let before = (bench.cpu.gpr, bench.cpu.rflags());
        assert_eq!(bench.run(code), Err(Stop::CodeWrite), "{code:02x?}");
        let mut after = (bench.cpu.gpr, bench.cpu.rflags());
        after.0[crate::state::BLOCK] = before.0[crate::state::BLOCK];
        assert_eq!(after, before, "{code:02x?}");
        assert_eq!(bench.mem.get::<u8>(0x3000), 5);
    }
}

#[test]
fn xchg_with_memory_is_atomic_without_lock() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RAX, 0x11);
    bench.mem.put(0x3000, &[0x22]);
    bench.mem.rival.push((0x3000, 0x33));
    bench.run(/* xchg [rbx], al */ &[0x86, 0x03]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x33, "what another CPU wrote just before");
    assert_eq!((bench.mem.get::<u8>(0x3000), bench.mem.exchanges), (0x11, 2));
}

#[test]
fn a_locked_xadd_counts_what_a_rival_added() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RAX, 1);
    bench.mem.rival.push((0x3000, 41));
    bench.run(/* lock xadd [rbx], eax */ &[0xf0, 0x0f, 0xc1, 0x03]).unwrap();
    assert_eq!((bench.cpu.gpr[RAX], bench.mem.get::<u32>(0x3000)), (41, 42));
}

#[test]
fn lock_on_a_register_is_an_invalid_opcode() {
    for code in [&[0xf0, 0x0f, 0xc1, 0xc8][..], &[0xf0, 0x87, 0xc8], &[0xf0, 0x8b, 0x03]] {
        assert_eq!(Bench::bits64().fault(code), (vector::UD, None));
    }
}

#[test]
fn a_failed_cmpxchg_writes_what_it_found() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RAX, u64::MAX).with(RCX, 9);
    bench.mem.set(0x3000, 7_u32);
    bench.run(/* cmpxchg [rbx], ecx */ &[0x0f, 0xb1, 0x0b]).unwrap();
    assert_eq!((bench.cpu.gpr[RAX], bench.mem.get::<u32>(0x3000)), (7, 7));
    assert!(!bench.cpu.flags.zf());
    bench.mem.read_only.push(0x3000..0x3004);
    bench.cpu.gpr[RAX] = 1;
    for code in [
        /* cmpxchg [rbx], ecx */ &[0x0f, 0xb1, 0x0b][..],
        /* lock cmpxchg [rbx], ecx */ &[0xf0, 0x0f, 0xb1, 0x0b],
    ] {
        assert_eq!(bench.fault(code), (vector::PF, Some(3)), "also when it fails");
        assert_eq!(bench.cpu.gpr[RAX], 1);
    }
}

#[test]
fn cmpxchg8b_and_16b_compare_both_halves() {
    let mut bench = Bench::bits64().with(RBX, 0x0b).with(RCX, 0x0c).with(RSI, 0x3000);
    bench.mem.set(0x3000, 0x2_0000_0001_u64);
    bench.cpu.gpr[RAX] = 1;
    bench.cpu.gpr[RDX] = 0xffff_ffff_0000_0002;
    bench.run(/* cmpxchg8b [rsi] */ &[0x0f, 0xc7, 0x0e]).unwrap();
    assert!(bench.cpu.flags.zf());
    assert_eq!(bench.mem.get::<u64>(0x3000), 0x0c_0000_000b);
    bench.run(/* lock cmpxchg16b [rsi] */ &[0xf0, 0x48, 0x0f, 0xc7, 0x0e]).unwrap();
    assert!(!bench.cpu.flags.zf());
    assert_eq!((bench.cpu.gpr[RAX], bench.cpu.gpr[RDX]), (0x0c_0000_000b, 0));
    bench.run(/* lock cmpxchg16b [rsi] */ &[0xf0, 0x48, 0x0f, 0xc7, 0x0e]).unwrap();
    assert_eq!((bench.mem.get::<u64>(0x3000), bench.mem.get::<u64>(0x3008)), (0x0b, 0x0c));
    assert_eq!(
        bench.fault(/* cmpxchg16b [rsi + 8] */ &[0x48, 0x0f, 0xc7, 0x4e, 0x08]),
        (vector::GP, Some(0)),
        "misaligned"
    );
}

#[test]
fn hints_change_nothing_and_only_clflush_looks_at_its_operand() {
    let mut bench = Bench::bits64().with(RBX, 1 << 40);
    let before = bench.cpu.gpr;
    bench
        .run(/* nop; nopw [rbx]; prefetchw [rbx]; prefetchnta [rbx]; lfence; mfence; sfence; pause; endbr64 */ &[0x90, 0x66, 0x0f, 0x1f, 0x03, 0x0f, 0x0d, 0x0b, 0x0f, 0x18, 0x03, 0x0f, 0xae, 0xe8, 0x0f, 0xae, 0xf0, 0x0f, 0xae, 0xf8, 0xf3, 0x90, 0xf3, 0x0f, 0x1e, 0xfa])
        .unwrap();
    bench
        .run(
            /* rdsspq rcx, cldemote [rbx] */
            &[0xf3, 0x48, 0x0f, 0x1e, 0xc9, 0x0f, 0x1c, 0x03],
        )
        .unwrap();
    assert_eq!(bench.cpu.gpr[..16], before[..16]);
    assert_eq!(bench.fault(/* clflush [rbx] */ &[0x0f, 0xae, 0x3b]), (vector::PF, Some(0)));
}
