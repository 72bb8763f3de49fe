//! The benchmark table: each row of `guests/bench` in a guest of Kezhan, in a guest of QEMU, and on the host.
//!
//! ```text
//!   round 1                          round 2 …
//!   host ─► QEMU ─► Kezhan           host ─► QEMU ─► Kezhan        one CPU
//!   host ─► QEMU ─► Kezhan           host ─► QEMU ─► Kezhan        two CPUs, group threads
//!      "row GROUP NAME NANOSECONDS CHECKSUM UNITS"
//! ```
//!
//! The same static program and the same kernel and initial RAM disk in both guests. Each place's time of a row
//! is its best of all rounds, since what else the machine does only ever adds. A checksum that differs between
//! places is an error. Rejected: a fixed number of repetitions, which is too few for the host or too many for
//! an interpreter.

mod figures;
mod print;
#[cfg(test)]
mod tests;

use super::{folder, kezhan, qemu_for};
use crate::{Outcome, guests, program};
use clap::{Args, ValueEnum};
use figures::{Figures, Place};
use std::path::PathBuf;
use std::process::Command;

/// The group that runs on machines of two CPUs.
const TWO_CPUS: &str = "threads";
const GROUPS: &[&str] =
    &["integer", "floating", "memory", "system", "programs", "generate", TWO_CPUS];

/// Options of the table
#[derive(Debug, Args)]
#[command(next_help_heading = "Table")]
pub(super) struct Table {
    /// Only these, as GROUP or GROUP/NAME, separated by commas
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// For how long each row runs at least, in milliseconds
    #[arg(long, default_value_t = 100)]
    time: u32,
    /// Measure only Kezhan, and take what it is compared with from the last run
    #[arg(long)]
    reuse: bool,
    /// More options for `kezhan run`, in one word
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    kezhan: String,
    /// Form of the result
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What runs in all three places.
struct Guest {
    kernel: PathBuf,
    initrd: PathBuf,
    root: PathBuf,
}

impl Table {
    pub(super) fn measure(&self, rounds: usize) -> Outcome {
        let userland = guests::ensure("bench")?;
        let guest = Guest {
            kernel: guests::ensure("cloud")?.join("vmlinuz"),
            initrd: userland.join("initrd"),
            root: userland.join("root"),
        };
        let kept = folder()?.join("table.json");
        let mut figures = if self.reuse {
            Figures::read(&kept)?.without(Place::Kezhan)
        } else {
            Figures::default()
        };
        for round in 0..rounds {
            for (cpus, words) in self.boots() {
                for place in Place::ALL {
                    if self.reuse && place != Place::Kezhan {
                        continue;
                    }
                    eprintln!("Round {}, {} CPU(s): {}", round + 1, cpus, place.name());
                    figures.add(place, &self.run(place, &guest, cpus, &words)?)?;
                }
            }
        }
        figures.write(&kept)?;
        let measured = figures.only(&self.rows);
        match self.output {
            Output::Text => print!("{}", print::text(&measured)),
            Output::Json => println!("{}", print::json(&measured)?),
        }
        measured.agree()
    }

    /// Number of CPUs and rows of each start of a machine.
    fn boots(&self) -> Vec<(u32, Vec<String>)> {
        let all: Vec<String> = GROUPS.iter().map(|&group| group.to_owned()).collect();
        let rows = if self.rows.is_empty() { all } else { self.rows.clone() };
        let (two, one): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.starts_with(TWO_CPUS));
        let boots = [(1, one), (2, two)];
        boots.into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// What the program wrote.
    fn run(&self, place: Place, guest: &Guest, cpus: u32, rows: &[String]) -> Outcome<String> {
        let mut words = vec!["--time".to_owned(), self.time.to_string()];
        words.extend(rows.iter().cloned());
        let mut command = match place {
            Place::Host => guest.on_host(cpus, &words),
            Place::Qemu => guest.in_qemu(cpus, &words),
            Place::Kezhan => guest.in_kezhan(cpus, &self.kezhan, &words),
        };
        program::text(&mut command)
    }
}

impl Guest {
    fn append(words: &[String]) -> String {
        format!("console=ttyS0 quiet kezhan.run=bench kezhan.bench={}", words.join(","))
    }

    /// On as many CPUs as the guest has, those of the highest numbers.
    fn on_host(&self, cpus: u32, words: &[String]) -> Command {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        let first = all.saturating_sub(cpus as usize);
        let mut command = Command::new("taskset");
        command.arg("-c").arg(format!("{first}-{}", all.saturating_sub(1)));
        command.arg(self.root.join("bin/bench")).arg("--root").arg(&self.root).args(words);
        command
    }

    fn in_qemu(&self, cpus: u32, words: &[String]) -> Command {
        let mut command =
            qemu_for(400, &format!("-accel tcg -m 512 -smp {cpus} -no-reboot -kernel"));
        command.arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        command.arg("-append").arg(Self::append(words));
        command
    }

    fn in_kezhan(&self, cpus: u32, options: &str, words: &[String]) -> Command {
        let mut command =
            kezhan(&format!("--engine soft --memory 512M --cpus {cpus} --timeout 400"));
        command.arg("--kernel").arg(&self.kernel).arg("--initrd").arg(&self.initrd);
        command.arg("--append").arg(Self::append(words)).args(options.split_whitespace());
        command
    }
}
