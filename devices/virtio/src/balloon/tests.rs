//! The balloon, seen from a driver.

use super::{Balloon, BalloonHandle};
use crate::spec::balloon as numbers;
use crate::testkit::Bench;
use kezhan_device::testkit::{check_contract, check_storm};
use kezhan_device::{Device, ManualClock, MemoryReclaim};
use std::sync::{Arc, Mutex};

/// Records what is given back: address and length.
#[derive(Default)]
struct Released(Mutex<Vec<(u64, u64)>>);

impl Released {
    fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl MemoryReclaim for Released {
    fn release(&self, address: u64, length: u64) -> bool {
        self.0.lock().unwrap().push((address, length));
        true
    }
}

fn bench() -> (Bench, Arc<Released>, BalloonHandle) {
    let released = Arc::new(Released::default());
    let balloon = Balloon::new(released.clone());
    let handle = balloon.handle();
    (Bench::new(balloon), released, handle)
}

fn numbers_of(pages: &[u32]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.to_le_bytes()).collect()
}

#[test]
fn inflated_pages_are_given_back_neighbours_together() {
    let (mut bench, released, _) = bench();
    let mut ring = bench.live(0);
    bench.put(0x5000, &numbers_of(&[16, 17, 18, 40, 99, 98, 97]));
    ring.add(&[(0x5000, 28, false)]);
    bench.notify(0);
    assert_eq!(ring.take(1).map(|used| used.1), Some(0));
    assert_eq!(released.take(), [(0x1_0000, 0x3000), (0x2_8000, 0x1000), (0x6_1000, 0x3000)]);
}

#[test]
fn reported_ranges_are_given_back_as_far_as_they_are_whole_pages() {
    let (mut bench, released, _) = bench();
    assert!(bench.negotiate(numbers::PAGE_REPORTING | numbers::STATS_VQ));
    let mut ring = bench.ring(4);
    bench.go_live();
    ring.add(&[(0x2_0000, 0x8000, true), (0x4_0800, 0x1fff, true), (0x6_0100, 0xe00, true)]);
    bench.notify(4);
    assert!(ring.take(3).is_some());
    assert_eq!(released.take(), [(0x2_0000, 0x8000), (0x4_1000, 0x1000)]);
}

#[test]
fn a_new_target_is_told_by_a_configuration_interrupt() {
    let (mut bench, _, handle) = bench();
    bench.use_msix();
    assert!(bench.negotiate(0));
    bench.set(crate::spec::common::CONFIG_VECTOR, 2, 0);
    bench.go_live();
    handle.set_target(300);
    bench.poll();
    assert_eq!((bench.interrupts(), bench.get(0x2000, 4)), (vec![0], 300));
    bench.poll();
    assert!(bench.interrupts().is_empty(), "it is told once");
    bench.set(0x2004, 4, 250);
    assert_eq!(handle.actual(), 250);
}

#[test]
fn statistics_are_those_made_after_the_question() {
    let (mut bench, _, handle) = bench();
    assert!(bench.negotiate(numbers::STATS_VQ));
    let mut ring = bench.ring(2);
    bench.go_live();
    let mut offer = |bench: &mut Bench, free: u64| {
        let entries = [(4_u16, free), (5, 900), (77, 1)];
        let bytes =
            entries.map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat());
        bench.put(0x5000, &bytes.concat());
        ring.add(&[(0x5000, 30, false)]);
        bench.notify(2);
        ring.take(1).is_some()
    };
    assert!(!offer(&mut bench, 1), "nobody has asked: the buffer stays");
    handle.ask();
    bench.poll();
    assert_eq!(handle.statistics(), None);
    assert!(offer(&mut bench, 2), "the old one has come back");
    let told = handle.statistics().unwrap();
    assert_eq!((told.free, told.total, told.caches), (Some(2), Some(900), None));
}

#[test]
fn numbers_beyond_memory_and_half_a_number_do_no_harm() {
    let (mut bench, released, _) = bench();
    let mut ring = bench.live(0);
    bench.put(0x5000, &[0xff; 6]);
    ring.add(&[(0x5000, 6, false)]);
    ring.add(&[(0xffff_0000, 64, false)]);
    bench.notify(0);
    assert_eq!(released.take(), [(0xffff_ffff << 12, 0x1000)], "the memory refuses it");
}

#[test]
fn it_keeps_the_contract_of_devices() {
    let (mut bench, _, handle) = bench();
    check_contract(&mut bench.device);
    check_storm(&mut bench.device, &ManualClock::default());
    bench.device.reset();
    handle.set_target(7);
    let saved = bench.device.save();
    handle.set_target(9);
    bench.device.restore(&saved).unwrap();
    assert_eq!(bench.get(0x2000, 4), 7);
}
