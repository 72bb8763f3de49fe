//! What a guest that waits costs the host: processor time of the process over some seconds.

use super::{folder, kezhan};
use crate::{Outcome, guests};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// For so long.
const WINDOW: Duration = Duration::from_secs(20);
/// Kernels do a few things in the first seconds.
const SETTLING: Duration = Duration::from_secs(5);
/// Of `/proc/PID/stat`, in one second. Linux has the same number on every x86-64.
const TICKS: f64 = 100.0;

pub(super) fn measure() -> Outcome {
    let kernel = guests::ensure("cloud")?.join("vmlinuz").display().to_string();
    let initrd = guests::ensure("busybox")?.join("initrd").display().to_string();
    let append = "console=ttyS0 quiet kezhan.run=idle";
    let mut ours = kezhan("--engine soft --memory 512M --timeout 120");
    ours.args(["--kernel", &kernel, "--initrd", &initrd, "--append", append]);
    let mut theirs = Command::new("qemu-system-x86_64");
    theirs
        .args("-nodefaults -display none -monitor none -serial stdio -accel tcg -m 512".split(' '));
    theirs.args(["-kernel", &kernel, "-initrd", &initrd, "-append", append]);
    // Both at once: two guests that idle do not disturb each other.
    let mut children = [start(ours)?, start(theirs)?];
    let costs = watch(&mut children);
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    let [a, b] = costs?;
    println!("idle guest: kezhan {a:.2} % of a core, QEMU {b:.2} %, wanted under 1");
    Ok(())
}

fn start(mut command: Command) -> Outcome<Child> {
    let log = File::create(folder()?.join("idle.log"))?;
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?)
}

/// In percent of a core.
fn watch(children: &mut [Child; 2]) -> Outcome<[f64; 2]> {
    // Kept open: a guest that cannot write would end.
    let mut outputs = Vec::new();
    for child in children.iter_mut() {
        outputs.push(until_idle(child)?);
    }
    thread::sleep(SETTLING);
    let before = [ticks(children[0].id())?, ticks(children[1].id())?];
    thread::sleep(WINDOW);
    let after = [ticks(children[0].id())?, ticks(children[1].id())?];
    let share = |n: usize| (after[n] - before[n]) / TICKS / WINDOW.as_secs_f64() * 100.0;
    Ok([share(0), share(1)])
}

/// Reads the console until the script begins.
fn until_idle(child: &mut Child) -> Outcome<BufReader<ChildStdout>> {
    let mut reader = BufReader::new(child.stdout.take().ok_or("no output of the guest")?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if String::from_utf8_lossy(&line).contains("begin idle") {
            return Ok(reader);
        }
        line.clear();
    }
    Err("the guest ended before it was idle".into())
}

/// Processor time that the process has used, user and system, in ticks (proc(5)).
fn ticks(process: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    Ok(used(&stat).ok_or_else(|| format!("/proc/{process}/stat: {stat}"))?)
}

/// Fields 14 and 15; the name in field 2 may hold spaces and ends with the last `)`.
fn used(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_a_name_with_spaces() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 9";
        assert_eq!(used(stat), Some(200.0));
    }
}
