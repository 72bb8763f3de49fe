use super::*;
use kezhan_device::ManualClock;
use kezhan_device::testkit::{LineLog, check_contract, check_storm, read, write};

/// A pair initialised as a PC does: vectors 0x08 and 0x70, nothing masked.
fn pair() -> SharedPic {
    let mut pic = SharedPic::new("pic", LineInterrupt::unconnected("intr"));
    initialise(&mut pic, 0x01);
    pic
}

fn initialise(pic: &mut SharedPic, icw4: u64) {
    for (chip, base, icw3) in [(MASTER, 0x08, 0x04), (SLAVE, 0x70, 0x02)] {
        write(pic, chip, 0, 1, 0x11);
        for value in [base, icw3, icw4, 0] {
            write(pic, chip, 1, 1, value);
        }
    }
}

fn pulse(pic: &SharedPic, pin: u32) {
    pic.set_line(pin, true);
    pic.set_line(pin, false);
}

fn intr(pic: &SharedPic) -> bool {
    pic.0.intr.is_high()
}

#[test]
fn the_pair_keeps_the_device_contract() {
    check_contract(&mut SharedPic::new("pic", LineInterrupt::unconnected("intr")));
}

#[test]
fn no_storm_of_accesses_breaks_it() {
    check_storm(&mut pair(), &ManualClock::default());
}

#[test]
fn a_pulse_is_kept_until_acknowledged() {
    let mut pic = pair();
    pulse(&pic, 4);
    assert!(intr(&pic));
    assert_eq!(pic.acknowledge(), 0x0c);
    assert!(!intr(&pic));
    write(&mut pic, MASTER, 0, 1, 0x0b);
    assert_eq!(read(&mut pic, MASTER, 0, 1), 1 << 4, "in service");
    write(&mut pic, MASTER, 0, 1, 0x20);
    assert_eq!(read(&mut pic, MASTER, 0, 1), 0);
}

#[test]
fn a_lower_priority_waits_for_the_end_of_a_higher_one() {
    let mut pic = pair();
    pulse(&pic, 1);
    assert_eq!(pic.acknowledge(), 0x09);
    pulse(&pic, 3);
    assert!(!intr(&pic));
    pulse(&pic, 0);
    assert_eq!(pic.acknowledge(), 0x08, "a higher one gets through");
    write(&mut pic, MASTER, 0, 1, 0x20);
    write(&mut pic, MASTER, 0, 1, 0x20);
    assert_eq!(pic.acknowledge(), 0x0b);
}

#[test]
fn the_slave_comes_through_the_cascade() {
    let mut pic = pair();
    pulse(&pic, 8);
    pulse(&pic, 12);
    assert_eq!(pic.acknowledge(), 0x70);
    assert!(!intr(&pic), "the slave and the cascade are in service");
    write(&mut pic, SLAVE, 0, 1, 0x20);
    assert!(!intr(&pic));
    write(&mut pic, MASTER, 0, 1, 0x62);
    assert_eq!(pic.acknowledge(), 0x74);
}

#[test]
fn an_acknowledge_without_a_request_is_spurious_and_not_in_service() {
    let mut pic = pair();
    pulse(&pic, 3);
    write(&mut pic, MASTER, 1, 1, 0xff);
    assert!(!intr(&pic));
    assert_eq!(pic.acknowledge(), 0x0f);
    write(&mut pic, MASTER, 0, 1, 0x0b);
    assert_eq!(read(&mut pic, MASTER, 0, 1), 0);
}

#[test]
fn a_level_input_requests_for_as_long_as_any_of_its_lines_is_high() {
    let mut pic = pair();
    write(&mut pic, ELCR, 0, 2, 0xffff);
    assert_eq!(read(&mut pic, ELCR, 0, 2), 0xdef8);
    pic.set_line(11, true);
    pic.set_line(11, true);
    assert_eq!(pic.acknowledge(), 0x73);
    pic.set_line(11, false);
    write(&mut pic, SLAVE, 0, 1, 0x20);
    write(&mut pic, MASTER, 0, 1, 0x20);
    assert!(intr(&pic), "the other line still asks");
    pic.set_line(11, false);
    assert!(!intr(&pic));
}

#[test]
fn polling_acknowledges_and_says_which() {
    let mut pic = pair();
    pulse(&pic, 5);
    write(&mut pic, MASTER, 0, 1, 0x0c);
    assert_eq!(read(&mut pic, MASTER, 0, 1), 0x85);
    assert!(!intr(&pic));
    write(&mut pic, MASTER, 0, 1, 0x0c);
    assert_eq!(read(&mut pic, MASTER, 0, 1) & 0x80, 0);
}

#[test]
fn automatic_eoi_leaves_nothing_in_service_and_may_rotate() {
    let mut pic = pair();
    initialise(&mut pic, 0x03);
    write(&mut pic, MASTER, 0, 1, 0x80);
    pulse(&pic, 3);
    assert_eq!(pic.acknowledge(), 0x0b);
    pulse(&pic, 3);
    pulse(&pic, 4);
    assert_eq!(pic.acknowledge(), 0x0c, "3 now has the lowest priority");
    assert_eq!(pic.acknowledge(), 0x0b);
}

#[test]
fn rotation_on_eoi_gives_the_served_input_the_lowest_priority() {
    let mut pic = pair();
    pulse(&pic, 4);
    pic.acknowledge();
    write(&mut pic, MASTER, 0, 1, 0xa0);
    pulse(&pic, 4);
    pulse(&pic, 6);
    assert_eq!(pic.acknowledge(), 0x0e);
}

#[test]
fn special_mask_mode_lets_lower_priorities_through() {
    let mut pic = pair();
    pulse(&pic, 1);
    pic.acknowledge();
    write(&mut pic, MASTER, 0, 1, 0x68);
    write(&mut pic, MASTER, 1, 1, 1 << 1);
    pulse(&pic, 6);
    assert_eq!(pic.acknowledge(), 0x0e);
    write(&mut pic, MASTER, 0, 1, 0x20);
    write(&mut pic, MASTER, 0, 1, 0x0b);
    assert_eq!(read(&mut pic, MASTER, 0, 1), 1 << 1, "the masked one is still in service");
}

#[test]
fn special_fully_nested_mode_lets_a_higher_slave_input_through() {
    let mut pic = pair();
    initialise(&mut pic, 0x11);
    pulse(&pic, 12);
    assert_eq!(pic.acknowledge(), 0x74);
    pulse(&pic, 8);
    assert_eq!(pic.acknowledge(), 0x70);
}

#[test]
fn a_restored_pair_asks_again_and_a_line_that_is_still_high_is_no_new_edge() {
    let pic = pair();
    pic.set_line(4, true);
    let (log, line) = LineLog::line("intr");
    let mut other = SharedPic::new("pic", line);
    other.restore(&pic.save()).unwrap();
    assert_eq!(log.take(), [(0, true)]);
    assert_eq!(other.acknowledge(), 0x0c);
    other.set_line(4, true);
    write(&mut other, MASTER, 0, 1, 0x20);
    assert_eq!(log.take(), [(0, false)]);
}

#[test]
fn lines_from_many_threads_leave_intr_as_the_chips_say() {
    let pic = pair();
    std::thread::scope(|scope| {
        for pin in 3..7 {
            let pic = &pic;
            scope.spawn(move || (0..200).for_each(|_| pulse(pic, pin)));
        }
        scope.spawn(|| {
            for _ in 0..200 {
                pic.acknowledge();
            }
        });
    });
    assert_eq!(intr(&pic), lock(&pic.0.pair).intr());
}
