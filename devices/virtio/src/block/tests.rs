//! virtio-blk from the driver's side.

use super::*;
use crate::spec::{common, feature, status};
use crate::testkit::{Bench, Part, Ring};
use kezhan_device::Device;
use kezhan_ports::LentMemory;
use kezhan_ports::testkit::MemoryDisk;

const HEADER: u64 = 0x8000;
const DATA: u64 = 0x9000;
const STATUS: u64 = 0x8100;
/// Where the device's configuration is in its BAR.
const CONFIG: u64 = 0x2000;

fn bench() -> (MemoryDisk, Bench) {
    let disk = MemoryDisk::new(1 << 20);
    let options = BlockOptions { serial: "INN-7".to_owned(), queues: 1 };
    let mut bench = Bench::new(Block::new(Box::new(disk.clone()), options));
    bench.use_msix();
    (disk, bench)
}

/// Submits a request of `kind` and does not look for an answer.
fn begin(bench: &mut Bench, ring: &mut Ring, kind: u32, sector: u64, data: &[Part]) {
    bench.put(HEADER, &kind.to_le_bytes());
    bench.put(HEADER + 8, &sector.to_le_bytes());
    bench.put(STATUS, &[0xaa]);
    let parts = [&[(HEADER, 16, false)], data, &[(STATUS, 1, true)]].concat();
    ring.add(&parts);
    bench.notify(0);
}

/// Performs a request; gives its status and the used length.
fn request(bench: &mut Bench, ring: &mut Ring, kind: u32, sector: u64, data: &[Part]) -> (u8, u32) {
    begin(bench, ring, kind, sector, data);
    bench.poll();
    let (_, length) = ring.take(2 + data.len() as u16).expect("an answer");
    (bench.bytes(STATUS, 1)[0], length)
}

#[test]
fn what_is_written_is_read_back_and_on_the_disk() {
    for features in [0, numbers::FLUSH, feature::RING_PACKED] {
        let (disk, mut bench) = bench();
        let mut ring = bench.live(features);
        bench.put(DATA, &[7; 1024]);
        let written = request(&mut bench, &mut ring, 1, 3, &[(DATA, 1024, false)]);
        assert_eq!(written, (numbers::OK, 1));
        assert_eq!(disk.bytes()[3 * 512..5 * 512], [7; 1024]);
        let parts = [(DATA + 0x1000, 500, true), (DATA + 0x2000, 524, true)];
        let read = request(&mut bench, &mut ring, 0, 3, &parts);
        assert_eq!(read, (numbers::OK, 1025));
        assert_eq!(bench.bytes(DATA + 0x2000, 524), [7; 524]);
        assert!(bench.interrupts().len() >= 2);
    }
}

#[test]
fn a_driver_without_flush_gets_writes_that_are_durable() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(0);
    request(&mut bench, &mut ring, 1, 0, &[(DATA, 512, false)]);
    assert_eq!(disk.flushes(), 1);
    let (disk, mut bench) = self::bench();
    let mut ring = bench.live(numbers::FLUSH);
    request(&mut bench, &mut ring, 1, 0, &[(DATA, 512, false)]);
    assert_eq!(disk.flushes(), 0);
    assert_eq!(request(&mut bench, &mut ring, 4, 0, &[]).0, numbers::OK);
    assert_eq!(disk.flushes(), 1);
}

#[test]
fn the_serial_number_is_told_and_padded() {
    let (_, mut bench) = bench();
    let mut ring = bench.live(0);
    assert_eq!(request(&mut bench, &mut ring, 8, 0, &[(DATA, 20, true)]), (numbers::OK, 21));
    assert_eq!(bench.bytes(DATA, 20), *b"INN-7\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_range_is_zeroed_or_discarded() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(numbers::DISCARD | numbers::WRITE_ZEROES);
    for (kind, flags, status) in [
        (13, 1, numbers::OK),
        (11, 0, numbers::OK),
        (11, 1, numbers::UNSUPPORTED),
        (13, 2, numbers::UNSUPPORTED),
    ] {
        disk.set_bytes(vec![9; 1 << 20]);
        bench.put(DATA, &1_u64.to_le_bytes());
        bench.put(DATA + 8, &2_u32.to_le_bytes());
        bench.put(DATA + 12, &u32::to_le_bytes(flags));
        assert_eq!(request(&mut bench, &mut ring, kind, 0, &[(DATA, 16, false)]).0, status);
        let zero = disk.bytes()[512..1536].iter().all(|byte| *byte == 0);
        assert_eq!(zero, status == numbers::OK);
    }
}

#[test]
fn requests_that_make_no_sense_are_answered_with_an_error() {
    let (_, mut bench) = bench();
    let mut ring = bench.live(0);
    let data: [Part; 1] = [(DATA, 512, true)];
    assert_eq!(request(&mut bench, &mut ring, 0, 2048, &data).0, numbers::IO_ERROR);
    assert_eq!(request(&mut bench, &mut ring, 0, u64::MAX, &data).0, numbers::IO_ERROR);
    assert_eq!(request(&mut bench, &mut ring, 0, 0, &[(DATA, 511, true)]).0, numbers::IO_ERROR);
    let huge: [Part; 1] = [(DATA, 1 << 30, true)];
    assert_eq!(request(&mut bench, &mut ring, 0, 0, &huge).0, numbers::IO_ERROR);
    let outside: [Part; 1] = [(1 << 40, 512, false)];
    assert_eq!(request(&mut bench, &mut ring, 1, 0, &outside).0, numbers::IO_ERROR);
    assert_eq!(request(&mut bench, &mut ring, 99, 0, &[]).0, numbers::UNSUPPORTED);
    assert_eq!(request(&mut bench, &mut ring, 11, 0, &[(DATA, 32, false)]).0, numbers::IO_ERROR);
}

#[test]
fn a_header_too_short_or_no_place_for_the_status_is_survived() {
    let (_, mut bench) = bench();
    let mut ring = bench.live(0);
    for parts in [&[(HEADER, 8, false), (STATUS, 1, true)][..], &[(HEADER, 16, false)]] {
        ring.add(parts);
        bench.notify(0);
        assert!(ring.take(parts.len() as u16).is_some());
    }
}

#[test]
fn errors_of_the_host_reach_the_guest_and_the_disk_goes_on() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(numbers::FLUSH);
    for error in [DiskError::Io, DiskError::NoSpace, DiskError::OutOfRange] {
        disk.set_fault(Some(error));
        let answer = request(&mut bench, &mut ring, 1, 0, &[(DATA, 512, false)]);
        assert_eq!(answer.0, numbers::IO_ERROR);
    }
    disk.set_fault(None);
    assert_eq!(request(&mut bench, &mut ring, 4, 0, &[]).0, numbers::OK);
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let (disk, mut bench) = bench();
    disk.set_read_only(true);
    let features = bench.get(common::DEVICE_FEATURE, 4);
    assert_eq!(features & (numbers::READ_ONLY | numbers::DISCARD), numbers::READ_ONLY);
    let mut ring = bench.live(numbers::READ_ONLY);
    let answer = request(&mut bench, &mut ring, 1, 0, &[(DATA, 512, false)]);
    assert_eq!(answer.0, numbers::IO_ERROR);
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_leaves_memory_alone() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(0);
    disk.hold();
    bench.put(DATA, &[5; 512]);
    begin(&mut bench, &mut ring, 0, 0, &[(DATA, 512, true)]);
    bench.set_status(0);
    assert_ne!(bench.status(), 0, "not yet");
    bench.set_status(status::ACKNOWLEDGE);
    disk.release();
    bench.poll();
    assert_eq!(bench.status(), 0);
    assert_eq!((bench.bytes(DATA, 512), bench.bytes(STATUS, 1)), (vec![5; 512], vec![0xaa]));
    assert_eq!(ring.take(3), None);
    assert!(bench.interrupts().is_empty());
}

#[test]
fn a_pause_completes_what_is_in_flight() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(0);
    disk.hold();
    begin(&mut bench, &mut ring, 1, 0, &[(DATA, 512, false)]);
    assert_eq!(ring.take(3), None);
    bench.device.pause();
    assert!(ring.take(3).is_some());
}

#[test]
fn a_reset_of_the_machine_drops_what_is_in_flight() {
    let (disk, mut bench) = bench();
    let mut ring = bench.live(0);
    disk.hold();
    begin(&mut bench, &mut ring, 0, 0, &[(DATA, 512, true)]);
    bench.device.reset();
    assert_eq!((bench.status(), ring.take(3)), (0, None));
}

#[test]
fn a_disk_that_grows_is_told_to_the_driver() {
    let (disk, mut bench) = bench();
    bench.set(common::CONFIG_VECTOR, 2, 0);
    let _ring = bench.live(0);
    let before = bench.get(common::GENERATION, 1);
    assert_eq!(bench.get(CONFIG, 8), 2048);
    disk.set_bytes(vec![0; 2 << 20]);
    bench.poll();
    assert_eq!(bench.get(CONFIG, 8), 4096);
    assert_ne!(bench.get(common::GENERATION, 1), before);
    assert_eq!(bench.interrupts(), [0]);
}

/// Does every transfer at once, with this result; has nothing to do with requests.
struct Prompt {
    result: Result<(), DiskError>,
    lengths: std::sync::Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Prompt {
    fn note(&self, memory: &LentMemory<'_>) -> Option<Result<(), DiskError>> {
        self.lengths.lock().unwrap().push(memory.len());
        Some(self.result)
    }
}

impl Disk for Prompt {
    fn info(&self) -> DiskInfo {
        DiskInfo { write_cache: false, ..MemoryDisk::new(1 << 20).info() }
    }

    fn submit(&mut self, request: DiskRequest) -> Result<(), DiskRequest> {
        panic!("submitted: {request:?}");
    }

    fn read_at_once(&mut self, _: u64, into: &LentMemory<'_>) -> Option<Result<(), DiskError>> {
        self.note(into)
    }

    fn write_at_once(&mut self, _: u64, from: &LentMemory<'_>) -> Option<Result<(), DiskError>> {
        self.note(from)
    }

    fn complete(&mut self) -> Option<DiskCompletion> {
        None
    }

    fn set_waker(&mut self, _: std::sync::Arc<dyn Fn() + Send + Sync>) {}

    fn drain(&mut self) {}
}

#[test]
fn what_the_disk_does_at_once_is_answered_without_a_request() {
    for (result, status) in [(Ok(()), numbers::OK), (Err(DiskError::NoSpace), numbers::IO_ERROR)] {
        let lengths = std::sync::Arc::default();
        let disk = Prompt { result, lengths: std::sync::Arc::clone(&lengths) };
        let options = BlockOptions { serial: String::new(), queues: 1 };
        let mut bench = Bench::new(Block::new(Box::new(disk), options));
        bench.use_msix();
        let mut ring = bench.live(0);
        let parts = [(DATA, 500, true), (DATA + 0x1000, 524, true)];
        let read = request(&mut bench, &mut ring, 0, 3, &parts);
        assert_eq!(read, (status, if result.is_ok() { 1025 } else { 0 }));
        let parts = [(DATA, 500, false), (DATA + 0x1000, 12, false)];
        assert_eq!(request(&mut bench, &mut ring, 1, 3, &parts).0, status);
        assert_eq!(*lengths.lock().unwrap(), [1024, 512]);
    }
}

#[test]
fn a_vcpu_serves_one_large_request_and_leaves_the_next_to_the_thread() {
    let (disk, mut bench) = bench();
    disk.set_bytes(vec![7; 1 << 20]);
    let mut ring = bench.live(feature::EVENT_IDX);
    let brief = bench.device.doorbells().is_some_and(|bells| bells.brief);
    let add = |ring: &mut Ring| {
        ring.add(&[(HEADER, 16, false), (0x4_0000, 0x2_0000, true), (STATUS, 1, true)])
    };
    bench.put(HEADER, &[0; 16]);
    add(&mut ring);
    add(&mut ring);
    assert!(brief && bench.device.rung_briefly(), "the second one is left");
    assert!(ring.take(3).is_some() && ring.take(3).is_none());
    assert_eq!(bench.bytes(0x4_0000, 4096), [7; 4096]);
    assert!(bench.device.weight() > 1, "requests are large here");
    assert!(!bench.device.rung_briefly() && ring.take(3).is_some());
    add(&mut ring);
    assert!(!bench.device.rung_briefly(), "nothing is left behind a large one");
}
