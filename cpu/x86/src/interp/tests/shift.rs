//! Shifts, multiplications, divisions, bits and decimals.

use crate::fault::vector;
use crate::flags::{AF, ARITHMETIC, CF, OF, ZF};
use crate::state::{RAX, RBX, RCX, RDI, RDX};
use crate::testkit::Bench;

#[test]
fn a_masked_count_of_zero_leaves_the_flags_and_writes_all_the_same() {
    for code in [
        /* shl eax, cl */ &[0xd3, 0xe0][..],
        /* rcr eax, cl */ &[0xd3, 0xd8],
        /* shld eax, ebx, cl */ &[0x0f, 0xa5, 0xd8],
    ] {
        let mut bench = Bench::bits64().with(RAX, 0xffff_ffff_0000_0001).with(RCX, 0x20);
        bench.cpu.set_rflags(ARITHMETIC);
        bench.run(code).unwrap();
        assert_eq!(bench.cpu.gpr[RAX], 1);
        assert_eq!(bench.cpu.flags.bits(), ARITHMETIC);
    }
    let mut bench = Bench::bits64().with(RBX, 0x3000);
    bench.mem.read_only.push(0x3000..0x3001);
    assert_eq!(bench.fault(/* shl byte ptr [rbx], cl */ &[0xd2, 0x23]), (vector::PF, Some(3)));
}

#[test]
fn shifts_in_memory_give_the_bit_that_left() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RCX, 3);
    bench.mem.put(0x3000, &[0b1011_0001]);
    bench.run(/* shr byte ptr [rbx], 1 */ &[0xd0, 0x2b]).unwrap();
    assert!(bench.cpu.flags.cf() && bench.cpu.flags.of());
    bench.run(/* shl byte ptr [rbx], cl */ &[0xd2, 0x23]).unwrap();
    assert_eq!(bench.mem.get::<u8>(0x3000), 0b1100_0000);
    assert!(!bench.cpu.flags.cf());
    bench.run(/* sar byte ptr [rbx], 6 */ &[0xc0, 0x3b, 0x06]).unwrap();
    assert_eq!(bench.mem.get::<u8>(0x3000), 0xff);
}

#[test]
fn rotates_change_carry_and_overflow_only() {
    let mut bench = Bench::bits64().with(RAX, 0x80);
    bench.cpu.set_rflags(ZF | AF);
    bench.run(/* rol al, 1 */ &[0xd0, 0xc0]).unwrap();
    assert_eq!((bench.cpu.gpr[RAX], bench.cpu.flags.bits()), (1, ZF | AF | CF | OF));
    bench.run(/* rcl al, 9 */ &[0xc0, 0xd0, 0x09]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 1, "nine bits turn once around");
}

#[test]
fn products_fill_both_halves() {
    let mut bench = Bench::bits64().with(RAX, u64::MAX).with(RCX, u64::MAX);
    bench.run(/* mul rcx */ &[0x48, 0xf7, 0xe1]).unwrap();
    assert_eq!((bench.cpu.gpr[RAX], bench.cpu.gpr[RDX]), (1, u64::MAX - 1));
    assert!(bench.cpu.flags.cf());
    let mut bench = Bench::bits64().with(RAX, 0x80).with(RCX, 0x80);
    bench.run(/* imul cl */ &[0xf6, 0xe9]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 0x4000);
    bench.run(/* imul ecx, ecx, -2 */ &[0x6b, 0xc9, 0xfe]).unwrap();
    assert_eq!(bench.cpu.gpr[RCX], 0xffff_ff00);
    assert!(!bench.cpu.flags.of());
}

/// Whether `code` raises #DE with this dividend and divisor; the registers it leaves otherwise.
fn divide(code: &[u8], (high, low): (u64, u64), divisor: u64) -> Option<(u64, u64)> {
    let mut bench = Bench::bits64().with(RDX, high).with(RAX, low).with(RCX, divisor);
    if bench.run(code).is_err() {
        assert_eq!(bench.cpu.exception.vector, vector::DE);
        assert_eq!((bench.cpu.gpr[RDX], bench.cpu.gpr[RAX]), (high, low), "nothing has changed");
        return None;
    }
    Some((bench.cpu.gpr[RAX], bench.cpu.gpr[RDX]))
}

#[test]
fn unsigned_division_faults_exactly_when_the_quotient_is_too_large() {
    let (byte, long, quad) = (
        /* div cl */ &[0xf6, 0xf1][..],
        /* div ecx */ &[0xf7, 0xf1][..],
        /* div rcx */ &[0x48, 0xf7, 0xf1][..],
    );
    assert_eq!(divide(byte, (0, 0x10ff), 0x11), Some((0x10ff, 0)), "remainder 16, quotient 255");
    assert_eq!(divide(byte, (0, 0x1100), 0x11), None);
    assert_eq!(divide(byte, (0, 1), 0), None);
    assert_eq!(divide(long, (6, 0xffff_ffff), 7), Some((0xffff_ffff, 6)));
    assert_eq!(divide(long, (7, 0), 7), None);
    assert_eq!(divide(long, (0, 0), 0), None);
    assert_eq!(divide(quad, (u64::MAX - 1, u64::MAX), u64::MAX), Some((u64::MAX, u64::MAX - 1)));
    assert_eq!(divide(quad, (0, 100), 7), Some((14, 2)));
    assert_eq!(divide(quad, (3, 0), 3), None);
    assert_eq!(divide(quad, (0, 3), 0), None);
}

#[test]
fn signed_division_faults_exactly_when_the_quotient_is_out_of_range() {
    let (byte, word, quad) = (
        /* idiv cl */ &[0xf6, 0xf9][..],
        /* idiv cx */ &[0x66, 0xf7, 0xf9][..],
        /* idiv rcx */ &[0x48, 0xf7, 0xf9][..],
    );
    let minus = |number: u64| number.wrapping_neg();
    assert_eq!(divide(byte, (0, 0xff81), 0xff), Some((0x007f, 0)), "-127 / -1");
    assert_eq!(divide(byte, (0, 0xff80), 0xff), None, "-128 / -1");
    assert_eq!(divide(byte, (0, 0xff80), 1), Some((0x0080, 0)));
    assert_eq!(divide(byte, (0, 0xff7f), 1), None);
    assert_eq!(divide(word, (0xffff, 0xfff9), 2), Some((0xfffd, 0xffff)), "-7 / 2 = -3, -1 left");
    assert_eq!(divide(word, (0, 5), 0), None);
    assert_eq!(divide(quad, (u64::MAX, 1 << 63), minus(1)), None);
    assert_eq!(divide(quad, (u64::MAX, 1 << 63), 1), Some((1 << 63, 0)));
    assert_eq!(divide(quad, (1, 0), 4), Some((1 << 62, 0)));
    assert_eq!(divide(quad, (1, 0), 2), None);
    assert_eq!(divide(quad, (1 << 63, 0), minus(1)), None);
    assert_eq!(divide(quad, (1, 0), 0), None);
    assert_eq!(divide(quad, (u64::MAX, minus(7)), 2), Some((minus(3), minus(1))));
}

#[test]
fn bit_strings_reach_in_both_directions() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RCX, 100);
    bench.run(/* bts [rbx], ecx */ &[0x0f, 0xab, 0x0b]).unwrap();
    assert_eq!(bench.mem.get::<u32>(0x300c), 1 << 4);
    assert!(!bench.cpu.flags.cf());
    bench.cpu.gpr[RCX] = (-1_i64) as u64;
    bench.run(/* btc [rbx], rcx */ &[0x48, 0x0f, 0xbb, 0x0b]).unwrap();
    assert_eq!(bench.mem.get::<u64>(0x2ff8), 1 << 63);
    bench.run(/* btr [rbx], cx */ &[0x66, 0x0f, 0xb3, 0x0b]).unwrap();
    assert_eq!(bench.mem.get::<u16>(0x2ffe), 0);
    assert!(bench.cpu.flags.cf());
    bench.run(/* bts dword ptr [rbx], 33 */ &[0x0f, 0xba, 0x2b, 0x21]).unwrap();
    assert_eq!(bench.mem.get::<u64>(0x3000), 2, "an immediate stays inside");
    let mut bench = Bench::real_mode().with(RDI, 0x10).with(RCX, 0xff00);
    bench.mem.put(0xfff0, &[1]);
    bench.run(/* bt [di], cx */ &[0x0f, 0xa3, 0x0d]).unwrap();
    assert!(bench.cpu.flags.cf(), "the address wraps at 64 KiB");
}

#[test]
fn testing_a_bit_only_reads() {
    let mut bench = Bench::bits64().with(RBX, 0x3000);
    bench.mem.read_only.push(0x3000..0x3008);
    bench
        .run(
            /* bt dword ptr [rbx], 1; bt [rbx], ecx */
            &[0x0f, 0xba, 0x23, 0x01, 0x0f, 0xa3, 0x0b],
        )
        .unwrap();
    assert_eq!(
        bench.fault(/* btr dword ptr [rbx], 1 */ &[0x0f, 0xba, 0x33, 0x01]),
        (vector::PF, Some(3))
    );
}

#[test]
fn a_locked_bit_set_sees_a_rival() {
    let mut bench = Bench::bits64().with(RBX, 0x3000).with(RCX, 0);
    bench.mem.rival.push((0x3000, 0b101));
    bench.run(/* lock bts [rbx], ecx */ &[0xf0, 0x0f, 0xab, 0x0b]).unwrap();
    assert!(bench.cpu.flags.cf(), "set by the rival first");
    assert_eq!(bench.mem.get::<u8>(0x3000), 0b101);
    bench.run(/* lock btc dword ptr [rbx], 2 */ &[0xf0, 0x0f, 0xba, 0x3b, 0x02]).unwrap();
    assert_eq!(bench.mem.get::<u8>(0x3000), 1);
}

#[test]
fn a_scan_of_zero_leaves_its_destination_and_the_prefix_of_tzcnt_is_ignored() {
    let mut bench = Bench::bits64().with(RAX, u64::MAX);
    bench
        .run(
            /* bsf eax, ecx; bsr eax, ecx; tzcnt eax, ecx */
            &[0x0f, 0xbc, 0xc1, 0x0f, 0xbd, 0xc1, 0xf3, 0x0f, 0xbc, 0xc1],
        )
        .unwrap();
    assert_eq!(bench.cpu.gpr[RAX], u64::MAX);
    assert!(bench.cpu.flags.zf());
    bench.cpu.gpr[RCX] = 0x10;
    bench.run(/* lzcnt eax, ecx */ &[0xf3, 0x0f, 0xbd, 0xc1]).unwrap();
    assert_eq!(bench.cpu.gpr[RAX], 4, "as BSR");
}

#[test]
fn the_checksum_is_the_castagnoli_one() {
    let mut bench = Bench::bits64().with(RAX, 0xffff_ffff).with(RBX, 0x3000);
    bench.mem.put(0x3000, b"123456789");
    bench
        .run(
            /* crc32 rax, qword ptr [rbx]; crc32 eax, byte ptr [rbx + 8] */
            &[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x03, 0xf2, 0x0f, 0x38, 0xf0, 0x43, 0x08],
        )
        .unwrap();
    assert_eq!(!bench.cpu.gpr[RAX] as u32, 0xe306_9283);
    assert_eq!(bench.cpu.gpr[RAX] >> 32, 0);
}

/// AX and the defined flags among CF and AF after `code` with the given AX and flags.
fn adjust(code: &[u8], ax: u64, flags: u64) -> (u64, u64) {
    let mut bench = Bench::bits32().with(RAX, ax);
    bench.cpu.set_rflags(flags);
    bench.run(code).unwrap();
    (bench.cpu.gpr[RAX], bench.cpu.flags.bits() & (CF | AF))
}

#[test]
fn decimal_adjustments_follow_the_manual() {
    let (daa, das, aaa, aas) = (&[0x27], &[0x2f], &[0x37], &[0x3f]);
    assert_eq!(adjust(daa, 0xae, 0), (0x14, CF | AF), "79H + 35H = 114");
    assert_eq!(adjust(daa, 0x2e, CF), (0x94, CF | AF), "the example of DAA after a carry");
    assert_eq!(adjust(daa, 0x15, 0), (0x15, 0));
    assert_eq!(adjust(das, 0xee, CF | AF), (0x88, CF | AF), "35H - 47H = -12");
    assert_eq!(adjust(das, 0x03, AF), (0xfd, CF | AF), "the borrow of the low digit");
    assert_eq!(adjust(aaa, 0x00fa, 0), (0x0200, CF | AF), "ten and 250 carry twice");
    assert_eq!(adjust(aaa, 0x0105, 0), (0x0105, 0));
    assert_eq!(adjust(aas, 0x020f, 0), (0x0109, CF | AF));
    assert_eq!(adjust(/* aam */ &[0xd4, 0x0a], 0x0048, 0).0, 0x0702);
    assert_eq!(adjust(/* aad */ &[0xd5, 0x0a], 0x0702, 0).0, 0x0048);
    assert_eq!(Bench::bits32().fault(&[0xd4, 0]), (vector::DE, None));
    assert_eq!(Bench::bits64().fault(daa), (vector::UD, None));
}
