//! Disks whose host has trouble: no room under an image, a server that dies. Nothing else is damaged, and the guest
//! goes on when the trouble is over.

use crate::desk::Desk;
use crate::disks::init;
use crate::guest::kezhan;
use crate::systems::{folder, succeeds};
use libtest_mimic::{Failed, Trial};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<Trial> {
    let root = rustix::process::geteuid().is_root();
    vec![
        // Mounts a small file system, which needs root.
        Trial::test(
            "a guest's file system on qcow2 waits for room on a full host and is clean",
            waits,
        )
        .with_ignored_flag(!root),
        Trial::test(
            "a guest on qcow2 is told of a full host, and writes again when there is room",
            told,
        )
        .with_ignored_flag(!root),
        Trial::test(
            "a disk's server dies and comes back, and a disk's file ends too early: a guest waits or is told",
            served,
        ),
    ]
}

/// Init of the guest: a file system on the second disk, files in it, a look at all of it in the end. Power goes off
/// only when everything is right.
const FILE_SYSTEM: &str = "mount -t proc proc /proc; mount -t tmpfs none /mnt; mkdir /mnt/disk; \
    seq 700000 >/mnt/lines; mke2fs -q -t ext4 -E lazy_itable_init=0 /dev/vdb; mount /dev/vdb /mnt/disk; echo is mounted; \
    for n in 1 2 3; do cp /mnt/lines /mnt/disk/$n; sync; done; umount /mnt/disk; e2fsck -f -n /dev/vdb; \
    mount -o ro /dev/vdb /mnt/disk; for n in 1 2 3; do cmp /mnt/lines /mnt/disk/$n && echo file $n is right; done; \
    echo o >/proc/sysrq-trigger; sleep 100";

/// Init of the guest: writes until it is refused, and again when a line was typed.
const REFUSED: &str = "mount -t proc proc /proc; mount -t tmpfs none /mnt; seq 2000000 >/mnt/lines; \
    fill() { dd if=/mnt/lines of=/dev/vdb bs=64k oflag=direct conv=fsync iflag=fullblock status=none 2>/mnt/said; }; \
    fill || grep -o Input/output.error /mnt/said; echo is refused; read line; fill && echo is written; \
    head -c 14888896 /dev/vdb | cmp - /mnt/lines && echo is right; echo o >/proc/sysrq-trigger; sleep 100";

/// A small file system of the host's, seen by one machine and what is done after it. Of its 16 MiB a file takes 8.
struct Small {
    place: PathBuf,
    desk: Desk,
}

impl Small {
    /// Runs `machine` there with a qcow2 image as its second disk, and checks the image after the machine's end.
    fn run(folder: &Path, machine: Command, on_error: &str) -> Result<Small, Failed> {
        const SCRIPT: &str = "mount -t tmpfs -o size=16M none \"$place\" || exit; disk=$place/disk.qcow2; \
            head -c 8M /dev/zero >$place/ballast; \
            \"$kezhan\" image create -q -f qcow2 $disk 64M || exit; \
            \"$@\" --disk $disk,format=qcow2,on-error=$on_error && \"$kezhan\" image check -q -f qcow2 $disk";
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "bash", "-c", SCRIPT, "bash"]);
        shell.arg(machine.get_program()).args(machine.get_args());
        shell.env("place", folder).env("on_error", on_error);
        shell.env("kezhan", kezhan(&[])?.get_program());
        Ok(Small { place: folder.to_owned(), desk: Desk::sit_down(shell)? })
    }

    /// Takes the file away.
    fn make_room(&self) -> Result<(), Failed> {
        let root = PathBuf::from(format!("/proc/{}/root", self.desk.process()));
        let place = self.place.strip_prefix("/")?;
        Ok(fs::remove_file(root.join(place).join("ballast"))?)
    }
}

fn waits() -> Result<(), Failed> {
    let folder = folder()?;
    let mut small = Small::run(folder.path(), init("", FILE_SYSTEM)?, "pause")?;
    small.desk.wait_for("is mounted")?;
    small.desk.wait_for("the machine waits and goes on when that is mended")?;
    small.make_room()?;
    small.desk.wait_for("the disk works again, the machine goes on")?;
    for n in 1..=3 {
        small.desk.wait_for(&format!("file {n} is right"))?;
    }
    small.desk.see_the_power_go_off()
}

fn told() -> Result<(), Failed> {
    let folder = folder()?;
    let mut small = Small::run(folder.path(), init("", REFUSED)?, "report")?;
    small.desk.wait_for("\nInput/output error")?;
    small.desk.wait_for("\nis refused")?;
    small.make_room()?;
    small.desk.enter("")?;
    small.desk.wait_for("\nis written")?;
    small.desk.wait_for("\nis right")?;
    small.desk.see_the_power_go_off()
}

/// A server of one image, on a socket.
struct Server {
    image: PathBuf,
    socket: PathBuf,
    child: Child,
}

impl Server {
    fn start(image: PathBuf) -> Result<Server, Failed> {
        let socket = image.with_extension("socket");
        let child = Server::spawn(&image, &socket)?;
        Ok(Server { image, socket, child })
    }

    /// Returns once it listens.
    fn spawn(image: &Path, socket: &Path) -> Result<Child, Failed> {
        let mut command = Command::new("qemu-nbd");
        command.args(["--persistent", "--format", "raw", "--socket"]).arg(socket).arg(image);
        // It complains of our looking whether it listens.
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(format!("qemu-nbd: {status}").into());
            }
            std::thread::yield_now();
        }
        Ok(child)
    }

    fn die(&mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(fs::remove_file(&self.socket)?)
    }

    fn come_back(&mut self) -> Result<(), Failed> {
        self.child = Server::spawn(&self.image, &self.socket)?;
        Ok(())
    }

    /// As `--disk` takes it.
    fn disk(&self, on_error: &str) -> String {
        format!("nbd+unix:///?socket={},format=raw,on-error={on_error}", self.socket.display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Init of the guest: writes to its second disk, which waits, and then to its third, which does not, and reads its
/// fourth, each time after a line was typed.
const TWO_DISKS: &str = "mount -t proc proc /proc; mount -t tmpfs none /mnt; seq 100000 >/mnt/lines; \
    write() { dd if=/mnt/lines of=/dev/$1 bs=64k oflag=direct conv=fsync iflag=fullblock status=none 2>/mnt/said; }; \
    right() { head -c 588895 /dev/$1 | cmp - /mnt/lines && echo $1 is right; }; \
    echo is up; read line; write vdb; right vdb; \
    echo third; read line; write vdc || grep -o Input/output.error /mnt/said; echo is told; \
    read line; while ! write vdc; do :; done; right vdc; \
    echo fourth; read line; dd if=/dev/vdd of=/mnt/fourth bs=64k iflag=direct || echo ended; echo o >/proc/sysrq-trigger; sleep 100";

fn served() -> Result<(), Failed> {
    let folder = folder()?;
    let mut servers = Vec::new();
    for name in ["second.raw", "third.raw"] {
        let path = folder.path().join(name);
        File::create(&path)?.set_len(16 << 20)?;
        servers.push(Server::start(path)?);
    }
    let [second, third] = &mut servers[..] else { return Err("no servers".into()) };
    let mut machine = init("", TWO_DISKS)?;
    machine.args(["--disk", &second.disk("pause"), "--disk", &third.disk("report")]);
    let fourth = folder.path().join("fourth.raw");
    File::create(&fourth)?.set_len(1 << 20)?;
    machine.arg("--disk").arg(&fourth);
    let mut desk = Desk::sit_down(machine)?;
    desk.wait_for("is up")?;
    second.die()?;
    desk.enter("")?;
    desk.wait_for("the machine waits and goes on when that is mended")?;
    second.come_back()?;
    desk.wait_for("the disk works again, the machine goes on")?;
    desk.wait_for("vdb is right")?;
    desk.wait_for("third")?;
    third.die()?;
    desk.enter("")?;
    desk.wait_for("Input/output error")?;
    desk.wait_for("is told")?;
    third.come_back()?;
    desk.enter("")?;
    desk.wait_for("vdc is right")?;
    // Another program makes the file of the fourth shorter.
    desk.wait_for("fourth")?;
    File::options().write(true).open(&fourth)?.set_len(1 << 19)?;
    desk.enter("")?;
    desk.wait_for("8+0 records in")?;
    desk.wait_for("\nended")?;
    desk.see_the_power_go_off()?;
    let mut compare = Command::new("cmp");
    compare.arg(folder.path().join("second.raw")).arg(folder.path().join("third.raw"));
    succeeds(compare)
}
