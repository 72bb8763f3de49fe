//! `kezhan image` beside `qemu-img` on one image of real files: this host's programs and libraries.
//!
//! Each row runs both in turns and removes what it wrote. The ratio is time against time: below 1 is faster.

use super::{folder, in_turns, tell_named, timed};
use crate::{Outcome, place, program};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Size of the disk, in MiB; three quarters of it are files, as far as the host has so many.
const SIZE: u64 = 4096;
const FILES: u64 = 3072;

/// What both are asked to do: the arguments, and the file that they write in the place of `OUT`.
const ROWS: [(&str, &str); 9] = [
    ("raw to qcow2", "convert -f raw -O qcow2 RAW OUT"),
    ("qcow2 to raw", "convert -f qcow2 -O raw QCOW2 OUT"),
    ("raw to qcow2, zlib", "convert -c -f raw -O qcow2 RAW OUT"),
    ("raw to qcow2, zstd", "convert -c -f raw -O qcow2 -o compression_type=zstd RAW OUT"),
    ("zlib to raw", "convert -f qcow2 -O raw ZLIB OUT"),
    ("check", "check -f qcow2 QCOW2"),
    ("compare", "compare -f raw -F qcow2 RAW QCOW2"),
    ("make a snapshot", "snapshot -c row QCOW2"),
    ("delete a snapshot", "snapshot -d row QCOW2"),
];

/// Places of the images that the rows name.
struct Images {
    raw: String,
    qcow2: String,
    zlib: String,
    out: String,
}

pub(super) fn measure(rounds: usize) -> Outcome {
    let images = Images::make(&folder()?)?;
    // Who first fills the host's memory pays for it; nobody is to do that in a row.
    let (_, first) = ROWS[0];
    images.time(Command::new("qemu-img"), first)?;
    for (name, row) in ROWS {
        // A snapshot can be made and deleted once: the other's has another name, in the same image.
        let ours = || {
            let mut command = Command::new(place::kezhan());
            command.arg("image");
            images.time(command, &row.replace(" row ", " ours "))
        };
        let theirs = || images.time(Command::new("qemu-img"), &row.replace(" row ", " theirs "));
        let once = row.starts_with("snapshot");
        let (a, b) = in_turns(if once { 1 } else { rounds }, ours, theirs)?;
        tell_named(&format!("image, {name}"), "qemu-img", a, b);
    }
    images.remove();
    Ok(())
}

impl Images {
    fn make(folder: &Path) -> Outcome<Images> {
        let path = |name: &str| folder.join(name).display().to_string();
        let images = Images {
            raw: path("files.raw"),
            qcow2: path("files.qcow2"),
            zlib: path("files-zlib.qcow2"),
            out: path("out"),
        };
        let script = format!(
            "set -o pipefail; tar -C / -cf - usr/bin usr/sbin usr/lib usr/share 2>/dev/null | head -c {FILES}M >{raw} || true; \\
             truncate -s {SIZE}M {raw}; qemu-img convert -f raw -O qcow2 {raw} {qcow2}; \\
             qemu-img convert -c -f raw -O qcow2 {raw} {zlib}; sync",
            raw = images.raw,
            qcow2 = images.qcow2,
            zlib = images.zlib,
        );
        program::output(Command::new("bash").arg("-c").arg(script))?;
        Ok(images)
    }

    fn time(&self, mut command: Command, row: &str) -> Outcome<Duration> {
        let _ = std::fs::remove_file(&self.out);
        for word in row.split(' ') {
            command.arg(match word {
                "RAW" => &self.raw,
                "QCOW2" => &self.qcow2,
                "ZLIB" => &self.zlib,
                "OUT" => &self.out,
                word => word,
            });
        }
        timed(command, 0)
    }

    fn remove(&self) {
        for file in [&self.raw, &self.qcow2, &self.zlib, &self.out] {
            let _ = std::fs::remove_file(file);
        }
    }
}
