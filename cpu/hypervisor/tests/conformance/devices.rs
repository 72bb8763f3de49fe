//! Interrupts and doorbells by event descriptor.

use crate::Case;
use crate::interrupts::message;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::testkit::Access::{WriteMemory, WritePort};
use kezhan_hypervisor::{Doorbell, Hypervisor, Route};
use std::os::fd::{AsRawFd, BorrowedFd};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("an_event_sends_its_pins_message", interrupt),
        Case::new("an_event_of_a_masked_pin_sends_nothing", masked),
        Case::new("a_doorbell_in_memory_does_not_reach_the_machine", memory_bell),
        Case::new("a_doorbell_with_a_value_takes_only_that_value", value_bell),
        Case::new("a_doorbell_with_a_size_takes_only_that_size", size_bell),
    ]
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

#[expect(unsafe_code, reason = "EventFd has no AsFd")]
fn fd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `event` is borrowed.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Times that the event was signalled.
fn count(event: &EventFd) -> u64 {
    event.read().unwrap_or(0)
}

fn interrupt(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        enable_apic(a)?;
        a.sti()?;
        a.out(0x70, al)?;
        wait_for(a, 0, 1)?;
        a.out(0x71, al)?;
        wait_for(a, 0, 2)
    });
    let Some(events) = guest.partition.event_descriptors() else { return };
    guest.count_vector(0x48, 0);
    guest.count_vector(0x49, 0);
    let line = event();
    events.attach_interrupt(5, fd(&line)).unwrap();
    let ring = line.try_clone().unwrap();
    guest.on_port(0x70, move |partition| {
        partition.set_route(5, Some(Route { message: message(0x48), level: false }));
        ring.write(1).unwrap();
    });
    let ring = line.try_clone().unwrap();
    guest.on_port(0x71, move |partition| {
        partition.set_route(5, Some(Route { message: message(0x49), level: false }));
        ring.write(1).unwrap();
    });
    guest.run();
    events.detach_interrupt(5, fd(&line)).unwrap();
}

fn masked(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        enable_apic(a)?;
        a.sti()?;
        a.out(0x70, al)?;
        a.out(0x71, al)?;
        wait_for(a, 1, 1)
    });
    let Some(events) = guest.partition.event_descriptors() else { return };
    guest.count_vector(0x48, 0);
    guest.count_vector(0x49, 1);
    let (silent, heard) = (event(), event());
    events.attach_interrupt(5, fd(&silent)).unwrap();
    events.attach_interrupt(6, fd(&heard)).unwrap();
    guest.partition.set_route(5, Some(Route { message: message(0x48), level: false }));
    guest.partition.set_route(6, Some(Route { message: message(0x49), level: false }));
    guest.partition.set_route(5, None);
    guest.on_port(0x70, move |_| silent.write(1).unwrap());
    guest.on_port(0x71, move |_| heard.write(1).unwrap());
    guest.run();
    assert_eq!(guest.result(0), 0);
}

fn memory_bell(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, REGISTERS)?;
        a.mov(word_ptr(rbx), 1)?;
        a.mov(dword_ptr(rbx), 2)?;
        a.mov(dword_ptr(rbx + 4), 3)
    });
    let Some(events) = guest.partition.event_descriptors() else { return };
    let ring = event();
    let bell = Doorbell { port: false, address: REGISTERS, size: 0, value: None };
    events.attach_doorbell(bell, fd(&ring)).unwrap();
    guest.run();
    assert_eq!(guest.accesses(), [WriteMemory(REGISTERS + 4, 3, 4)]);
    assert_eq!(count(&ring), 2);
    events.detach_doorbell(bell, fd(&ring)).unwrap();
}

fn value_bell(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        for value in [1_u32, 2, 1] {
            a.mov(eax, value)?;
            a.out(0x20, ax)?;
        }
        Ok(())
    });
    let Some(events) = guest.partition.event_descriptors() else { return };
    let ring = event();
    let bell = Doorbell { port: true, address: 0x20, size: 2, value: Some(1) };
    events.attach_doorbell(bell, fd(&ring)).unwrap();
    guest.run();
    assert_eq!(guest.accesses(), [WritePort(0x20, 2, 2)]);
    assert_eq!(count(&ring), 2);
}

fn size_bell(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, REGISTERS)?;
        a.mov(word_ptr(rbx), 1)?;
        a.mov(dword_ptr(rbx), 2)
    });
    let Some(events) = guest.partition.event_descriptors() else { return };
    let ring = event();
    let bell = Doorbell { port: false, address: REGISTERS, size: 4, value: None };
    events.attach_doorbell(bell, fd(&ring)).unwrap();
    guest.run();
    assert_eq!(guest.accesses(), [WriteMemory(REGISTERS, 1, 2)]);
    assert_eq!(count(&ring), 1);
}
