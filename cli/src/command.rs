//! The verbs.

use crate::completions::Completions;
use crate::control::Control;
use crate::doctor::Doctor;
use crate::failure::Failure;
use crate::man::Man;
use crate::net::{self, Net};
use crate::run::Run;
use clap::{Parser, Subcommand};
use kezhan_bdd::BddCommand;
use kezhan_image::ImageCommand;
use kezhan_socks::SocksArgs;
use std::process::ExitCode;

/// Virtual machines for Linux x86-64.
#[derive(Debug, Parser)]
#[command(
    name = "kezhan",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  kezhan doctor                      what this host can do, and how to mend what it cannot
  kezhan run --kernel vmlinuz --initrd initrd.img --append console=ttyS0
  kezhan run -h                      the options of a machine
  kezhan image info disk.qcow2       what a disk image is
  kezhan socks --listen [::1]:1080   a SOCKS server on this host
  kezhan bdd run features/           tests in plain sentences"
)]
pub(crate) struct Kezhan {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<Run>),
    Control(Control),
    Doctor(Doctor),
    /// Make, examine, convert and change disk images: arguments as qemu-img's
    #[command(subcommand)]
    Image(Box<ImageCommand>),
    /// Make, show and delete networks of this host for machines; ask and change those of running machines
    ///
    /// Networks of the host, bridges with addresses and NAT, need CAP_NET_ADMIN; a machine's own network,
    /// --net user, needs nothing of it.
    #[command(subcommand)]
    Net(Net),
    /// Serve SOCKS in the foreground, for programs of this host or of a network
    ///
    /// RFC 1928 and 1929 (CONNECT and UDP ASSOCIATE), SOCKS4 and SOCKS4a. A machine that is to use one:
    /// kezhan run --net user,socks=HOST:PORT. With --network it leads into the machines on that network.
    Socks(SocksArgs),
    /// Plain-language tests: run them, check them, turn them into code
    #[command(subcommand)]
    Bdd(Box<BddCommand>),
    Completions(Completions),
    Man(Man),
}

impl Command {
    /// Does it; gives the exit status.
    pub(crate) fn execute(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Run(run) => run.execute().map(ExitCode::from),
            Command::Control(control) => control.execute().map(ExitCode::from),
            Command::Doctor(doctor) => doctor.execute().map(ExitCode::from),
            Command::Image(image) => Ok(kezhan_image::run(*image)),
            Command::Net(net) => net.execute(),
            Command::Socks(socks) => net::serve_socks(&socks),
            Command::Bdd(bdd) => Ok(kezhan_bdd::run(*bdd, Vec::new())),
            Command::Completions(completions) => completions.execute().map(ExitCode::from),
            Command::Man(man) => man.execute().map(ExitCode::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Kezhan::command().debug_assert();
    }

    #[test]
    fn every_verb_and_option_says_what_it_is_for() {
        for verb in Kezhan::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for option in verb.get_arguments() {
                assert!(option.get_help().is_some(), "{} {}", verb.get_name(), option.get_id());
            }
        }
    }
}
