//! The program under test: the example `bdd`, which `cargo test` builds beside the tests.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Its path.
pub fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/bdd");
    assert!(
        program.exists(),
        "{}: run `cargo build -p kezhan-bdd --example bdd`",
        program.display()
    );
    program
}

/// Runs a command to its end.
#[allow(dead_code, reason = "each test program uses what it needs")]
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}
