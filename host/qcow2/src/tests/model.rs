//! Random operations on a chain of images against a flat array of bytes.

use super::{assert_clean, bytes_of, check, made, open, qcow2, request};
use crate::SnapshotTime;
use kezhan_block::testkit::Random;
use kezhan_block::{
    CreateRequest, GuestOffset, Image, MemoryStorage, Raw, Reference, ReferenceKind, Span, Storage,
};
use std::sync::Arc;

const DISK: u64 = 300 * 512;

/// Operations in each of the model's runs: 16 runs make more than a million.
const OPERATIONS: u64 = 63_000;

struct Model {
    random: Random,
    image: Image,
    flat: Vec<u8>,
    snapshots: Vec<(String, Vec<u8>)>,
}

impl Model {
    fn new(seed: u64, image: Image) -> Model {
        let flat = bytes_of(&image);
        Model { random: Random::new(seed), image, flat, snapshots: Vec::new() }
    }

    fn span(&mut self) -> Span {
        let start = self.random.below(self.flat.len() as u64);
        let most = if self.random.one_in(8) { 40_000 } else { 3_000 };
        let length = 1 + self.random.below(most);
        let length = length.min(self.flat.len() as u64 - start);
        Span { start: GuestOffset(start), length }
    }

    fn slice(&mut self, span: Span) -> &mut [u8] {
        &mut self.flat[span.start.get() as usize..span.end().get() as usize]
    }

    fn step(&mut self) {
        let span = self.span();
        match self.random.below(100) {
            0..=44 => self.read(span),
            45..=79 => self.write(span),
            80..=87 => {
                let unmap = self.random.one_in(2);
                self.image.write_zeroes(span, unmap).unwrap();
                self.slice(span).fill(0);
            }
            88..=91 => self.discard(span),
            92..=95 => self.compressed(span),
            96..=98 => self.image.flush().unwrap(),
            _ => self.seldom(),
        }
    }

    fn read(&mut self, span: Span) {
        let mut data = vec![0xee; span.length as usize];
        self.image.read(span.start, &mut data).unwrap();
        assert!(self.slice(span) == data, "{span:?} differs");
    }

    fn write(&mut self, span: Span) {
        let byte = self.random.below(256) as u8;
        let data: Vec<u8> = (0..span.length).map(|i| byte.wrapping_add(i as u8)).collect();
        self.image.write(span.start, &data).unwrap();
        self.slice(span).copy_from_slice(&data);
    }

    /// What is discarded reads as before or as zeroes, cluster by cluster.
    fn discard(&mut self, span: Span) {
        self.image.discard(span).unwrap();
        let mut now = vec![0; span.length as usize];
        self.image.read(span.start, &mut now).unwrap();
        for (old, new) in self.slice(span).iter_mut().zip(now) {
            assert!(new == *old || new == 0);
            *old = new;
        }
    }

    fn compressed(&mut self, span: Span) {
        let cluster = qcow2(&self.image).layout().cluster();
        let at = span.start.align_down(cluster);
        let whole = Span { start: at, length: cluster };
        let unallocated = |image: &Image| {
            let mapping = image.format().locate(at, cluster).unwrap();
            mapping.length == cluster
                && matches!(mapping.kind, kezhan_block::MappingKind::Unallocated { .. })
        };
        if whole.end().get() > self.flat.len() as u64 || !unallocated(&self.image) {
            return;
        }
        let data = vec![self.random.below(256) as u8; cluster as usize];
        if let Some(packed) = self.image.format().compress(&data) {
            self.image.write_compressed(at, packed).unwrap();
            self.slice(whole).copy_from_slice(&data);
        }
    }

    fn seldom(&mut self) {
        if !self.random.one_in(20) {
            return;
        }
        let size = self.image.size();
        let snapshots_fit = qcow2(&self.image).layout().refcount_order >= 3;
        match self.random.below(5) {
            0 if self.snapshots.len() < 3 && snapshots_fit => self.snapshot(),
            1 if !self.snapshots.is_empty() => self.apply(),
            2 if !self.snapshots.is_empty() => self.delete(),
            3 => assert!(check(&self.image).corruptions == 0),
            _ => self.resize(size),
        }
    }

    fn snapshot(&mut self) {
        let time = SnapshotTime::default();
        let made = self.image.alone(|_| qcow2(&self.image).create_snapshot("s", time)).unwrap();
        self.snapshots.push((made.id, self.flat.clone()));
    }

    fn apply(&mut self) {
        let (id, flat) =
            self.snapshots[self.random.below(self.snapshots.len() as u64) as usize].clone();
        let image = qcow2(&self.image);
        let snapshot = image.find_snapshot(&id).unwrap();
        self.image.alone(|_| image.apply_snapshot(&snapshot)).unwrap();
        self.flat = flat;
    }

    fn delete(&mut self) {
        let index = self.random.below(self.snapshots.len() as u64) as usize;
        let (id, _) = self.snapshots.swap_remove(index);
        let image = qcow2(&self.image);
        let snapshot = image.find_snapshot(&id).unwrap();
        self.image.alone(|_| image.delete_snapshot(&snapshot)).unwrap();
    }

    /// Grows by whole sectors, up to twice the first size, or shrinks back.
    fn resize(&mut self, size: u64) {
        if !qcow2(&self.image).layout().v3 && !self.snapshots.is_empty() {
            return;
        }
        let new = DISK + 512 * self.random.below(DISK / 512);
        self.image.resize(new).unwrap();
        // What comes into sight again when a disk grows is not defined by the model.
        self.flat.resize(new as usize, 0);
        if new > size {
            let added = Span::between(GuestOffset(size), GuestOffset(new));
            self.image.write_zeroes(added, true).unwrap();
        }
    }
}

fn on_raw(image: Image, bytes: Vec<u8>) -> Image {
    let file = Arc::new(MemoryStorage::new("base.raw", bytes));
    let raw = Box::new(Raw::open(file.clone(), false).unwrap());
    let reference = Reference {
        named_by: image.name().to_owned(),
        kind: ReferenceKind::Backing,
        target: "base.raw".to_owned(),
        format: Some("raw".to_owned()),
    };
    image.on(Arc::new(Image::new("base.raw".to_owned(), file, raw, false)), reference)
}

fn backed(options: &[(&str, &str)]) -> (Arc<MemoryStorage>, Image) {
    let file = Arc::new(MemoryStorage::new("top.qcow2", Vec::new()));
    let request = CreateRequest {
        backing_file: Some("base.raw".to_owned()),
        backing_format: Some("raw".to_owned()),
        ..request(DISK, options)
    };
    crate::create::create(file.clone(), &request).unwrap();
    (file.clone(), open(file))
}

fn run(seed: u64, options: &[(&str, &str)], base: Option<Vec<u8>>) {
    let (file, image) = if base.is_some() { backed(options) } else { made(DISK, options) };
    let image = match &base {
        Some(bytes) => on_raw(image, bytes.clone()),
        None => image,
    };
    let mut model = Model::new(seed, image);
    (0..OPERATIONS).for_each(|_| model.step());
    assert_clean(&model.image);
    assert!(bytes_of(&model.image) == model.flat);
    // What the file holds, opened anew, is the same.
    let again = open(file.clone() as Arc<dyn Storage>);
    let again = match base {
        Some(bytes) => on_raw(again, bytes),
        None => again,
    };
    assert!(bytes_of(&again) == model.flat);
    assert_clean(&again);
    println!("{OPERATIONS} operations with {options:?}");
}

/// Half data, half zeroes, shorter than the disk.
fn base() -> Vec<u8> {
    (0..DISK - 5000).map(|at| if at / 7000 % 2 == 0 { (at % 251) as u8 + 1 } else { 0 }).collect()
}

#[test]
fn random_operations_on_plain_images_match_a_flat_array() {
    run(1, &[("cluster_size", "512")], None);
    run(2, &[("cluster_size", "4096")], None);
    run(3, &[("cluster_size", "65536")], None);
    run(4, &[("cluster_size", "1024"), ("compat", "0.10")], None);
}

#[test]
fn random_operations_over_a_backing_file_match_a_flat_array() {
    run(5, &[("cluster_size", "512")], Some(base()));
    run(6, &[("cluster_size", "4096"), ("compression_type", "zstd")], Some(base()));
    run(7, &[("cluster_size", "2048"), ("compat", "0.10")], Some(base()));
    run(8, &[("cluster_size", "65536")], Some(base()));
}

#[test]
fn random_operations_with_subclusters_match_a_flat_array() {
    run(9, &[("cluster_size", "16384"), ("extended_l2", "on")], None);
    run(10, &[("cluster_size", "16384"), ("extended_l2", "on")], Some(base()));
    run(11, &[("cluster_size", "32768"), ("extended_l2", "on")], Some(base()));
    run(12, &[("cluster_size", "16384"), ("extended_l2", "on"), ("refcount_bits", "8")], None);
}

#[test]
fn random_operations_with_refcounts_of_every_width_match_a_flat_array() {
    run(13, &[("cluster_size", "512"), ("refcount_bits", "1")], Some(base()));
    run(14, &[("cluster_size", "512"), ("refcount_bits", "4")], None);
    run(15, &[("cluster_size", "1024"), ("refcount_bits", "32")], None);
    run(16, &[("cluster_size", "512"), ("refcount_bits", "64")], Some(base()));
}
