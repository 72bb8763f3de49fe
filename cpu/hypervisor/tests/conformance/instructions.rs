//! Instructions of ring 0 that kernels use and that some hosts' KVM cannot run by itself.
//!
//! Each row is a case: code in 64-bit mode, and the results that it leaves. Memory at DATA + 0x100 is
//! zero and free; vectors 3 and 0x80 count in result 7; RBX is DATA.

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::Hypervisor;
use kezhan_hypervisor::testkit::Access::ReadMemory;

struct Row {
    name: &'static str,
    code: fn(&mut CodeAssembler) -> Code,
    wanted: &'static [(u64, u64)],
}

const ROWS: &[Row] = &[
    Row { name: "int3", code: |a| a.int3(), wanted: &[(7, 1)] },
    Row { name: "int", code: |a| a.int(0x80), wanted: &[(7, 1)] },
    Row {
        name: "clac_and_stac",
        code: |a| {
            a.stac()?;
            a.pushfq()?;
            a.pop(qword_ptr(rbx))?;
            a.clac()?;
            a.pushfq()?;
            a.pop(qword_ptr(rbx + 8))
        },
        wanted: &[(0, 0x40002), (1, 2)],
    },
    Row {
        name: "xgetbv",
        code: |a| {
            enable_xsave(a, 3)?;
            a.xor(ecx, ecx)?;
            a.xgetbv()?;
            a.mov(qword_ptr(rbx), rax)?;
            a.mov(qword_ptr(rbx + 8), rdx)
        },
        wanted: &[(0, 3), (1, 0)],
    },
    Row {
        name: "lar_and_lsl",
        code: |a| {
            a.mov(eax, 0x10_u32)?;
            a.lar(ecx, eax)?;
            a.mov(qword_ptr(rbx), rcx)?;
            a.lsl(ecx, eax)?;
            a.mov(qword_ptr(rbx + 8), rcx)
        },
        wanted: &[(0, 0x00cf_9300), (1, 0xffff_ffff)],
    },
    Row {
        name: "verr_and_verw",
        code: |a| {
            a.mov(eax, 0x10_u32)?;
            a.verw(ax)?;
            a.setz(byte_ptr(rbx))?;
            a.mov(eax, 8_u32)?;
            a.verw(ax)?;
            a.setz(byte_ptr(rbx + 8))?;
            a.verr(ax)?;
            a.setz(byte_ptr(rbx + 16))
        },
        wanted: &[(0, 1), (1, 0), (2, 1)],
    },
    Row {
        name: "cmpxchg16b",
        code: |a| {
            a.mov(rdi, DATA + 0x100)?;
            a.xor(eax, eax)?;
            a.xor(edx, edx)?;
            a.mov(rcx, 0x2222_u64)?;
            a.push(rbx)?;
            a.mov(rbx, 0x1111_u64)?;
            a.lock().cmpxchg16b(xmmword_ptr(rdi))?;
            a.pop(rbx)?;
            a.setz(byte_ptr(rbx))?;
            a.mov(rax, qword_ptr(rdi))?;
            a.mov(qword_ptr(rbx + 8), rax)?;
            a.mov(rax, qword_ptr(rdi + 8))?;
            a.mov(qword_ptr(rbx + 16), rax)?;
            a.xor(eax, eax)?;
            a.lock().cmpxchg16b(xmmword_ptr(rdi))?;
            a.setz(byte_ptr(rbx + 24))?;
            a.mov(qword_ptr(rbx + 32), rax)?;
            a.mov(qword_ptr(rbx + 40), rdx)
        },
        wanted: &[(0, 1), (1, 0x1111), (2, 0x2222), (3, 0), (4, 0x1111), (5, 0x2222)],
    },
    Row {
        name: "popcnt",
        code: |a| {
            a.mov(rax, 0xf0f0_f0f0_0000_0001_u64)?;
            a.popcnt(rcx, rax)?;
            a.mov(qword_ptr(rbx), rcx)
        },
        wanted: &[(0, 17)],
    },
    Row {
        name: "crc32",
        code: |a| {
            a.mov(eax, 0xffff_ffff_u32)?;
            a.mov(rcx, 0x3736_3534_3332_3130_u64)?;
            a.crc32(rax, rcx)?;
            a.mov(qword_ptr(rbx), rax)
        },
        // CRC-32C of "01234567", not inverted at the end.
        wanted: &[(0, 0x53dd_dcdf)],
    },
    Row {
        name: "xsave_and_xrstor",
        code: |a| {
            enable_xsave(a, 3)?;
            a.mov(rsi, DATA + 0x400)?;
            a.mov(rax, 0x1234_5678_9abc_def0_u64)?;
            a.mov(qword_ptr(rbx), rax)?;
            a.movups(xmm3, xmmword_ptr(rbx))?;
            a.mov(eax, 3)?;
            a.xor(edx, edx)?;
            a.xsave(ptr(rsi))?;
            a.mov(rcx, qword_ptr(rsi + 160 + 48))?;
            a.mov(qword_ptr(rbx + 8), rcx)?;
            a.inc(rcx)?;
            a.mov(qword_ptr(rsi + 160 + 48), rcx)?;
            a.xrstor(ptr(rsi))?;
            a.movups(xmmword_ptr(rbx + 16), xmm3)
        },
        wanted: &[(1, 0x1234_5678_9abc_def0), (2, 0x1234_5678_9abc_def1), (3, 0)],
    },
    Row {
        name: "sse_integers",
        code: |a| {
            a.mov(rax, 0x0000_0001_0000_0002_u64)?;
            a.movq(xmm0, rax)?;
            a.movdqa(xmm1, xmm0)?;
            a.paddd(xmm0, xmm1)?;
            a.movq(qword_ptr(rbx), xmm0)?;
            a.pxor(xmm0, xmm0)?;
            a.movq(qword_ptr(rbx + 8), xmm0)
        },
        wanted: &[(0, 0x0000_0002_0000_0004), (1, 0)],
    },
    Row {
        name: "sse_floats",
        code: |a| {
            a.mov(eax, 3)?;
            a.cvtsi2sd(xmm0, eax)?;
            a.addsd(xmm0, xmm0)?;
            a.movsd_2(qword_ptr(rbx), xmm0)
        },
        // 6.0
        wanted: &[(0, 0x4018_0000_0000_0000)],
    },
    Row {
        name: "mxcsr",
        code: |a| {
            a.stmxcsr(dword_ptr(rbx))?;
            a.or(dword_ptr(rbx), 0x8000)?;
            a.ldmxcsr(dword_ptr(rbx))?;
            a.stmxcsr(dword_ptr(rbx + 8))
        },
        wanted: &[(0, 0x9f80), (1, 0x9f80)],
    },
    Row {
        name: "x87",
        code: |a| {
            a.fninit()?;
            a.mov(dword_ptr(rbx), 7)?;
            a.fild(dword_ptr(rbx))?;
            a.fld1()?;
            a.faddp(st1, st0)?;
            a.wait()?;
            a.fistp(qword_ptr(rbx + 8))
        },
        wanted: &[(1, 8)],
    },
    Row {
        name: "x87_control",
        code: |a| {
            a.fninit()?;
            a.mov(word_ptr(rbx), 0x027f)?;
            a.fldcw(word_ptr(rbx))?;
            a.fnstcw(word_ptr(rbx + 8))?;
            a.fnclex()?;
            a.mov(eax, 0xffff_ffff_u32)?;
            a.fnstsw(ax)?;
            a.mov(qword_ptr(rbx + 16), rax)?;
            a.emms()?;
            a.fnstenv(ptr(rbx + 0x100))?;
            a.movzx(eax, word_ptr(rbx + 0x108))?;
            a.mov(qword_ptr(rbx + 24), rax)
        },
        wanted: &[(1, 0x27f), (2, 0xffff_0000), (3, 0xffff)],
    },
    Row {
        name: "rdtscp",
        code: |a| {
            a.rdtsc()?;
            a.mov(edi, edx)?;
            a.rdtscp()?;
            a.mov(qword_ptr(rbx), rcx)?;
            a.sub(edx, edi)?;
            a.cmp(edx, 1)?;
            a.setbe(byte_ptr(rbx + 8))
        },
        wanted: &[(0, 0), (1, 1)],
    },
    Row {
        name: "invpcid",
        code: |a| {
            a.mov(rax, cr3)?;
            a.mov(eax, 2)?;
            a.invpcid(rax, xmmword_ptr(rbx + 0x100))?;
            a.mov(qword_ptr(rbx), 1)
        },
        wanted: &[(0, 1)],
    },
    Row {
        name: "adcx_and_adox",
        code: |a| {
            a.mov(rax, u64::MAX)?;
            a.mov(ecx, 1_u32)?;
            a.xor(edx, edx)?;
            a.adcx(rax, rcx)?;
            a.mov(qword_ptr(rbx), rax)?;
            a.adcx(rax, rdx)?;
            a.mov(qword_ptr(rbx + 8), rax)?;
            a.adox(rax, rcx)?;
            a.mov(qword_ptr(rbx + 16), rax)
        },
        wanted: &[(0, 0), (1, 1), (2, 2)],
    },
    Row {
        name: "bmi",
        code: |a| {
            a.mov(rax, 0x0f0f_u64)?;
            a.mov(rcx, 0x00ff_u64)?;
            a.andn(rdx, rax, rcx)?;
            a.mov(qword_ptr(rbx), rdx)?;
            a.blsr(rdx, rcx)?;
            a.mov(qword_ptr(rbx + 8), rdx)?;
            a.bzhi(rdx, rax, rcx)?;
            a.mov(qword_ptr(rbx + 16), rdx)?;
            a.rorx(rdx, rax, 8)?;
            a.mov(qword_ptr(rbx + 24), rdx)?;
            a.mov(rdx, 0x1_0000_0000_u64)?;
            a.mulx(rsi, rdi, rdx)?;
            a.mov(qword_ptr(rbx + 32), rsi)?;
            a.mov(rcx, 0xff00_u64)?;
            a.pext(rdx, rax, rcx)?;
            a.mov(qword_ptr(rbx + 40), rdx)
        },
        wanted: &[(0, 0xf0), (1, 0xfe), (2, 0x0f0f), (3, 0x0f00_0000_0000_000f), (4, 1), (5, 0x0f)],
    },
    Row {
        name: "sse_shuffles_and_aes",
        code: |a| {
            a.mov(rax, 0x0706_0504_0302_0100_u64)?;
            a.movq(xmm0, rax)?;
            a.mov(rax, 0x0001_0203_0405_0607_u64)?;
            a.movq(xmm1, rax)?;
            a.pshufb(xmm0, xmm1)?;
            a.movq(rax, xmm0)?;
            a.mov(qword_ptr(rbx), rax)?;
            a.xorps(xmm0, xmm0)?;
            a.xorps(xmm1, xmm1)?;
            a.aesenc(xmm0, xmm1)?;
            a.movd(eax, xmm0)?;
            a.mov(qword_ptr(rbx + 8), rax)
        },
        wanted: &[(0, 0x0001_0203_0405_0607), (1, 0x6363_6363)],
    },
    Row {
        name: "memory_hints",
        code: |a| {
            a.clflush(byte_ptr(rbx + 0x100))?;
            a.prefetchnta(byte_ptr(rbx + 0x100))?;
            a.mov(eax, 5)?;
            a.movnti(dword_ptr(rbx), eax)?;
            a.sfence()?;
            a.lfence()?;
            a.mfence()
        },
        wanted: &[(0, 5)],
    },
    Row {
        name: "a_loop_of_them",
        code: |a| {
            a.mov(ecx, 1000_u32)?;
            a.mov(eax, 0x10_u32)?;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.lsl(edx, eax)?;
            a.add(qword_ptr(rbx), rdx)?;
            a.dec(ecx)?;
            a.jnz(again)
        },
        wanted: &[(0, 1000 * 0xffff_ffff)],
    },
    Row {
        name: "one_that_does_nothing",
        code: |a| {
            // A selector outside the GDT: only ZF changes.
            a.mov(eax, 0x7000_u32)?;
            a.mov(edx, 5)?;
            a.lsl(edx, eax)?;
            a.setz(byte_ptr(rbx))?;
            a.mov(qword_ptr(rbx + 8), rdx)
        },
        wanted: &[(0, 0), (1, 5)],
    },
];

pub fn cases() -> Vec<Case> {
    let rows = ROWS.iter().map(|row| Case::new(row.name, |engine| run(engine, row)));
    let more = [
        Case::new("one_that_takes_a_page_fault", page_fault),
        Case::new("one_that_reads_a_devices_register", device_register),
        Case::new("one_that_is_single_stepped", single_step),
        Case::new("movbe", movbe).on_hardware("it raises #UD, with which nobody can interfere"),
        Case::new("undefined_opcodes_raise_ud", undefined),
        Case::new("a_hypercall_does_not_hang", hypercall),
    ];
    rows.chain(more).collect()
}

fn movbe(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(ebx, DATA as u32)?;
        a.mov(dword_ptr(rbx + 0x100), 0x1234_5678)?;
        a.movbe(eax, dword_ptr(rbx + 0x100))?;
        a.mov(qword_ptr(rbx), rax)
    });
    guest.run();
    assert_eq!(guest.result(0), 0x7856_3412);
}

/// #UD counts in result 7 and goes on at RCX.
fn on_undefined(guest: &Guest) {
    guest.on_vector(6, |a| {
        a.inc(qword_ptr(DATA + 56))?;
        a.mov(qword_ptr(rsp), rcx)?;
        a.iretq()
    });
}

fn undefined(engine: &dyn Hypervisor) {
    // ud0 eax, eax; ud1 eax, eax; ud2; lock nop
    const OPCODES: [&[u8]; 4] =
        [&[0x0f, 0xff, 0xc0], &[0x0f, 0xb9, 0xc0], &[0x0f, 0x0b], &[0xf0, 0x90]];
    let guest = Guest::new(engine, |a| {
        for opcode in OPCODES {
            let mut next = a.create_label();
            a.lea(rcx, ptr(next))?;
            a.db(opcode)?;
            a.set_label(&mut next)?;
            a.nop()?;
        }
        Ok(())
    });
    on_undefined(&guest);
    guest.run();
    assert_eq!(guest.result(7), 4);
}

fn hypercall(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        for hypercall in [&[0x0f, 0x01, 0xc1], &[0x0f, 0x01, 0xd9]] {
            let mut next = a.create_label();
            a.lea(rcx, ptr(next))?;
            a.mov(eax, 0x7fff)?;
            a.db(hypercall)?;
            a.set_label(&mut next)?;
            a.nop()?;
        }
        Ok(())
    });
    on_undefined(&guest);
    guest.run();
}

fn page_fault(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, 0xffff_8000_0000_1000_u64)?;
        a.lsl(eax, dword_ptr(rbx))
    });
    guest.on_vector(14, |a| {
        a.pop(qword_ptr(DATA))?;
        a.mov(rax, cr2)?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.pop(qword_ptr(DATA + 16))?;
        a.out(DONE as i32, al)?;
        a.hlt()
    });
    guest.run();
    assert_eq!(guest.result(0), 0, "a read of a page that is not present");
    assert_eq!(guest.result(1), 0xffff_8000_0000_1000);
    assert_eq!(guest.result(2), CODE + 10, "the instruction itself");
}

fn device_register(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, REGISTERS)?;
        a.lsl(eax, dword_ptr(rbx))?;
        a.mov(qword_ptr(DATA), rax)
    });
    guest.bench.seen.answer(0x10);
    guest.run();
    assert_eq!(guest.accesses(), [ReadMemory(REGISTERS, 2)]);
    assert_eq!(guest.result(0), 0xffff_ffff);
}

fn single_step(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(eax, 0x10_u32)?;
        a.pushfq()?;
        a.or(dword_ptr(rsp), 0x100)?;
        a.popfq()?;
        a.lsl(edx, eax)?;
        a.mov(qword_ptr(DATA + 16), rdx)
    });
    guest.on_vector(1, |a| {
        a.inc(qword_ptr(DATA))?;
        a.push(rax)?;
        a.mov(rax, qword_ptr(rsp + 8))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.pop(rax)?;
        a.and(dword_ptr(rsp + 16), !0x100)?;
        a.iretq()
    });
    guest.run();
    assert_eq!((guest.result(0), guest.result(2)), (1, 0xffff_ffff));
    // mov (5), pushfq (1), or (7), popfq (1), lsl (3)
    assert_eq!(guest.result(1), CODE + 17, "behind the instruction");
}

/// CR4.OSXSAVE on and XCR0 set (Intel SDM vol. 1 §13.3).
fn enable_xsave(a: &mut CodeAssembler, xcr0: i32) -> Code {
    a.mov(rax, cr4)?;
    a.or(rax, 1 << 18)?;
    a.mov(cr4, rax)?;
    a.mov(eax, xcr0)?;
    a.xor(edx, edx)?;
    a.xor(ecx, ecx)?;
    a.xsetbv()
}

fn run(engine: &dyn Hypervisor, row: &Row) {
    let guest = Guest::new(engine, |a| {
        a.mov(ebx, DATA as u32)?;
        (row.code)(a)
    });
    for vector in [3, 0x80] {
        guest.on_vector(vector, |a| {
            a.inc(qword_ptr(DATA + 56))?;
            a.iretq()
        });
    }
    guest.run();
    let results: Vec<_> = row.wanted.iter().map(|&(n, _)| (n, guest.result(n))).collect();
    assert_eq!(results, row.wanted);
}
