//! `kezhan control`: a command to a machine that runs.

use crate::failure::Failure;
use crate::output::print;
use clap::Args;
use kezhan_control::{Client, Command, Reply, Request};
use kezhan_vmm::{machines_folder, status, tell};
use std::time::Duration;

/// How long the machine may take: a guest lets go of a disk after some seconds, when it does.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ask a machine that runs to do something
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Control {
    /// The machine: its name, or NAME.PID where several have one name
    machine: String,
    /// The command and what it needs
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

const AFTER_HELP: &str = "\
Commands:
  status                       what the machine does
  resize DISK SIZE             change a disk's size; disks are disk0, disk1 and so on
  balloon SIZE                 leave the guest SIZE of its memory (--device virtio-balloon)
  attach FILE[,key=value…]     add a disk, as --disk takes it (--device hotplug); tells its name
  detach DISK                  take such a disk away, once the guest has let go of it
  fail DISK reads|writes|everything|nothing
                               let such requests fail, to see what the guest makes of it
  power-button | reset | quit

Examples:
  kezhan run --name inn --device hotplug …
  kezhan control inn attach data.qcow2,format=qcow2
  kezhan control inn detach disk1";

impl Control {
    pub(crate) fn execute(self) -> Result<u8, Failure> {
        let command = match self.words.join(" ").parse::<Command>() {
            Ok(command) => absolute(command),
            Err(error) => {
                tell(&error.to_string());
                return Ok(status::USAGE);
            }
        };
        let mut machine = Client::find(&machines_folder()?, &self.machine)?;
        machine.wait_at_most(PATIENCE)?;
        if let Reply::Said { text } =
            machine.order(&Request::Command { line: command.to_string() })?
        {
            print(&format!("{text}\n"))?;
        }
        Ok(status::OK)
    }
}

/// The machine has a working directory of its own.
fn absolute(command: Command) -> Command {
    match command {
        // Not that of an NBD server's export.
        Command::Attach(mut disk) if !disk.is_remote() => {
            disk.file = std::path::absolute(&disk.file).unwrap_or(disk.file);
            Command::Attach(disk)
        }
        command => command,
    }
}
