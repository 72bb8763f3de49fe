//! The commands `kezhan bdd …`: one module per verb, each a struct of arguments and a plain function.
//!
//! ```text
//! cli: Bdd(BddCommand) --> run(command, steps of one's own) --> exit status
//! ```
//!
//! Exit status: 0 all is well; 1 findings, failures or stale files; 2 wrong usage, which clap reports; 70 our fault.

mod fmt;
mod generate;
mod lint;
mod openapi;
mod run;
mod sources;
mod steps;

pub use fmt::FmtArgs;
pub use generate::GenerateArgs;
pub use lint::LintArgs;
pub use openapi::OpenapiArgs;
pub use run::RunArgs;
pub use steps::StepsArgs;

use clap::Subcommand;
use kezhan_steps::StepDefinition;
use std::process::ExitCode;

/// Plain-language tests: run them, check them, turn them into code.
#[derive(Clone, Debug, Subcommand)]
pub enum BddCommand {
    /// Run features
    Run(Box<RunArgs>),
    /// Find what features say that their authors cannot mean
    Lint(LintArgs),
    /// Give features their usual layout
    Fmt(FmtArgs),
    /// List the steps that features may say
    Steps(StepsArgs),
    /// Write unit tests from features
    Generate(GenerateArgs),
    /// Draw an OpenAPI document from features, or compare features with one
    Openapi(OpenapiArgs),
}

/// Carries out a command. `own` are steps beside the built-in ones.
pub fn run(command: BddCommand, own: Vec<StepDefinition>) -> ExitCode {
    match command {
        BddCommand::Run(args) => run::execute(&args, own),
        BddCommand::Lint(args) => lint::run(&args, own),
        BddCommand::Fmt(args) => fmt::run(&args),
        BddCommand::Steps(args) => steps::run(&args, own),
        BddCommand::Generate(args) => generate::run(&args),
        BddCommand::Openapi(args) => openapi::run(&args),
    }
}
