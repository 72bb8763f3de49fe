//! Saving, restoring, pausing.

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::{Exit, Hypervisor, Vcpu, VcpuState};
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_state_that_is_set_is_read_back", round_trip),
        Case::new("the_tsc_is_what_it_was_set_to", tsc_set).on_hardware(ONE_TSC),
        Case::new("the_tsc_stands_still_while_paused", tsc_pause).on_hardware(ONE_TSC),
        Case::new("the_apic_timer_stands_still_while_paused", timer_pause),
        Case::new("the_paravirtual_clock_goes_on_where_it_was_set", clock),
        Case::new("a_state_that_is_not_possible_is_refused_or_does_no_harm", impossible),
    ]
}

/// A guest that begins under one engine and goes on under another (or the same).
type Move = fn(&dyn Hypervisor, &dyn Hypervisor);

/// All such guests, by name.
pub const MOVES: [(&str, Move); 3] = [
    ("a_spinning_guest_goes_on", move_spinning),
    ("a_halted_guest_goes_on", move_halted),
    ("an_armed_timer_fires", move_timer),
];

const TSC: u32 = 0x10;
const ONE_TSC: &str = "the guest's TSC is the host's, whatever it is set to";

fn msr(state: &VcpuState, index: u32) -> u64 {
    state.msrs.iter().find(|(i, _)| *i == index).expect("the MSR is in the state").1
}

fn set_msr(state: &mut VcpuState, index: u32, value: u64) {
    state.msrs.iter_mut().find(|(i, _)| *i == index).expect("the MSR is in the state").1 = value;
}

fn round_trip(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |_| Ok(()));
    let mut vcpu = guest.boot();
    guest.partition.pause();
    let mut state = vcpu.state().unwrap();
    state.general.gpr = std::array::from_fn(|n| 0x0101_0101_0101_0101 * n as u64);
    state.general.rflags = 0x8d7;
    state.system.segments[4].base = 0xffff_8000_1234_5678;
    state.system.cr2 = 0xdead_0000;
    state.system.cr8 = 5;
    // TPR, as CR8 has it; PPR follows (Intel SDM vol. 3A §11.8.3.1).
    state.apic.registers[0x80] = 0x50;
    state.apic.registers[0xa0] = 0x50;
    state.debug.address = [0x1000, 0x2000, 0x3000, 0x4000];
    state.debug.dr7 = 0x401;
    set_msr(&mut state, 0xc000_0082, 0xffff_8000_0000_1000);
    set_msr(&mut state, 0x174, 0x10);
    // XMM3, and in the header that SSE state is present.
    state.xsave[160 + 48..][..16].copy_from_slice(&[0xa5; 16]);
    state.xsave[512] |= 3;
    state.events.nmi_masked = true;
    vcpu.set_state(&state).unwrap();
    let back = vcpu.state().unwrap();
    assert_eq!(back.general, state.general);
    assert_eq!(back.system, state.system);
    assert_eq!(back.debug, state.debug);
    assert_eq!(back.msrs, state.msrs);
    assert_eq!(back.xsave, state.xsave);
    assert_eq!(back.apic, state.apic);
    assert_eq!(back, state);
}

/// Runs `guest` for a while, and gives its state.
fn run_for_a_while(guest: &Guest, vcpu: &mut dyn Vcpu) -> VcpuState {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            guest.partition.kick(0);
        });
        guest.run_until_kicked(vcpu);
    });
    guest.partition.pause();
    vcpu.state().unwrap()
}

/// A second guest with the RAM of the first, and its vCPU with its state.
fn copy(engine: &dyn Hypervisor, first: &Guest, state: &VcpuState) -> (Guest, Box<dyn Vcpu>) {
    let second = Guest::new(engine, |_| Ok(()));
    let mut ram = vec![0; RAM];
    first.memory.read_slice(&mut ram, GuestAddress(0)).unwrap();
    second.memory.write_slice(&ram, GuestAddress(0)).unwrap();
    let mut vcpu = second.partition.vcpu(0).unwrap();
    second.partition.pause();
    vcpu.set_state(state).unwrap();
    second.partition.resume();
    (second, vcpu)
}

fn move_spinning(from: &dyn Hypervisor, to: &dyn Hypervisor) {
    let first = Guest::new(from, |a| {
        let mut again = a.create_label();
        a.mov(rax, 0x1234_5678_9abc_def0_u64)?;
        a.set_label(&mut again)?;
        a.inc(rcx)?;
        a.mov(qword_ptr(DATA), rcx)?;
        a.cmp(qword_ptr(DATA + 8), 0)?;
        a.je(again)?;
        a.mov(qword_ptr(DATA + 16), rax)
    });
    let mut vcpu = first.boot();
    let state = run_for_a_while(&first, vcpu.as_mut());
    assert!(first.result(0) > 0);
    let (second, mut vcpu) = copy(to, &first, &state);
    second.memory.write_obj(1_u64, GuestAddress(DATA + 8)).unwrap();
    assert_eq!(second.go(vcpu.as_mut()), Exit::Kicked);
    assert_eq!(second.result(2), 0x1234_5678_9abc_def0);
    assert!(second.result(0) >= first.result(0));
}

fn move_halted(from: &dyn Hypervisor, to: &dyn Hypervisor) {
    let first = Guest::new(from, |a| {
        enable_apic(a)?;
        a.sti()?;
        a.hlt()?;
        a.mov(qword_ptr(DATA + 8), 7)
    });
    first.count_vector(0x40, 0);
    let mut vcpu = first.boot();
    let state = run_for_a_while(&first, vcpu.as_mut());
    let (second, mut vcpu) = copy(to, &first, &state);
    assert!(second.partition.signal(crate::interrupts::message(0x40)));
    assert_eq!(second.go(vcpu.as_mut()), Exit::Kicked);
    assert_eq!((second.result(0), second.result(1)), (1, 7));
}

/// One shot after `count` ticks of the bus clock, divided by 128.
fn armed(a: &mut CodeAssembler, count: u32) -> Code {
    enable_apic(a)?;
    write_apic(a, 0x3e0, 0xa)?;
    write_apic(a, 0x320, 0x60)?;
    a.sti()?;
    write_apic(a, 0x380, count)?;
    wait_for(a, 0, 1)
}

fn move_timer(from: &dyn Hypervisor, to: &dyn Hypervisor) {
    let first = Guest::new(from, |a| armed(a, 1_000_000));
    first.count_vector(0x60, 0);
    let mut vcpu = first.boot();
    let state = run_for_a_while(&first, vcpu.as_mut());
    assert_eq!(first.result(0), 0, "128 ms are not over");
    let (second, mut vcpu) = copy(to, &first, &state);
    assert_eq!(second.go(vcpu.as_mut()), Exit::Kicked);
    assert_eq!(second.result(0), 1);
}

fn tsc_set(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |_| Ok(()));
    let mut vcpu = guest.boot();
    guest.partition.pause();
    let mut state = vcpu.state().unwrap();
    set_msr(&mut state, TSC, 1 << 50);
    vcpu.set_state(&state).unwrap();
    assert_eq!(msr(&vcpu.state().unwrap(), TSC), 1 << 50);
    guest.partition.resume();
    assert_eq!(guest.go(vcpu.as_mut()), Exit::Kicked);
    let passed = msr(&vcpu.state().unwrap(), TSC) - (1 << 50);
    assert!(passed < 20 * 1000 * u64::from(guest.partition.tsc_khz()), "{passed} ticks");
}

fn tsc_pause(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.rdtsc()?;
        a.shl(rdx, 32)?;
        a.or(rax, rdx)?;
        a.mov(qword_ptr(DATA), rax)?;
        a.jmp(again)
    });
    let mut vcpu = guest.boot();
    let before = run_for_a_while(&guest, vcpu.as_mut());
    assert!(msr(&before, TSC) >= guest.result(0));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(msr(&vcpu.state().unwrap(), TSC), msr(&before, TSC));
    guest.partition.resume();
    guest.partition.kick(0);
    guest.run_until_kicked(vcpu.as_mut());
    let after = vcpu.state().unwrap();
    let passed = msr(&after, TSC) - msr(&before, TSC);
    let second = u64::from(guest.partition.tsc_khz()) * 1000;
    assert!(passed < second / 2, "{passed} ticks of {second} a second");
}

fn timer_pause(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| armed(a, 2_000_000));
    guest.count_vector(0x60, 0);
    let mut vcpu = guest.boot();
    run_for_a_while(&guest, vcpu.as_mut());
    assert_eq!(guest.result(0), 0, "256 ms are not over");
    let count = |state: &VcpuState| {
        u32::from_le_bytes(state.apic.registers[0x390..0x394].try_into().unwrap())
    };
    let before = count(&vcpu.state().unwrap());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(count(&vcpu.state().unwrap()), before);
    guest.partition.resume();
    guest.partition.kick(0);
    guest.run_until_kicked(vcpu.as_mut());
    assert_eq!(guest.result(0), 0, "it did not fire for the pause");
    let after = count(&vcpu.state().unwrap());
    assert!(after > 0 && after <= before, "{after} of {before} left");
    assert_eq!(guest.go(vcpu.as_mut()), Exit::Kicked);
    assert_eq!(guest.result(0), 1);
}

fn clock(engine: &dyn Hypervisor) {
    const HOUR: u64 = 3_600_000_000_000;
    let partition = Guest::new(engine, |_| Ok(())).partition;
    partition.pause();
    if partition.paravirtual_clock().is_none() {
        return;
    }
    partition.set_paravirtual_clock(HOUR);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(partition.paravirtual_clock(), Some(HOUR), "time stands still");
    partition.resume();
    let now = partition.paravirtual_clock().unwrap();
    assert!((HOUR..HOUR + 60_000_000_000).contains(&now), "{now}");
}

fn impossible(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |_| Ok(()));
    let mut vcpu = guest.boot();
    let mut state = vcpu.state().unwrap();
    // Paging without protection (Intel SDM vol. 3A §2.5), and an APIC page and XSAVE area cut short.
    state.system.cr0 = 0x8000_0000;
    state.apic.registers.truncate(7);
    state.xsave.truncate(3);
    if vcpu.set_state(&state).is_ok() {
        guest.partition.kick(0);
        vcpu.run(guest.bench.as_ref());
    }
}
