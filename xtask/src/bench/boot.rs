//! From start to power-off of the cloud kernel.

use super::{in_turns, kezhan, qemu, tell, timed};
use crate::{Outcome, guests};

pub(super) fn measure(rounds: usize) -> Outcome {
    let kernel = guests::ensure("cloud")?.join("vmlinuz").display().to_string();
    let initrd = guests::ensure("busybox")?.join("initrd").display().to_string();
    let with_guest = |mut command: std::process::Command, kernel_option: &str, dash: &str| {
        command.args([kernel_option, &kernel, &format!("{dash}initrd"), &initrd]);
        command.args([&format!("{dash}append"), "console=ttyS0 quiet kezhan.run=nothing"]);
        command
    };
    let ours = || timed(with_guest(kezhan("--engine soft --memory 512M"), "--kernel", "--"), 0);
    let theirs = || timed(with_guest(qemu("-accel tcg -m 512 -no-reboot"), "-kernel", "-"), 0);
    let (a, b) = in_turns(rounds, ours, theirs)?;
    tell("boot of the cloud kernel to power-off, software CPU", a, b);
    Ok(())
}
