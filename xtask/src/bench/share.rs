//! Four guests that compute at once: how alike they end, and beside what the cores could do.

use super::{folder, kezhan, payload, timed};
use crate::Outcome;
use std::path::Path;
use std::thread;
use std::time::Duration;

const GUESTS: u32 = 4;
const SHORT: u32 = 10_000_000;
/// What a guest alone takes, about.
const LENGTH: f64 = 3.0;
const LONGEST: f64 = 400_000_000.0;

pub(super) fn measure() -> Outcome {
    let folder = folder()?;
    let short = payload::write(&folder, "share.elf", &payload::counting(SHORT))?;
    let speed = f64::from(SHORT) / run(&short)?.as_secs_f64();
    let turns = (speed * LENGTH).min(LONGEST);
    let long = payload::write(&folder, "share.elf", &payload::counting(turns as u32))?;
    let alone = run(&long)?;
    let mut times = together(&long)?;
    times.sort();
    let (first, last) = (times[0].as_secs_f64(), times[times.len() - 1].as_secs_f64());
    let cores = thread::available_parallelism().map_or(1, usize::from).min(GUESTS as usize);
    let ideal = alone.as_secs_f64() * f64::from(GUESTS) / cores as f64;
    println!(
        "{GUESTS} guests on {cores} cores: the first ends after {first:.1} s, the last after {last:.1} s \
         (ratio {:.2}); one alone takes {:.1} s, so that {ideal:.1} s is the least",
        last / first,
        alone.as_secs_f64()
    );
    Ok(())
}

fn run(kernel: &Path) -> Outcome<Duration> {
    let mut command =
        kezhan("--engine soft --memory 16M --serial none --device isa-debug-exit --kernel");
    command.arg(kernel);
    timed(command, 1)
}

fn together(kernel: &Path) -> Outcome<Vec<Duration>> {
    let mut guests = Vec::new();
    for _ in 0..GUESTS {
        let kernel = kernel.to_path_buf();
        guests.push(thread::spawn(move || run(&kernel).map_err(|e| e.to_string())));
    }
    let mut times = Vec::new();
    for guest in guests {
        times.push(guest.join().map_err(|_panic| "a guest's thread panicked")??);
    }
    Ok(times)
}
