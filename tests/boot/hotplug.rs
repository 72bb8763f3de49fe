//! What is changed while the machine runs, by its control socket: a disk comes and goes, another grows, the balloon
//! fills.

use crate::desk::Desk;
use crate::disks::init;
use crate::guest::kezhan;
use crate::systems::{folder, succeeds};
use libtest_mimic::{Failed, Trial};
use std::fs::{self, File};

/// Init of the guest: tells when the third disk comes, writes to it, and tells when it goes.
const SCRIPT: &str = "mount -t proc proc /proc; mount -t sysfs sysfs /sys; modprobe virtio_balloon; echo is up; \
    while [ ! -b /dev/vdc ]; do read -t 0.2 line; done; \
    read size </sys/block/vdc/size; read serial </sys/block/vdc/serial; echo came $size $serial; \
    echo written | dd of=/dev/vdc conv=fsync status=none; echo is written; \
    while [ -b /dev/vdc ]; do read -t 0.2 line; done; echo went; \
    while read -t 0.2 line; read size </sys/block/vdb/size; [ $size != 98304 ]; do :; done; echo grew; \
    while read -t 0.2 line; low=$(grep -cE MemFree:.+[^0-9][12][0-9][0-9][0-9][0-9][0-9].kB /proc/meminfo); [ $low = 0 ]; do :; done; \
    echo gave; read line; echo o >/proc/sysrq-trigger; read -t 100 line";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "a disk comes and goes, another grows and the balloon fills while the machine runs",
        changes_while_it_runs,
    )]
}

fn changes_while_it_runs() -> Result<(), Failed> {
    let folder = folder()?;
    let [base, hot] = ["base.raw", "hot.qcow2"].map(|name| folder.path().join(name));
    File::create(&base)?.set_len(32 << 20)?;
    let hot_name = hot.display().to_string();
    succeeds(kezhan(&["image", "create", "-q", "-f", "qcow2", &hot_name, "64M"])?)?;
    let mut machine = init("", SCRIPT)?;
    let name = format!("inn{}", std::process::id());
    machine.arg("--disk").arg(&base).args(["--name", &name]);
    machine.args(["--device", "hotplug,slots=2", "--device", "virtio-balloon"]);
    let mut desk = Desk::sit_down(machine)?;
    desk.wait_for("is up")?;
    ask(&name, &format!("attach {hot_name},format=qcow2,serial=inn"), "disk2")?;
    desk.wait_for("\ncame 131072 inn")?;
    desk.wait_for("\nis written")?;
    ask(&name, "detach disk2", "")?;
    desk.wait_for("\nwent")?;
    // Nobody has the image any more.
    let raw = folder.path().join("hot.raw").display().to_string();
    succeeds(kezhan(&["image", "convert", "-f", "qcow2", "-O", "raw", &hot_name, &raw])?)?;
    if !fs::read(&raw)?.starts_with(b"written\n") {
        return Err("the disk that came and went has not what was written".into());
    }
    ask(&name, "resize disk1 48M", "")?;
    desk.wait_for("\ngrew")?;
    ask(&name, "balloon 300M", "")?;
    desk.wait_for("\ngave")?;
    desk.enter("")?;
    desk.see_the_power_go_off()
}

/// `kezhan control`, which must succeed and print `answer`.
fn ask(name: &str, command: &str, answer: &str) -> Result<(), Failed> {
    let mut control = kezhan(&["control"])?;
    let output = control.arg(name).args(command.split(' ')).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match output.status.success() && said == answer {
        true => Ok(()),
        false => {
            let messages = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command}: {said:?} instead of {answer:?}: {messages}").into())
        }
    }
}
