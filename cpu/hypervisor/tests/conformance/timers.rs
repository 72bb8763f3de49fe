//! The local APIC: its timer (Intel SDM vol. 3A §11.5.4) and x2APIC mode (§11.12).

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::Hypervisor;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_one_shot_timer_fires_once", one_shot),
        Case::new("a_periodic_timer_fires_again_and_again", periodic),
        Case::new("a_tsc_deadline_fires_at_its_time", deadline),
        Case::new("x2apic_mode_has_the_id_and_sends_itself_an_interrupt", x2apic),
    ]
}

/// Divide by 1.
const DIVIDE: (u64, u32) = (0x3e0, 0xb);
const LVT_TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;

fn start_timer(a: &mut CodeAssembler, mode: u32, count: u32) -> Code {
    enable_apic(a)?;
    write_apic(a, DIVIDE.0, DIVIDE.1)?;
    write_apic(a, LVT_TIMER, mode | 0x60)?;
    a.sti()?;
    write_apic(a, INITIAL_COUNT, count)
}

fn one_shot(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        start_timer(a, 0, 1_000_000)?;
        wait_for(a, 0, 1)?;
        a.mov(eax, (APIC + CURRENT_COUNT) as u32)?;
        a.mov(eax, dword_ptr(rax))?;
        a.mov(qword_ptr(DATA + 8), rax)
    });
    guest.count_vector(0x60, 0);
    guest.run();
    assert_eq!((guest.result(0), guest.result(1)), (1, 0));
}

fn periodic(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        start_timer(a, 1 << 17, 1_000_000)?;
        wait_for(a, 0, 3)
    });
    guest.count_vector(0x60, 0);
    guest.run();
}

fn deadline(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        enable_apic(a)?;
        write_apic(a, LVT_TIMER, 2 << 17 | 0x60)?;
        a.sti()?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.add(rax, 2_000_000)?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.mov(rdx, rax)?;
        a.shr(rdx, 32)?;
        a.mov(ecx, TSC_DEADLINE)?;
        a.wrmsr()?;
        wait_for(a, 0, 1)?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.mov(qword_ptr(DATA + 16), rax)?;
        a.mov(ecx, TSC_DEADLINE)?;
        a.rdmsr()?;
        a.mov(qword_ptr(DATA + 24), rax)
    });
    guest.count_vector(0x60, 0);
    guest.run();
    assert!(guest.result(2) >= guest.result(1), "not before the deadline");
    assert_eq!(guest.result(3), 0, "the deadline is disarmed");
}

fn x2apic(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(ecx, APIC_BASE)?;
        a.rdmsr()?;
        a.or(eax, 1 << 10)?;
        a.wrmsr()?;
        write_x2apic(a, 0x80f, 0x1ff)?;
        a.mov(ecx, 0x802_u32)?;
        a.rdmsr()?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.sti()?;
        // SELF IPI (§11.12.11).
        write_x2apic(a, 0x83f, 0x61)?;
        wait_for(a, 0, 1)
    });
    guest.on_vector(0x61, |a| {
        a.inc(qword_ptr(DATA))?;
        write_x2apic(a, 0x80b, 0)?;
        a.iretq()
    });
    guest.run();
    assert_eq!(guest.result(1), 0);
}

fn write_x2apic(a: &mut CodeAssembler, index: u32, value: u32) -> Code {
    a.mov(ecx, index)?;
    a.mov(eax, value)?;
    a.xor(edx, edx)?;
    a.wrmsr()
}
