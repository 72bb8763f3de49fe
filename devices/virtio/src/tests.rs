//! Transport and queues, seen from the driver; hostile drivers.

use crate::rng::Rng;
use crate::spec::{common, descriptor, feature, status};
use crate::testkit::{Bench, Ring};
use crate::{Block, BlockOptions};
use kezhan_device::testkit::{LineLog, check_contract, check_storm};
use kezhan_device::{Device, GuestMemory, ManualClock};
use kezhan_pci::PciFunction;
use kezhan_ports::Entropy;
use kezhan_ports::testkit::MemoryDisk;
use std::sync::{Arc, OnceLock};
use vm_memory::{Bytes, GuestAddress};

/// Counts: 1, 2, 3 …
struct Counter(u8);

impl Entropy for Counter {
    fn fill(&mut self, data: &mut [u8]) {
        for byte in data {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}

fn rng() -> Bench {
    let mut bench = Bench::new(Rng::new(Box::new(Counter(0))));
    bench.use_msix();
    bench
}

/// Each layout, with and without what may be added to it.
const LAYOUTS: [u64; 4] = [
    0,
    feature::EVENT_IDX | feature::INDIRECT_DESC,
    feature::RING_PACKED,
    feature::RING_PACKED | feature::EVENT_IDX | feature::INDIRECT_DESC,
];

#[test]
fn buffers_are_filled_and_the_driver_is_interrupted_in_every_layout() {
    for features in LAYOUTS {
        let mut bench = rng();
        let mut ring = bench.live(features);
        // Three laps of the ring.
        for round in 0..12 {
            let id = ring.add(&[(0x5000, 3, true), (0x6000, 2, true)]);
            bench.notify(0);
            assert_eq!(ring.take(2), Some((id, 5)), "round {round}, features {features:#x}");
            assert_eq!(ring.take(2), None);
            let first = round as u8 * 5 + 1;
            assert_eq!(bench.bytes(0x5000, 3), [first, first + 1, first + 2]);
            assert_eq!(bench.bytes(0x6000, 2), [first + 3, first + 4]);
        }
        let interrupts = bench.interrupts();
        assert!(!interrupts.is_empty() && interrupts.iter().all(|vector| *vector == 1));
    }
}

#[test]
fn a_table_of_descriptors_is_one_buffer() {
    for features in [LAYOUTS[1], LAYOUTS[3]] {
        let mut bench = rng();
        let mut ring = bench.live(features);
        ring.add_indirect(0x7000, &[(0x5000, 1, true), (0x6000, 1, true), (0x6100, 1, true)]);
        bench.notify(0);
        assert_eq!(ring.take(1).map(|used| used.1), Some(3));
        assert_eq!((bench.bytes(0x5000, 1), bench.bytes(0x6100, 1)), (vec![1], vec![3]));
    }
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let mut bench = rng();
    let mut ring = bench.live(0);
    bench.put(ring.base + 0x1000, &[1, 0]);
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert!(ring.take(1).is_some());
    assert!(bench.interrupts().is_empty());
    let mut bench = rng();
    let mut ring = bench.live(feature::RING_PACKED);
    bench.put(ring.base + 0x1002, &[1, 0]);
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert!(ring.take(1).is_some());
    assert!(bench.interrupts().is_empty());
}

#[test]
fn an_event_index_asks_for_one_interrupt_in_its_place() {
    let mut bench = rng();
    let mut ring = bench.live(feature::EVENT_IDX);
    bench.put(ring.base + 0x1004 + 16, &2_u16.to_le_bytes());
    let mut seen = Vec::new();
    for _ in 0..5 {
        ring.add(&[(0x5000, 1, true)]);
        bench.notify(0);
        seen.push(bench.interrupts().len());
    }
    assert_eq!(seen, [0, 0, 1, 0, 0]);
    assert_eq!(ring.word(ring.base + 0x2004 + 64), 5, "the device asks to be told of the sixth");
}

/// The driver's wish for notifications where each layout has it: `None` when the queue's event index says it.
fn quiet(ring: &Ring, features: u64) -> Option<bool> {
    match features & (feature::RING_PACKED | feature::EVENT_IDX) {
        0 => Some(ring.word(ring.base + 0x2000) == 1),
        feature::EVENT_IDX => None,
        _ => Some(ring.word(ring.base + 0x2002) == 1),
    }
}

#[test]
fn a_driver_is_not_asked_to_notify_while_its_buffers_are_counted_and_then_again() {
    for features in LAYOUTS {
        let mut bench = rng();
        let mut ring = bench.live(features);
        ring.add(&[(0x5000, 4, true)]);
        ring.add(&[(0x5000, 4, true)]);
        assert_eq!(bench.device.waiting(), 2, "features {features:#x}");
        assert_ne!(quiet(&ring, features), Some(false), "features {features:#x}");
        bench.device.rung();
        assert_ne!(quiet(&ring, features), Some(true), "features {features:#x}");
        assert_eq!(bench.device.waiting(), 0);
        assert!(ring.take(1).is_some() && ring.take(1).is_some());
        assert!(!bench.interrupts().is_empty());
    }
}

/// Another thread may serve what a device left over, or the machine pause and resume, after the driver was asked not
/// to notify.
#[test]
fn a_driver_is_asked_to_notify_again_by_whoever_serves_it() {
    let ways: [fn(&mut Bench); 2] = [|bench| bench.device.wake(0), |bench| bench.device.resume()];
    for (features, serve) in LAYOUTS.into_iter().flat_map(|layout| ways.map(|way| (layout, way))) {
        let mut bench = rng();
        let mut ring = bench.live(features);
        ring.add(&[(0x5000, 4, true)]);
        assert_eq!(bench.device.waiting(), 1);
        serve(&mut bench);
        assert!(ring.take(1).is_some(), "features {features:#x}");
        assert_ne!(quiet(&ring, features), Some(true), "features {features:#x}");
    }
}

#[test]
fn a_ring_takes_every_queue_in_parts_and_interrupts_between_them() {
    let disk = MemoryDisk::new(1 << 20);
    let options = BlockOptions { serial: String::new(), queues: 2 };
    let mut bench = Bench::new(Block::new(Box::new(disk), options));
    bench.use_msix();
    assert!(bench.negotiate(0));
    let mut rings = [bench.ring(0), bench.ring(1)];
    bench.go_live();
    for ring in &mut rings {
        // Requests without a type are refused at once.
        for _ in 0..6 {
            ring.add(&[(0x5000, 1, true)]);
        }
    }
    bench.device.rung();
    assert!(bench.interrupts().len() > 2);
    assert!(rings.iter_mut().all(|ring| (0..6).all(|_| ring.take(1).is_some())));
}

#[test]
fn without_msix_the_pin_is_high_while_the_isr_status_is_not_zero() {
    let mut bench = Bench::new(Rng::new(Box::new(Counter(0))));
    let (log, line) = LineLog::line("virtio.intx");
    bench.device.connect_interrupt(line);
    let mut ring = bench.live(0);
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert_eq!(log.take(), [(0, true)]);
    // INTx# disabled (PCI 3.0 §6.2.2): low, though the status register still tells of it (§6.2.3).
    bench.device.write_config(4, &[6, 4]);
    let mut status = [0; 2];
    bench.device.read_config(6, &mut status);
    assert_eq!((log.take(), status[0] & 8), (vec![(0, false)], 8));
    bench.device.write_config(4, &[6, 0]);
    assert_eq!(
        (log.take(), bench.get(0x1000, 1), log.take()),
        (vec![(0, true)], 1, vec![(0, false)])
    );
    let saved = bench.device.save();
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    bench.use_msix();
    assert_eq!(log.take(), [(0, true), (0, false)], "MSI-X takes over");
    bench.device.restore(&saved).unwrap();
    assert_eq!(log.take(), []);
}

/// Another vCPU, which makes the same buffer available again whenever one is being filled.
struct Feeder(Arc<OnceLock<Arc<GuestMemory>>>);

impl Entropy for Feeder {
    fn fill(&mut self, _data: &mut [u8]) {
        let memory = self.0.get().unwrap();
        let index: u16 = memory.read_obj(GuestAddress(0x1_1002)).unwrap();
        memory.write_obj(index.wrapping_add(1), GuestAddress(0x1_1002)).unwrap();
    }
}

#[test]
fn a_driver_that_never_stops_adding_does_not_keep_the_vcpu() {
    let memory = Arc::new(OnceLock::new());
    let mut bench = Bench::new(Rng::new(Box::new(Feeder(memory.clone()))));
    memory.set(bench.memory.clone()).unwrap();
    let mut ring = bench.live(0);
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert_eq!(bench.device.deadline(), Some(0), "the rest is for another call");
    let used = ring.word(0x1_2002);
    bench.device.wake(0);
    assert_eq!(ring.word(0x1_2002), used + 1024);
    bench.set_status(0);
    assert_eq!(bench.device.deadline(), None);
}

#[test]
fn features_that_were_not_offered_are_not_agreed_upon() {
    let mut bench = rng();
    assert!(!bench.negotiate(1 << 5));
    bench.set_status(0xf);
    assert_eq!(bench.status() & status::DRIVER_OK, 0, "not live without features");
    bench.set_status(0);
    assert_eq!(bench.status(), 0);
    assert!(bench.negotiate(0));
    bench.set(common::DRIVER_FEATURE, 4, 0);
    assert_eq!(bench.get(common::DRIVER_FEATURE, 4), 1, "frozen at FEATURES_OK");
}

#[test]
fn a_queue_does_not_move_once_the_device_is_live() {
    let mut bench = rng();
    let mut ring = bench.live(0);
    for (field, size) in [(common::QUEUE_SIZE, 2), (common::QUEUE_ENABLE, 2)] {
        let before = bench.get(field, size);
        bench.set(field, size, 4);
        assert_eq!(bench.get(field, size), before);
    }
    for field in [common::QUEUE_DESC, common::QUEUE_DRIVER, common::QUEUE_DEVICE] {
        let before = bench.get(field, 8);
        bench.set(field, 4, 0xdead_0000);
        assert_eq!(bench.get(field, 8), before);
    }
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert!(ring.take(1).is_some());
}

#[test]
fn a_queue_or_vector_that_does_not_exist_reads_as_none() {
    let mut bench = rng();
    bench.set(common::QUEUE_SELECT, 2, 1);
    assert_eq!(bench.get(common::QUEUE_SIZE, 2), 0);
    bench.set(common::CONFIG_VECTOR, 2, 2);
    assert_eq!(bench.get(common::CONFIG_VECTOR, 2), 0xffff);
    bench.set(common::CONFIG_VECTOR, 2, 1);
    assert_eq!(bench.get(common::CONFIG_VECTOR, 2), 1);
}

/// A driver breaks the ring; the device must want a reset, use nothing more, and work again after one.
fn breaks(features: u64, how: impl Fn(&mut Bench, &mut Ring)) {
    let mut bench = rng();
    bench.set(common::CONFIG_VECTOR, 2, 0);
    let mut ring = bench.live(features);
    how(&mut bench, &mut ring);
    bench.notify(0);
    assert_ne!(bench.status() & status::NEEDS_RESET, 0);
    assert_eq!(bench.interrupts(), [0], "a configuration interrupt");
    bench.notify(0);
    bench.set_status(0);
    assert_eq!(bench.status(), 0);
    bench.put(ring.base, &[0; 0x3000]);
    let mut ring = bench.live(features);
    ring.add(&[(0x5000, 1, true)]);
    bench.notify(0);
    assert!(ring.take(1).is_some());
}

#[test]
fn a_head_outside_the_table_breaks_the_ring() {
    breaks(0, |_, ring| ring.offer(Ring::SIZE));
}

#[test]
fn more_buffers_than_the_ring_has_break_it() {
    breaks(0, |bench, ring| bench.put(ring.base + 0x1002, &[9, 0]));
}

#[test]
fn a_loop_of_descriptors_ends() {
    breaks(0, |_, ring| {
        ring.describe(ring.base, (0x5000, 1, true), descriptor::NEXT, 0);
        ring.offer(0);
    });
    breaks(feature::RING_PACKED, |_, ring| {
        for slot in 0..8 {
            let flags = descriptor::NEXT | descriptor::AVAIL;
            ring.describe(ring.base + slot * 16, (0x5000, 1, true), flags, 0);
        }
    });
}

#[test]
fn readable_after_writable_breaks_the_ring() {
    for features in [0, feature::RING_PACKED] {
        breaks(features, |_, ring| {
            ring.add(&[(0x5000, 1, true), (0x5000, 1, false)]);
        });
    }
}

#[test]
fn a_buffer_of_more_than_four_gigabytes_breaks_the_ring() {
    breaks(0, |_, ring| {
        ring.add(&[(0, u32::MAX, true), (0, 1, true)]);
    });
}

#[test]
fn tables_that_were_not_agreed_upon_or_make_no_sense_break_the_ring() {
    let parts = [(0x5000, 1, true)];
    breaks(0, |_, ring| ring.add_indirect(0x7000, &parts));
    breaks(feature::RING_PACKED, |_, ring| ring.add_indirect(0x7000, &parts));
    for length in [0, 8, 17, 16 * 1025, u32::MAX] {
        breaks(feature::INDIRECT_DESC, |_, ring| {
            ring.describe(ring.base, (0x7000, length, false), descriptor::INDIRECT, 0);
            ring.offer(0);
        });
    }
    breaks(feature::INDIRECT_DESC, |_, ring| {
        ring.describe(0x7000, (0x7000, 16, false), descriptor::INDIRECT, 0);
        ring.describe(ring.base, (0x7000, 16, false), descriptor::INDIRECT, 0);
        ring.offer(0);
    });
}

#[test]
fn rings_outside_memory_or_unaligned_break_the_device_not_us() {
    for base in [0x1, 0xffff_ffff_ffff_fff0, 0x10_0000, 0xffff_f000] {
        let mut bench = rng();
        assert!(bench.negotiate(0));
        for field in [common::QUEUE_DESC, common::QUEUE_DRIVER, common::QUEUE_DEVICE] {
            bench.set(field, 4, base & 0xffff_ffff);
            bench.set(field + 4, 4, base >> 32);
        }
        bench.set(common::QUEUE_ENABLE, 2, 1);
        bench.go_live();
        bench.notify(0);
        assert_ne!(bench.status() & status::NEEDS_RESET, 0, "{base:#x}");
    }
}

#[test]
fn a_buffer_outside_memory_comes_back_empty() {
    let mut bench = rng();
    let mut ring = bench.live(0);
    ring.add(&[(0xffff_ffff_ffff_fff0, 32, true)]);
    ring.add(&[(0x5000, 0, true)]);
    bench.notify(0);
    assert_eq!(ring.take(1).map(|used| used.1), Some(0));
    assert_eq!(ring.take(1).map(|used| used.1), Some(0));
}

#[test]
fn the_window_in_configuration_space_reaches_the_registers() {
    let mut bench = rng();
    let window = 0x40 + 12 + 16 + 20 + 16 + 16;
    bench.device.write_config(window + 4, &[1]);
    bench.device.write_config(window + 8, &(common::STATUS as u32).to_le_bytes());
    bench.device.write_config(window + 12, &1_u32.to_le_bytes());
    bench.device.write_config(window + 16, &[3]);
    assert_eq!(bench.status(), 3);
    let mut data = [0];
    bench.device.read_config(window + 16, &mut data);
    assert_eq!(data, [3]);
    bench.device.write_config(window + 12, &3_u32.to_le_bytes());
    bench.device.write_config(window + 16, &[0]);
    assert_eq!(bench.status(), 3, "a length of 3 reaches nothing");
}

#[test]
fn a_live_device_goes_on_from_a_saved_state() {
    for features in LAYOUTS {
        let mut bench = rng();
        let mut ring = bench.live(features);
        ring.add(&[(0x5000, 1, true)]);
        bench.notify(0);
        bench.device.pause();
        let saved = bench.device.save();
        bench.device.reset();
        bench.device.restore(&saved).unwrap();
        assert_eq!(bench.device.save(), saved);
        ring.add(&[(0x5000, 1, true)]);
        bench.device.resume();
        assert!(ring.take(1).is_some());
        assert!(ring.take(1).is_some(), "what was added during the pause is served at its end");
    }
}

#[test]
fn the_devices_keep_the_contract_and_survive_storms() {
    let disk = || {
        Block::new(
            Box::new(MemoryDisk::new(1 << 16)),
            BlockOptions { serial: "S".to_owned(), queues: 2 },
        )
    };
    for mut bench in [rng(), Bench::new(disk())] {
        check_contract(&mut bench.device);
        check_storm(&mut bench.device, &ManualClock::default());
        let _ring = bench.live(0);
        check_storm(&mut bench.device, &ManualClock::default());
    }
}
