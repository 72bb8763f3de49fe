//! From the start of the process to the guest's first instruction under KVM: a guest whose first
//! instructions end the process. (The end is in the time; it is the same few calls for both.)

use super::{folder, in_turns, kezhan, payload, qemu, tell, timed};
use crate::Outcome;

pub(super) fn measure(rounds: usize) -> Outcome {
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        println!("start under KVM: left out, /dev/kvm cannot be opened; see `kezhan doctor`");
        return Ok(());
    }
    let kernel = payload::write(&folder()?, "empty.elf", &payload::empty())?.display().to_string();
    let ours = || {
        timed(
            kezhan(&format!(
                "--engine kvm --memory 128M --serial none --device isa-debug-exit --kernel {kernel}"
            )),
            1,
        )
    };
    let theirs = |accelerator: &str| {
        let machine = format!("-M microvm -accel {accelerator} -m 128");
        timed(qemu(&format!("{machine} -device isa-debug-exit,iobase=0xf4 -kernel {kernel}")), 1)
    };
    let accelerator = if theirs("kvm").is_ok() { "kvm" } else { "tcg" };
    if accelerator == "tcg" {
        println!("start under KVM: QEMU cannot start here under KVM; its software CPU stands in");
    }
    // Short, so often.
    let (a, b) = in_turns(rounds * 5, ours, || theirs(accelerator))?;
    tell(
        &format!(
            "start to the first guest instruction under KVM, against microvm with {accelerator}"
        ),
        a,
        b,
    );
    Ok(())
}
