//! Resident memory of a machine of 128 MiB beyond the guest's RAM: anonymous and file memory of the
//! process less what is resident of the mapping of RAM.

use super::{folder, kezhan, payload};
use crate::Outcome;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

const RAM: u64 = 128 * 1024;

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
        match maps.ok().and_then(|maps| beyond_ram(&maps)) {
            Some((all, beyond)) => println!(
                "memory, {engine}: {beyond} KiB resident beyond guest RAM, {all} KiB with what the guest touched"
            ),
            None => {
                println!("memory, {engine}: the machine does not run here; see `kezhan doctor`")
            }
        }
    }
    Ok(())
}

/// KiB resident, and those not in a mapping of the size of RAM.
fn beyond_ram(maps: &str) -> Option<(u64, u64)> {
    let value = |line: &str, key: &str| -> Option<u64> {
        line.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    let (mut size, mut all, mut of_ram, mut found) = (0, 0, 0, false);
    for line in maps.lines() {
        if let Some(kib) = value(line, "Size:") {
            size = kib;
        } else if let Some(kib) = value(line, "Rss:") {
            all += kib;
            if size == RAM {
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
        assert_eq!(beyond_ram(maps), Some((560, 60)));
        assert_eq!(beyond_ram("c-d r-xp\nSize: 64 kB\nRss: 60 kB\n"), None);
    }
}
