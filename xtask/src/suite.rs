//! `cargo xtask test`: all checks and tests, with the time of each step; the last line counts them.
//!
//! A step that is not `cargo test` counts as one test. Every step runs, whatever failed before it. What the
//! failures said is printed once more at the end, because a log is read from there.

mod transcript;

pub(crate) use transcript::Transcript;

use crate::tidy::Tidy;
use crate::{Outcome, place};
use crate::{acceptance, guests, peers};
use clap::Args;
use std::process::Command;
use std::time::Instant;

/// `cargo xtask test`
#[derive(Debug, Args)]
pub(crate) struct Suite {
    /// Only format check, lints and house rules
    #[arg(long)]
    lint: bool,
    /// Only the step of this name, as the output shows it
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
}

/// How many passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Count {
    pub(crate) fn of(passed: bool) -> Count {
        Count { passed: passed.into(), failed: (!passed).into(), ignored: 0 }
    }

    pub(crate) fn add(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// A step and what it does.
type Step = (&'static str, fn(&mut Transcript) -> Outcome<Count>);

const LINTS: &[Step] = &[
    ("format", |said| cargo(said, &["fmt", "--all", "--check"])),
    ("clippy", |said| {
        let lints = ["clippy", "--workspace", "--all-targets", "--quiet", "--"];
        cargo(said, &[&lints[..], &["--deny", "warnings"]].concat())
    }),
    ("house rules", |said| {
        let outcome = Tidy::default().execute();
        outcome.as_ref().err().into_iter().for_each(|error| said.line(&error.to_string()));
        Ok(Count::of(outcome.is_ok()))
    }),
];

const TESTS: &[Step] = &[
    ("release build", |said| {
        cargo(said, &["build", "--release", "--quiet", "--package", "kezhan"])
    }),
    ("guests", |_| {
        for name in guests::all()? {
            guests::ensure(&name)?;
        }
        Ok(Count::default())
    }),
    ("peers", |_| peers::ensure().map(|_| Count::default())),
    ("tests", |said| cargo_test(said, &["test", "--workspace", "--no-fail-fast", "--quiet"])),
    ("features", acceptance::features),
    ("generated tests", acceptance::generated),
    ("example atm", acceptance::atm),
];

impl Suite {
    pub(crate) fn execute(self) -> Outcome {
        let mut total = Count::default();
        let mut digest = Vec::new();
        let begin = Instant::now();
        let tests = if self.lint { &[] } else { TESTS };
        let wanted = |name: &str| self.only.as_deref().is_none_or(|only| only == name);
        for (name, step) in LINTS.iter().chain(tests).filter(|(name, _)| wanted(name)) {
            println!("== {name}");
            let start = Instant::now();
            let mut said = Transcript::default();
            let count = step(&mut said).unwrap_or_else(|error| {
                said.line(&error.to_string());
                Count::of(false)
            });
            total.add(count);
            let verdict = if count.failed == 0 { "ok" } else { "FAILED" };
            if count.failed != 0 {
                digest.push(format!("== {name}: {verdict}"));
                digest.extend(said.digest());
            }
            println!("== {name}: {verdict}, {:.0} s", start.elapsed().as_secs_f64());
        }
        digest.iter().for_each(|line| println!("{line}"));
        println!("{} left out; {:.0} s", total.ignored, begin.elapsed().as_secs_f64());
        println!("{} passed, {} failed", total.passed, total.failed);
        match total.failed {
            0 => Ok(()),
            _ => Err("some failed; all that they said stands further up".into()),
        }
    }
}

fn cargo(said: &mut Transcript, arguments: &[&str]) -> Outcome<Count> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(place::root());
    Ok(Count::of(said.run(&mut cargo, Transcript::line)?))
}

/// Runs `cargo test`, shows all but the dots, and counts.
fn cargo_test(said: &mut Transcript, arguments: &[&str]) -> Outcome<Count> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(place::root());
    let mut total = Count::default();
    let success = said.run(&mut cargo, |said, line| match result(line) {
        Some(count) => total.add(count),
        None if is_noise(line) => {}
        None => said.line(line),
    })?;
    // A test program that does not build, or that dies, has no result line.
    if !success && total.failed == 0 {
        total.failed = 1;
    }
    Ok(total)
}

fn is_noise(line: &str) -> bool {
    let line = line.trim();
    let dots = line.split(' ').next().unwrap_or_default();
    line.is_empty()
        || line.starts_with("running ")
        || (line.starts_with("test ")
            && (line.ends_with("... ok") || line.ends_with("... ignored")))
        || dots.bytes().all(|b| matches!(b, b'.' | b'i'))
}

/// `test result: ok. 12 passed; 0 failed; 1 ignored; …`
fn result(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |what: &str| {
        let part = counts.split("; ").find_map(|part| part.trim().strip_suffix(what));
        part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    Some(Count { passed: number("passed"), failed: number("failed"), ignored: number("ignored") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(result(line), Some(Count { passed: 12, failed: 3, ignored: 1 }));
        assert_eq!(result("test a ... ok"), None);
    }

    #[test]
    fn dots_are_noise_and_failures_are_not() {
        assert!(is_noise("..i... 20/30"));
        assert!(is_noise("test a guest boots    ... ok"));
        assert!(!is_noise("test a guest boots    ... FAILED"));
        assert!(!is_noise("thread 'a' panicked at src/lib.rs:1:1:"));
    }
}
