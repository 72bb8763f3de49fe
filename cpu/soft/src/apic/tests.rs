//! Priorities, ends, destinations, the timer.

use super::*;

fn enabled(id: u32) -> Apic {
    let mut apic = Apic::new(id);
    apic.write(r::SVR, 0x1ff, 0);
    apic
}

#[test]
fn the_highest_class_above_the_task_priority_comes_first() {
    let mut apic = enabled(0);
    apic.accept(0x31, false);
    apic.accept(0x52, false);
    apic.write(r::TPR, 0x50, 0);
    assert_eq!(apic.next(), None);
    apic.write(r::TPR, 0x40, 0);
    assert_eq!(apic.next(), Some(0x52));
    apic.begin(0x52);
    assert_eq!(apic.next(), None, "0x31 waits for the end of 0x52");
    apic.write(r::TPR, 0, 0);
    assert_eq!(apic.write(r::EOI, 0, 0), Effect::None);
    assert_eq!(apic.next(), Some(0x31));
}

#[test]
fn the_end_of_a_level_interrupt_is_told() {
    let mut apic = enabled(0);
    apic.accept(0x60, true);
    apic.begin(0x60);
    assert_eq!(apic.write(r::EOI, 0, 0), Effect::End(0x60));
    assert_eq!(apic.write(r::EOI, 0, 0), Effect::None, "nothing is in service");
}

#[test]
fn a_disabled_apic_takes_nothing_and_an_illegal_vector_is_an_error() {
    let mut apic = Apic::new(0);
    apic.accept(0x60, false);
    assert_eq!(apic.next(), None);
    let mut apic = enabled(0);
    apic.accept(3, false);
    apic.write(r::ESR, 0, 0);
    assert_eq!(apic.read(r::ESR, 0), spec::ESR_RECEIVE_ILLEGAL);
}

#[test]
fn a_one_shot_timer_counts_down_and_fires_once() {
    let mut apic = enabled(0);
    apic.write(r::LVT_TIMER, 0x40, 0);
    apic.write(r::DIVIDE, 0xb, 0);
    apic.write(r::INITIAL_COUNT, 100, 1000);
    assert_eq!(apic.read(r::CURRENT_COUNT, 1000 + 40 * 30), 70);
    assert_eq!(apic.deadline(), Some(1000 + 4000));
    assert!(!apic.tick(4999));
    assert!(apic.tick(5000));
    assert_eq!((apic.next(), apic.deadline()), (Some(0x40), None));
}

#[test]
fn a_periodic_timer_keeps_its_phase_when_it_is_late() {
    let mut apic = enabled(0);
    apic.write(r::LVT_TIMER, 1 << 17 | 0x40, 0);
    apic.write(r::DIVIDE, 0xb, 0);
    apic.write(r::INITIAL_COUNT, 25, 0);
    assert_eq!(apic.deadline(), Some(1000));
    assert!(apic.tick(3500));
    assert_eq!(apic.deadline(), Some(4000));
}

#[test]
fn the_deadline_timer_takes_only_its_own_register() {
    let mut apic = enabled(0);
    apic.set_tsc_deadline(5, 5);
    assert_eq!(apic.deadline(), None, "not in TSC-deadline mode");
    apic.write(r::LVT_TIMER, 2 << 17 | 0x40, 0);
    apic.write(r::INITIAL_COUNT, 25, 0);
    assert_eq!(apic.deadline(), None);
    apic.set_tsc_deadline(5, 7);
    assert_eq!((apic.deadline(), apic.tsc_deadline()), (Some(7), 5));
    assert!(apic.tick(7));
    assert_eq!(apic.tsc_deadline(), 0);
}

#[test]
fn modes_change_only_as_the_manual_allows() {
    let mut apic = Apic::new(0);
    let x2 = spec::BASE_ADDRESS | spec::BASE_MODE;
    assert_eq!(apic.set_base(x2), Ok(()));
    assert_eq!(
        apic.set_base(spec::BASE_ADDRESS | spec::BASE_ENABLED),
        Err(Refused),
        "x2APIC to xAPIC"
    );
    assert_eq!(apic.set_base(spec::BASE_ADDRESS), Ok(()));
    assert_eq!(apic.set_base(x2), Err(Refused), "disabled to x2APIC");
}

fn receivers(message: Message, from: usize, apics: &[Apic]) -> Vec<usize> {
    let identities: Vec<Identity> = apics
        .iter()
        .map(|apic| {
            let identity = Identity::default();
            apic.publish(&identity);
            identity
        })
        .collect();
    deliveries(message, from, &identities).collect()
}

#[test]
fn messages_find_their_receivers() {
    let mut apics: Vec<Apic> = (0..4).map(enabled).collect();
    for (number, apic) in (0..).zip(&mut apics) {
        apic.write(r::LDR, 1 << (24 + number), 0);
    }
    let msi = |address: u64| Message::of_msi(kezhan_hypervisor::MsiMessage { address, data: 0x40 });
    assert_eq!(receivers(msi(0xfee0_2000), 0, &apics), [2]);
    assert_eq!(receivers(msi(0xfeef_f000), 0, &apics), [0, 1, 2, 3]);
    assert_eq!(receivers(msi(0xfee0_a004), 0, &apics), [1, 3]);
    let icr = |bits: u64| Message::of_icr(bits | 0x40);
    assert_eq!(receivers(icr(1 << 18), 2, &apics), [2]);
    assert_eq!(receivers(icr(2 << 18), 2, &apics), [0, 1, 2, 3]);
    assert_eq!(receivers(icr(3 << 18), 2, &apics), [0, 1, 3]);
    assert_eq!(receivers(icr(3 << 32), 2, &apics), [3]);
}

#[test]
fn a_saved_page_restores_to_the_same_page() {
    let mut apic = enabled(3);
    apic.write(r::LVT_TIMER, 0x40, 0);
    apic.write(r::INITIAL_COUNT, 1000, 0);
    apic.accept(0x55, true);
    apic.write(r::TPR, 0x20, 0);
    let saved = apic.save(400);
    let mut other = Apic::new(3);
    other.restore(&saved, apic.base(), 9000);
    assert_eq!(other.save(9000), saved);
}

#[test]
fn a_count_that_has_ended_stays_ended_when_the_timer_becomes_periodic() {
    let mut apic = enabled(0);
    apic.write(r::LVT_TIMER, 0x40, 0);
    apic.write(r::DIVIDE, 0xb, 0);
    apic.write(r::INITIAL_COUNT, 25, 0);
    assert!(apic.tick(1000));
    apic.write(r::LVT_TIMER, 1 << 17 | 0x40, 2000);
    assert_eq!((apic.deadline(), apic.read(r::CURRENT_COUNT, 2000)), (None, 0));
}

#[test]
fn x2apic_mode_has_the_registers_of_its_table_and_no_others() {
    let numbers: Vec<u32> = (0..0x40).filter(|number| r::is_in_x2apic(number * 16)).collect();
    let expected = [0x02, 0x03, 0x08, 0x0a, 0x0b, 0x0d, 0x0f].into_iter().chain(0x10..=0x28);
    let expected = expected.chain([0x30]).chain(0x32..=0x39).chain([0x3e, 0x3f]);
    assert_eq!(numbers, expected.collect::<Vec<_>>());
}
