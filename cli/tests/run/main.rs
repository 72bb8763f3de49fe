//! `kezhan` as a person meets it: the built binary, a small guest, real pipes, signals and terminals.

mod bad_input;
mod guest;
mod host;
mod life;
mod terminal;

use std::fs::OpenOptions;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// Whether `--engine kvm` is possible here; if not, says what is skipped.
fn has_kvm() -> bool {
    let kvm = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &kvm {
        eprintln!("skipped: /dev/kvm: {error}");
    }
    kvm.is_ok()
}

fn kezhan() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kezhan"))
}

/// A folder with the guest in it.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        guest::kernel_in(place.0.path());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command that runs the guest, with pipes for everything, on the engine that every host has
    /// unless told otherwise. A guest that hangs ends with 124.
    fn run(&self, options: &[&str]) -> Command {
        let mut command = kezhan();
        command.args(["run", "--memory", "16M"]);
        if !options.contains(&"--engine") {
            command.args(["--engine", "soft"]);
        }
        if !options.contains(&"--timeout") {
            command.args(["--timeout", "60"]);
        }
        command.arg("--kernel").arg(self.path("guest.bin")).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the guest to its end with `typed` as all of its input.
    fn run_with(&self, options: &[&str], typed: &str) -> Output {
        let input = self.path("typed");
        std::fs::write(&input, typed).unwrap();
        let input = std::fs::File::open(input).unwrap();
        self.run(options).stdin(input).output().unwrap()
    }
}

/// Reads up to and with `wanted`.
fn read_until(from: &mut impl Read, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(wanted.as_bytes()) {
        match from.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => panic!("ended without '{wanted}': {}", String::from_utf8_lossy(&seen)),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// One line on standard error that starts as every message does; gives it.
fn message(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("kezhan: ") && text.lines().count() == 1, "{text}");
    text
}
