//! Interrupts that come from outside: messages, the PIC, NMI, ends of interrupts.

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::testkit::Access::{Acknowledge, EndOfInterrupt};
use kezhan_hypervisor::{Hypervisor, MsiMessage, Partition, Route};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("a_message_reaches_a_spinning_guest", message_spinning),
        Case::new("a_message_wakes_a_halted_guest", message_halted),
        Case::new("a_message_waits_while_interrupts_are_off", message_masked),
        Case::new("a_message_to_nobody_is_reported", message_to_nobody),
        Case::new("the_end_of_a_level_triggered_interrupt_is_reported", level),
        Case::new("the_end_of_an_edge_triggered_interrupt_is_not", edge),
        Case::new("the_pic_interrupts_a_spinning_guest", pic_spinning),
        Case::new("the_pic_wakes_a_halted_guest", pic_halted),
        Case::new("the_pic_waits_until_interrupts_are_on", pic_masked),
        Case::new("the_pic_is_not_asked_when_its_line_fell_in_time", pic_fell),
        Case::new("an_interrupt_comes_between_two_instructions_behind_sti", window)
            .on_hardware("it holds interrupts off until the guest's next exit"),
        Case::new("an_nmi_comes_with_interrupts_off", nmi),
        Case::new("two_nmis_that_come_together_are_both_taken", two_nmis)
            .on_hardware("it makes one of them"),
    ]
}

/// Fixed delivery of `vector` to the first vCPU (Intel SDM vol. 3A §11.11).
pub fn message(vector: u8) -> MsiMessage {
    MsiMessage { address: 0xfee0_0000, data: vector.into() }
}

fn later(guest: &Guest, act: impl Fn(&dyn Partition) + Send + Sync) {
    let mut vcpu = guest.boot();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            act(guest.partition.as_ref());
        });
        guest.go(vcpu.as_mut());
    });
}

fn spin_for_one(a: &mut CodeAssembler) -> Code {
    enable_apic(a)?;
    a.sti()?;
    wait_for(a, 0, 1)
}

fn halt_for_one(a: &mut CodeAssembler) -> Code {
    enable_apic(a)?;
    let mut again = a.create_label();
    let mut done = a.create_label();
    a.set_label(&mut again)?;
    a.cli()?;
    a.cmp(qword_ptr(DATA), 1)?;
    a.je(done)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(again)?;
    a.set_label(&mut done)?;
    a.nop()
}

fn message_spinning(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, spin_for_one);
    guest.count_vector(0x40, 0);
    later(&guest, |partition| assert!(partition.signal(message(0x40))));
    assert_eq!(guest.result(0), 1);
}

fn message_halted(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, halt_for_one);
    guest.count_vector(0x40, 0);
    later(&guest, |partition| assert!(partition.signal(message(0x40))));
}

fn message_masked(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        enable_apic(a)?;
        a.out(0x70, al)?;
        a.mov(ecx, 100_u32)?;
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        a.loop_(again)?;
        a.mov(rax, qword_ptr(DATA))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.sti()?;
        wait_for(a, 0, 1)
    });
    guest.count_vector(0x40, 0);
    guest.on_port(0x70, |partition| assert!(partition.signal(message(0x40))));
    guest.run();
    assert_eq!(guest.result(1), 0, "not before STI");
}

fn message_to_nobody(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, enable_apic);
    guest.run();
    assert!(!guest.partition.signal(MsiMessage { address: 0xfee0_5000, data: 0x40 }));
}

fn set_pin(partition: &dyn Partition, pin: u32, vector: u8, level: bool) {
    partition.set_route(pin, Some(Route { message: pin_message(vector, level), level }));
}

fn pin_message(vector: u8, level: bool) -> MsiMessage {
    MsiMessage { data: u32::from(vector) | u32::from(level) << 15, ..message(vector) }
}

fn level(engine: &dyn Hypervisor) {
    // The kick that ends the guest comes right behind.
    let guest = Guest::new(engine, spin_for_one);
    guest.count_vector(0x41, 0);
    set_pin(guest.partition.as_ref(), 9, 0x41, true);
    later(&guest, |partition| assert!(partition.signal(pin_message(0x41, true))));
    assert_eq!(guest.accesses(), [EndOfInterrupt(0x41)]);
}

fn edge(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, spin_for_one);
    guest.count_vector(0x41, 0);
    set_pin(guest.partition.as_ref(), 9, 0x41, false);
    later(&guest, |partition| assert!(partition.signal(pin_message(0x41, false))));
    assert_eq!(guest.accesses(), []);
}

/// LINT0 takes the PIC's interrupts (Intel SDM vol. 3A §11.5.1).
fn open_lint0(a: &mut CodeAssembler) -> Code {
    enable_apic(a)?;
    write_apic(a, 0x350, 0x700)
}

fn pic_spinning(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        open_lint0(a)?;
        a.sti()?;
        wait_for(a, 0, 1)
    });
    guest.count_vector(0x50, 0);
    guest.pic_gives(0x50);
    later(&guest, |partition| partition.set_external_interrupt(true));
    assert_eq!(guest.accesses(), [Acknowledge]);
}

fn pic_halted(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        open_lint0(a)?;
        halt_for_one(a)
    });
    guest.count_vector(0x50, 0);
    guest.pic_gives(0x50);
    later(&guest, |partition| partition.set_external_interrupt(true));
    assert_eq!(guest.accesses(), [Acknowledge]);
}

fn pic_masked(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        open_lint0(a)?;
        a.out(0x70, al)?;
        a.out(0x71, al)?;
        a.mov(rax, qword_ptr(DATA))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.sti()?;
        wait_for(a, 0, 1)
    });
    guest.count_vector(0x50, 0);
    guest.pic_gives(0x50);
    guest.on_port(0x70, |partition| partition.set_external_interrupt(true));
    guest.on_port(0x71, |_| {});
    guest.run();
    assert_eq!(guest.result(1), 0, "not before STI");
    assert_eq!(guest.accesses(), [Acknowledge]);
}

fn pic_fell(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        open_lint0(a)?;
        a.out(0x70, al)?;
        a.out(0x71, al)?;
        a.sti()?;
        a.nop()?;
        a.nop()?;
        a.cli()
    });
    guest.on_port(0x70, |partition| partition.set_external_interrupt(true));
    guest.on_port(0x71, |partition| partition.set_external_interrupt(false));
    guest.run();
    assert_eq!(guest.accesses(), []);
}

fn nmi(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| wait_for(a, 0, 1));
    guest.on_vector(2, |a| {
        a.inc(qword_ptr(DATA))?;
        a.iretq()
    });
    later(&guest, |partition| partition.signal_nmi(0));
}

/// STI holds interrupts off for one instruction, no more: the CLI behind it comes too late.
fn window(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        enable_apic(a)?;
        a.out(0x70, al)?;
        a.sti()?;
        a.nop()?;
        a.cli()?;
        a.mov(rax, qword_ptr(DATA))?;
        a.mov(qword_ptr(DATA + 8), rax)
    });
    guest.count_vector(0x40, 0);
    guest.on_port(0x70, |partition| assert!(partition.signal(message(0x40))));
    guest.run();
    assert_eq!(guest.result(1), 1);
}

fn two_nmis(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.out(0x70, al)?;
        wait_for(a, 0, 2)
    });
    guest.on_vector(2, |a| {
        a.inc(qword_ptr(DATA))?;
        a.iretq()
    });
    guest.on_port(0x70, |partition| {
        partition.signal_nmi(0);
        partition.signal_nmi(0);
    });
    guest.run();
}
