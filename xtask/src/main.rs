//! Chores of the workspace: `cargo xtask COMMAND`. The Makefile is the front door; what needs more than
//! a line of shell is here.
//!
//! One module for each command. A command returns an [`Outcome`]; its error is printed as it is, so it
//! starts with what failed and ends with what to do.

mod acceptance;
mod bench;
mod fuzz;
mod guests;
mod kvm_unit_tests;
mod peers;
mod place;
mod program;
mod soak;
mod suite;
mod tidy;

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
    /// Check the house rules
    Tidy(tidy::Tidy),
    /// Make the guests of guests/ under .cache/guests
    Guests(guests::Guests),
    /// Install what bdd/ is compared with
    Peers(peers::Peers),
    /// Format check, lints, house rules, all tests; ends with how many passed
    Test(suite::Suite),
    /// Measure what SPECIFICATION.md promises
    Bench(bench::Bench),
    /// Run the fuzzers of fuzz/
    Fuzz(fuzz::Fuzz),
    /// Run a guest under load for an hour and check every result
    Soak(soak::Soak),
    /// Run a built kvm-unit-tests suite
    KvmUnitTests(kvm_unit_tests::KvmUnitTests),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse().chore {
        Chore::Tidy(chore) => chore.execute(),
        Chore::Guests(chore) => chore.execute(),
        Chore::Peers(chore) => chore.execute(),
        Chore::Test(chore) => chore.execute(),
        Chore::Bench(chore) => chore.execute(),
        Chore::Fuzz(chore) => chore.execute(),
        Chore::Soak(chore) => chore.execute(),
        Chore::KvmUnitTests(chore) => chore.execute(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
