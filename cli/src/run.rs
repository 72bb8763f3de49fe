//! `kezhan run`.

use crate::failure::Failure;
use crate::machine_options::MachineOptions;
use clap::Args;
use kezhan_machine_spec::MachineSpec;
use kezhan_vmm::{Diagnosis, tell};

/// Run a machine in the foreground, its console on this terminal
///
/// The machine is this process: it ends when the guest powers off. On a terminal, Ctrl-] opens a menu
/// (q quits, ? shows the rest); everything else that is typed goes to the guest. Input from a pipe or a
/// file goes to the guest as it is.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Run {
    #[command(flatten)]
    machine: MachineOptions,

    /// Say at the end what the engine has counted
    #[arg(long)]
    stats: bool,

    /// Write /tmp/perf-PID.map, by which Linux `perf` names what the software engine has translated
    #[arg(long)]
    perf_map: bool,
}

const AFTER_HELP: &str = "\
Examples:
  kezhan run --kernel /boot/vmlinuz --initrd initrd.img --append console=ttyS0
  kezhan run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0 root=/dev/vda' --disk disk.qcow2,format=qcow2
  kezhan run --cpus 2 --memory 2G --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0 quiet'
  echo 'uname -a; poweroff' | kezhan run --kernel vmlinuz --initrd shell.img --append console=ttyS0
  kezhan run --kernel test.elf --device isa-debug-exit --serial file=test.log --timeout 60 --no-reboot

Exit status:
  0    the guest powered off, or q at the menu
  1    the guest panicked, or reset under --no-reboot
  2    something that was asked for is not possible
  69   a facility of the host is missing; the message tells how to mend it
  70   a fault of kezhan
  124  --timeout passed
  128+N  ended by signal N: 130 SIGINT, 143 SIGTERM, 141 nobody reads standard output
  other  what the guest wrote to isa-debug-exit";

impl Run {
    pub(crate) fn execute(self: Box<Run>) -> Result<u8, Failure> {
        let diagnosis = Diagnosis { statistics: self.stats, perf_map: self.perf_map };
        let spec = MachineSpec::from(self.machine);
        let ending = kezhan_vmm::run(&spec, diagnosis)?;
        if let Some(message) = ending.message() {
            tell(&format!("{}: {message}", spec.name));
        }
        Ok(ending.status())
    }
}
