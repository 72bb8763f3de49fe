//! The commands as a person gives them, and beside qemu-img.

mod peer;

use crate::{ImageCommand, check, info, map, run};
use clap::Parser;
use kezhan_block::testkit;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: ImageCommand,
}

/// Runs a command line; its exit status.
fn kezhan(line: &str) -> u8 {
    let words = std::iter::once("image").chain(line.split_whitespace());
    let parsed = Line::try_parse_from(words).unwrap();
    let code = format!("{:?}", run(parsed.command));
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Runs qemu-img; `None`, with the reason printed, when there is none.
fn qemu_img(line: &str) -> Option<(i32, String)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    testkit::qemu_img(&words).map(|output| (output.status, output.text))
}

/// A folder in which commands run by absolute names.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// `line` with each word `@name` made a path in the folder.
    fn line(&self, line: &str) -> String {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.name(name),
            None => word.to_owned(),
        };
        line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    }

    fn ok(&self, line: &str) {
        assert_eq!(kezhan(&self.line(line)), 0, "{line}");
    }

    fn disk(&self, name: &str, size: usize) -> Vec<u8> {
        let byte = |at: usize| if at / 100_000 % 3 == 1 { 0 } else { (at / 777) as u8 };
        let disk: Vec<u8> = (0..size).map(byte).collect();
        std::fs::write(self.path(name), &disk).unwrap();
        disk
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn a_disk_survives_conversion_through_every_variant_of_qcow2() {
    let folder = Folder::new();
    let disk = folder.disk("disk.raw", 3_000_320);
    for (index, how) in [
        "",
        "-c",
        "-W -m 4",
        "-S 0",
        "-o compat=0.10",
        "-c -o compression_type=zstd",
        "-o cluster_size=512",
        "-c -o cluster_size=2M",
        "-o extended_l2=on",
        "-o preallocation=metadata",
        "-c -o refcount_bits=64,cluster_size=4k",
    ]
    .iter()
    .enumerate()
    {
        let _ = index;
        folder.ok(&format!("convert {how} -O qcow2 -f raw @disk.raw @copy.qcow2"));
        folder.ok("check -q @copy.qcow2");
        folder.ok("compare -q -f raw @disk.raw @copy.qcow2");
        folder.ok("convert -f qcow2 -O raw @copy.qcow2 @back.raw");
        assert!(read(&folder.path("back.raw")) == disk, "{how}");
        if let Some((status, text)) = qemu_img(&folder.line("check @copy.qcow2")) {
            assert_eq!(status, 0, "{how}: {text}");
            let compared = qemu_img(&folder.line("compare -f raw @disk.raw @copy.qcow2")).unwrap();
            assert_eq!(compared.0, 0, "{how}: {}", compared.1);
        }
    }
}

#[test]
fn images_of_no_and_of_odd_sizes_are_made_and_converted() {
    let folder = Folder::new();
    for size in ["0", "512", "65537", "8T"] {
        folder.ok(&format!("create -q -f qcow2 @odd.qcow2 {size}"));
        folder.ok("check -q @odd.qcow2");
        folder.ok("info @odd.qcow2");
        folder.ok("convert -O qcow2 @odd.qcow2 @copy.qcow2");
        folder.ok("compare -q @odd.qcow2 @copy.qcow2");
        if let Some((status, text)) = qemu_img(&folder.line("check @copy.qcow2")) {
            assert_eq!(status, 0, "{size}: {text}");
        }
    }
}

#[test]
fn a_conversion_gives_the_same_bytes_each_time() {
    let folder = Folder::new();
    folder.disk("disk.raw", 9_000_000);
    for how in ["", "-c"] {
        folder.ok(&format!("convert {how} -O qcow2 -f raw @disk.raw @one.qcow2"));
        folder.ok(&format!("convert {how} -O qcow2 -f raw @disk.raw @two.qcow2"));
        assert!(read(&folder.path("one.qcow2")) == read(&folder.path("two.qcow2")), "{how}");
    }
}

#[test]
fn compare_tells_where_images_differ_and_check_what_is_wrong() {
    let folder = Folder::new();
    let mut disk = folder.disk("one.raw", 5_000_192);
    disk[4_500_000] ^= 1;
    std::fs::write(folder.path("two.raw"), &disk).unwrap();
    assert_eq!(kezhan(&folder.line("compare -f raw -F raw @one.raw @two.raw")), 1);
    assert_eq!(kezhan(&folder.line("compare -f raw -F raw @one.raw @none.raw")), 2);
    assert_eq!(kezhan(&folder.line("check -f raw @one.raw")), 63);
    folder.ok("convert -O qcow2 -f raw @one.raw @leaky.qcow2");
    let mut bytes = read(&folder.path("leaky.qcow2"));
    // The first refcount block is cluster 2; count cluster 40 twice.
    bytes[2 * 65536 + 81] = 2;
    std::fs::write(folder.path("leaky.qcow2"), &bytes).unwrap();
    assert_eq!(kezhan(&folder.line("check -q @leaky.qcow2")), 2, "a copied flag is wrong too");
    folder.ok("check -q -r all @leaky.qcow2");
    folder.ok("compare -f raw @one.raw @leaky.qcow2");
}

#[test]
fn chains_are_committed_and_rebased_without_changing_the_disk() {
    let folder = Folder::new();
    folder.disk("base.raw", 2_000_384);
    folder.disk("other.raw", 1_500_160);
    folder.ok("create -q -f qcow2 -F raw -b base.raw @mid.qcow2");
    folder.ok("create -q -f qcow2 -F qcow2 -b mid.qcow2 @top.qcow2 4M");
    folder.disk("patch.raw", 600_064);
    folder.ok("convert -n -f raw -O qcow2 @patch.raw @top.qcow2");
    folder.ok("convert -O raw @top.qcow2 @before.raw");
    for backing in ["-F raw -b other.raw", "-F raw -b base.raw", "-F qcow2 -b mid.qcow2"] {
        folder.ok(&format!("rebase {backing} @top.qcow2"));
        folder.ok("check -q @top.qcow2");
        folder.ok("compare -f raw @before.raw @top.qcow2");
    }
    folder.ok("commit -q @top.qcow2");
    folder.ok("compare -f raw @before.raw @mid.qcow2");
    folder.ok("compare -f raw @before.raw @top.qcow2");
    folder.ok("check -q @top.qcow2");
    folder.ok("check -q @mid.qcow2");
    folder.ok("convert -F raw -B base.raw -O qcow2 @mid.qcow2 @thin.qcow2");
    folder.ok("compare -f raw @before.raw @thin.qcow2");
}

#[test]
fn sizes_snapshots_and_bitmaps_change_as_asked() {
    let folder = Folder::new();
    folder.ok("create -q -f qcow2 @a.qcow2 10M");
    folder.ok("snapshot -c first @a.qcow2");
    folder.ok("resize -q @a.qcow2 +6M");
    assert_eq!(kezhan(&folder.line("resize @a.qcow2 -1M")), 1, "shrinking wants --shrink");
    folder.ok("resize -q --shrink @a.qcow2 -1M");
    folder.ok("bitmap --add -g 4096 @a.qcow2 b0");
    folder.ok("bitmap --add --disable @a.qcow2 b1");
    folder.ok("bitmap --merge b0 --enable @a.qcow2 b1");
    folder.ok("bitmap --remove @a.qcow2 b0");
    assert_eq!(kezhan(&folder.line("bitmap --remove @a.qcow2 b0")), 1);
    folder.ok("snapshot -a first @a.qcow2");
    folder.ok("snapshot -d first @a.qcow2");
    assert_eq!(kezhan(&folder.line("snapshot -d first @a.qcow2")), 1);
    folder.ok("check -q @a.qcow2");
    let image = crate::open::Open::read(None, false).open(&folder.name("a.qcow2")).unwrap();
    assert_eq!(image.size(), 10 << 20);
}

/// The oldest qemu-img whose JSON has the keys of ours. An older one's are among them.
const CURRENT: u32 = 10;

/// Our JSON of a command, beside qemu-img's.
fn same_json(folder: &Folder, command: &str, ours: &Value) {
    let Some((_, text)) = qemu_img(&folder.line(command)) else { return };
    let theirs: Value = serde_json::from_str(&text).unwrap();
    if testkit::qemu_img_version().is_some_and(|version| version < CURRENT) {
        let missing = differences("", &theirs, ours);
        assert!(missing.is_empty(), "{command}: {missing:#?}\n{ours:#}\n{theirs:#}");
    } else {
        assert_eq!(*ours, theirs, "{command}");
    }
}

/// Where a value of `theirs` is another one in `ours`, or none.
fn differences(place: &str, theirs: &Value, ours: &Value) -> Vec<String> {
    let within = |key: &str, theirs: &Value| match ours.get(key) {
        Some(ours) => differences(&format!("{place}/{key}"), theirs, ours),
        None => vec![format!("{place}/{key} is {theirs} and not in ours")],
    };
    match (theirs, ours) {
        (Value::Object(all), _) => {
            all.iter().flat_map(|(key, theirs)| within(key, theirs)).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let pairs = a.iter().zip(b).enumerate();
            pairs.flat_map(|(at, (a, b))| differences(&format!("{place}/{at}"), a, b)).collect()
        }
        _ if theirs == ours => Vec::new(),
        _ => vec![format!("{place} is {theirs}, ours is {ours}")],
    }
}

#[test]
fn info_map_and_check_print_the_json_of_qemu_img() {
    let folder = Folder::new();
    folder.disk("base.raw", 2_000_384);
    folder.ok("create -q -f qcow2 -F raw -b base.raw @a.qcow2 5M");
    folder.ok("create -q -f qcow2 -o extended_l2=on @b.qcow2 70M");
    folder.ok("snapshot -c one @b.qcow2");
    folder.ok("bitmap --add @b.qcow2 bits");
    folder.ok("convert -c -f raw -O qcow2 @base.raw @c.qcow2");
    folder.ok("convert -f raw -O qcow2 -o compat=0.10,cluster_size=4k @base.raw @d.qcow2");
    folder.ok("convert -n -f qcow2 -O qcow2 @c.qcow2 @a.qcow2");
    for name in ["a.qcow2", "b.qcow2", "c.qcow2", "d.qcow2", "base.raw"] {
        let open = crate::open::Open::read(None, false);
        let image = open.alone().open(&folder.name(name)).unwrap();
        let ours = info::describe(&image).unwrap();
        same_json(&folder, &format!("info --output json @{name}"), &ours);
        let image = open.open(&folder.name(name)).unwrap();
        let mut text = Vec::new();
        map::print(&image, &mut text).unwrap();
        let ours = serde_json::from_slice(&text).unwrap();
        same_json(&folder, &format!("map --output json @{name}"), &ours);
        if let Some(qcow2) = image.format().as_any().downcast_ref::<kezhan_qcow2::Qcow2>() {
            let report = qcow2.check(kezhan_qcow2::Repair::None).unwrap();
            let ours = check::json_report(&report, &folder.name(name), "qcow2");
            same_json(&folder, &format!("check --output json @{name}"), &ours);
        }
    }
}

#[test]
fn measure_gives_the_numbers_of_qemu_img() {
    let folder = Folder::new();
    folder.disk("base.raw", 2_000_384);
    folder.ok("convert -c -f raw -O qcow2 @base.raw @c.qcow2");
    folder.ok("create -q -f qcow2 @b.qcow2 70M");
    folder.ok("bitmap --add @b.qcow2 bits");
    for what in [
        "-O qcow2 -f raw @base.raw",
        "-O qcow2 @c.qcow2",
        "-O qcow2 @b.qcow2",
        "-O raw @c.qcow2",
        "-O qcow2 --size 8T",
        "-O qcow2 -o cluster_size=4k,refcount_bits=64 --size 10G",
        "-O qcow2 -o extended_l2=on -f raw @base.raw",
        "-O qcow2 -o preallocation=full --size 10G",
    ] {
        let line = format!("image measure --output json {}", folder.line(what));
        let parsed = Line::try_parse_from(line.split_whitespace()).unwrap();
        let ImageCommand::Measure(args) = parsed.command else { panic!("not measure") };
        let ours = args.measure().unwrap().json();
        same_json(&folder, &format!("measure --output json {what}"), &ours);
    }
}

#[test]
fn two_writers_never_share_an_image() {
    let folder = Folder::new();
    folder.ok("create -q -f qcow2 @a.qcow2 10M");
    let held = crate::open::Open::write(None).open(&folder.name("a.qcow2")).unwrap();
    assert_eq!(kezhan(&folder.line("resize -q @a.qcow2 20M")), 1);
    assert_eq!(kezhan(&folder.line("info @a.qcow2")), 1);
    folder.ok("info -U @a.qcow2");
    if let Some((status, _)) = qemu_img(&folder.line("snapshot -c x @a.qcow2")) {
        assert_ne!(status, 0, "qemu-img took an image that we write");
    }
    drop(held);
    folder.ok("resize -q @a.qcow2 20M");
}

#[test]
fn encrypted_images_are_made_read_by_qemu_img_and_read_back() {
    let folder = Folder::new();
    let disk = folder.disk("disk.raw", 1_000_448);
    std::fs::write(folder.path("secret"), "open sesame").unwrap();
    let secret = format!("--object secret,id=s,file={}", folder.name("secret"));
    let options = "-O qcow2 -o encrypt.format=luks,encrypt.key-secret=s,encrypt.hash-alg=sha512";
    folder.ok(&format!("convert {secret} {options} -f raw @disk.raw @ours.qcow2"));
    folder.ok("check -q @ours.qcow2");
    folder.ok("info @ours.qcow2");
    folder.ok(&format!("compare {secret} -f raw @disk.raw @ours.qcow2"));
    assert_eq!(kezhan(&folder.line("compare -f raw @disk.raw @ours.qcow2")), 2, "no passphrase");
    let theirs =
        format!("convert {secret} {options},encrypt.iter-time=10 -f raw @disk.raw @theirs.qcow2");
    if qemu_img(&folder.line(&theirs)).is_none() {
        return;
    }
    folder.ok(&format!("convert {secret} -O raw @theirs.qcow2 @back.raw"));
    assert!(read(&folder.path("back.raw")) == disk);
    folder.ok("check -q @theirs.qcow2");
    let check = format!(
        "check {secret} --image-opts driver=qcow2,encrypt.key-secret=s,file.filename={}",
        folder.name("ours.qcow2")
    );
    let ours = format!(
        "compare {secret} --image-opts driver=qcow2,encrypt.key-secret=s,file.filename={} driver=raw,file.filename={}",
        folder.name("ours.qcow2"),
        folder.name("disk.raw")
    );
    let (status, text) = qemu_img(&ours).unwrap();
    assert_eq!(status, 0, "{text}");
    let (status, text) = qemu_img(&check).unwrap();
    assert_eq!(status, 0, "{text}");
}
