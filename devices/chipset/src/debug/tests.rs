use super::*;
use kezhan_device::testkit::{Recorder, check_contract, check_storm, read, write};
use kezhan_device::{Access, Device, MachineEvent, ManualClock, Placement};
use kezhan_ports::testkit::CharBuffer;
use std::sync::Arc;

#[test]
fn every_debug_port_keeps_the_contract_and_survives_a_storm() {
    let control = Arc::new(Recorder::default());
    let devices: [Box<dyn Device>; 4] = [
        Box::new(DebugExit::new("exit", control.clone())),
        Box::new(Pvpanic::new("pvpanic", control)),
        Box::new(DebugConsole::new("e9", Box::new(CharBuffer::default()))),
        Box::new(PostCode::new("post")),
    ];
    for mut device in devices {
        check_contract(&mut *device);
        check_storm(&mut *device, &ManualClock::default());
    }
}

#[test]
fn the_exit_port_makes_an_odd_status_of_the_value() {
    let control = Arc::new(Recorder::default());
    let mut exit = DebugExit::new("exit", control.clone());
    write(&mut exit, 0, 0, 4, 0);
    write(&mut exit, 0, 0, 1, 0x10);
    assert_eq!(control.take_events(), [MachineEvent::Exit(1), MachineEvent::Exit(0x21)]);
}

#[test]
fn only_a_panic_without_a_crash_kernel_reaches_the_machine() {
    let control = Arc::new(Recorder::default());
    let mut pvpanic = Pvpanic::new("pvpanic", control.clone());
    assert_eq!(read(&mut pvpanic, 0, 0, 1), 3);
    write(&mut pvpanic, 0, 0, 1, 2);
    assert_eq!(control.take_events(), []);
    write(&mut pvpanic, 0, 0, 1, 1);
    assert_eq!(control.take_events(), [MachineEvent::Panicked]);
    let aml = pvpanic.aml(&Placement { bases: vec![0x505], interrupts: vec![] });
    assert!(aml.unwrap().windows(8).any(|id| id == b"QEMU0001"));
}

#[test]
fn the_debug_console_keeps_what_a_slow_port_has_not_taken() {
    let port = CharBuffer::default();
    let mut console = DebugConsole::new("e9", Box::new(port.clone()));
    assert_eq!(read(&mut console, 0, 0, 1), 0xe9);
    port.limit(Some(1));
    write(&mut console, 0, 0, 1, b'a'.into());
    write(&mut console, 0, 0, 1, b'b'.into());
    port.limit(None);
    console.poll();
    assert_eq!(port.take_output(), b"ab");
}

#[test]
fn the_post_port_keeps_the_last_code() {
    let mut post = PostCode::new("post");
    assert_eq!(write(&mut post, 0, 0, 1, 0x55), Access::Done);
    assert_eq!(post.code(), 0x55);
    assert_eq!(read(&mut post, 0, 0, 1), 0x55);
}
