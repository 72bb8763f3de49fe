use super::spec::{ID_SHIFT, index};
use super::*;
use kezhan_device::testkit::{Recorder, check_contract, check_storm, read, write};
use kezhan_device::{ManualClock, MsiTarget};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Default)]
struct Routes(Mutex<Vec<(u32, Option<MsiMessage>, bool)>>);

impl RouteTarget for Routes {
    fn route(&self, pin: u32, message: Option<MsiMessage>, level: bool) {
        lock(&self.0).push((pin, message, level));
    }
}

fn ioapic() -> (SharedIoapic, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (SharedIoapic::new("ioapic", MsiInterrupt::new(recorder.clone()), None), recorder)
}

fn select(ioapic: &mut SharedIoapic, register: u8) {
    write(ioapic, 0, window::SELECT, 4, register.into());
}

fn set_entry(ioapic: &mut SharedIoapic, pin: u8, value: u64) {
    for half in 0..2 {
        select(ioapic, index::REDIRECTION + pin * 2 + half);
        write(ioapic, 0, window::DATA, 4, value >> (32 * half) & 0xffff_ffff);
    }
}

fn low_half(ioapic: &mut SharedIoapic, pin: u8) -> u64 {
    select(ioapic, index::REDIRECTION + pin * 2);
    read(ioapic, 0, window::DATA, 4)
}

fn message(data: u32) -> MsiMessage {
    MsiMessage { address: 0xfee0_0000, data: data | 0x4000 }
}

#[test]
fn the_ioapic_keeps_the_device_contract() {
    check_contract(&mut ioapic().0);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    check_storm(&mut ioapic().0, &ManualClock::default());
}

#[test]
fn only_the_identification_is_writable_and_arbitration_follows_it() {
    let (mut ioapic, _) = ioapic();
    select(&mut ioapic, index::VERSION);
    write(&mut ioapic, 0, window::DATA, 4, 0xffff_ffff);
    assert_eq!(read(&mut ioapic, 0, window::DATA, 4), 0x0017_0020);
    select(&mut ioapic, index::ID);
    write(&mut ioapic, 0, window::DATA, 4, 0xffff_ffff);
    assert_eq!(read(&mut ioapic, 0, window::DATA, 4), 0xf << ID_SHIFT);
    select(&mut ioapic, index::ARBITRATION);
    write(&mut ioapic, 0, window::DATA, 4, 0);
    assert_eq!(read(&mut ioapic, 0, window::DATA, 4), 0xf << ID_SHIFT);
}

#[test]
fn an_edge_sends_one_message_and_a_masked_edge_is_lost() {
    let (mut ioapic, sent) = ioapic();
    set_entry(&mut ioapic, 14, 0x81 | entry::MASKED);
    ioapic.set_line(14, true);
    ioapic.set_line(14, false);
    set_entry(&mut ioapic, 14, 0x81);
    assert_eq!(sent.take_messages(), []);
    ioapic.set_line(14, true);
    ioapic.set_line(14, true);
    assert_eq!(sent.take_messages(), [message(0x81)]);
}

#[test]
fn a_level_waits_for_the_end_of_interrupt_and_then_asks_again() {
    let (mut ioapic, sent) = ioapic();
    set_entry(&mut ioapic, 14, 0x9a | entry::LEVEL);
    ioapic.set_line(14, true);
    assert_eq!(sent.take_messages(), [message(0x809a)]);
    assert_ne!(low_half(&mut ioapic, 14) & entry::REMOTE_IRR, 0);
    ioapic.end_of_interrupt(0x99);
    assert_eq!(sent.take_messages(), [], "another vector's end");
    ioapic.end_of_interrupt(0x9a);
    assert_eq!(sent.take_messages(), [message(0x809a)]);
    ioapic.set_line(14, false);
    write(&mut ioapic, 0, window::EOI, 4, 0x9a);
    assert_eq!(sent.take_messages(), []);
    assert_eq!(low_half(&mut ioapic, 14) & entry::REMOTE_IRR, 0);
}

#[test]
fn a_level_that_came_while_masked_is_served_at_unmasking() {
    let (mut ioapic, sent) = ioapic();
    set_entry(&mut ioapic, 14, 0x82 | entry::LEVEL | entry::MASKED);
    ioapic.set_line(14, true);
    assert_eq!(sent.take_messages(), []);
    set_entry(&mut ioapic, 14, 0x82 | entry::LEVEL);
    assert_eq!(sent.take_messages(), [message(0x8082)]);
}

#[test]
fn remote_irr_is_read_only_and_falls_with_a_switch_to_edge() {
    let (mut ioapic, _) = ioapic();
    set_entry(&mut ioapic, 3, 0x64 | entry::REMOTE_IRR | entry::LEVEL);
    assert_eq!(low_half(&mut ioapic, 3), 0x64 | entry::LEVEL);
    ioapic.set_line(3, true);
    set_entry(&mut ioapic, 3, 0x64 | entry::LEVEL | entry::MASKED);
    assert_ne!(low_half(&mut ioapic, 3) & entry::REMOTE_IRR, 0, "masking keeps it");
    set_entry(&mut ioapic, 3, 0x64 | entry::MASKED);
    assert_eq!(low_half(&mut ioapic, 3), 0x64 | entry::MASKED);
}

#[test]
fn destination_and_modes_go_into_the_message() {
    let (mut ioapic, sent) = ioapic();
    set_entry(&mut ioapic, 0, 0x0d << 56 | entry::LOGICAL | entry::LOWEST_PRIORITY | 0x86);
    ioapic.set_line(0, true);
    assert_eq!(sent.take_messages(), [MsiMessage { address: 0xfee0_d004, data: 0x4186 }]);
}

#[test]
fn lines_that_share_a_pin_are_one_level() {
    let (mut ioapic, sent) = ioapic();
    set_entry(&mut ioapic, 20, 0x50 | entry::LEVEL);
    ioapic.set_line(20, true);
    ioapic.set_line(20, true);
    ioapic.set_line(20, false);
    ioapic.end_of_interrupt(0x50);
    assert_eq!(sent.take_messages().len(), 2, "one line is still high");
    ioapic.set_line(20, false);
    ioapic.end_of_interrupt(0x50);
    assert_eq!(sent.take_messages(), []);
}

#[test]
fn the_engine_is_told_of_each_route() {
    let routes = Arc::new(Routes::default());
    let msi = MsiInterrupt::new(Arc::new(Recorder::default()));
    let mut ioapic = SharedIoapic::new("ioapic", msi, Some(routes.clone()));
    select(&mut ioapic, index::REDIRECTION + 2 * 9);
    write(&mut ioapic, 0, window::DATA, 4, 0x31 | entry::LEVEL);
    write(&mut ioapic, 0, window::DATA, 4, 0x31 | entry::MASKED);
    let told = std::mem::take(&mut *lock(&routes.0));
    assert_eq!(told, [(9, Some(message(0x8031)), true), (9, None, false)]);
    let saved = ioapic.save();
    ioapic.restore(&saved).unwrap();
    assert_eq!(lock(&routes.0).len(), PINS);
}

#[test]
fn a_level_that_nobody_took_is_not_being_served() {
    struct Deaf(AtomicBool);
    impl MsiTarget for Deaf {
        fn signal(&self, _message: MsiMessage) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }
    let deaf = Arc::new(Deaf(AtomicBool::new(false)));
    let mut ioapic = SharedIoapic::new("ioapic", MsiInterrupt::new(deaf.clone()), None);
    set_entry(&mut ioapic, 5, 0x41 | entry::LEVEL);
    ioapic.set_line(5, true);
    assert_eq!(low_half(&mut ioapic, 5) & entry::REMOTE_IRR, 0);
    deaf.0.store(true, Ordering::SeqCst);
    set_entry(&mut ioapic, 5, 0x41 | entry::LEVEL);
    assert_ne!(low_half(&mut ioapic, 5) & entry::REMOTE_IRR, 0);
}

#[test]
fn a_restored_line_that_was_high_is_no_new_edge() {
    let (mut first, _) = ioapic();
    set_entry(&mut first, 4, 0x34);
    first.set_line(4, true);
    let (mut second, sent) = ioapic();
    second.restore(&first.save()).unwrap();
    second.set_line(4, true);
    assert_eq!(sent.take_messages(), []);
    second.set_line(4, false);
    second.set_line(4, true);
    assert_eq!(sent.take_messages(), [message(0x34)]);
}
