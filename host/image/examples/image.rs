//! `kezhan image` by itself, for measuring it beside other tools.

use clap::Parser;
use kezhan_image::{ImageCommand, run};
use std::process::ExitCode;

/// Makes, examines, converts and changes disk images.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: ImageCommand,
}

fn main() -> ExitCode {
    run(Arguments::parse().command)
}
