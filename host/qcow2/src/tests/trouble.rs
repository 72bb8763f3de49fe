//! Trouble that is not power loss: a full host, and many threads at once.

use super::{assert_clean, bytes_of, check, made, open, request, settle};
use kezhan_block::testkit::{FaultStorage, Random};
use kezhan_block::{GuestOffset, MemoryStorage, Span, Storage};
use std::io::ErrorKind;
use std::sync::Arc;

const DISK: u64 = 128 * 1024;

/// One operation on an image and, when it succeeded, on the flat array; what failed is unsure.
fn step(image: &kezhan_block::Image, random: &mut Random, flat: &mut [u8], unsure: &mut [bool]) {
    let start = random.below(DISK);
    let length = (1 + random.below(5000)).min(DISK - start);
    let span = Span { start: GuestOffset(start), length };
    let range = start as usize..(start + length) as usize;
    let byte = random.below(256) as u8;
    let (done, byte) = match random.below(10) {
        0 | 1 => (image.flush(), None),
        2 => (image.write_zeroes(span, true), Some(0)),
        _ => (image.write(span.start, &vec![byte; length as usize]), Some(byte)),
    };
    let Some(byte) = byte else { return };
    unsure[range.clone()].fill(done.is_err());
    if done.is_ok() {
        flat[range].fill(byte);
    }
}

#[test]
fn a_full_host_at_any_change_damages_nothing_and_the_disk_goes_on_when_there_is_room() {
    for change in 0..400 {
        let memory = Arc::new(MemoryStorage::new("disk", Vec::new()));
        let options = [("cluster_size", if change % 2 == 0 { "512" } else { "4096" })];
        crate::create::create(memory.clone(), &request(DISK, &options)).unwrap();
        let fault = Arc::new(FaultStorage::new(memory.clone(), ErrorKind::StorageFull));
        let image = open(fault.clone() as Arc<dyn Storage>);
        let mut random = Random::new(change as u64);
        let (mut flat, mut unsure) = (vec![0; DISK as usize], vec![false; DISK as usize]);
        fault.fail_after(change);
        for _ in 0..60 {
            step(&image, &mut random, &mut flat, &mut unsure);
        }
        fault.heal();
        for _ in 0..30 {
            step(&image, &mut random, &mut flat, &mut unsure);
        }
        settle(&image);
        let report = check(&image);
        assert_eq!(report.corruptions, 0, "change {change}: {report:#?}");
        let again = open(memory as Arc<dyn Storage>);
        let now = bytes_of(&again);
        let differs = |at: &usize| !unsure[*at] && now[*at] != flat[*at];
        assert_eq!((0..now.len()).find(differs), None, "change {change}");
    }
}

#[test]
fn many_threads_on_neighbouring_clusters_see_only_their_own_writes() {
    for options in [
        &[("cluster_size", "4096")][..],
        &[("cluster_size", "16384"), ("extended_l2", "on")],
        &[("cluster_size", "512"), ("compat", "0.10")],
    ] {
        let (_, image) = made(4 << 20, options);
        // Each thread owns every eighth piece of 1000 bytes: clusters are shared by several threads.
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let image = &image;
                scope.spawn(move || {
                    let mut random = Random::new(thread);
                    for round in 0..400u64 {
                        let piece = random.below(500) * 8 + thread;
                        let (at, byte) = (GuestOffset(piece * 1000), (round % 251) as u8);
                        image.write(at, &[byte; 1000]).unwrap();
                        let mut data = [0; 1000];
                        image.read(at, &mut data).unwrap();
                        assert!(data == [byte; 1000], "thread {thread}, piece {piece}");
                        if round % 50 == 0 {
                            image.flush().unwrap();
                        }
                    }
                });
            }
        });
        assert_clean(&image);
    }
}

#[test]
fn discards_and_writes_side_by_side_keep_the_image_sound() {
    let (_, image) = made(1 << 20, &[("cluster_size", "4096")]);
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let image = &image;
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for _ in 0..500 {
                    let start = GuestOffset(random.below(250) * 4096);
                    let span = Span { start, length: 16_384 };
                    match random.below(6) {
                        0 => image.discard(span).unwrap(),
                        1 => image.write_zeroes(span, random.one_in(2)).unwrap(),
                        2 => image.flush().unwrap(),
                        _ => image.write(start.plus(100), &[thread as u8; 9000]).unwrap(),
                    }
                }
            });
        }
    });
    assert_clean(&image);
}
