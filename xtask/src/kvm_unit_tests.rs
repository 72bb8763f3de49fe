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
    /// Seconds.
    #[serde(default = "a_minute")]
    timeout: u64,
    /// Why it is known not to pass yet. Such a test runs; it is told of when it passes.
    fails: Option<String>,
}

fn one() -> u32 {
    1
}

fn a_minute() -> u64 {
    60
}

/// `isa-debug-exit` with code 0.
const PASS: i32 = 1;
/// With code 77 / 2, the program skipped itself: status 77.
const SKIP: i32 = 77;

impl KvmUnitTests {
    pub(crate) fn execute(self) -> Outcome {
        let Some(dir) = &self.dir else {
            println!("skipped: no suite; build kvm-unit-tests and name its folder with --dir");
            return Ok(());
        };
        let list: List = toml::from_str(&fs::read_to_string(list_file())?)?;
        let (mut passed, mut failed) = (0, 0);
        for test in list.test.iter().filter(|test| self.wants(test)) {
            let program = dir.join("x86").join(&test.program);
            if !program.exists() {
                println!("{}: skipped: no {}; build the suite", test.name, program.display());
                continue;
            }
            match self.verdict(test, &program)? {
                true => passed += 1,
                false => failed += 1,
            }
        }
        println!("{passed} passed, {failed} failed");
        if failed > 0 {
            Err("some programs failed; their logs are in .cache/kvm-unit-tests".into())
        } else {
            Ok(())
        }
    }

    fn wants(&self, test: &Test) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| test.name.contains(name))
    }

    /// Runs one and tells how it went; whether it is as the list says.
    fn verdict(&self, test: &Test, program: &Path) -> Outcome<bool> {
        let start = Instant::now();
        let status = self.run(test, program)?;
        let what = match (status, &test.fails) {
            (Some(PASS), None) => "pass".to_owned(),
            (Some(PASS), Some(_)) => "FAIL: passes now; remove `fails` from the list".to_owned(),
            (_, Some(reason)) => format!("known to fail: {reason}"),
            (Some(SKIP), None) => "skipped by the program itself".to_owned(),
            (Some(124), None) => format!("FAIL: not done after {} s", test.timeout),
            (Some(code), None) => format!("FAIL: exit status {code}"),
            (None, None) => "FAIL: killed by a signal".to_owned(),
        };
        println!("{}: {what} ({:.1} s)", test.name, start.elapsed().as_secs_f64());
        Ok(!what.starts_with("FAIL"))
    }

    fn run(&self, test: &Test, program: &Path) -> Outcome<Option<i32>> {
        let logs = place::cache().join("kvm-unit-tests");
        fs::create_dir_all(&logs)?;
        let log = fs::File::create(logs.join(format!("{}.log", test.name)))?;
        let mut command = Command::new(place::kezhan());
        command.args(["run", "--engine", &self.engine, "--memory", "512M", "--no-reboot"]);
        command.args(["--cpus", &test.cpus.to_string(), "--timeout", &test.timeout.to_string()]);
        for device in ["isa-debug-exit", "pc-testdev", "pci-testdev"] {
            command.args(["--device", device]);
        }
        command.arg("--kernel").arg(program);
        if !test.arguments.is_empty() {
            command.args(["--append", &test.arguments]);
        }
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

    #[test]
    fn the_list_in_the_tree_is_well_formed_and_names_each_test_once() {
        let list: List = toml::from_str(&fs::read_to_string(list_file()).unwrap()).unwrap();
        let mut names: Vec<_> = list.test.iter().map(|test| &test.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), list.test.len());
    }
}
