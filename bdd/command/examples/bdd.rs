//! `kezhan bdd` as a program of its own, for trying things without building the rest.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: kezhan_bdd::BddCommand,
}

fn main() -> ExitCode {
    kezhan_bdd::run(Arguments::parse().command, Vec::new())
}
