//! Disks of every format and cache mode in one guest: it reads what it wrote, and what it wrote is in the
//! images.

use crate::guest::{Transcript, file, kezhan};
use crate::systems::{folder, machine, succeeds};
use libtest_mimic::{Failed, Trial};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;

const FORMATS: [&str; 2] = ["raw", "qcow2"];
const CACHES: [&str; 5] = ["writeback", "writethrough", "none", "directsync", "unsafe"];

/// What is written to each disk: the lines of `seq 100000`.
const LINES: u32 = 100_000;

/// Init of the guest. Each disk gets the lines by direct I/O, is flushed, and read back by direct I/O.
const SCRIPT: &str = "mount -t proc proc /proc; right=$(seq 100000 | md5sum); for disk in b c d e f g h i j k; do \
    seq 100000 | dd of=/dev/vd$disk bs=64k iflag=fullblock oflag=direct conv=fsync status=none; \
    case $(dd if=/dev/vd$disk bs=64k iflag=direct status=none | head -c 588895 | md5sum) in \
    $right) echo vd$disk is right;; esac; done; echo o >/proc/sysrq-trigger; sleep 100";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "a guest writes and reads raw and qcow2 disks under every cache mode",
        every_mode,
    )]
}

fn every_mode() -> Result<(), Failed> {
    let folder = folder()?;
    let system = format!("{},format=raw,readonly", file("system", "disk.raw")?.display());
    let mut command = machine(&system, &format!("ro init=/bin/bash -- -c \"{SCRIPT}\""))?;
    let disks = disks(folder.path())?;
    for (path, format, cache) in &disks {
        command.args(["--disk", &format!("{path},format={format},cache={cache}")]);
    }
    let seen = Transcript::of(command)?;
    for letter in ('b'..).take(disks.len()) {
        let right = format!("vd{letter} is right");
        if !seen.lines.iter().any(|(_, line)| *line == right) {
            return Err(seen.failed(&format!("no line `{right}`")));
        }
    }
    let reference = reference(folder.path())?;
    for (path, format, _) in &disks {
        let compare = ["image", "compare", "-q", "-f", "raw", "-F", format, &reference, path];
        succeeds(kezhan(&compare)?)?;
    }
    Ok(())
}

/// An empty image for each format and cache mode.
fn disks(folder: &Path) -> Result<Vec<(String, &'static str, &'static str)>, Failed> {
    let mut disks = Vec::new();
    for format in FORMATS {
        for cache in CACHES {
            let path = folder.join(format!("{format}-{cache}")).display().to_string();
            succeeds(kezhan(&["image", "create", "-q", "-f", format, &path, "16M"])?)?;
            disks.push((path, format, cache));
        }
    }
    Ok(disks)
}

/// The image that each of them should be in the end.
fn reference(folder: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    for line in 1..=LINES {
        writeln!(text, "{line}")?;
    }
    let path = folder.join("reference");
    fs::write(&path, text)?;
    File::options().write(true).open(&path)?.set_len(16 << 20)?;
    Ok(path.display().to_string())
}
