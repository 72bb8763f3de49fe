//! The `kezhan` command: one binary, one verb for each thing that it does.
//!
//! Typed (clap, [`command`]) → validated (`kezhan-machine-spec`) → acted on (`kezhan-vmm`). Guests and
//! reports write to standard output; messages go to standard error, one line each, after `kezhan: `; so does the log, from
//! the level on that `KEZHAN_LOG` names.

mod command;
mod completions;
mod control;
mod doctor;
mod failure;
mod machine_options;
mod man;
mod net;
mod output;
mod run;

use clap::Parser;
use command::Kezhan;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    kezhan_vmm::end_process_on_panic();
    kezhan_vmm::tell_log();
    let result = match Kezhan::try_parse() {
        Ok(kezhan) => {
            kezhan_vmm::remove_leavings();
            kezhan.command.execute()
        }
        Err(error) => Err(Failure::from(error)),
    };
    match result {
        Ok(status) => status,
        Err(failure) => ExitCode::from(failure.report()),
    }
}
