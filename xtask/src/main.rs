//! Chores of the workspace: `cargo xtask COMMAND`. The Makefile is the front door; what needs more than
//! a line of shell is here.
//!
//! One module for each command. A command returns an [`Outcome`]; its error is printed as it is, so it
//! starts with what failed and ends with what to do.

mod guests;
mod place;
mod program;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::process::ExitCode;

/// What a chore ends with.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of the workspace")]
struct Xtask {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Make the guests of guests/ under .cache/guests
    Guests(guests::Guests),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse().chore {
        Chore::Guests(chore) => chore.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
