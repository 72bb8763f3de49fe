//! Power loss at every change of a random workload.

use super::{open, request};
use crate::{Qcow2, Repair, SnapshotTime};
use kezhan_block::testkit::{CrashStorage, Random};
use kezhan_block::{FormatDriver, GuestOffset, Image, MemoryStorage, OpenContext, Span, Storage};
use std::sync::Arc;

const DISK: u64 = 64 * 1024;

/// Bytes of the disk that may have changed since the last good flush are not compared.
struct Witness {
    flushed: Vec<u8>,
    unsure: Vec<bool>,
    now: Vec<u8>,
}

impl Witness {
    fn touch(&mut self, span: Span) -> &mut [u8] {
        let range = span.start.get() as usize..span.end().get() as usize;
        self.unsure[range.clone()].fill(true);
        &mut self.now[range]
    }

    fn flushed(&mut self) {
        self.flushed.clone_from(&self.now);
        self.unsure.fill(false);
    }
}

/// Does operations until the power goes off.
fn work(image: &Image, random: &mut Random, witness: &mut Witness, snapshots: bool) {
    for step in 0.. {
        let start = random.below(DISK);
        let length = (1 + random.below(3000)).min(DISK - start);
        let span = Span { start: GuestOffset(start), length };
        let done = match random.below(12) {
            0..=6 => {
                let byte = random.below(255) as u8 + 1;
                let data = vec![byte; span.length as usize];
                witness.touch(span).copy_from_slice(&data);
                image.write(span.start, &data)
            }
            7 | 8 => {
                witness.touch(span).fill(0);
                image.write_zeroes(span, random.one_in(2))
            }
            9 if snapshots && step % 7 == 0 => snapshot(image, random),
            _ => image.flush().map(|()| witness.flushed()),
        };
        if done.is_err() {
            return;
        }
    }
}

fn snapshot(image: &Image, random: &mut Random) -> kezhan_block::Result<()> {
    let qcow2 = super::qcow2(image);
    let all = qcow2.snapshots()?;
    image.alone(|_| match all.first() {
        Some(first) if random.one_in(2) => qcow2.delete_snapshot(first),
        _ => qcow2.create_snapshot("s", SnapshotTime::default()).map(|_| ()),
    })
}

/// Opens what a crash left, as a machine would; the driver repairs what an interrupted snapshot left.
fn recover(file: Arc<MemoryStorage>) -> Image {
    let context = OpenContext {
        writable: true,
        gate: &kezhan_block::DenyAll,
        passphrase: None,
        for_check: false,
    };
    let opened = crate::Qcow2Driver.open(file.clone(), &context).unwrap();
    Image::new("crashed".to_owned(), file, opened.format, true)
}

fn crash_at(change: u64, seed: u64, fresh: &[u8], snapshots: bool) -> u64 {
    let storage = Arc::new(CrashStorage::new(fresh.to_vec()));
    storage.die_at(change);
    let image = open(storage.clone() as Arc<dyn Storage>);
    let disk = vec![0; DISK as usize];
    let mut witness = Witness { flushed: disk.clone(), unsure: vec![false; disk.len()], now: disk };
    work(&image, &mut Random::new(seed), &mut witness, snapshots);
    let mut checked = 0;
    for variant in 0..4 {
        let mut random = Random::new(seed ^ change << 8 ^ variant);
        let image = recover(Arc::new(storage.after_crash(&mut random)));
        let qcow2: &Qcow2 = super::qcow2(&image);
        let report = qcow2.check(Repair::None).unwrap();
        assert_eq!(report.corruptions, 0, "change {change}, seed {seed}: {report:#?}");
        let now = super::bytes_of(&image);
        for at in (0..now.len()).filter(|at| !witness.unsure[*at]) {
            assert_eq!(now[at], witness.flushed[at], "byte {at}, change {change}, seed {seed}");
        }
        assert_eq!(image.format().size(), DISK);
        checked += 1;
    }
    checked
}

fn fresh(options: &[(&str, &str)]) -> Vec<u8> {
    let file = Arc::new(MemoryStorage::new("fresh", Vec::new()));
    crate::create::create(file.clone(), &request(DISK, options)).unwrap();
    file.bytes()
}

fn crash_everywhere(options: &[(&str, &str)], changes: u64, snapshots: bool) -> u64 {
    let fresh = fresh(options);
    (1..=changes).map(|change| crash_at(change, change % 17, &fresh, snapshots)).sum()
}

#[test]
fn power_loss_at_any_change_leaves_flushed_data_and_at_worst_leaks() {
    let mut points = 0;
    points += crash_everywhere(&[("cluster_size", "512")], 900, false);
    points += crash_everywhere(&[("cluster_size", "4096")], 500, false);
    points += crash_everywhere(&[("cluster_size", "1024"), ("compat", "0.10")], 500, false);
    points += crash_everywhere(&[("cluster_size", "16384"), ("extended_l2", "on")], 400, false);
    println!("{points} crash points");
    assert!(points >= 9_000, "only {points}");
}

#[test]
fn power_loss_during_snapshots_is_mended_when_the_image_is_opened() {
    let points = crash_everywhere(&[("cluster_size", "2048")], 600, true);
    println!("{points} crash points with snapshots");
    assert!(points >= 2_000, "only {points}");
}
