//! A guest that makes new code without an end: what the engine keeps of it is bounded.

use crate::guest::{Guest, PLAIN};
use libtest_mimic::{Failed, Trial};
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::process::Stdio;
use std::time::Duration;

/// What code and tables of all CPUs, and the rest of the process, may take beside RAM, in KiB.
const MOST: u64 = 256 << 10;
/// The guest's RAM, and what the kernel may have joined to its mapping, in KiB.
const RAM: Range<u64> = 512 << 10..576 << 10;

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "two CPUs that make new code without an end cost at most 256 MiB beside RAM",
        costs_little,
    )]
}

fn costs_little() -> Result<(), Failed> {
    let guest = Guest { userland: "bench", cpus: 2, ..PLAIN };
    let mut command = guest.command("quiet kezhan.run=flood kezhan.seconds=8")?;
    command.arg("--stats").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut most = 0;
    let status = loop {
        most = most.max(beside_ram(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let mut said = String::new();
    child.stdout.take().ok_or("no standard output")?.read_to_string(&mut said)?;
    child.stderr.take().ok_or("no standard error")?.read_to_string(&mut said)?;
    let full = said.lines().filter(|line| line.contains(" KiB of code, "));
    let full = full.filter(|line| !line.ends_with(", 0 clears")).count();
    let ended = status.success() && said.contains("end flood, status 0");
    match (ended, full, most) {
        (true, 2, 1..=MOST) => Ok(()),
        _ => Err(format!("{status}; {full} CPUs had to make room; {most} KiB beside RAM:\n{said}")
            .into()),
    }
}

/// What is resident beside the mapping of RAM, in KiB. Code memory is mapped twice and counts once, as memory that is
/// shared does in `Pss`. (proc_pid_smaps(5))
fn beside_ram(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let (mut size, mut sum) = (0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (key, value) = (words.next(), words.next().and_then(|word| word.parse::<u64>().ok()));
        match (key, value) {
            (Some("Size:"), Some(kib)) => size = kib,
            (Some("Pss:"), Some(kib)) if !RAM.contains(&size) => sum += kib,
            _ => {}
        }
    }
    sum
}
