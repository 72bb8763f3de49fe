//! The plain-language tests of this repository, and its examples: the last stages of `cargo xtask test`.
//!
//! | stage | what runs |
//! |---|---|
//! | features | `kezhan bdd run tests/features`: whole machines, on the software engine |
//! | generated tests | lint, layout and generated files of the examples are as `kezhan bdd` makes them |
//! | example atm | the whole chain in Rust, Go and Python, the service, schemathesis |
//!
//! All of them drive the release build of `kezhan`, as a person would.

use crate::suite::Count;
use crate::{Outcome, peers, place, program};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// What is not there yet is written down and left out.
const TAGS: &str = "not @later";

/// How many vCPUs may run at one time. A guest that boots on the software engine keeps a processor busy: with more of
/// them each takes longer, and none is done sooner.
const CPUS: &str = "3";

/// Runs the features; a scenario counts as a test.
pub(crate) fn features() -> Outcome<Count> {
    let mut kezhan = Command::new(place::kezhan());
    kezhan.args(["bdd", "run", "tests/features", "--tags", TAGS, "--cpus", CPUS, "--failures"]);
    kezhan.arg(place::root().join("target/features-failed"));
    kezhan.env("KEZHAN_GUESTS", place::cache().join("guests"));
    kezhan.env("PYTHON", peers::interpreter());
    let mut child = kezhan.current_dir(place::root()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("kezhan bdd: no output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        match counts(&line) {
            Some(found) => count = found,
            None if line.starts_with('✔') || line.is_empty() => {}
            None => println!("{line}"),
        }
    }
    // A run that could not begin, or a file that is no feature, has no scenario that failed.
    if !child.wait()?.success() && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

/// `30 scenarios: 28 passed, 1 skipped, 1 failed  12.3 s`
fn counts(line: &str) -> Option<Count> {
    let (total, rest) = line.split_once(" scenarios: ")?;
    total.parse::<u64>().ok()?;
    let mut count = Count::default();
    let (counts, _) = rest.rsplit_once("  ").unwrap_or((rest, ""));
    for part in counts.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word {
            "passed" => count.passed += number,
            "skipped" => count.ignored += number,
            "retried" => {}
            _ => count.failed += number,
        }
    }
    Some(count)
}

/// Whether what was generated is what would be generated, and reads as it should.
pub(crate) fn generated() -> Outcome<Count> {
    let mut count = Count::default();
    let folder = "examples/socks";
    let features = ["features"];
    count.add(bdd(folder, &["generate", "--check", "--lang", "rust"], &features)?);
    count.add(bdd(folder, &["lint", "--no-steps", "--deny-warnings"], &features)?);
    count.add(bdd(folder, &["fmt", "--check"], &features)?);
    count.add(bdd("tests", &["lint", "--deny-warnings"], &features)?);
    count.add(bdd("tests", &["fmt", "--check"], &features)?);
    Ok(count)
}

fn bdd(folder: &str, verb: &[&str], features: &[&str]) -> Outcome<Count> {
    let mut kezhan = Command::new(place::kezhan());
    kezhan.arg("bdd").args(verb).args(features).current_dir(place::root().join(folder));
    let done = kezhan.stdin(Stdio::null()).output()?;
    if !done.status.success() {
        println!("{} in {folder}:", program::line(&kezhan));
        print!(
            "{}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(Count::of(done.status.success()))
}

/// The cash machine: its script runs everything.
pub(crate) fn atm() -> Outcome<Count> {
    let mut script = Command::new(place::root().join("examples/atm/test.sh"));
    script.env("KEZHAN", place::kezhan()).env("PYTHON", peers::interpreter());
    script.env("CARGO_TARGET_DIR", place::root().join("target/atm"));
    Ok(Count::of(program::succeeds(&mut script)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_run_is_counted() {
        let line = "32 scenarios: 29 passed, 1 skipped, 1 undefined, 1 failed, 1 retried  1.2 s";
        assert_eq!(counts(line), Some(Count { passed: 29, failed: 2, ignored: 1 }));
        assert_eq!(counts("1 scenarios: 1 passed  3 ms").map(|count| count.passed), Some(1));
        assert_eq!(counts("✔ two scenarios: one  a.feature:3"), None);
    }
}
