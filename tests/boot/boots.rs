//! Every kernel with every number of CPUs and size of memory comes up, finds what it was given, has nothing
//! to complain of, and powers off.

use crate::guest::{Guest, Transcript};
use crate::kernel_log;
use libtest_mimic::{Failed, Trial};
use std::time::{SystemTime, UNIX_EPOCH};

const KERNELS: [&str; 2] = ["cloud", "full"];
const CPUS: [u32; 3] = [1, 2, 4];
/// As typed, in MiB, and how much of it the kernel may keep to itself, in MiB.
const MEMORY: [(&str, u64, u64); 3] = [("128M", 128, 64), ("512M", 512, 64), ("6G", 6144, 320)];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for kernel in KERNELS {
        for cpus in CPUS {
            for (memory, size, kept) in MEMORY {
                let guest = Guest { kernel, userland: "busybox", cpus, memory };
                let noun = if cpus == 1 { "CPU" } else { "CPUs" };
                let name = format!(
                    "the {kernel} kernel finds {cpus} {noun} and {memory} of memory, and powers off"
                );
                trials.push(Trial::test(name, move || boot(guest, size, kept)));
            }
        }
    }
    trials
}

fn boot(guest: Guest, size: u64, kept: u64) -> Result<(), Failed> {
    let seen = guest.run("report")?;
    seen.assert_clean("report")?;
    let troubles = kernel_log::troubles(&seen.part("log"));
    if !troubles.is_empty() {
        return Err(seen.failed(&format!("the log tells of trouble:\n{}", troubles.join("\n"))));
    }
    cpus_are_listed(&seen, guest.cpus)?;
    interrupts_are_listed(&seen, guest.cpus)?;
    memory_is_found(&seen, size, kept)?;
    the_date_is_right(&seen)?;
    match seen.part("clocksource")[..] {
        ["tsc" | "kvm-clock"] => Ok(()),
        ref other => Err(seen.failed(&format!("the clock source is {other:?}"))),
    }
}

fn cpus_are_listed(seen: &Transcript, cpus: u32) -> Result<(), Failed> {
    let info = seen.part("cpuinfo");
    let field = |line: &str, key: &str| {
        line.split_once(':').is_some_and(|(k, v)| k.trim() == key && !v.is_empty())
    };
    for key in ["processor", "vendor_id", "model name", "flags", "bogomips", "address sizes"] {
        let count = info.iter().filter(|line| field(line, key)).count();
        if count != cpus as usize {
            return Err(
                seen.failed(&format!("/proc/cpuinfo has `{key}` {count} times, not {cpus}"))
            );
        }
    }
    Ok(())
}

fn interrupts_are_listed(seen: &Transcript, cpus: u32) -> Result<(), Failed> {
    let table = seen.part("interrupts");
    let columns = table.first().map_or(0, |line| line.split_whitespace().count());
    if columns != cpus as usize {
        return Err(seen.failed(&format!("/proc/interrupts has {columns} columns, not {cpus}")));
    }
    for (name, device) in [("0:", "timer"), ("4:", "ttyS0"), ("8:", "rtc0"), ("9:", "acpi")] {
        let row = |line: &&&str| line.trim_start().starts_with(name) && line.ends_with(device);
        if table.iter().filter(row).count() != 1 {
            return Err(seen.failed(&format!("/proc/interrupts has no row `{name} … {device}`")));
        }
    }
    let ticks =
        table.iter().find_map(|line| line.trim_start().strip_prefix("LOC:")).unwrap_or_default();
    let running = ticks.split_whitespace().take(columns).filter(|count| *count != "0").count();
    match running == columns {
        true => Ok(()),
        false => {
            Err(seen.failed(&format!("the local timers of {running} CPUs tick, not of {cpus}")))
        }
    }
}

fn memory_is_found(seen: &Transcript, size: u64, kept: u64) -> Result<(), Failed> {
    let total = seen.part("meminfo").iter().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let total = total.ok_or_else(|| seen.failed("/proc/meminfo has no MemTotal"))? / 1024;
    match (size - kept..=size).contains(&total) {
        true => Ok(()),
        false => Err(seen.failed(&format!("the guest finds {total} MiB of {size}"))),
    }
}

fn the_date_is_right(seen: &Transcript) -> Result<(), Failed> {
    let guest = seen.part("date").first().and_then(|line| line.parse::<u64>().ok());
    let guest = guest.ok_or_else(|| seen.failed("no date"))?;
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    match host.abs_diff(guest) <= 5 {
        true => Ok(()),
        false => Err(seen.failed(&format!("the guest's date is {guest}, the host's {host}"))),
    }
}
