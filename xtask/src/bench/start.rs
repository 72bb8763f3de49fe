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
    let theirs = || {
        timed(
            qemu(&format!(
                "-M microvm -accel kvm -m 128 -device isa-debug-exit,iobase=0xf4 -kernel {kernel}"
            )),
            1,
        )
    };
    // Short, so often.
    match in_turns(rounds * 5, ours, theirs) {
        Ok((a, b)) => tell("start to the first guest instruction under KVM, against microvm", a, b),
        // A KVM without the hardware may not run QEMU's firmware.
        Err(error) => {
            println!("start under KVM: QEMU or Kezhan cannot run here: {error}");
            let alone = (0..rounds * 5).map(|_| ours()).collect::<Result<Vec<_>, _>>()?;
            println!(
                "start under KVM: kezhan alone {:.1} ms",
                super::median(alone).as_secs_f64() * 1e3
            );
        }
    }
    Ok(())
}
