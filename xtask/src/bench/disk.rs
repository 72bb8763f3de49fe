//! A guest's disk: bytes and requests a second, on the software CPU beside QEMU's.
//!
//! One image of each format, full of data that is in the host's memory, so that the way between guest and
//! host is measured and no disk of the host: it is read before each run, for hosts that give up memory which is
//! not used for a while. A row of the host tells what is the most that large requests can be: how fast it copies out
//! of its own memory (`dd`). Both machines have one CPU, the same kernel and the same program
//! (`guests/disk.c`, direct I/O), and both have the host cache what is written (`cache=writeback`). A row's figure
//! is the best of all rounds, since what else the machine does only ever takes away.

use super::{folder, kezhan, qemu_for};
use crate::{Outcome, guests, program};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const FORMATS: [&str; 2] = ["raw", "qcow2"];
/// For so long each row runs, in milliseconds.
const TIME: u32 = 1000;
/// Size of the images in MiB.
const SIZE: u64 = 256;

/// As `guests/disk.c` has them: order, kind, bytes of a request, requests in flight.
const ROWS: [&str; 11] = [
    "sequential-read-1048576-1",
    "sequential-read-1048576-32",
    "sequential-read-131072-8",
    "sequential-read-4096-1",
    "random-read-4096-1",
    "random-read-4096-32",
    "sequential-write-1048576-1",
    "sequential-write-1048576-32",
    "sequential-write-131072-8",
    "random-write-4096-1",
    "random-write-4096-32",
];

/// How often QEMU is tried.
const ATTEMPTS: u32 = 4;

/// Requests a second, by row.
type Figures = BTreeMap<String, f64>;

struct Guest {
    kernel: PathBuf,
    initrd: PathBuf,
}

pub(super) fn measure(rounds: usize) -> Outcome {
    let guest = Guest {
        kernel: guests::ensure("cloud")?.join("vmlinuz"),
        initrd: guests::ensure("disk")?.join("initrd"),
    };
    for format in FORMATS {
        let image = make(&folder()?, format)?;
        let (mut ours, mut theirs) = (Figures::new(), Figures::new());
        for _ in 0..rounds {
            warm(&image)?;
            guest.run_qemu(&image, format, &mut theirs)?;
            warm(&image)?;
            guest.run(guest.in_kezhan(&image, format), &mut ours)?;
        }
        let [read, written] = host_copies(&image)?;
        println!(
            "disk, {format}, the host's own copy: read {read:.0} MB/s, written {written:.0} MB/s"
        );
        std::fs::remove_file(&image)?;
        print(format, &ours, &theirs)?;
    }
    Ok(())
}

fn print(format: &str, ours: &Figures, theirs: &Figures) -> Outcome {
    for row in ROWS {
        let (a, b) = ours.get(row).zip(theirs.get(row)).ok_or("a row is missing")?;
        let bytes: f64 = row.split('-').nth(2).and_then(|word| word.parse().ok()).unwrap_or(0.0);
        let megabytes = bytes / 1e6;
        println!(
            "disk, {format}, {row}: kezhan {a:.0} a second ({:.0} MB/s), QEMU {b:.0} ({:.0} MB/s), times {:.2}",
            a * megabytes,
            b * megabytes,
            a / b
        );
    }
    Ok(())
}

/// Has the host read the image into its memory.
fn warm(image: &Path) -> Outcome {
    std::io::copy(&mut File::open(image)?, &mut std::io::sink())?;
    Ok(())
}

/// Megabytes a second that the host reads out of its memory, and writes into it, in pieces of a mebibyte; the best of
/// five times. The image is spoilt.
fn host_copies(image: &Path) -> Outcome<[f64; 2]> {
    let (mut piece, mut best) = (vec![0; 1 << 20], [0.0_f64; 2]);
    let pieces = image.metadata()?.len() >> 20;
    let megabytes = (pieces << 20) as f64 / 1e6;
    for _ in 0..5 {
        let mut file = File::options().read(true).write(true).open(image)?;
        let start = Instant::now();
        for _ in 0..pieces {
            file.read_exact(&mut piece)?;
        }
        best[0] = best[0].max(megabytes / start.elapsed().as_secs_f64());
        file.rewind()?;
        let start = Instant::now();
        for _ in 0..pieces {
            file.write_all(&piece)?;
        }
        best[1] = best[1].max(megabytes / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// An image of the format, every cluster of it allocated.
fn make(folder: &Path, format: &str) -> Outcome<PathBuf> {
    let (raw, image) = (folder.join("guest.filled"), folder.join(format!("guest.{format}")));
    let script = format!(
        "head -c {SIZE}M /dev/urandom >{raw} && qemu-img convert -f raw -O {format} {raw} {image} && rm {raw} && \
         cat {image} >/dev/null",
        raw = raw.display(),
        image = image.display()
    );
    program::output(Command::new("bash").arg("-c").arg(script))?;
    Ok(image)
}

impl Guest {
    fn run(&self, mut command: Command, figures: &mut Figures) -> Outcome {
        for line in program::text(&mut command)?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["row", name, done, nanoseconds] = words[..] {
                let rate = done.parse::<f64>()? / (nanoseconds.parse::<f64>()? / 1e9);
                let best = figures.entry(name.to_owned()).or_default();
                *best = best.max(rate);
            }
        }
        Ok(())
    }

    /// QEMU 7.2 loses a request now and then, and its guest waits for ever: then once more.
    fn run_qemu(&self, image: &Path, format: &str, figures: &mut Figures) -> Outcome {
        let mut outcome = self.run(self.in_qemu(image, format), figures);
        for _ in 1..ATTEMPTS {
            if outcome.is_ok() {
                break;
            }
            outcome = self.run(self.in_qemu(image, format), figures);
        }
        outcome
    }

    fn append() -> String {
        format!("console=ttyS0 quiet kezhan.run=disk kezhan.disk={TIME},{}", ROWS.join(","))
    }

    fn in_qemu(&self, image: &Path, format: &str) -> Command {
        let mut command = qemu_for(60, "-accel tcg -m 512 -no-reboot -kernel");
        command.arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.arg("-append").arg(Self::append());
        let drive = format!("file={},format={format},if=none,id=disk", image.display());
        command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
        command
    }

    fn in_kezhan(&self, image: &Path, format: &str) -> Command {
        let mut command = kezhan("--engine soft --memory 512M --timeout 60");
        command.arg("--kernel").arg(&self.kernel).arg("--initrd").arg(&self.initrd);
        command.arg("--append").arg(Self::append());
        command.arg("--disk").arg(format!("{},format={format}", image.display()));
        command
    }
}
