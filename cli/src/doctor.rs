//! `kezhan doctor`.

use crate::failure::Failure;
use crate::output::print;
use clap::Args;
use kezhan_vmm::{HostRoot, doctor, inspect_kvm, status};

/// Tell what this host can do, what is missing, and the command that mends it
///
/// Looks at the CPU, KVM (with a short probe guest), networks, isolation and memory; alters nothing.
/// Lines begin with ok, -- (could be better) or !! (something does not work for want of it).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kezhan doctor
  kezhan doctor --json | jq -r '.checks[] | select(.state == \"fault\") | .mend[]'

Exit status: 0, since guests can run on every host: the software engine needs nothing of it.")]
pub(crate) struct Doctor {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        let report = doctor::examine(&HostRoot::default(), inspect_kvm());
        let text = if self.json {
            serde_json::to_string_pretty(&report).map_err(std::io::Error::from)? + "\n"
        } else {
            report.to_string()
        };
        print(&text)?;
        Ok(status::OK)
    }
}
