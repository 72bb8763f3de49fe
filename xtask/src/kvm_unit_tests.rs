//! `cargo xtask kvm-unit-tests`: runs programs of a kvm-unit-tests suite built beside the tree.
//!
//! The suite is public and not part of this project: build it and name its folder with `--dir` or in the
//! variable `KVM_UNIT_TESTS`. `tests/kvm-unit-tests.toml` lists those that must pass, with their arguments.
//! A program passes when it leaves through `isa-debug-exit` with code 0, which is exit status 1
//! (code × 2 + 1).

use crate::{Outcome, place};
use clap::Args;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// `cargo xtask kvm-unit-tests`
#[derive(Debug, Args)]
pub(crate) struct KvmUnitTests {
    /// Folder of the built suite
    #[arg(long, env = "KVM_UNIT_TESTS")]
    dir: Option<PathBuf>,
    /// CPU engine
    #[arg(long, default_value = "soft")]
    engine: String,
    /// Only tests with one of these in their name
    names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    test: Vec<Test>,
}

/// A row of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    program: String,
    #[serde(default)]
    arguments: String,
    #[serde(default = "one")]
    cpus: u32,
    /// Value of `--cpu`.
    #[serde(default = "host")]
    cpu: String,
    /// Seconds.
    #[serde(default = "a_minute")]
    timeout: u64,
    /// Why it is known not to pass yet. Such a test runs; it is told of when it passes.
    fails: Option<String>,
}

fn host() -> String {
    "host".to_owned()
}

fn one() -> u32 {
    1
}

fn a_minute() -> u64 {
    60
}

/// `isa-debug-exit` with code 0.
const PASS: i32 = 1;
/// A skip: the suite gives code 77 / 2, rounded down, for it to come out so.
const SKIP: i32 = 77;

/// How a test went, against what the list says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    /// It told that it could not test here. That is not a pass.
    Skip,
}

/// The verdict and why, of a test that ended with `status`.
fn judge(test: &Test, status: Option<i32>) -> (Verdict, String) {
    match (status, &test.fails) {
        (Some(PASS), None) => (Verdict::Pass, "pass".to_owned()),
        (Some(PASS), Some(_)) => {
            (Verdict::Fail, "FAIL: passes now; remove `fails` from the list".to_owned())
        }
        (_, Some(reason)) => (Verdict::Skip, format!("known to fail: {reason}")),
        (Some(SKIP), None) => (Verdict::Skip, "skipped by the program itself".to_owned()),
        (Some(124), None) => (Verdict::Fail, format!("FAIL: not done after {} s", test.timeout)),
        (Some(code), None) => (Verdict::Fail, format!("FAIL: exit status {code}")),
        (None, None) => (Verdict::Fail, "FAIL: killed by a signal".to_owned()),
    }
}

impl KvmUnitTests {
    pub(crate) fn execute(self) -> Outcome {
        let Some(dir) = &self.dir else {
            println!("skipped: no suite; build kvm-unit-tests and name its folder with --dir");
            return Ok(());
        };
        let list: List = toml::from_str(&fs::read_to_string(list_file())?)?;
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for test in list.test.iter().filter(|test| self.wants(test)) {
            let program = dir.join("x86").join(&test.program);
            if !program.exists() {
                println!("{}: skipped: no {}; build the suite", test.name, program.display());
                skipped += 1;
                continue;
            }
            match self.verdict(test, &program)? {
                Verdict::Pass => passed += 1,
                Verdict::Fail => failed += 1,
                Verdict::Skip => skipped += 1,
            }
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 {
            Err("some programs failed; their logs are in .cache/kvm-unit-tests".into())
        } else {
            Ok(())
        }
    }

    fn wants(&self, test: &Test) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| test.name.contains(name))
    }

    /// Runs one and tells how it went.
    fn verdict(&self, test: &Test, program: &Path) -> Outcome<Verdict> {
        let start = Instant::now();
        let (verdict, what) = judge(test, self.run(test, program)?);
        println!("{}: {what} ({:.1} s)", test.name, start.elapsed().as_secs_f64());
        Ok(verdict)
    }

    fn run(&self, test: &Test, program: &Path) -> Outcome<Option<i32>> {
        let logs = place::cache().join("kvm-unit-tests");
        fs::create_dir_all(&logs)?;
        let log = fs::File::create(logs.join(format!("{}.log", test.name)))?;
        let mut command = Command::new(place::kezhan());
        command.args(["run", "--engine", &self.engine, "--memory", "512M", "--no-reboot"]);
        command.args(["--cpus", &test.cpus.to_string(), "--timeout", &test.timeout.to_string()]);
        command.args(["--cpu", &test.cpu]);
        for device in ["isa-debug-exit", "pc-testdev", "pci-testdev"] {
            command.args(["--device", device]);
        }
        command.arg("--kernel").arg(program);
        // A multiboot command line starts with the program's name, as main's arguments do.
        command.args(["--append", format!("{} {}", test.program, test.arguments).trim()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.status()?.code())
    }
}

fn list_file() -> PathBuf {
    place::root().join("tests/kvm-unit-tests.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(fails: &str) -> Test {
        toml::from_str(&format!("name = 'a'\nprogram = 'a.flat'\n{fails}")).unwrap()
    }

    #[test]
    fn only_code_0_is_a_pass_and_a_skip_is_none() {
        let verdict = |status| judge(&test(""), status).0;
        assert_eq!(verdict(Some(1)), Verdict::Pass);
        assert_eq!(verdict(Some(0)), Verdict::Fail);
        assert_eq!(verdict(Some(77)), Verdict::Skip);
        assert_eq!(verdict(None), Verdict::Fail);
    }

    #[test]
    fn a_test_known_to_fail_that_passes_is_told_of() {
        let known = test("fails = 'no such device'");
        assert_eq!(judge(&known, Some(3)).0, Verdict::Skip);
        assert_eq!(judge(&known, Some(1)).0, Verdict::Fail);
    }

    #[test]
    fn the_list_in_the_tree_is_well_formed_and_names_each_test_once() {
        let list: List = toml::from_str(&fs::read_to_string(list_file()).unwrap()).unwrap();
        let mut names: Vec<_> = list.test.iter().map(|test| &test.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), list.test.len());
    }
}
