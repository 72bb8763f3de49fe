//! Sizes, chains and descriptions beside qemu-img, for every format.

use super::{Folder, qemu_img, same_json};
use crate::{info, map};

/// What is written by both, with options: that is, by us, and by every qemu-img.
const FORMATS: [(&str, &str); 11] = [
    ("raw", ""),
    ("qcow2", ""),
    ("qcow2", "-o compat=0.10"),
    ("qcow2", "-o extended_l2=on,cluster_size=128k"),
    ("vdi", ""),
    ("vmdk", ""),
    ("vmdk", "-o subformat=streamOptimized"),
    ("vmdk", "-o subformat=monolithicFlat"),
    ("vmdk", "-o subformat=twoGbMaxExtentSparse"),
    ("vhdx", ""),
    ("vpc", ""),
];

/// In each format's units too: nothing, a sector, a byte over a cluster, more than any host has.
const SIZES: [&str; 5] = ["0", "512", "65537", "1000000", "8T"];

/// The size that the disk has for us; an image that cannot be opened has none.
fn size_of(folder: &Folder, name: &str, format: &str) -> Option<u64> {
    let open = crate::open::Open::read(Some(format), false);
    Some(open.open(&folder.name(name)).ok()?.size())
}

/// The same for qemu-img.
fn their_size(folder: &Folder, name: &str, format: &str) -> Option<u64> {
    let (status, text) =
        qemu_img(&folder.line(&format!("info -f {format} --output json @{name}")))?;
    let told: serde_json::Value = serde_json::from_str(&text).ok()?;
    (status == 0).then(|| told["virtual-size"].as_u64())?
}

#[test]
fn disks_of_every_size_are_of_that_size_for_both() {
    let folder = Folder::new();
    if qemu_img("--version").is_none() {
        return;
    }
    // Of vmdk we make one kind, and its map, which we have in memory, ends at 2 TiB.
    for (format, options) in FORMATS.iter().filter(|(_, options)| !options.contains("subformat")) {
        for size in SIZES.iter().filter(|size| (*format, **size) != ("vmdk", "8T")) {
            let create = format!("create -q -f {format} {options} @theirs {size}");
            qemu_img(&folder.line(&create));
            let made = their_size(&folder, "theirs", format);
            if made.is_some() {
                assert_eq!(size_of(&folder, "theirs", format), made, "theirs: {create}");
            }
            // What they cannot make either, or not open (some formats end at 2 TiB, some have no empty disk), we may
            // refuse.
            let create = create.replace("@theirs", "@ours");
            let ours = super::kezhan(&folder.line(&create)) == 0;
            assert!(ours || made.is_none(), "ours: {create}");
            if ours {
                let size = size_of(&folder, "ours", format);
                let theirs = their_size(&folder, "ours", format);
                // Empty disks of these they open not at all, or only as they make them.
                if size == Some(0) && ["vmdk", "vhdx"].contains(format) {
                    continue;
                }
                assert_eq!(theirs, size, "ours: {create}");
                let check = qemu_img(&folder.line(&format!("check -f {format} @ours")));
                // Status 63: qemu-img checks no images of this format.
                assert!(matches!(check, Some((0 | 63, _))), "{create}: {check:?}");
            }
            for name in ["theirs", "ours"] {
                let _ = std::fs::remove_file(folder.path(name));
            }
        }
    }
}

#[test]
fn every_format_is_described_as_qemu_img_describes_it() {
    let folder = Folder::new();
    folder.disk("base.raw", 2_000_384);
    for (format, options) in FORMATS {
        let convert = format!("convert -f raw -O {format} {options} @base.raw @image");
        if qemu_img(&folder.line(&convert)).is_none() {
            return;
        }
        let open = crate::open::Open::read(Some(format), false);
        let image = open.open(&folder.name("image")).unwrap();
        let ours = info::describe(&image).unwrap();
        same_json(&folder, &format!("info -f {format} --output json @image"), &ours);
        // They tell a place for what is not allocated in a cluster that is; and of vhdx that all of it is data.
        if options.contains("extended_l2") || format == "vhdx" {
            continue;
        }
        let mut text = Vec::new();
        map::print(&image, &mut text).unwrap();
        let ours = serde_json::from_slice(&text).unwrap();
        same_json(&folder, &format!("map -f {format} --output json @image"), &ours);
    }
}

/// A chain of four: a base of another format, version 2 with the smallest clusters, extended L2, compressed.
#[test]
fn chains_of_four_that_both_have_made_and_written_are_one_disk_for_both() {
    for base in ["vmdk", "vdi", "vhdx", "vpc"] {
        let folder = Folder::new();
        folder.disk("flat.raw", 2_097_152);
        // A vpc image rounds its size up to whole cylinders, unless it is told not to.
        let options = if base == "vpc" { "-o force_size=on" } else { "" };
        let convert = format!("convert -f raw -O {base} {options} @flat.raw @base");
        if qemu_img(&folder.line(&convert)).is_none() {
            return;
        }
        let levels = [
            ("one", "base", base, "-o compat=0.10,cluster_size=512", true),
            ("two", "one", "qcow2", "-o extended_l2=on,cluster_size=64k", false),
            ("three", "two", "qcow2", "-o compression_type=zstd", true),
        ];
        for (name, below, format, options, theirs) in levels {
            let create = folder
                .line(&format!("create -q -f qcow2 {options} -b @{below} -F {format} @{name}"));
            match theirs {
                true => {
                    assert_eq!(qemu_img(&create).map(|(status, _)| status), Some(0), "{create}")
                }
                false => assert_eq!(super::kezhan(&create), 0, "{create}"),
            }
            scribble(&folder, name);
            let compare = folder.line(&format!("compare -q -f raw -F qcow2 @flat.raw @{name}"));
            assert_eq!(super::kezhan(&compare), 0, "{base}: {compare}");
            assert_eq!(qemu_img(&compare).map(|(status, _)| status), Some(0), "{base}: {compare}");
        }
        // Into the level below by the one, into the next by the other.
        assert_eq!(
            qemu_img(&folder.line("commit -q -d @three")).map(|(s, _)| s),
            Some(0),
            "{base}"
        );
        folder.ok("compare -q -f raw -F qcow2 @flat.raw @two");
        folder.ok("commit -q -d @two");
        let compare = folder.line("compare -q -f raw -F qcow2 @flat.raw @one");
        assert_eq!(qemu_img(&compare).map(|(status, _)| status), Some(0), "{base}: {compare}");
    }
}

/// Writes here and there, to the image and to the flat one.
fn scribble(folder: &Folder, name: &str) {
    let open = crate::open::Open::write(Some("qcow2"));
    let image = open.open(&folder.name(name)).unwrap();
    let mut flat = super::read(&folder.path("flat.raw"));
    let mut random = kezhan_block::testkit::Random::new(name.len() as u64);
    for turn in 1..60_u8 {
        let length = 1 + random.below(9000) as usize;
        let at = random.below((flat.len() - length) as u64);
        let bytes = vec![if turn % 5 == 0 { 0 } else { turn }; length];
        image.write(kezhan_block::GuestOffset(at), &bytes).unwrap();
        flat[at as usize..at as usize + length].copy_from_slice(&bytes);
    }
    image.close().unwrap();
    std::fs::write(folder.path("flat.raw"), flat).unwrap();
}
