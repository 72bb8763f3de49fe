//! Nothing outlives the runner: not even one that is killed.

mod program;

use program::program;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Process identifiers of sleepers with our mark.
fn sleepers(mark: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let line = |name: &String| std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
    names.filter(|name| String::from_utf8_lossy(&line(name)).contains(mark)).collect()
}

fn wait_until(what: &str, limit: Duration, done: &dyn Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "{what} took longer than {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(program: &Path, folder: &Path, feature: &str) -> Child {
    std::fs::write(folder.join("x.feature"), feature).unwrap();
    std::fs::create_dir_all(folder.join("temporary")).unwrap();
    let mut command = Command::new(program);
    command.args(["run", "x.feature"]).current_dir(folder).env("TMPDIR", folder.join("temporary"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_runner_leaves_no_process_and_no_file() {
    let program = program();
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("86399.{}", std::process::id());
    let feature = format!(
        "Feature: x\n  Scenario Outline: y\n    Given a file \"big\" with:\n      \"\"\"\n      text\n      \"\"\"\n    And the program \"sleep {mark} & sleep {mark}\" runs in the background as \"<n>\"\n    When I run \"sleep {mark}\" on the host\n    Examples:\n      | n |\n      | a |\n      | b |\n"
    );
    let mut runner = start(&program, folder.path(), &feature);
    wait_until("starting", Duration::from_secs(30), &|| sleepers(&mark).len() >= 6);
    runner.kill().unwrap();
    runner.wait().unwrap();
    wait_until("clearing away processes", Duration::from_secs(5), &|| sleepers(&mark).is_empty());
    let left = || std::fs::read_dir(folder.path().join("temporary")).unwrap().count() == 0;
    wait_until("clearing away files", Duration::from_secs(5), &left);
}

#[test]
fn failures_are_noted_and_run_again_alone() {
    let program = program();
    let folder = tempfile::tempdir().unwrap();
    let feature = "Feature: x\n  Scenario: good\n    When I run \"true\" on the host\n  Scenario: bad\n    When I run \"test -e repaired\" on the host\n";
    let repaired = folder.path().join("repaired");
    let feature = feature.replace("repaired", repaired.to_str().unwrap());
    assert_eq!(start(&program, folder.path(), &feature).wait().unwrap().code(), Some(1));
    let note = std::fs::read_to_string(folder.path().join(".kezhan-bdd-failed")).unwrap();
    assert_eq!(note, "x.feature:4\n");
    std::fs::write(repaired, "").unwrap();
    let again = Command::new(program)
        .args(["run", "--rerun-failed"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && text.contains("1 scenarios: 1 passed"), "{text}");
}

#[test]
fn bad_files_are_told_with_their_place_and_the_rest_runs() {
    let program = program();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("a.feature", b"Feature: a\n  Scen\xff");
    write("b.feature", &vec![b' '; 17 << 20]);
    write("c.feature", b"Feature: c\n  Scenario: s\n    When I run \"true\" on the host\n");
    let output =
        Command::new(program).args(["run", "."]).current_dir(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("✔ s"), "{text}");
    assert!(text.contains("a.feature:2:7: byte 0xff is not UTF-8"), "{text}");
    assert!(text.contains("b.feature:1:1: the file has"), "{text}");
}
