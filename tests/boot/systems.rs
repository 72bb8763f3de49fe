//! A Debian system on a disk, as `make run` starts it: systemd, a login, a clean power-off, and what was
//! written is there the next time.

use crate::desk::Desk;
use crate::disks::CACHES;
use crate::guest::{file, kezhan, run};
use libtest_mimic::{Failed, Trial};
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "a Debian system on a raw disk keeps what was written over a power-off",
            || {
                let folder = folder()?;
                let disk = folder.path().join("disk.raw");
                fs::copy(file("system", "disk.raw")?, &disk)?;
                two_evenings(&format!("{},format=raw,cache=none", disk.display()))
            },
        ),
        Trial::test(
            "a Debian system on a qcow2 disk keeps what was written over a power-off",
            || {
                let folder = folder()?;
                let disk = overlay(folder.path())?;
                two_evenings(&format!("{disk},format=qcow2,backing=follow"))?;
                succeeds(kezhan(&["image", "check", "-q", "-f", "qcow2", &disk])?)
            },
        ),
        // Ten boots take minutes: on demand.
        Trial::test(
            "a Debian system boots to a login from both formats under every cache mode",
            every_cache_mode,
        )
        .with_ignored_flag(true),
    ]
}

/// A folder on a disk, which the host's folder for temporary files may not be.
pub fn folder() -> Result<TempDir, Failed> {
    Ok(TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// A qcow2 image in `folder` over the system's disk.
pub fn overlay(folder: &Path) -> Result<String, Failed> {
    let disk = folder.join("disk.qcow2").display().to_string();
    let base = file("system", "disk.raw")?.canonicalize()?.display().to_string();
    let create = ["image", "create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &disk];
    succeeds(kezhan(&create)?)?;
    Ok(disk)
}

/// Runs a command that says nothing when all is well.
pub fn succeeds(mut command: Command) -> Result<(), Failed> {
    let done = command.output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// The machine whose root file system is on `disk`.
pub fn machine(disk: &str, append: &str) -> Result<Command, Failed> {
    let mut command = run()?;
    command.arg("--kernel").arg(file("system", "vmlinuz")?);
    command.arg("--initrd").arg(file("system", "initrd")?);
    command.args(["--append", &format!("console=ttyS0 root=/dev/vda quiet {append}")]);
    command.args(["--disk", disk]);
    Ok(command)
}

fn two_evenings(disk: &str) -> Result<(), Failed> {
    let mut desk = log_in(machine(disk, "")?)?;
    // The answers are not in the lines as typed, which the terminal echoes.
    desk.enter("echo kept''-over >/root/note; systemctl is-system-''running; cat /root/note")?;
    desk.wait_for("running\r\nkept-over\r\n")?;
    power_off(desk)?;
    // Without systemd this time: half a minute less.
    let read = "mount -t proc proc /proc; cat /root/note; echo o >/proc/sysrq-trigger; sleep 100";
    let mut desk = Desk::sit_down(machine(disk, &format!("init=/bin/bash -- -c \"{read}\""))?)?;
    desk.wait_for("kept-over\r\n")?;
    desk.see_the_power_go_off()
}

/// Each boot finds what those before it have written under another mode.
fn every_cache_mode() -> Result<(), Failed> {
    let folder = folder()?;
    let raw = folder.path().join("disk.raw");
    fs::copy(file("system", "disk.raw")?, &raw)?;
    let qcow2 = overlay(folder.path())?;
    let disks =
        [format!("{},format=raw", raw.display()), format!("{qcow2},format=qcow2,backing=follow")];
    for disk in disks {
        for (before, cache) in CACHES.iter().enumerate() {
            let mut desk = log_in(machine(&format!("{disk},cache={cache}"), "")?)?;
            desk.enter(
                "echo evening >>/root/notes; echo $(grep -c evening /root/notes)''-evenings",
            )?;
            desk.wait_for(&format!("{}-evenings\r\n", before + 1))?;
            power_off(desk)?;
        }
    }
    succeeds(kezhan(&["image", "check", "-q", "-f", "qcow2", &qcow2])?)
}

/// Logs in to a machine that starts.
pub fn log_in(command: Command) -> Result<Desk, Failed> {
    let mut desk = Desk::sit_down(command)?;
    desk.wait_for("debian login: ")?;
    desk.enter("root")?;
    desk.wait_for("root@debian:~# ")?;
    Ok(desk)
}

/// Powers it off from within.
pub fn power_off(mut desk: Desk) -> Result<(), Failed> {
    desk.enter("poweroff")?;
    desk.see_the_power_go_off()
}
