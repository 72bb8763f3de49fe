//! A machine from start to end, with pipes.

use crate::{Place, has_kvm, message, read_until, signal};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Output};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts the guest and waits until it is ready.
fn started(place: &Place, options: &[&str]) -> Child {
    let mut child = place.run(options).spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), "ready\n");
    child
}

#[test]
fn a_guest_that_powers_off_ends_with_0_and_input_from_a_file_reaches_it() {
    let output = Place::new().run_with(&[], "abo");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "ready\nab"));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_end_of_the_input_is_not_the_end_of_the_machine() {
    let output = Place::new().run_with(&["--timeout", "1"], "a");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(124), "ready\na"));
    assert!(message(&output).contains("--timeout 1: "));
}

#[test]
fn a_reset_starts_the_kernel_again() {
    let place = Place::new();
    let mut child = started(&place, &[]);
    let mut input = child.stdin.take().unwrap();
    for letter in [b"r", b"t"] {
        input.write_all(letter).unwrap();
        read_until(child.stdout.as_mut().unwrap(), "ready\n");
    }
    input.write_all(b"o").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reset_under_no_reboot_ends_with_1() {
    for letter in ["r", "t"] {
        let output = Place::new().run_with(&["--no-reboot"], letter);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(message(&output).contains("--no-reboot"));
    }
}

#[test]
fn a_panic_ends_with_1() {
    let output = Place::new().run_with(&["--device", "pvpanic"], "c");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(message(&output).contains("panicked"));
}

#[test]
fn debug_exit_gives_the_guests_own_status() {
    let output = Place::new().run_with(&["--device", "isa-debug-exit"], "x");
    assert_eq!(output.status.code(), Some(33), "{output:?}");
}

#[test]
fn signals_switch_off_at_once_a_guest_that_runs_and_one_that_sleeps() {
    let place = Place::new();
    for (number, expected) in
        [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        for state in ["", "h"] {
            let mut child = started(&place, &["--cpus", "2"]);
            child.stdin.as_mut().unwrap().write_all(state.as_bytes()).unwrap();
            signal(&child, number);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{output:?}");
            assert!(message(&output).contains("switched off"));
        }
    }
}

#[test]
fn a_closed_output_ends_the_machine_and_says_so() {
    let mut child = started(&Place::new(), &[]);
    drop(child.stdout.take());
    child.stdin.as_mut().unwrap().write_all(b"f").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{output:?}");
    assert!(message(&output).contains("standard output is closed"));
}

#[test]
fn a_reader_that_does_not_read_holds_the_guest_up_but_not_the_end() {
    let place = Place::new();
    let mut child = started(&place, &[]);
    child.stdin.as_mut().unwrap().write_all(b"f").unwrap();
    // Far more than pipe and buffers hold has been printed once this much has come.
    let mut some = vec![0; 4096];
    child.stdout.as_mut().unwrap().read_exact(&mut some).unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn the_console_goes_to_a_file() {
    let place = Place::new();
    let log = place.path("console.log");
    let serial = format!("file={}", log.display());
    let output = place.run_with(&["--serial", &serial, "--timeout", "1"], "");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(124), ""));
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ready\n");
}

#[test]
fn the_console_goes_to_a_socket_which_goes_with_the_machine() {
    let place = Place::new();
    let path = place.path("console");
    let serial = format!("socket={}", path.display());
    let mut child = place.run(&["--serial", &serial]).spawn().unwrap();
    let mut client = loop {
        match UnixStream::connect(&path) {
            Ok(client) => break client,
            Err(_) => std::thread::yield_now(),
        }
    };
    client.write_all(b"ko").unwrap();
    // What the guest printed before anybody listened is gone; its answer may come after some of it.
    read_until(&mut client, "k");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_process_has_the_machines_name() {
    let place = Place::new();
    let mut child = started(&place, &["--name", "inn"]);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
    assert_eq!(comm, "kezhan: inn\n");
    signal(&child, Signal::TERM);
    child.wait().unwrap();
}

#[test]
fn the_same_guest_runs_under_kvm() {
    if !has_kvm() {
        return;
    }
    let place = Place::new();
    let output = place.run_with(&["--engine", "kvm", "--cpus", "2"], "abo");
    assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), "ready\nab"));
    let mut child = started(&place, &["--engine", "kvm"]);
    child.stdin.as_mut().unwrap().write_all(b"h").unwrap();
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn the_engine_is_chosen_also_where_the_verdict_cannot_be_kept_and_soft_is_explained() {
    let place = Place::new();
    for folder in [place.path("cache"), "/proc/no/cache".into()] {
        for _ in 0..2 {
            let mut command = place.run(&["--engine", "auto"]);
            let mut child = command.env("XDG_CACHE_HOME", &folder).spawn().unwrap();
            child.stdin.as_mut().unwrap().write_all(b"o").unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            // KVM is taken without a word, the software engine with one line.
            if !output.stderr.is_empty() {
                let text = message(&output);
                assert!(text.starts_with("kezhan: engine soft: "), "{text}");
                assert!(text.contains("kezhan doctor"), "{text}");
            }
        }
    }
}
