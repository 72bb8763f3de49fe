//! From start to power-off of the cloud kernel.

use super::{in_turns, kezhan, qemu, tell, timed};
use crate::{Outcome, guests};

pub(super) fn measure(rounds: usize) -> Outcome {
    let kernel = guests::ensure("cloud")?.join("vmlinuz").display().to_string();
    let initrd = guests::ensure("busybox")?.join("initrd").display().to_string();
    for cpus in [1, 2] {
        measure_with(rounds, &kernel, &initrd, cpus)?;
    }
    Ok(())
}

fn measure_with(rounds: usize, kernel: &str, initrd: &str, cpus: u32) -> Outcome {
    let with_guest = |mut command: std::process::Command, kernel_option: &str, dash: &str| {
        command.args([kernel_option, kernel, &format!("{dash}initrd"), initrd]);
        command.args([&format!("{dash}append"), "console=ttyS0 quiet kezhan.run=nothing"]);
        command
    };
    let ours = || {
        timed(
            with_guest(
                kezhan(&format!("--engine soft --memory 512M --cpus {cpus}")),
                "--kernel",
                "--",
            ),
            0,
        )
    };
    let theirs = || {
        timed(
            with_guest(qemu(&format!("-accel tcg -m 512 -smp {cpus} -no-reboot")), "-kernel", "-"),
            0,
        )
    };
    let (a, b) = in_turns(rounds, ours, theirs)?;
    tell(&format!("boot of the cloud kernel to power-off, {cpus} software CPU(s)"), a, b);
    Ok(())
}
