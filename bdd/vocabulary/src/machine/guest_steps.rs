//! Steps that run commands in the guest, over its console.
//!
//! The command line is followed by an `echo` of a marker that only the shell can put together, with the exit status
//! in it. What stands between the echo of the line and the marker is the command's output. The checks on commands
//! ("the command succeeds", "its output contains …") then speak of it.

use super::console_steps::typing;
use super::current;
use crate::commands::LastCommand;
use crate::files::tail;
use kezhan_steps::{DocString, Failure, StepDefinition, World, check, step, steps};
use std::time::{Duration, Instant};

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        run,
        run_script,
        try_to_run,
        guest_cpus,
        guest_memory,
        guest_free_memory,
        guest_disk,
        guest_disk_size
    ]
}

/// Told apart from all other text on the console.
const MARKER: &str = "kezhan-done";

/// Runs a command line in the guest and waits for its end.
pub(super) fn run_line(world: &mut World, line: &str) -> Result<LastCommand, Failure> {
    let deadline = world.deadline;
    let machine = current(world)?;
    let typed = format!("{line}; echo kezhan''-done:$?:");
    let result = machine.console()?.enter(&typed);
    typing(machine, line, result)?;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(text) = machine.console()?.take(&marker_end) {
            let last = parse(line, &text);
            *world.state::<LastCommand>() = last.clone();
            return Ok(last);
        }
        machine.watch()?;
        if Instant::now() >= deadline {
            let seen = tail(&machine.console()?.fresh());
            return Err(Failure::mismatch(format!("the end of \"{line}\" in the guest"), seen));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Where `kezhan-done:STATUS:` ends.
fn marker_end(shown: &str) -> Option<usize> {
    let at = shown.find(&format!("{MARKER}:"))?;
    let rest = shown.get(at + MARKER.len() + 1..)?;
    rest.find(':').map(|end| at + MARKER.len() + 1 + end + 1)
}

fn parse(line: &str, text: &str) -> LastCommand {
    let (output, rest) = text.rsplit_once(&format!("{MARKER}:")).unwrap_or((text, ""));
    let status = rest.trim_end_matches(':').parse().ok();
    LastCommand {
        line: line.to_owned(),
        status,
        output: output.trim_start_matches('\n').to_owned(),
    }
}

/// Runs a command line in the guest; it must succeed.
#[step(en = "I run {string}", zh = "我运行 {string}")]
fn run(world: &mut World, line: &str) -> Result<(), Failure> {
    crate::commands::must_succeed(&run_line(world, line)?)
}

/// Runs a script in the guest, line by line in one shell; it must succeed.
#[step(en = "I run the script:", zh = "我运行脚本:")]
fn run_script(world: &mut World, script: DocString) -> Result<(), Failure> {
    let quoted = script.content.replace('\'', "'\\''");
    let lines: Vec<String> = quoted.lines().map(|line| format!("'{line}'")).collect();
    crate::commands::must_succeed(&run_line(
        world,
        &format!("printf '%s\\n' {} | sh -e", lines.join(" ")),
    )?)
}

/// Runs a command line in the guest, however it ends.
#[step(en = "I try to run {string}", zh = "我尝试运行 {string}")]
fn try_to_run(world: &mut World, line: &str) -> Result<(), Failure> {
    run_line(world, line).map(drop)
}

fn number(world: &mut World, line: &str) -> Result<u64, Failure> {
    let last = run_line(world, line)?;
    let text = last.output.split_whitespace().last().unwrap_or_default().to_owned();
    text.parse()
        .map_err(|error| Failure::broken(format!("\"{line}\" in the guest wrote {text:?}"), error))
}

/// Counts the processors that the guest's system uses.
#[check(en = "the guest sees {int} CPU(s)", zh = "客户机看到 {int} 个处理器")]
fn guest_cpus(world: &mut World, expected: u64) -> Result<(), Failure> {
    let seen = number(world, "grep -c ^processor /proc/cpuinfo")?;
    if seen == expected {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{expected} CPUs"), seen.to_string()))
    }
}

/// Compares a line of the guest's /proc/meminfo, which is in KiB. (proc_meminfo(5))
fn memory(world: &mut World, line: &str, expected: u64) -> Result<(), Failure> {
    let read = format!("sed -n 's/{line}: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo");
    let seen = number(world, &read)? << 10;
    if seen >= expected {
        return Ok(());
    }
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    Err(Failure::mismatch(format!("at least {}", mebibytes(expected)), mebibytes(seen)))
}

/// Compares the memory that the guest's system has for its programs.
#[check(en = "the guest sees at least {size} of memory", zh = "客户机看到至少 {size} 内存")]
fn guest_memory(world: &mut World, expected: u64) -> Result<(), Failure> {
    memory(world, "MemTotal", expected)
}

/// Compares the memory that nobody in the guest uses. A balloon takes from it, and what it takes still counts as the
/// guest's.
#[check(
    en = "the guest has at least {size} of free memory",
    zh = "客户机有至少 {size} 空闲内存",
    patience = "30 s"
)]
fn guest_free_memory(world: &mut World, expected: u64) -> Result<(), Failure> {
    memory(world, "MemFree", expected)
}

/// Where the guest's system has a disk of a name, and its size in sectors of 512 bytes; nothing where it has none.
fn disk_line(world: &mut World, name: &str) -> Result<Option<u64>, Failure> {
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(Failure::Broken(format!("{name:?} cannot be a disk's serial number")));
    }
    // A disk's serial number is its name, as far as it has room. (virtio 1.2 §5.2.6)
    let serial: String = name.chars().take(20).collect();
    let line = format!(
        "for d in /sys/block/*; do [ \"$(cat $d/serial 2>/dev/null)\" = '{serial}' ] && cat $d/size; done; true"
    );
    let last = run_line(world, &line)?;
    Ok(last.output.split_whitespace().last().and_then(|word| word.parse().ok()))
}

/// Looks for a disk in the guest's system, by its name.
#[check(en = "the guest sees the disk {string}", zh = "客户机看到磁盘 {string}", patience = "30 s")]
fn guest_disk(world: &mut World, name: &str) -> Result<(), Failure> {
    match disk_line(world, name)? {
        Some(_) => Ok(()),
        None => Err(Failure::mismatch(format!("disk {name} in the guest"), "none".to_owned())),
    }
}

/// Compares the size of a disk in the guest's system.
#[check(
    en = "the guest sees {size} on the disk {string}",
    zh = "客户机看到 {size} 的磁盘 {string}",
    patience = "30 s"
)]
fn guest_disk_size(world: &mut World, size: u64, name: &str) -> Result<(), Failure> {
    match disk_line(world, name)? {
        Some(sectors) if sectors << 9 == size => Ok(()),
        Some(sectors) => {
            Err(Failure::mismatch(format!("{size} bytes"), format!("{} bytes", sectors << 9)))
        }
        None => Err(Failure::mismatch(format!("disk {name} in the guest"), "none".to_owned())),
    }
}
