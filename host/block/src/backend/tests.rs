use super::*;
use crate::raw::Raw;
use crate::storage::{FileOptions, FileStorage, MemoryStorage};
use crate::testkit::FaultStorage;
use kezhan_ports::{Buffer, Disk};
use std::io::ErrorKind;
use std::sync::mpsc;

struct Bench {
    memory: Arc<MemoryStorage>,
    fault: Arc<FaultStorage>,
    disk: DiskBackend,
    woken: mpsc::Receiver<()>,
    trouble: mpsc::Receiver<String>,
}

fn bench(options: DiskOptions) -> Bench {
    let memory = Arc::new(MemoryStorage::new("vm.img", vec![7; 65536]));
    let fault = Arc::new(FaultStorage::new(memory.clone(), ErrorKind::StorageFull));
    let raw = Box::new(Raw::open(fault.clone(), true).unwrap());
    let image = Arc::new(Image::new("vm.img".to_owned(), fault.clone(), raw, true));
    let (say, trouble) = mpsc::channel();
    let tell = Box::new(move |text: &str| say.send(text.to_owned()).unwrap_or(()));
    let mut disk = DiskBackend::new(image, options, tell).unwrap();
    let (wake, woken) = mpsc::channel();
    disk.set_waker(Arc::new(move || wake.send(()).unwrap_or(())));
    Bench { memory, fault, disk, woken, trouble }
}

fn write(offset: u64, data: Vec<u8>) -> DiskRequest {
    DiskRequest { tag: offset, operation: DiskOperation::Write { offset, data: data.into() } }
}

impl Bench {
    /// Submits, and takes the completion: at once, or after a wake.
    fn run(&mut self, request: DiskRequest) -> DiskCompletion {
        self.disk.submit(request).unwrap();
        loop {
            if let Some(done) = self.disk.complete() {
                return done;
            }
            self.woken.recv().unwrap();
        }
    }
}

#[test]
fn requests_complete_with_their_tag_and_buffer() {
    let mut bench = bench(DiskOptions::default());
    assert_eq!(bench.run(write(512, vec![9; 512])).result, Ok(()));
    let operation = DiskOperation::Read { offset: 512, data: Buffer::new(1024) };
    let done = bench.run(DiskRequest { tag: 42, operation });
    assert_eq!((done.request.tag, done.result), (42, Ok(())));
    let DiskOperation::Read { data, .. } = done.request.operation else { panic!("not a read") };
    assert_eq!((data[0], data[511], data[512]), (9, 9, 7));
    assert_eq!(bench.run(DiskRequest { tag: 1, operation: DiskOperation::Flush }).result, Ok(()));
}

#[test]
fn what_is_unaligned_or_outside_is_refused_and_the_disk_goes_on() {
    let mut bench = bench(DiskOptions::default());
    for request in [write(1, vec![0; 512]), write(0, vec![0; 100]), write(65536, vec![0; 512])] {
        assert_eq!(bench.run(request).result, Err(DiskError::OutOfRange));
    }
    assert_eq!(bench.run(write(u64::MAX - 511, vec![0; 512])).result, Err(DiskError::OutOfRange));
    assert_eq!(bench.run(write(65024, vec![0; 512])).result, Ok(()));
}

#[test]
fn a_full_host_is_reported_to_the_guest() {
    let mut bench = bench(DiskOptions::default());
    bench.fault.fail_after(0);
    assert_eq!(bench.run(write(0, vec![1; 512])).result, Err(DiskError::NoSpace));
    bench.fault.heal();
    assert_eq!(bench.run(write(0, vec![1; 512])).result, Ok(()));
}

#[test]
fn a_full_host_holds_the_request_until_there_is_room_again() {
    let options = DiskOptions { on_error: OnError::Pause, ..DiskOptions::default() };
    let mut bench = bench(options);
    bench.fault.fail_after(0);
    bench.disk.submit(write(0, vec![1; 512])).unwrap();
    assert!(bench.trouble.recv().unwrap().starts_with("vm.img: "));
    assert_eq!((bench.disk.handle().held(), bench.disk.complete()), (1, None));
    bench.fault.heal();
    bench.disk.handle().retry();
    bench.woken.recv().unwrap();
    assert_eq!(bench.disk.complete().unwrap().result, Ok(()));
    assert_eq!(bench.memory.bytes()[..512], [1; 512]);
}

#[test]
fn a_disk_that_is_told_to_fail_does_so_until_it_is_told_not_to() {
    let mut bench = bench(DiskOptions::default());
    let read = |tag| DiskRequest {
        tag,
        operation: DiskOperation::Read { offset: 0, data: Buffer::new(512) },
    };
    let handle = bench.disk.handle();
    handle.set_faults(Faults { reads: true, writes: false });
    assert_eq!(bench.run(read(1)).result, Err(DiskError::Io));
    assert_eq!(bench.run(write(0, vec![1; 512])).result, Ok(()));
    handle.set_faults(Faults { reads: false, writes: true });
    assert_eq!(bench.run(read(2)).result, Ok(()));
    assert_eq!(bench.run(write(0, vec![2; 512])).result, Err(DiskError::Io));
    assert_eq!(bench.memory.bytes()[..512], [1; 512], "what failed has not reached the image");
    handle.set_faults(Faults::default());
    assert_eq!(bench.run(write(0, vec![2; 512])).result, Ok(()));
}

#[test]
fn after_a_drain_nothing_is_in_flight_and_every_completion_waits() {
    let mut bench = bench(DiskOptions { workers: 2, ..DiskOptions::default() });
    for index in 0..100 {
        bench.disk.submit(write(index * 512, vec![index as u8; 512])).unwrap();
    }
    bench.disk.drain();
    let completions: Vec<_> = std::iter::from_fn(|| bench.disk.complete()).collect();
    assert_eq!(completions.len(), 100);
    assert!(completions.iter().all(|done| done.result.is_ok()));
}

#[test]
fn a_drain_fails_what_is_held() {
    let options = DiskOptions { on_error: OnError::Pause, ..DiskOptions::default() };
    let mut bench = bench(options);
    bench.fault.fail_after(0);
    bench.disk.submit(write(0, vec![1; 512])).unwrap();
    bench.disk.drain();
    assert_eq!(bench.disk.complete().unwrap().result, Err(DiskError::Io));
}

#[test]
fn a_full_queue_gives_requests_back() {
    let options = DiskOptions { on_error: OnError::Pause, depth: 2, ..DiskOptions::default() };
    let mut bench = bench(options);
    bench.fault.fail_after(0);
    bench.disk.submit(write(0, vec![1; 512])).unwrap();
    bench.disk.submit(write(512, vec![1; 512])).unwrap();
    let refused = bench.disk.submit(write(1024, vec![2; 512])).unwrap_err();
    assert_eq!(refused, write(1024, vec![2; 512]));
}

#[test]
fn a_new_size_is_seen_at_once_and_wakes_the_device() {
    let bench = bench(DiskOptions::default());
    bench.disk.handle().resize(131_072).unwrap();
    bench.woken.recv().unwrap();
    assert_eq!(bench.disk.info().capacity, 131_072);
}

#[test]
fn what_is_in_the_hosts_memory_is_done_when_submit_returns_and_wakes_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.img");
    std::fs::write(&path, vec![7; 65536]).unwrap();
    let file = Arc::new(FileStorage::open(&path, FileOptions::WRITE).unwrap());
    let raw = Box::new(Raw::open(file.clone(), true).unwrap());
    let image = Arc::new(Image::new("vm.img".to_owned(), file, raw, true));
    let mut disk = DiskBackend::new(image, DiskOptions::default(), Box::new(|_| {})).unwrap();
    disk.set_waker(Arc::new(|| panic!("nobody waits")));
    disk.submit(write(512, vec![9; 512])).unwrap();
    assert_eq!(disk.complete().unwrap().result, Ok(()));
    assert_eq!(std::fs::read(&path).unwrap()[500..520], [[7; 12].as_slice(), &[9; 8]].concat());
}

/// A disk on a file without page cache; `None` where the file system has no direct I/O.
fn direct(folder: &std::path::Path) -> Option<DiskBackend> {
    let path = folder.join("disk.raw");
    std::fs::write(&path, vec![0; DIRECT]).unwrap();
    let options = FileOptions { cache: crate::storage::CacheMode::None, ..FileOptions::WRITE };
    let file = FileStorage::open(&path, options).inspect_err(|error| eprintln!("skipped: {error}"));
    let file = Arc::new(file.ok()?);
    let raw = Box::new(Raw::open(file.clone(), true).unwrap());
    let image = Arc::new(Image::new("disk.raw".to_owned(), file, raw, true));
    Some(DiskBackend::new(image, DiskOptions::default(), Box::new(|_: &str| {})).unwrap())
}

/// Bytes of that disk.
const DIRECT: usize = 1 << 20;

#[test]
fn many_requests_in_flight_without_page_cache_are_those_of_a_flat_disk() {
    let folder =
        tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target").unwrap();
    let Some(mut disk) = direct(folder.path()) else { return };
    let (wake, woken) = mpsc::channel();
    disk.set_waker(Arc::new(move || wake.send(()).unwrap_or(())));
    let (mut flat, mut random) = (vec![0; DIRECT], crate::testkit::Random::new(8));
    for round in 0..40_u8 {
        // One request for each 32 KiB, so that none overlap; half of them unaligned for the host.
        for slot in 0..32_u64 {
            let at = slot * 32768 + 512 * random.below(32);
            let length = 512 * (1 + random.below(32)) as usize;
            let range = at as usize..at as usize + length;
            let operation = match random.below(3) {
                0 => {
                    flat[range.clone()].fill(round);
                    DiskOperation::Write { offset: at, data: flat[range].into() }
                }
                _ => DiskOperation::Read { offset: at, data: Buffer::new(length) },
            };
            disk.submit(DiskRequest { tag: slot, operation }).unwrap();
        }
        let mut left = 32;
        while left > 0 {
            let Some(done) = disk.complete() else {
                woken.recv().unwrap();
                continue;
            };
            left -= 1;
            assert_eq!(done.result, Ok(()));
            if let DiskOperation::Read { offset, data } = done.request.operation {
                assert!(*data == flat[offset as usize..offset as usize + data.len()]);
            }
        }
    }
    drop(disk);
    assert!(std::fs::read(folder.path().join("disk.raw")).unwrap() == flat);
}
