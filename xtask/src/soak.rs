//! `cargo xtask soak`: a guest under a load like that of a build, for an hour, every result checked.
//!
//! ```text
//!   host   soak once SEED ──► results by job and seed
//!                                     │ compared line by line
//!   guest  soak (rounds)  ──► "soak JOB SEED RESULT" …, the kernel's warnings between them
//! ```
//!
//! The first wrong result, the first line of trouble from the kernel and a long silence end the run with an
//! error. All of the console is kept in `.cache/soak/console`, for whoever looks for the cause.

use crate::{Outcome, guests, place, program};
use clap::Args;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// As in the script.
const SEEDS: u32 = 4;
/// Nothing on the console for so long is a hang.
const SILENCE: Duration = Duration::from_secs(400);
/// For how long the console is still kept after trouble.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// What the kernel says when something is wrong, in any line that is not a result.
const TROUBLE: &[&str] = &[
    "lockup",
    "stall",
    "hung task",
    "blocked for more than",
    "BUG:",
    "WARNING:",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "general protection",
    "segfault",
    "trap ",
    "unstable",
    "nobody cared",
    "Out of memory",
    "differs",
];

/// `cargo xtask soak`
#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// For how long
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// CPUs of the guest
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// CPU engine
    #[arg(long, default_value = "soft")]
    engine: String,
    /// More options for `kezhan run`, in one word
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    kezhan: String,
}

/// Results by job and seed.
type Results = HashMap<(String, String), String>;

/// What was seen so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    results: u64,
    of_round: usize,
}

/// The console, watched.
#[derive(Debug)]
struct Watch {
    expected: Results,
    log: File,
    start: Instant,
    process: u32,
    tally: Tally,
    /// The most memory at the last look.
    memory: String,
}

/// A gibibyte each way over a network that loses, doubles and reorders frames, byte for byte.
fn transfer() -> Outcome {
    let mut cargo = Command::new("cargo");
    cargo.args(
        "test --release --quiet -p kezhan-net --test network gibibyte -- --ignored".split(' '),
    );
    program::output(cargo.current_dir(place::root()))?;
    println!("soak: a gibibyte each way arrived over a bad line");
    Ok(())
}

impl Soak {
    pub(crate) fn execute(self) -> Outcome {
        transfer()?;
        let folder = place::cache().join("soak");
        fs::create_dir_all(&folder)?;
        let userland = guests::ensure("soak")?;
        let expected = on_host(&userland.join("root"))?;
        let count = expected.len() / SEEDS as usize;
        println!("soak: {count} results for each of {SEEDS} seeds known from the host");
        let start = Instant::now();
        let mut guest = self.start(&userland)?;
        let output = guest.stdout.take().ok_or("no output of the guest")?;
        let path = folder.join("console");
        let mut watch = Watch {
            expected,
            log: File::create(&path)?,
            start,
            process: guest.id(),
            tally: Tally::default(),
            memory: String::new(),
        };
        if let Err(error) = watch.console(&lines_of(output)) {
            guest.kill()?;
            guest.wait()?;
            return Err(format!("{error}; see {}", path.display()).into());
        }
        let status = guest.wait()?;
        if !status.success() {
            return Err(format!("the guest ended with {status}").into());
        }
        if watch.tally.rounds == 0 {
            return Err("no round came to its end; give more minutes".into());
        }
        let minutes = start.elapsed().as_secs() / 60;
        println!("soak: {minutes} minutes, {}; no trouble on the console", watch.summary());
        Ok(())
    }

    fn start(&self, userland: &Path) -> Outcome<Child> {
        let seconds = self.minutes * 60;
        let mut command = Command::new(place::kezhan());
        command.args(["run", "--memory", "1G", "--engine", &self.engine]);
        command.args(["--cpus", &self.cpus.to_string()]);
        command.args(["--timeout", &(seconds + 1200).to_string()]);
        command.arg("--kernel").arg(guests::ensure("cloud")?.join("vmlinuz"));
        command.arg("--initrd").arg(userland.join("initrd"));
        let append = format!("console=ttyS0 loglevel=5 kezhan.run=soak kezhan.seconds={seconds}");
        command.args(["--append", &append]).args(self.kezhan.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
            .spawn()
            .map_err(|e| format!("{}: {e}; `make build` builds it", program::line(&command)).into())
    }
}

/// The script's results on the host, with the guest's `bench` and `exercise` and the host's other programs.
fn on_host(root: &Path) -> Outcome<Results> {
    let root = fs::canonicalize(root)?;
    let tools = place::cache().join("soak/bin");
    fs::create_dir_all(&tools)?;
    for name in ["bench", "exercise"] {
        fs::copy(root.join("bin").join(name), tools.join(name))?;
    }
    let mut results = Results::new();
    for seed in 0..SEEDS {
        let mut command = Command::new("bash");
        command.arg(place::root().join("guests/scripts/soak"));
        command.arg("once").arg(seed.to_string()).arg(&root);
        command.env("PATH", format!("{}:/usr/bin:/bin", tools.display()));
        for line in program::text(&mut command)?.lines() {
            let (job, seed, result) = parse(line).ok_or_else(|| format!("host: {line}"))?;
            results.insert((job.to_owned(), seed.to_owned()), result.to_owned());
        }
    }
    Ok(results)
}

/// Job, seed and result.
fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["soak", job, seed, result] => Some((job, seed, result)),
        _ => None,
    }
}

/// The lines, from a thread of their own, so that waiting for one can end.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || send_lines(output, &sender));
    receiver
}

fn send_lines(output: ChildStdout, sender: &Sender<String>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

impl Watch {
    /// Reads the console to its end.
    fn console(&mut self, lines: &Receiver<String>) -> Outcome {
        let mut told = self.start;
        loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    self.keep(&line)?;
                    if let Err(error) = self.tally.check(&line, &self.expected) {
                        self.keep_trouble(lines)?;
                        return Err(error);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("silent for {} s", SILENCE.as_secs()).into());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if told.elapsed() > Duration::from_secs(60) {
                told = Instant::now();
                self.memory = most_resident(self.process);
                println!(
                    "soak: minute {}, {}",
                    self.start.elapsed().as_secs() / 60,
                    self.summary()
                );
            }
        }
    }

    fn summary(&self) -> String {
        let Tally { rounds, results, .. } = self.tally;
        format!("{rounds} rounds, {results} results as on the host, {}", self.memory)
    }

    fn keep(&mut self, line: &str) -> Outcome {
        Ok(writeln!(self.log, "{:8.1} {line}", self.start.elapsed().as_secs_f64())?)
    }

    /// Keeps what else the kernel has to say of its trouble.
    fn keep_trouble(&mut self, lines: &Receiver<String>) -> Outcome {
        let end = Instant::now() + AFTERWARDS;
        while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.keep(&line)?;
        }
        Ok(())
    }
}

impl Tally {
    /// One line of the console.
    fn check(&mut self, line: &str, expected: &Results) -> Outcome {
        if line.starts_with("soak round ") {
            self.rounds += 1;
            let missing = expected.len() / SEEDS as usize - self.of_round;
            self.of_round = 0;
            return if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} results are missing in the round before: {line}").into())
            };
        }
        if let Some((job, seed, result)) = parse(line) {
            self.results += 1;
            self.of_round += 1;
            let right = expected.get(&(job.to_owned(), seed.to_owned()));
            return if right.is_some_and(|right| right == result) {
                Ok(())
            } else {
                Err(format!("{job}, seed {seed}: {result}, on the host {right:?}").into())
            };
        }
        if TROUBLE.iter().any(|word| line.contains(word)) {
            return Err(format!("the guest tells of trouble: {line}").into());
        }
        Ok(())
    }
}

/// The most memory that the process had resident, as Linux words it.
fn most_resident(process: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four_seeds() -> Results {
        let result = |seed: &str| (("sort".to_owned(), seed.to_owned()), "abc".to_owned());
        Results::from(["0", "1", "2", "3"].map(result))
    }

    #[test]
    fn right_results_and_rounds_are_counted() {
        let mut tally = Tally::default();
        let expected = four_seeds();
        for line in ["soak sort 1 abc", "soak round 1 after 17", "[    1.0] random: crng init done"]
        {
            tally.check(line, &expected).unwrap();
        }
        assert_eq!((tally.rounds, tally.results), (1, 1));
    }

    #[test]
    fn wrong_results_and_trouble_are_errors() {
        for line in [
            "soak sort 1 abd",
            "soak sort 7 abc",
            "soak round 1 after 17",
            "watchdog: BUG: soft lockup - CPU#1 stuck for 23s!",
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
            "exercise[77]: segfault at 0 ip 1 sp 2 error 4",
        ] {
            let outcome = Tally::default().check(line, &four_seeds());
            assert!(outcome.is_err(), "{line}");
        }
    }
}
