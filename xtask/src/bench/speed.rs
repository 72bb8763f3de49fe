//! Guest instructions in a second: a short loop of ten instructions, timed at two lengths.

use super::{folder, in_turns, kezhan, payload, qemu, timed};
use crate::Outcome;
use std::time::Duration;

const SHORT: u32 = 1_000_000;
const LONG: u32 = 31_000_000;

pub(super) fn measure(rounds: usize) -> Outcome {
    let folder = folder()?;
    let short =
        payload::write(&folder, "short.elf", &payload::counting(SHORT))?.display().to_string();
    let long = payload::write(&folder, "long.elf", &payload::counting(LONG))?.display().to_string();
    let ours = |kernel: &str| {
        timed(
            kezhan(&format!(
                "--engine soft --memory 16M --serial none --device isa-debug-exit --kernel {kernel}"
            )),
            1,
        )
    };
    let theirs = |kernel: &str| {
        timed(
            qemu(&format!("-accel tcg -m 16 -device isa-debug-exit,iobase=0xf4 -kernel {kernel}")),
            1,
        )
    };
    let (a, b) = in_turns(
        rounds,
        || Ok(ours(&long)?.saturating_sub(ours(&short)?)),
        || Ok(theirs(&long)?.saturating_sub(theirs(&short)?)),
    )?;
    let millions = |time: Duration| {
        payload::TURN as f64 * f64::from(LONG - SHORT) / 1e6 / time.as_secs_f64().max(1e-9)
    };
    println!(
        "instructions, software CPU: kezhan {:.0} million a second, QEMU {:.0}",
        millions(a),
        millions(b)
    );
    Ok(())
}
