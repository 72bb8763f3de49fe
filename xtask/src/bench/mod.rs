//! `cargo xtask bench`: measures what SPECIFICATION.md promises, against QEMU on the same machine.
//!
//! | figure | how |
//! |---|---|
//! | table | programs in a guest of Kezhan, in a guest of QEMU and on the host, ratios and their means |
//! | boot | cloud kernel from start of the process to its end, one CPU and two, Kezhan and QEMU in turns, medians |
//! | instructions | a loop of known length in a guest without a system, time of two lengths subtracted |
//! | start | process start to the guest's first instruction under KVM, against QEMU's microvm |
//! | share | four guests at once: how alike they end |
//! | idle | processor time of a guest that waits |
//! | disk | a guest's disk, bytes and requests a second, beside QEMU's |
//! | image | `kezhan image` beside `qemu-img` on an image of real files |
//! | network | iperf3 both ways, UDP, requests and answers, beside QEMU's user network and passt |
//! | memory | resident memory of the process beyond what the guest touched of its RAM |
//!
//! In turns, since the machine may be busy with other things: then both are slowed alike.

mod boot;
mod disk;
mod idle;
mod image;
mod memory;
mod network;
mod payload;
mod share;
mod speed;
mod start;
mod table;

use crate::{Outcome, place, program};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `cargo xtask bench`
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure; everything when none is named
    figures: Vec<Figure>,
    /// How often; 2 for the table and 3 for the others when not given
    #[arg(long)]
    rounds: Option<usize>,
    /// Size of the disk that `image` is about, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    image_size: u64,
    #[command(flatten)]
    table: table::Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Figure {
    Table,
    Boot,
    Instructions,
    Start,
    Share,
    Idle,
    Disk,
    Image,
    Memory,
    Network,
}

impl Bench {
    pub(crate) fn execute(self) -> Outcome {
        let kezhan = place::kezhan();
        if !kezhan.exists() {
            return Err(format!("{}: is missing; `make build` builds it", kezhan.display()).into());
        }
        for figure in Figure::value_variants() {
            if self.figures.is_empty() || self.figures.contains(figure) {
                self.measure(*figure)?;
            }
        }
        Ok(())
    }

    fn measure(&self, figure: Figure) -> Outcome {
        let rounds = self.rounds.unwrap_or(3);
        match figure {
            Figure::Table => self.table.measure(self.rounds.unwrap_or(2)),
            Figure::Boot => boot::measure(rounds),
            Figure::Instructions => speed::measure(rounds),
            Figure::Start => start::measure(rounds),
            Figure::Share => share::measure(),
            Figure::Idle => idle::measure(),
            Figure::Disk => disk::measure(rounds),
            Figure::Image => image::measure(rounds, self.image_size),
            Figure::Memory => memory::measure(),
            Figure::Network => network::measure(rounds),
        }
    }
}

/// `kezhan run` with these words, split at spaces.
fn kezhan(options: &str) -> Command {
    let mut command = Command::new(place::kezhan());
    command.arg("run").args(options.split(' '));
    command
}

/// QEMU without any device but the machine's own, its serial port on standard output. Ended when it hangs,
/// as it does under a KVM without the hardware.
fn qemu(options: &str) -> Command {
    qemu_for(60, options)
}

/// The same with another limit, in seconds.
fn qemu_for(limit: u32, options: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(limit.to_string()).arg("qemu-system-x86_64");
    command.args("-nodefaults -display none -monitor none -serial stdio".split(' '));
    command.args(options.split(' '));
    command
}

/// Time from start to end of a program, which must end with `status`.
fn timed(mut command: Command, status: i32) -> Outcome<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let line = program::line(&command);
    let start = Instant::now();
    let done = command.output().map_err(|e| format!("{line}: {e}; `make bench` installs QEMU"))?;
    let elapsed = start.elapsed();
    if done.status.code() != Some(status) {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{line}: {} instead of {status}: {said}", done.status).into());
    }
    Ok(elapsed)
}

/// The middle one.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// Measures both in turns; their medians.
fn in_turns(
    rounds: usize,
    ours: impl Fn() -> Outcome<Duration>,
    theirs: impl Fn() -> Outcome<Duration>,
) -> Outcome<(Duration, Duration)> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        a.push(ours()?);
        b.push(theirs()?);
    }
    Ok((median(a), median(b)))
}

/// One line of the result: Kezhan, QEMU, Kezhan / QEMU.
fn tell(what: &str, ours: Duration, theirs: Duration) {
    tell_named(what, "QEMU", ours, theirs);
}

/// The same beside another program.
fn tell_named(what: &str, peer: &str, ours: Duration, theirs: Duration) {
    let (a, b) = (ours.as_secs_f64() * 1e3, theirs.as_secs_f64() * 1e3);
    println!("{what}: kezhan {a:.1} ms, {peer} {b:.1} ms, ratio {:.2}", a / b);
}

/// A place for what a measurement needs.
fn folder() -> Outcome<PathBuf> {
    let folder = place::cache().join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
