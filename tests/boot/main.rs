//! Stock Debian kernels, booted as a person would: through the command line of the built `kezhan`, its
//! terminal and its exit status, and nothing else.
//!
//! `make test` builds `kezhan` and the guests and runs these. By hand, after that:
//!
//! ```text
//!   cargo test -p kezhan-boot-tests -- cloud      those with "cloud" in their name
//!   KEZHAN=/usr/bin/kezhan cargo test …           another binary
//!   KEZHAN_ENGINE=kvm cargo test …                another engine than soft
//! ```
//!
//! Each module gives its trials as data; a name is the sentence that the trial shows to be true.

mod boots;
mod clock;
mod desk;
mod disks;
mod flood;
mod guest;
mod hotplug;
mod kernel_log;
mod leaks;
mod namespace;
mod networks;
mod outside;
mod person;
mod programs;
mod running;
mod systems;
mod trouble;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = boots::trials();
    trials.extend(programs::trials());
    trials.extend(clock::trials());
    trials.extend(flood::trials());
    trials.extend(person::trials());
    trials.extend(systems::trials());
    trials.extend(disks::trials());
    trials.extend(trouble::trials());
    trials.extend(hotplug::trials());
    trials.extend(networks::trials());
    trials.extend(running::trials());
    trials.extend(outside::trials());
    trials.extend(leaks::trials());
    libtest_mimic::run(&arguments, trials).exit_code()
}
