//! SYSCALL and SYSENTER, as each maker has them.

use crate::fault::vector;
use crate::flags::{FIXED, IF, TF};
use crate::state::{CS, CodeBits, R11, RAX, RCX, efer};
use crate::testkit::Bench;

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const SYSRETL: [u8; 2] = [0x0f, 0x07];
const SYSENTER: [u8; 2] = [0x0f, 0x34];
const KERNEL: u64 = 0x10;
const USER: u64 = 0x23;

/// SYSCALL enabled, in a CPU of the maker whose CPUID leaf 0 ECX is `maker`.
fn enabled(mut bench: Bench, maker: &[u8; 4]) -> Bench {
    bench.mem.cpuid.insert((0, 0), [1, 0, u32::from_le_bytes(*maker), 0]);
    bench.cpu.efer |= efer::SCE;
    bench.cpu.msr.star = USER << 48 | KERNEL << 32 | 0x7000;
    (bench.cpu.msr.lstar, bench.cpu.msr.cstar) = (0x5000, 0x6000);
    bench.cpu.msr.fmask = TF;
    bench
}

/// Compatibility mode: a 32-bit code segment in long mode.
fn compatibility() -> Bench {
    let mut bench = Bench::bits64();
    bench.cpu.segments[CS].l = false;
    bench.cpu.segments[CS].db = true;
    bench.cpu.derive();
    bench
}

#[test]
fn intel_has_syscall_in_64_bit_mode_only() {
    let mut bench = enabled(Bench::bits64(), b"ntel");
    bench.run(&SYSCALL).unwrap();
    assert_eq!(bench.cpu.rip, 0x5000);
    for bench in [compatibility(), Bench::bits32()] {
        assert_eq!(enabled(bench, b"ntel").fault(&SYSCALL), (vector::UD, None));
    }
}

#[test]
fn amd_enters_from_compatibility_mode_at_cstar_in_64_bit_mode() {
    let mut bench = enabled(compatibility(), b"cAMD");
    bench.cpu.rflags |= IF;
    bench.run(&SYSCALL).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.code_bits), (0x6000, CodeBits::Bits64));
    assert_eq!(bench.cpu.segments[CS].selector, KERNEL as u16);
    assert_eq!(bench.cpu.gpr[R11] & (IF | FIXED), IF | FIXED);
    assert_eq!(bench.cpu.rflags & IF, IF, "only what FMASK names is cleared");
}

#[test]
fn amd_enters_from_legacy_mode_at_star_without_interrupts_and_without_r11() {
    let mut bench = enabled(Bench::bits32(), b"cAMD").with(R11, 0x77);
    bench.cpu.rflags |= IF;
    bench.run(&SYSCALL).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.code_bits), (0x7000, CodeBits::Bits32));
    assert_eq!((bench.cpu.rflags & IF, bench.cpu.gpr[R11]), (0, 0x77));
    bench.cpu.gpr[RCX] = 0x1234;
    bench.run(&SYSRETL).unwrap();
    assert_eq!((bench.cpu.rip, bench.cpu.cpl, bench.cpu.rflags & IF), (0x1234, 3, IF));
}

#[test]
fn amd_has_no_sysenter_in_long_mode() {
    for (maker, what) in [(b"cAMD", vector::UD), (b"ntel", vector::GP)] {
        // Without a code segment in IA32_SYSENTER_CS it is #GP(0) where it exists.
        assert_eq!(enabled(Bench::bits64(), maker).fault(&SYSENTER).0, what);
    }
    assert_eq!(enabled(Bench::bits32(), b"cAMD").fault(&SYSENTER), (vector::GP, Some(0)));
}

#[test]
fn without_the_enable_bit_there_is_none() {
    let mut bench = enabled(Bench::bits64(), b"cAMD").with(RAX, 0);
    bench.cpu.efer &= !efer::SCE;
    assert_eq!(bench.fault(&SYSCALL), (vector::UD, None));
}
