use super::*;
use kezhan_device::testkit::{Recorder, check_contract, check_storm, read, write};
use kezhan_device::{ManualClock, SECOND};

fn pm() -> (Pm, Arc<ManualClock>, Arc<Recorder>) {
    let (clock, control) = (Arc::new(ManualClock::default()), Arc::new(Recorder::default()));
    let sci = LineInterrupt::unconnected("sci");
    (Pm::new("pm", clock.clone(), sci, control.clone()), clock, control)
}

#[test]
fn the_block_keeps_the_device_contract() {
    check_contract(&mut pm().0);
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    let (mut pm, clock, _) = pm();
    check_storm(&mut pm, &clock);
}

#[test]
fn the_timer_counts_at_its_frequency() {
    let (mut pm, clock, _) = pm();
    clock.advance(2 * SECOND);
    assert_eq!(read(&mut pm, TIMER, 0, 4), 2 * timer::FREQUENCY);
}

#[test]
fn the_timers_top_bit_raises_the_sci_when_enabled() {
    let (mut pm, clock, _) = pm();
    assert_eq!(pm.deadline(), None);
    write(&mut pm, EVENT, 2, 2, pm1_status::TIMER.into());
    let deadline = pm.deadline().unwrap();
    clock.advance(deadline);
    pm.wake(deadline);
    assert!(pm.sci.is_high());
    assert_eq!(read(&mut pm, TIMER, 0, 4), 1 << 31);
    write(&mut pm, EVENT, 0, 2, pm1_status::TIMER.into());
    assert!(!pm.sci.is_high());
    assert!(pm.deadline().unwrap() > deadline);
}

#[test]
fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
    let (mut pm, ..) = pm();
    pm.press_power_button();
    assert!(!pm.sci.is_high(), "not enabled");
    write(&mut pm, EVENT, 2, 2, pm1_status::POWER_BUTTON.into());
    assert!(pm.sci.is_high());
    assert_eq!(read(&mut pm, EVENT, 0, 2), u64::from(pm1_status::POWER_BUTTON));
    write(&mut pm, EVENT, 0, 2, pm1_status::POWER_BUTTON.into());
    assert!(!pm.sci.is_high());
}

#[test]
fn a_general_purpose_event_raises_the_sci_and_the_seventeenth_does_not_exist() {
    let (mut pm, ..) = pm();
    write(&mut pm, GPE0, 2, 2, 0xffff);
    pm.raise_event(16);
    assert!(!pm.sci.is_high());
    pm.raise_event(15);
    assert!(pm.sci.is_high());
    write(&mut pm, GPE0, 1, 1, 0x80);
    assert!(!pm.sci.is_high());
}

#[test]
fn sleeping_with_the_type_of_s5_powers_off() {
    let (mut pm, _, control) = pm();
    assert_eq!(read(&mut pm, CONTROL, 0, 2), u64::from(pm1_control::SCI_ENABLE));
    write(&mut pm, CONTROL, 0, 2, 1 << 13 | 1 << 10);
    assert_eq!(control.take_events(), [], "another sleep state");
    write(&mut pm, CONTROL, 0, 2, 1 << 13 | u64::from(S5_SLEEP_TYPE) << 10);
    assert_eq!(control.take_events(), [MachineEvent::PowerOff]);
}

#[test]
fn the_reset_register_resets() {
    let (mut pm, _, control) = pm();
    write(&mut pm, RESET, 0, 1, 0x02);
    assert_eq!(control.take_events(), []);
    write(&mut pm, RESET, 0, 1, ACPI_RESET_VALUE.into());
    assert_eq!(control.take_events(), [MachineEvent::Reset]);
}
