//! What cannot be done is said in one line, with a status, before anything starts.

use crate::{Place, kezhan, message};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const NOBODY: u32 = 65534;

fn run(arguments: &[&str]) -> Output {
    kezhan().arg("run").args(arguments).output().unwrap()
}

fn refused(arguments: &[&str], status: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    assert!(output.stdout.is_empty());
    message(&output)
}

#[test]
fn no_kernel_asks_for_one() {
    assert!(refused(&[], 2).contains("give --kernel FILE"));
}

#[test]
fn a_missing_kernel_is_named() {
    let text = refused(&["--kernel", "/no/such/vmlinuz"], 2);
    assert!(text.starts_with("kezhan: --kernel /no/such/vmlinuz: No such file"), "{text}");
}

#[test]
fn a_missing_initrd_is_named() {
    let place = Place::new();
    let kernel = place.path("guest.bin");
    let text = refused(&["--kernel", kernel.to_str().unwrap(), "--initrd", "/no/initrd"], 2);
    assert!(text.starts_with("kezhan: --initrd /no/initrd: No such file"), "{text}");
}

#[test]
fn a_file_that_is_no_kernel_is_named() {
    let place = Place::new();
    std::fs::write(place.path("guest.bin"), "#!/bin/sh\n").unwrap();
    let output = place.run(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(message(&output).contains("guest.bin is no kernel"), "{output:?}");
}

#[test]
fn an_initrd_larger_than_memory_is_refused_with_its_size() {
    let place = Place::new();
    let initrd = place.path("initrd");
    std::fs::File::create(&initrd).unwrap().set_len(64 << 20).unwrap();
    let output = place.run(&["--initrd", initrd.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = message(&output);
    assert!(text.contains("67108864") && text.contains("give more --memory"), "{text}");
}

#[test]
fn zero_cpus_and_too_many_are_refused() {
    assert!(refused(&["--kernel", "k", "--cpus", "0"], 2).contains("--cpus 0: give a number"));
    assert!(refused(&["--kernel", "k", "--cpus", "256"], 2).contains("--cpus 256"));
}

#[test]
fn memory_beyond_the_hosts_is_refused_with_what_there_is() {
    let text = refused(&["--kernel", "k", "--memory", "1T"], 69);
    assert!(text.starts_with("kezhan: --memory 1T: this host has "), "{text}");
}

#[test]
fn unknown_options_and_values_are_told_in_one_line() {
    assert!(refused(&["--kernle", "x"], 2).contains("'--kernel'"));
    assert!(refused(&["--engine", "qemu"], 2).contains("auto, kvm and soft"));
    assert!(refused(&["--memory", "lots"], 2).contains("128M"));
    assert!(refused(&["--serial", "tcp:1"], 2).contains("socket=PATH"));
    assert!(refused(&["--cpu", "pentium"], 2).contains("x86-64-v1"));
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let place = Place::new();
    let output = place.run(&["--device", "flux-capacitor"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = message(&output);
    assert!(text.contains("'flux-capacitor'") && text.contains("isa-debug-exit"), "{text}");
}

#[test]
fn a_name_that_would_break_messages_is_refused() {
    assert!(refused(&["--kernel", "k", "--name", "a\x1b[2J"], 2).contains("--name"));
}

#[test]
fn a_log_that_cannot_be_written_is_named() {
    let place = Place::new();
    let output = place.run(&["--serial", "file=/no/where/log"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(message(&output).contains("file=/no/where/log"));
}

/// `kezhan run` as an ordinary user; `None` with a reason when the test itself runs as one and so
/// cannot become another.
fn as_nobody(place: &Place) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let program = place.path("kezhan");
    // By a process of its own: another test's child could inherit a descriptor of ours that writes to the file, and
    // what somebody writes to cannot be executed (execve(2), ETXTBSY).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_kezhan")).arg(&program).status();
    assert!(copied.unwrap().success());
    open(&program);
    open(place.0.path());
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).env("HOME", "/nonexistent").current_dir("/").arg("run");
    Some(command)
}

#[test]
fn an_unreadable_kernel_is_named() {
    let place = Place::new();
    let Some(mut command) = as_nobody(&place) else { return };
    let kernel = place.path("guest.bin");
    std::fs::set_permissions(&kernel, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = command.arg("--kernel").arg(&kernel).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(message(&output).contains("guest.bin: Permission denied"), "{output:?}");
}

#[test]
fn a_kvm_closed_to_the_user_is_named_with_the_way_out() {
    let place = Place::new();
    let Some(mut command) = as_nobody(&place) else { return };
    if !Path::new("/dev/kvm").exists() {
        eprintln!("skipped: this host has no /dev/kvm to be closed");
        return;
    }
    command.args(["--engine", "kvm"]).arg("--kernel").arg(place.path("guest.bin"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let text = message(&output);
    assert!(text.contains("/dev/kvm: Permission denied"), "{text}");
    assert!(text.contains("kezhan doctor") && text.contains("--engine soft"), "{text}");
}
