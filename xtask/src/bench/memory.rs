//! Resident memory of the process beyond the guest's RAM: anonymous and file memory less what is resident of the
//! mapping of RAM. Of a machine of 128 MiB that does nothing, and of those that make new code for a minute.

use super::{folder, kezhan, payload};
use crate::{Outcome, place};
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// In KiB.
const RAM: u64 = 128 * 1024;
const RAM_IN_FLOOD: u64 = 512 * 1024;

pub(super) fn measure() -> Outcome {
    let kernel =
        payload::write(&folder()?, "halting.elf", &payload::halting())?.display().to_string();
    for engine in ["soft", "kvm"] {
        let options =
            format!("--engine {engine} --memory 128M --serial none --timeout 20 --kernel {kernel}");
        let mut child = kezhan(&options).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        thread::sleep(Duration::from_secs(1));
        let maps = fs::read_to_string(format!("/proc/{}/smaps", child.id()));
        child.kill()?;
        child.wait()?;
        match maps.ok().and_then(|maps| beyond_ram(&maps, RAM)) {
            Some((all, beyond)) => println!(
                "memory, {engine}: {beyond} KiB resident beyond guest RAM, {all} KiB with what the guest touched"
            ),
            None => {
                println!("memory, {engine}: the machine does not run here; see `kezhan doctor`")
            }
        }
    }
    [1, 2, 4].into_iter().try_for_each(flood)
}

/// The most that the process has beyond RAM while every CPU makes new code.
fn flood(cpus: u32) -> Outcome {
    let guests = place::root().join(".cache/guests");
    let [kernel, initrd] = ["cloud/vmlinuz", "bench/initrd"].map(|file| guests.join(file));
    let mut command = kezhan(&format!("--engine soft --memory 512M --cpus {cpus}"));
    command.arg("--kernel").arg(kernel).arg("--initrd").arg(initrd);
    command.args(["--append", "console=ttyS0 quiet kezhan.run=flood kezhan.seconds=60"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut most = 0;
    while child.try_wait()?.is_none() {
        let maps = fs::read_to_string(format!("/proc/{}/smaps", child.id()));
        let now = maps.ok().and_then(|maps| beyond_ram(&maps, RAM_IN_FLOOD));
        most = most.max(now.map_or(0, |(_, beyond)| beyond));
        thread::sleep(Duration::from_millis(200));
    }
    println!(
        "memory, code without an end on each of {cpus} CPUs: at most {} MiB beyond RAM",
        most >> 10
    );
    Ok(())
}

/// What the kernel may have joined to the mapping of RAM: less than this, in KiB.
const NEIGHBOUR: u64 = 64 << 10;

/// KiB resident, and those not in a mapping of the size of RAM. Code memory is mapped twice, and counts once.
fn beyond_ram(maps: &str, ram: u64) -> Option<(u64, u64)> {
    let value = |line: &str, key: &str| -> Option<u64> {
        line.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let (mut size, mut all, mut of_ram, mut found, mut again) = (0, 0, 0, false, false);
    for line in maps.lines() {
        if line.ends_with("/dev/zero (deleted)") {
            again = line.contains(" r-xs ");
        } else if line.starts_with("VmFlags:") {
            again = false;
        } else if let Some(kib) = value(line, "Size:") {
            size = kib;
        } else if let Some(kib) = value(line, "Rss:") {
            all += if again { 0 } else { kib };
            if (ram..ram + NEIGHBOUR).contains(&size) {
                of_ram += kib;
                found = true;
            }
        }
    }
    found.then_some((all, all - of_ram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_of_ram_does_not_count() {
        let maps = "a-b rw-p\nSize: 131072 kB\nRss: 500 kB\nc-d r-xp\nSize: 64 kB\nRss: 60 kB\n";
        assert_eq!(beyond_ram(maps, RAM), Some((560, 60)));
        assert_eq!(beyond_ram("c-d r-xp\nSize: 64 kB\nRss: 60 kB\n", RAM), None);
    }

    #[test]
    fn code_memory_counts_once() {
        let code = "rw-s 00 00:01 1 /dev/zero (deleted)\nSize: 64 kB\nRss: 60 kB\nVmFlags: rd\n";
        let maps = format!(
            "a-b {}c-d {code}e-f rw-p\nSize: 131072 kB\nRss: 9 kB\n",
            code.replace("rw-s", "r-xs")
        );
        assert_eq!(beyond_ram(&maps, RAM), Some((69, 60)));
    }
}
