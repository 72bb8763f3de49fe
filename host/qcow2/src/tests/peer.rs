//! QEMU's tool reads what we write, and we read what it writes.

use super::{assert_clean, bytes_of, open, qcow2};
use crate::SnapshotTime;
use kezhan_block::storage::FileOptions;
use kezhan_block::testkit::{Random, qemu_img_ok as qemu_img};
use kezhan_block::{FileStorage, GuestOffset, Image, Span};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DISK: u64 = 5 << 20;

fn at(directory: &Path, name: &str) -> (PathBuf, String) {
    let path = directory.join(name);
    let text = path.display().to_string();
    (path, text)
}

fn ours(path: &Path, options: &[(&str, &str)]) -> Image {
    let file = Arc::new(FileStorage::open(path, FileOptions::CREATE).unwrap());
    crate::create::create(file.clone(), &super::request(DISK, options)).unwrap();
    open(file)
}

fn theirs(path: &Path) -> Image {
    open(Arc::new(FileStorage::open(path, FileOptions::WRITE).unwrap()))
}

/// Writes, zeroes, discards and compressed clusters; returns the disk.
fn scribble(image: &Image, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    for _ in 0..60 {
        let start = random.below(DISK - 1);
        let length = (1 + random.below(200_000)).min(DISK - start);
        let span = Span { start: GuestOffset(start), length };
        match random.below(6) {
            0 => image.write_zeroes(span, random.one_in(2)).unwrap(),
            1 => image.discard(span).unwrap(),
            _ => {
                let byte = random.below(256) as u8;
                image.write(span.start, &vec![byte; length as usize]).unwrap();
            }
        }
    }
    let cluster = qcow2(image).layout().cluster();
    for index in 0..DISK / cluster {
        let (start, data) = (GuestOffset(index * cluster), vec![index as u8; cluster as usize]);
        let mapping = image.format().locate(start, cluster).unwrap();
        let free = matches!(mapping.kind, kezhan_block::MappingKind::Unallocated { .. });
        if free && mapping.length == cluster && index % 3 == 0 {
            let packed = image.format().compress(&data).unwrap();
            image.write_compressed(start, packed).unwrap();
        }
    }
    bytes_of(image)
}

const VARIANTS: [&[(&str, &str)]; 8] = [
    &[],
    &[("compat", "0.10")],
    &[("cluster_size", "512")],
    &[("cluster_size", "2M")],
    &[("compression_type", "zstd")],
    &[("extended_l2", "on")],
    &[("refcount_bits", "1"), ("cluster_size", "4096")],
    &[("refcount_bits", "64"), ("lazy_refcounts", "on")],
];

#[test]
fn qemu_img_finds_our_images_clean_and_equal() {
    let directory = tempfile::tempdir().unwrap();
    for (index, options) in VARIANTS.iter().enumerate() {
        let (path, name) = at(directory.path(), "ours.qcow2");
        let (flat_path, flat) = at(directory.path(), "flat.raw");
        let image = ours(&path, options);
        let disk = scribble(&image, index as u64);
        if index != 6 {
            qcow2(&image).create_snapshot("one", SnapshotTime::default()).unwrap();
            image.write(GuestOffset(0), &disk[..100_000]).unwrap();
        }
        assert_clean(&image);
        drop(image);
        std::fs::write(&flat_path, &disk).unwrap();
        let Some(_) = qemu_img(&["check", "-f", "qcow2", &name]) else { return };
        qemu_img(&["compare", "-f", "qcow2", "-F", "raw", &name, &flat]);
    }
}

#[test]
fn we_read_and_change_what_qemu_img_made() {
    let directory = tempfile::tempdir().unwrap();
    let (source_path, source) = at(directory.path(), "source.raw");
    let disk: Vec<u8> =
        (0..DISK).map(|at| if at / 100_000 % 3 == 0 { 0 } else { (at / 4096) as u8 }).collect();
    std::fs::write(source_path, &disk).unwrap();
    for (index, options) in VARIANTS.iter().enumerate() {
        let (path, name) = at(directory.path(), "theirs.qcow2");
        let joined: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut arguments = vec!["convert", "-O", "qcow2"];
        let joined = joined.join(",");
        if !joined.is_empty() {
            arguments.extend(["-o", &joined]);
        }
        if index % 2 == 0 {
            arguments.push("-c");
        }
        arguments.extend([source.as_str(), name.as_str()]);
        let Some(_) = qemu_img(&arguments) else { return };
        if index != 6 {
            qemu_img(&["snapshot", "-c", "theirs", &name]);
        }
        let image = theirs(&path);
        assert_clean(&image);
        assert!(bytes_of(&image) == disk, "variant {index}");
        scribble(&image, index as u64);
        if index != 6 {
            let snapshot = qcow2(&image).find_snapshot("theirs").unwrap();
            qcow2(&image).apply_snapshot(&snapshot).unwrap();
            assert!(bytes_of(&image) == disk, "variant {index} after the snapshot");
        }
        assert_clean(&image);
        drop(image);
        qemu_img(&["check", "-f", "qcow2", &name]);
    }
}

#[test]
fn bitmaps_pass_between_us_and_qemu_img() {
    let directory = tempfile::tempdir().unwrap();
    let (path, name) = at(directory.path(), "bitmaps.qcow2");
    drop(ours(&path, &[]));
    let Some(_) = qemu_img(&["bitmap", "--add", "-g", "4096", &name, "theirs"]) else { return };
    let image = theirs(&path);
    let mut bitmaps = qcow2(&image).load_bitmaps().unwrap();
    assert_eq!((bitmaps[0].name.as_str(), bitmaps[0].granularity_bits), ("theirs", 12));
    bitmaps[0].mark(8192, 1);
    bitmaps.push(crate::Bitmap::new("ours", 65536, DISK).unwrap());
    qcow2(&image).store_bitmaps(&bitmaps).unwrap();
    assert_clean(&image);
    drop(image);
    qemu_img(&["check", &name]);
    qemu_img(&["bitmap", "--merge", "theirs", &name, "ours"]);
    let image = theirs(&path);
    let bitmaps = qcow2(&image).load_bitmaps().unwrap();
    assert!(bitmaps[1].is_set(0), "{bitmaps:?}");
}
