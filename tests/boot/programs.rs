//! Programs give the same results in the guest as on the host, line by line.

use crate::guest::{Guest, PLAIN, Transcript, file};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::{Command, Stdio};

/// What is compared: the sentence, the machine, the script, and how the host runs the same.
type Case = (&'static str, Guest, &'static str, fn() -> Result<Command, Failed>);

const CASES: &[Case] = &[
    (
        "arithmetic, vectors, threads, signals, faults, processes and 32-bit code are as on the host",
        PLAIN,
        "exercise",
        exercise,
    ),
    (
        "on four CPUs, arithmetic, threads, signals, faults and processes are as on the host",
        Guest { kernel: "full", cpus: 4, ..PLAIN },
        "exercise",
        exercise,
    ),
    (
        "busybox: shell, pipes, compression and checksums are as on the host",
        PLAIN,
        "userland",
        busybox,
    ),
    (
        "Debian's bash, coreutils, mawk, compressors and OpenSSL give what they give on the host",
        Guest { userland: "debian", cpus: 2, ..PLAIN },
        "userland",
        bash,
    ),
];

pub fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| Trial::test(case.0, move || compare(case));
    CASES.iter().map(trial).collect()
}

fn compare((_, guest, script, on_host): &Case) -> Result<(), Failed> {
    let host = on_host()?.stdin(Stdio::null()).output()?;
    let host = String::from_utf8_lossy(&host.stdout).into_owned();
    let seen = guest.run(script)?;
    seen.assert_clean(script)?;
    let lines: Vec<&str> = seen.of_script().map(|(_, line)| line.as_str()).collect();
    differences(&seen, &host.lines().collect::<Vec<_>>(), &lines)
}

fn differences(seen: &Transcript, host: &[&str], guest: &[&str]) -> Result<(), Failed> {
    if host.len() < 10 {
        return Err(format!("the host wrote only {} lines", host.len()).into());
    }
    for n in 0..host.len().max(guest.len()) {
        let (there, here) = (host.get(n), guest.get(n));
        if there != here {
            return Err(seen.failed(&format!("line {n}:\n host  {there:?}\n guest {here:?}")));
        }
    }
    Ok(())
}

fn exercise() -> Result<Command, Failed> {
    Ok(Command::new(file("busybox", "root/bin/exercise")?))
}

fn scripts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/scripts/userland")
}

/// The guest's own busybox, with its applets alone in PATH.
fn busybox() -> Result<Command, Failed> {
    let root = file("busybox", "root")?.canonicalize()?;
    let mut command = Command::new(root.join("bin/busybox"));
    let path = ["usr/bin", "bin", "usr/sbin", "sbin"]
        .map(|folder| root.join(folder).display().to_string());
    command.arg("sh").arg(scripts()).env("PATH", path.join(":"));
    Ok(command)
}

/// The host's programs, which `make setup` has seen to.
fn bash() -> Result<Command, Failed> {
    let mut command = Command::new("bash");
    command.arg(scripts()).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    Ok(command)
}
