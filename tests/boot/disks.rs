//! Virtio devices as a stock kernel drives them: disks of every format and cache mode, a disk without room,
//! consoles, the balloon.

use crate::desk::Desk;
use crate::guest::{Transcript, file, kezhan};
use crate::systems::{folder, machine, succeeds};
use libtest_mimic::{Failed, Trial};
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const FORMATS: [&str; 2] = ["raw", "qcow2"];
pub const CACHES: [&str; 5] = ["writeback", "writethrough", "none", "directsync", "unsafe"];

/// What is written to each disk: the lines of `seq 100000`.
const LINES: u32 = 100_000;

/// Init of the guest. Each disk gets the lines by direct I/O, is flushed, and read back by direct I/O.
const SCRIPT: &str = "mount -t proc proc /proc; right=$(seq 100000 | md5sum); for disk in b c d e f g h i j k; do \
    seq 100000 | dd of=/dev/vd$disk bs=64k iflag=fullblock oflag=direct conv=fsync status=none; \
    case $(dd if=/dev/vd$disk bs=64k iflag=direct status=none | head -c 588895 | md5sum) in \
    $right) echo vd$disk is right;; esac; done; echo o >/proc/sysrq-trigger; sleep 100";

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("a machine waits while its disk has no room, and goes on when it has", no_room),
        Trial::test(
            "a guest without MSI has two consoles, and gives memory back by its balloon",
            without_msi,
        ),
        Trial::test("a guest writes and reads a disk that is not on PCI", beside_pci),
        Trial::test(
            "a guest writes and reads raw and qcow2 disks under every cache mode",
            every_mode,
        ),
    ]
}

/// Room is what the shell's limit on the size of files leaves, which another program takes away later. The image
/// is raw and the writes are beyond the limit, which must be large: the software CPU has files in memory.
fn no_room() -> Result<(), Failed> {
    let folder = folder()?;
    let disk = folder.path().join("disk.raw").display().to_string();
    succeeds(kezhan(&["image", "create", "-q", &disk, "1G"])?)?;
    let script = "mount -t proc proc /proc; dd() { /bin/dd bs=64k status=none $@; }; \
        seq 400000 | dd of=/dev/vdb seek=9600 iflag=fullblock oflag=direct conv=fsync; \
        sum=$(seq 400000 | md5sum); \
        case $(dd if=/dev/vdb skip=9600 iflag=direct | head -c 2688895 | md5sum) in \
        $sum) echo nothing is lost;; esac; echo o >/proc/sysrq-trigger; sleep 100";
    let mut machine = init("", script)?;
    machine.args(["--disk", &format!("{disk},format=raw,on-error=pause")]);
    // In units of 1 KiB. Writes beyond it fail instead of ending the process.
    let mut shell = Command::new("bash");
    shell.args(["-c", "trap '' XFSZ; ulimit -S -f 600000; exec \"$@\"", "bash"]);
    shell.arg(machine.get_program()).args(machine.get_args());
    let mut desk = Desk::sit_down(shell)?;
    desk.wait_for("the machine waits and goes on when that is mended")?;
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &desk.process().to_string(), "--fsize=unlimited"]);
    succeeds(prlimit)?;
    desk.wait_for("the disk works again, the machine goes on")?;
    desk.wait_for("nothing is lost")?;
    desk.see_the_power_go_off()
}

/// Without MSI the devices raise pins. The guest writes to both of its consoles; then it fills 160 MiB and gives
/// them back, of which the balloon tells the host.
fn without_msi() -> Result<(), Failed> {
    let folder = folder()?;
    let script = "mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs none /mnt; \
        modprobe virtio_console; modprobe virtio_balloon; echo hello console >/dev/hvc0; \
        for port in /sys/class/virtio-ports/*; do [ -e $port/name ] && read name <$port/name; \
        case $name in org.kezhan.test) echo hello port >/dev/${port##*/};; esac; done; \
        grep -q MSI /proc/interrupts || grep -c fasteoi.*virtio /proc/interrupts; \
        head -c 160M /dev/zero >/mnt/file; echo is filled; read line; rm /mnt/file; read line; \
        echo o >/proc/sysrq-trigger; sleep 100";
    let mut machine = init("pci=nomsi", script)?;
    let [first, second] = ["hvc0", "port"].map(|name| folder.path().join(name));
    machine.arg("--console").arg(format!("file={}", first.display()));
    machine.arg("--console").arg(format!("file={},name=org.kezhan.test", second.display()));
    machine.args(["--device", "virtio-balloon"]);
    let mut desk = Desk::sit_down(machine)?;
    desk.wait_for("3\r\nis filled")?;
    let filled = resident(&desk)?;
    desk.enter("")?;
    while resident(&desk)? > filled - (100 << 10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    desk.enter("")?;
    desk.see_the_power_go_off()?;
    let wrote = [first, second].map(|path| fs::read_to_string(path).unwrap_or_default());
    match wrote.each_ref().map(|text| text.trim()) {
        ["hello console", "hello port"] => Ok(()),
        other => Err(format!("the consoles got {other:?}").into()),
    }
}

/// KiB of memory that the machine's process has. An error once it is gone.
fn resident(desk: &Desk) -> Result<u64, Failed> {
    let status = fs::read_to_string(format!("/proc/{}/status", desk.process()))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = size.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(size.ok_or("the machine has ended")?.parse()?)
}

/// The machine with the system's disk, read-only, and `script` instead of systemd.
pub fn init(append: &str, script: &str) -> Result<Command, Failed> {
    let system = format!("{},format=raw,readonly", file("system", "disk.raw")?.display());
    machine(&system, &format!("{append} ro init=/bin/bash -- -c \"{script}\""))
}

/// Two of them, so that places and interrupts of both count.
fn beside_pci() -> Result<(), Failed> {
    let folder = folder()?;
    let script = SCRIPT.replacen("right=", "modprobe virtio_mmio; right=", 1);
    let mut command = init("", &script.replace("b c d e f g h i j k", "b c"))?;
    for name in ["one", "two"] {
        let path = folder.path().join(name);
        File::create(&path)?.set_len(1 << 20)?;
        command.args(["--disk", &format!("{},bus=mmio", path.display())]);
    }
    let seen = Transcript::of(command)?;
    let right = seen.lines.iter().filter(|(_, line)| line.ends_with(" is right")).count();
    if right == 2 { Ok(()) } else { Err(seen.failed("both disks were to be right")) }
}

fn every_mode() -> Result<(), Failed> {
    let folder = folder()?;
    let mut command = init("", SCRIPT)?;
    let disks = disks(folder.path())?;
    for (path, format, cache) in &disks {
        command.args(["--disk", &format!("{path},format={format},cache={cache}")]);
    }
    let seen = Transcript::of(command)?;
    for letter in ('b'..).take(disks.len()) {
        let right = format!("vd{letter} is right");
        if !seen.lines.iter().any(|(_, line)| *line == right) {
            return Err(seen.failed(&format!("no line `{right}`")));
        }
    }
    let reference = reference(folder.path())?;
    for (path, format, _) in &disks {
        let compare = ["image", "compare", "-q", "-f", "raw", "-F", format, &reference, path];
        succeeds(kezhan(&compare)?)?;
    }
    Ok(())
}

/// An empty image for each format and cache mode.
fn disks(folder: &Path) -> Result<Vec<(String, &'static str, &'static str)>, Failed> {
    let mut disks = Vec::new();
    for format in FORMATS {
        for cache in CACHES {
            let path = folder.join(format!("{format}-{cache}")).display().to_string();
            succeeds(kezhan(&["image", "create", "-q", "-f", format, &path, "16M"])?)?;
            disks.push((path, format, cache));
        }
    }
    Ok(disks)
}

/// The image that each of them should be in the end.
fn reference(folder: &Path) -> Result<String, Failed> {
    let mut text = String::new();
    for line in 1..=LINES {
        writeln!(text, "{line}")?;
    }
    let path = folder.join("reference");
    fs::write(&path, text)?;
    File::options().write(true).open(&path)?.set_len(16 << 20)?;
    Ok(path.display().to_string())
}
