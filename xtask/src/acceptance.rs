//! The plain-language tests of this repository, and its examples: the last stages of `cargo xtask test`.
//!
//! | stage | what runs |
//! |---|---|
//! | features | `kezhan bdd run tests/features`: whole machines, on the software engine |
//! | generated tests | lint, layout and generated files of the examples are as `kezhan bdd` makes them |
//! | example atm | the whole chain in Rust, Go and Python, the service, schemathesis |
//!
//! All of them drive the release build of `kezhan`, as a person would.

use crate::suite::{Count, Transcript};
use crate::{Outcome, peers, place};
use std::process::Command;

/// What is not there yet is written down and left out.
const TAGS: &str = "not @later";

/// How many vCPUs may run at one time. A guest that boots on the software engine keeps a processor busy: with more of
/// them each takes longer, and none is done sooner.
const CPUS: &str = "3";

/// How much more time there is than sentences give: conditions are waited for, so that a machine with other work costs
/// time and not a test.
const TIME_SCALE: &str = "3";

/// Runs the features; a scenario counts as a test.
pub(crate) fn features(said: &mut Transcript) -> Outcome<Count> {
    let mut kezhan = Command::new(place::kezhan());
    kezhan.args(["bdd", "run", "tests/features", "--tags", TAGS, "--cpus", CPUS, "--failures"]);
    kezhan.arg(place::root().join("target/features-failed"));
    kezhan.args(["--timeout-scale", TIME_SCALE]);
    kezhan.env("KEZHAN_GUESTS", place::cache().join("guests"));
    kezhan.env("PYTHON", peers::interpreter());
    kezhan.current_dir(place::root());
    let mut count = Count::default();
    let success = said.run(&mut kezhan, |said, line| match counts(line) {
        Some(found) => count = found,
        None if line.starts_with('✔') || line.is_empty() => {}
        None => said.line(line),
    })?;
    // A run that could not begin, or a file that is no feature, has no scenario that failed.
    if !success && count.failed == 0 {
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
pub(crate) fn generated(said: &mut Transcript) -> Outcome<Count> {
    let mut count = Count::default();
    let verbs: [(&str, &[&str]); 5] = [
        ("examples/socks", &["generate", "--check", "--lang", "rust"]),
        ("examples/socks", &["lint", "--no-steps", "--deny-warnings"]),
        ("examples/socks", &["fmt", "--check"]),
        ("tests", &["lint", "--deny-warnings"]),
        ("tests", &["fmt", "--check"]),
    ];
    for (folder, verb) in verbs {
        let mut kezhan = Command::new(place::kezhan());
        kezhan.arg("bdd").args(verb).arg("features").current_dir(place::root().join(folder));
        count.add(Count::of(said.run(&mut kezhan, Transcript::line)?));
    }
    Ok(count)
}

/// The cash machine: its script runs everything.
pub(crate) fn atm(said: &mut Transcript) -> Outcome<Count> {
    let mut script = Command::new(place::root().join("examples/atm/test.sh"));
    script.env("KEZHAN", place::kezhan()).env("PYTHON", peers::interpreter());
    script.env("CARGO_TARGET_DIR", place::root().join("target/atm"));
    Ok(Count::of(said.run(&mut script, Transcript::line)?))
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
