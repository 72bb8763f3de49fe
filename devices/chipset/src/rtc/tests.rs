use super::*;
use kezhan_device::ManualClock;
use kezhan_device::testkit::{
    check_contract_with_battery, check_storm, read as read_region, write as write_region,
};

fn rtc() -> (Rtc, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let irq8 = LineInterrupt::unconnected("irq8");
    let memory = CmosMemory { below_4g: 3 << 30, above_4g: 1 << 30 };
    (Rtc::new("rtc", clock.clone(), irq8, memory), clock)
}

fn read(rtc: &mut Rtc, address: u8) -> u8 {
    write_region(rtc, 0, 0, 1, address.into());
    read_region(rtc, 0, 1, 1) as u8
}

fn write(rtc: &mut Rtc, address: u8, value: u8) {
    write_region(rtc, 0, 0, 2, u64::from(address) | u64::from(value) << 8);
}

fn time(rtc: &mut Rtc) -> [u8; 8] {
    TIME.map(|address| read(rtc, address))
}

/// Runs to the next wake-up, as the chassis does.
fn run_to_deadline(rtc: &mut Rtc, clock: &ManualClock) {
    let deadline = rtc.deadline().expect("a wake-up is wanted");
    clock.advance(deadline - clock.now());
    rtc.wake(clock.now());
}

#[test]
fn the_clock_keeps_the_device_contract() {
    check_contract_with_battery(&mut rtc().0);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    let (mut rtc, clock) = rtc();
    check_storm(&mut rtc, &clock);
}

#[test]
fn the_time_is_the_hosts_until_set() {
    let (mut rtc, clock) = rtc();
    clock.advance(3_661 * SECOND);
    assert_eq!(time(&mut rtc), [0x01, 0x01, 0x01, 5, 0x01, 0x01, 0x26, 0x20]);
}

#[test]
fn a_guest_sets_the_time_while_updates_are_stopped() {
    let (mut rtc, clock) = rtc();
    write(&mut rtc, address::B, b::SET | b::HOURS_24);
    let new = [0x59, 0x59, 0x23, 6, 0x31, 0x12, 0x99, 0x19];
    for (address, value) in TIME.into_iter().zip(new) {
        write(&mut rtc, address, value);
    }
    clock.advance(10 * SECOND);
    assert_eq!(time(&mut rtc), new, "it stands");
    write(&mut rtc, address::B, b::HOURS_24);
    clock.advance(SECOND);
    assert_eq!(time(&mut rtc), [0, 0, 0, 7, 0x01, 0x01, 0x00, 0x20]);
}

#[test]
fn the_guests_time_and_memory_outlive_a_reset_but_its_interrupts_do_not() {
    let (mut rtc, _) = rtc();
    write(&mut rtc, address::YEAR, 0x30);
    write(&mut rtc, 0x40, 0xab);
    write(&mut rtc, address::B, b::HOURS_24 | b::UIE);
    rtc.reset();
    assert_eq!(read(&mut rtc, address::YEAR), 0x30);
    assert_eq!(read(&mut rtc, 0x40), 0xab);
    assert_eq!(read(&mut rtc, address::B), b::HOURS_24);
}

#[test]
fn update_in_progress_shows_before_the_second_ends() {
    let (mut rtc, clock) = rtc();
    assert_eq!(read(&mut rtc, address::A), a::POWER_ON);
    clock.advance(SECOND - 1_000_000);
    assert_eq!(read(&mut rtc, address::A), a::POWER_ON | a::UIP);
    clock.advance(1_000_000);
    assert_eq!(read(&mut rtc, address::A), a::POWER_ON);
}

#[test]
fn the_update_interrupt_comes_each_second_and_lasts_until_c_is_read() {
    let (mut rtc, clock) = rtc();
    write(&mut rtc, address::B, b::HOURS_24 | b::UIE);
    for second in 1..4 {
        run_to_deadline(&mut rtc, &clock);
        assert_eq!(clock.now(), second * SECOND);
        assert!(rtc.irq8.is_high());
        assert_eq!(rtc.deadline(), None, "unread, it does not repeat");
        assert_eq!(read(&mut rtc, address::C) & (c::IRQF | c::UF), c::IRQF | c::UF);
        assert!(!rtc.irq8.is_high());
    }
}

#[test]
fn the_periodic_interrupt_comes_at_its_rate() {
    let (mut rtc, clock) = rtc();
    write(&mut rtc, address::B, b::HOURS_24 | c::PF);
    for _ in 0..1024 {
        run_to_deadline(&mut rtc, &clock);
        assert_eq!(read(&mut rtc, address::C) & c::PF, c::PF);
    }
    assert_eq!(clock.now(), SECOND);
}

#[test]
fn the_alarm_comes_at_its_time_and_wildcards_match() {
    let (mut rtc, clock) = rtc();
    write(&mut rtc, address::ALARM_SECONDS, 0x05);
    write(&mut rtc, address::ALARM_MINUTES, 0xff);
    write(&mut rtc, address::ALARM_HOURS, 0xc0);
    write(&mut rtc, address::B, b::HOURS_24 | c::AF);
    while !rtc.irq8.is_high() {
        run_to_deadline(&mut rtc, &clock);
    }
    assert_eq!(clock.now(), 5 * SECOND);
    read(&mut rtc, address::C);
    clock.advance(3600 * SECOND);
    assert_eq!(read(&mut rtc, address::C) & c::AF, c::AF, "a late look still finds it");
}

#[test]
fn flags_are_set_without_their_interrupts() {
    let (mut rtc, clock) = rtc();
    clock.advance(SECOND);
    assert_eq!(read(&mut rtc, address::C), c::UF | c::PF);
    assert_eq!(rtc.deadline(), None);
}

#[test]
fn firmware_finds_the_memory_sizes() {
    let (mut rtc, _) = rtc();
    let mut word = |at: u8| u16::from_le_bytes([read(&mut rtc, at), read(&mut rtc, at + 1)]);
    assert_eq!(word(0x15), 640);
    assert_eq!(word(0x17), 0xffff);
    assert_eq!(u64::from(word(0x34)) << 16, (3 << 30) - (16 << 20));
    assert_eq!(u64::from(word(0x5b)) << 16, 1 << 30);
}

#[test]
fn the_extended_bank_is_memory_of_its_own() {
    let (mut rtc, _) = rtc();
    write_region(&mut rtc, 1, 0, 2, 0x5a7f);
    assert_eq!(read_region(&mut rtc, 1, 0, 2), 0x5a7f);
    assert_eq!(read(&mut rtc, 0x7f), 0);
}

#[test]
fn a_state_with_a_short_bank_is_refused() {
    let (mut rtc, _) = rtc();
    let mut saved = rtc.save();
    saved.payload["ram"] = serde_json::json!([1, 2, 3]);
    assert!(matches!(rtc.restore(&saved), Err(RestoreError::Invalid { .. })));
}
