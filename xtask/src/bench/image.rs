//! `kezhan image` beside `qemu-img` on one image of real files: this host's programs and libraries.
//!
//! Each row runs both in turns and removes what it wrote. The ratio is time against time: below 1 is faster.
//!
//! The host's own part is made the same for both. What a row reads is in the host's memory before each run, or
//! whoever comes first would read it from the host's disk for both. Before a row is measured qemu-img does it once, so
//! that the memory that it takes was used before: on a virtual host the first touch costs more than all the rest. A
//! row's time is the best of its rounds, two at least, since what else the host does only ever adds.

use super::{folder, tell_named, timed};
use crate::{Outcome, place, program};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

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

/// `size` is that of the disk in MiB; three quarters of it are files, as far as the host has so many.
pub(super) fn measure(rounds: usize, size: u64) -> Outcome {
    let images = Images::make(&folder()?, size)?;
    for (name, row) in ROWS {
        let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
        // A snapshot can be made and deleted once: each run's has a name of its own, in the same image.
        images.time(Command::new("qemu-img"), &row.replace(" row ", " first "))?;
        for round in 0..rounds.max(2) {
            let named = |who: &str| row.replace(" row ", &format!(" {who}{round} "));
            // The one that comes first in one round comes last in the next.
            for ours_now in [round % 2 == 0, round % 2 != 0] {
                if ours_now {
                    let mut kezhan = Command::new(place::kezhan());
                    kezhan.arg("image");
                    ours = ours.min(images.time(kezhan, &named("ours"))?);
                } else {
                    let qemu = Command::new("qemu-img");
                    theirs = theirs.min(images.time(qemu, &named("theirs"))?);
                }
            }
        }
        tell_named(&format!("image, {name}"), "qemu-img", ours, theirs);
    }
    images.remove();
    Ok(())
}

impl Images {
    fn make(folder: &Path, size: u64) -> Outcome<Images> {
        let path = |name: &str| folder.join(name).display().to_string();
        let images = Images {
            raw: path("files.raw"),
            qcow2: path("files.qcow2"),
            zlib: path("files-zlib.qcow2"),
            out: path("out"),
        };
        let script = format!(
            "set -o pipefail; tar -C / -cf - usr/bin usr/sbin usr/lib usr/share 2>/dev/null | head -c {files}M >{raw} || true; \
             truncate -s {size}M {raw}; qemu-img convert -f raw -O qcow2 {raw} {qcow2}; \
             qemu-img convert -c -f raw -O qcow2 {raw} {zlib}; sync",
            files = size / 4 * 3,
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
            let read = match word {
                "RAW" => &self.raw,
                "QCOW2" => &self.qcow2,
                "ZLIB" => &self.zlib,
                word => {
                    command.arg(if word == "OUT" { &self.out } else { word });
                    continue;
                }
            };
            std::io::copy(&mut File::open(read)?, &mut std::io::sink())?;
            command.arg(read);
        }
        timed(command, 0)
    }

    fn remove(&self) {
        for file in [&self.raw, &self.qcow2, &self.zlib, &self.out] {
            let _ = std::fs::remove_file(file);
        }
    }
}
