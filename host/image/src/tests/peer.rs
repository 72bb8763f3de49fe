//! Sizes, chains and descriptions beside qemu-img, for every format.

use super::{Folder, qemu_img, same_json};
use crate::{info, map};

/// What is written by both, with options: that is, by us, and by every qemu-img.
const FORMATS: [(&str, &str); 19] = [
    ("raw", ""),
    ("qcow2", ""),
    ("qcow2", "-o compat=0.10"),
    ("qcow2", "-o extended_l2=on,cluster_size=128k"),
    ("vdi", ""),
    ("vmdk", ""),
    ("vmdk", "-o subformat=streamOptimized"),
    ("vmdk", "-o subformat=monolithicFlat"),
    ("vmdk", "-o subformat=twoGbMaxExtentSparse"),
    ("vmdk", "-o subformat=twoGbMaxExtentFlat,adapter_type=lsilogic,toolsversion=7"),
    ("vmdk", "-o zeroed_grain=on,compat6=on"),
    ("vdi", "-o static=on"),
    ("vhdx", ""),
    ("vhdx", "-o subformat=fixed,block_size=1M"),
    ("vhdx", "-o block_state_zero=on,block_size=2M"),
    ("vpc", ""),
    ("vpc", "-o subformat=fixed,force_size=on"),
    ("qcow2", "-o cluster_size=512,refcount_bits=1,preallocation=metadata"),
    ("qcow2", "-o compression_type=zstd,lazy_refcounts=on,refcount_bits=64,nocow=on"),
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

fn larger_than(size: Option<u64>, limit: u64) -> bool {
    size.is_some_and(|size| size > limit)
}

#[test]
fn disks_of_every_size_are_of_that_size_for_both() {
    let folder = Folder::new();
    if qemu_img("--version").is_none() {
        return;
    }
    for (format, options) in FORMATS {
        for size in SIZES.iter().filter(|size| options.is_empty() || ["0", "65537"].contains(size))
        {
            // The tables of a VMDK image are read when it is opened: more than 2 TiB will do.
            let size = if (format, *size) == ("vmdk", "8T") { "3T" } else { size };
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
                if size == Some(0) && theirs.is_none() {
                    continue;
                }
                assert_eq!(theirs, size, "ours: {create}");
                if format == "vmdk" && larger_than(size, 1 << 40) {
                    // Theirs looks at every grain: that takes long.
                    continue;
                }
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
        let mut text = Vec::new();
        map::print(&image, &mut text).unwrap();
        let ours = serde_json::from_slice(&text).unwrap();
        same_json(&folder, &format!("map -f {format} --output json @image"), &ours);
    }
}

/// Whole disks, both ways: made by the one, compared by the other.
#[test]
fn every_format_with_its_options_is_read_by_both_whoever_made_it() {
    let folder = Folder::new();
    folder.disk("disk.raw", 3_000_320);
    for (format, options) in FORMATS {
        let options =
            if format == "vpc" && options.is_empty() { "-o force_size=on" } else { options };
        let convert = |name: &str| {
            folder.line(&format!("convert -f raw -O {format} {options} @disk.raw @{name}"))
        };
        let compare =
            |name: &str| folder.line(&format!("compare -f raw -F {format} @disk.raw @{name}"));
        let Some((status, _)) = qemu_img(&convert("theirs")) else { return };
        assert_eq!((status, super::kezhan(&convert("ours"))), (0, 0), "{format} {options}");
        assert_eq!(super::kezhan(&compare("theirs")), 0, "theirs: {format} {options}");
        let theirs = qemu_img(&compare("ours"));
        assert_eq!(theirs.map(|(status, _)| status), Some(0), "ours: {format} {options}");
        let check = qemu_img(&folder.line(&format!("check -f {format} @ours")));
        assert!(matches!(check, Some((0 | 63, _))), "ours: {format} {options}: {check:?}");
    }
}

#[test]
fn a_vmdk_image_stands_on_another_for_both() {
    let folder = Folder::new();
    folder.disk("flat.raw", 2_097_152);
    folder.ok("convert -f raw -O vmdk @flat.raw @base.vmdk");
    folder.ok("create -q -f vmdk -b base.vmdk -F vmdk @top.vmdk");
    let image = crate::open::Open::write(Some("vmdk")).open(&folder.name("top.vmdk")).unwrap();
    image.write(kezhan_block::GuestOffset(70_000), &[9; 3000]).unwrap();
    image.close().unwrap();
    drop(image);
    let mut flat = super::read(&folder.path("flat.raw"));
    flat[70_000..73_000].fill(9);
    std::fs::write(folder.path("flat.raw"), flat).unwrap();
    let compare = folder.line("compare -f raw -F vmdk @flat.raw @top.vmdk");
    assert_eq!(super::kezhan(&compare), 0);
    assert!(qemu_img(&compare).is_none_or(|(status, said)| status == 0 || panic!("{said}")));
    assert_ne!(super::kezhan(&folder.line("create -q -f vmdk -b flat.raw -F raw @bad.vmdk")), 0);
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
