//! Each format by itself, hostile, and beside qemu-img.

use crate::DRIVERS;
use kezhan_block::storage::FileOptions;
use kezhan_block::testkit::{Random, qemu_img_ok as qemu_img};
use kezhan_block::{
    CreateRequest, DenyAll, FileStorage, FollowFiles, FormatDriver, Gate, GuestOffset, Image,
    MemoryStorage, OpenOptions, Result, Span, Storage, open_chain, probe,
};
use std::path::Path;
use std::sync::Arc;

const DISK: u64 = 5 * 1024 * 1024 + 512;

/// The formats of this crate, as qemu-img names them.
const OURS: [&str; 4] = ["vdi", "vpc", "vhdx", "vmdk"];

fn driver(name: &str) -> &'static dyn FormatDriver {
    DRIVERS.iter().copied().find(|driver| driver.name() == name).unwrap()
}

fn open_with(file: Arc<dyn Storage>, format: &str, gate: &dyn Gate) -> Result<Image> {
    let options = OpenOptions {
        drivers: DRIVERS,
        format: Some(format),
        writable: true,
        backing: true,
        gate,
        probe_backing: false,
        passphrase: None,
        for_check: false,
    };
    open_chain(file, &options)
}

fn open(path: &Path, format: &str) -> Image {
    let file = Arc::new(FileStorage::open(path, FileOptions::WRITE).unwrap());
    open_with(file, format, &FollowFiles { lock: true }).unwrap()
}

/// Random writes and zeroes on the image and on a flat array.
fn scribble(image: &Image, flat: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..200 {
        let start = random.below(flat.len() as u64);
        let length = (1 + random.below(100_000)).min(flat.len() as u64 - start);
        let span = Span { start: GuestOffset(start), length };
        let part = &mut flat[start as usize..(start + length) as usize];
        match random.below(8) {
            0 => {
                part.fill(0);
                image.write_zeroes(span, true).unwrap();
            }
            1 => image.flush().unwrap(),
            _ => {
                part.fill(random.below(256) as u8);
                image.write(span.start, part).unwrap();
            }
        }
    }
    image.flush().unwrap();
}

fn bytes_of(image: &Image) -> Vec<u8> {
    let mut all = vec![0; image.size() as usize];
    image.read(GuestOffset(0), &mut all).unwrap();
    all
}

#[test]
fn what_is_written_in_each_format_is_there_when_it_is_opened_again() {
    for format in OURS {
        let file = Arc::new(MemoryStorage::new("disk", Vec::new()));
        let request = CreateRequest { size: DISK, ..CreateRequest::default() };
        driver(format).create(file.clone(), &request).unwrap();
        assert_eq!(probe(DRIVERS, &*file).unwrap().name(), format);
        let image = open_with(file.clone(), format, &DenyAll).unwrap();
        let mut flat = vec![0; DISK as usize];
        assert!(bytes_of(&image) == flat, "{format} is not empty");
        scribble(&image, &mut flat, 1);
        assert!(bytes_of(&image) == flat, "{format}");
        drop(image);
        let again = open_with(file, format, &DenyAll).unwrap();
        assert!(bytes_of(&again) == flat, "{format} opened again");
    }
}

#[test]
fn qemu_img_reads_what_we_write_in_each_format() {
    let folder = tempfile::tempdir().unwrap();
    let flat_path = folder.path().join("flat.raw");
    for (format, options) in
        [("vdi", ""), ("vdi", "static"), ("vpc", ""), ("vpc", "fixed"), ("vhdx", ""), ("vmdk", "")]
    {
        let path = folder.path().join(format!("ours.{format}"));
        let file = Arc::new(FileStorage::open(&path, FileOptions::CREATE).unwrap());
        let mut request = CreateRequest { size: DISK, ..CreateRequest::default() };
        match options {
            "static" => request.options.push(("static".into(), "on".into())),
            "fixed" => request.options.push(("subformat".into(), "fixed".into())),
            _ => {}
        }
        driver(format).create(file.clone(), &request).unwrap();
        drop(file);
        let image = open(&path, format);
        let mut flat = vec![0; DISK as usize];
        scribble(&image, &mut flat, 2);
        drop(image);
        std::fs::write(&flat_path, &flat).unwrap();
        let (ours, flat) = (path.display().to_string(), flat_path.display().to_string());
        let Some(said) = qemu_img(&["compare", "-f", format, "-F", "raw", &ours, &flat]) else {
            return;
        };
        assert_eq!(
            said,
            "Images are identical.
",
            "{format} {options}"
        );
        if format != "vpc" {
            qemu_img(&["check", "-f", format, &ours]);
        }
    }
}

#[test]
fn we_read_and_write_what_qemu_img_made_in_each_format() {
    let folder = tempfile::tempdir().unwrap();
    let byte = |at: u64| if (at / 300_000).is_multiple_of(2) { (at / 999) as u8 } else { 0 };
    let disk: Vec<u8> = (0..DISK).map(byte).collect();
    let source = folder.path().join("source.raw");
    std::fs::write(&source, &disk).unwrap();
    let source = source.display().to_string();
    for (format, options) in [
        ("vdi", "static=off"),
        ("vdi", "static=on"),
        ("vpc", "subformat=dynamic,force_size=on"),
        ("vpc", "subformat=fixed,force_size=on"),
        ("vhdx", "subformat=dynamic"),
        ("vhdx", "subformat=fixed"),
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=monolithicFlat"),
        ("vmdk", "subformat=twoGbMaxExtentSparse"),
        ("vmdk", "subformat=streamOptimized"),
    ] {
        let path = folder.path().join(format!("theirs-{}.{format}", options.replace('=', "-")));
        let theirs = path.display().to_string();
        let arguments = ["convert", "-f", "raw", "-O", format, "-o", options, &source, &theirs];
        if qemu_img(&arguments).is_none() {
            return;
        }
        let image = open(&path, format);
        assert!(bytes_of(&image) == disk, "{format} {options}");
        if options == "subformat=streamOptimized" {
            assert!(image.write(GuestOffset(0), &[1]).is_err());
            continue;
        }
        let mut flat = disk.clone();
        scribble(&image, &mut flat, 3);
        drop(image);
        let flat_path = folder.path().join("flat.raw");
        std::fs::write(&flat_path, &flat).unwrap();
        let flat = flat_path.display().to_string();
        qemu_img(&["compare", "-f", format, "-F", "raw", &theirs, &flat]);
    }
}

#[test]
fn an_image_with_any_bytes_changed_is_refused_or_survived() {
    for format in OURS {
        let file = Arc::new(MemoryStorage::new("disk", Vec::new()));
        let request = CreateRequest { size: DISK, ..CreateRequest::default() };
        driver(format).create(file.clone(), &request).unwrap();
        let image = open_with(file.clone(), format, &DenyAll).unwrap();
        image.write(GuestOffset(70_000), &[1; 3000]).unwrap();
        image.flush().unwrap();
        drop(image);
        let sound = file.bytes();
        let mut random = Random::new(11);
        for _ in 0..150 {
            let mut bytes = sound.clone();
            for _ in 0..=random.below(3) {
                let within = if random.one_in(2) { 2048 } else { bytes.len() as u64 };
                let at = random.below(within.min(bytes.len() as u64)) as usize;
                let count = [1, 4, 8][random.below(3) as usize].min(bytes.len() - at);
                bytes[at..at + count]
                    .fill([0, 0xff, 0x7f, random.below(256) as u8][random.below(4) as usize]);
            }
            if random.one_in(5) {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            let file = Arc::new(MemoryStorage::new("hostile", bytes));
            if let Ok(image) = open_with(file, format, &DenyAll) {
                let mut data = [0; 4096];
                for at in [0, 69_000, image.size().saturating_sub(4096)] {
                    let _ = image.read(GuestOffset(at), &mut data);
                    let _ = image.write(GuestOffset(at), &data);
                }
                let _ = image.flush();
            }
        }
    }
}

#[test]
fn a_raw_disk_is_raw_whatever_its_guest_wrote_into_it_when_the_format_is_named() {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let file = Arc::new(MemoryStorage::new("sly.raw", bytes.clone()));
    let image = open_with(file, "raw", &DenyAll).unwrap();
    assert_eq!(image.format().format_name(), "raw");
    assert!(bytes_of(&image) == bytes);
}

#[test]
fn a_chain_of_four_formats_reads_as_one_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut flat: Vec<u8> = (0..DISK).map(|at| (at / 4096) as u8).collect();
    std::fs::write(path("base.raw"), &flat).unwrap();
    let Some(_) = qemu_img(&[
        "convert",
        "-O",
        "vhdx",
        &path("base.raw").display().to_string(),
        &path("base.vhdx").display().to_string(),
    ]) else {
        return;
    };
    let levels = [("one", "base.vhdx", "vhdx"), ("two", "one", "qcow2"), ("three", "two", "qcow2")];
    for (index, (name, below, format)) in levels.into_iter().enumerate() {
        let file = Arc::new(FileStorage::open(&path(name), FileOptions::CREATE).unwrap());
        let request = CreateRequest {
            size: DISK,
            backing_file: Some(below.to_owned()),
            backing_format: Some(format.to_owned()),
            options: vec![("cluster_size".into(), ["512", "64K", "4K"][index].into())],
            ..CreateRequest::default()
        };
        driver("qcow2").create(file, &request).unwrap();
        let image = open(&path(name), "qcow2");
        scribble(&image, &mut flat, index as u64);
        assert!(bytes_of(&image) == flat, "level {index}");
    }
    std::fs::write(path("flat.raw"), &flat).unwrap();
    let text = |name: &str| path(name).display().to_string();
    qemu_img(&["compare", "-f", "qcow2", "-F", "raw", &text("three"), &text("flat.raw")]);
}
