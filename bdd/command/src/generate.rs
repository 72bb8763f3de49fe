//! `kezhan bdd generate`.

use crate::sources::{FeatureArgs, report_problems};
use kezhan_generate::{Action, Options, Target, check, generate, write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `kezhan bdd generate`.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    features: FeatureArgs,
    /// Language of the tests
    #[arg(long, value_enum)]
    lang: Lang,
    /// Folder to write to
    #[arg(long, value_name = "DIR", default_value = "tests")]
    out: PathBuf,
    /// No defaults for missing steps: the compiler lists them
    #[arg(long)]
    strict: bool,
    /// Write nothing; exit with 1 if a file is stale
    #[arg(long)]
    check: bool,
}

/// Languages of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    /// Integration tests of a cargo package
    Rust,
    /// Test files of a Go package
    Go,
    /// Modules for pytest
    Python,
}

impl From<Lang> for Target {
    fn from(lang: Lang) -> Target {
        match lang {
            Lang::Rust => Target::Rust,
            Lang::Go => Target::Go,
            Lang::Python => Target::Python,
        }
    }
}

pub(crate) fn run(args: &GenerateArgs) -> ExitCode {
    let loaded = args.features.load();
    if report_problems(&loaded) {
        return ExitCode::FAILURE;
    }
    let options = Options { target: args.lang.into(), strict: args.strict };
    let files = match generate(&loaded.features, &options) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let actions = if args.check { check(&args.out, &files) } else { write(&args.out, &files) };
    match actions {
        Ok(actions) => tell(&actions),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(actions: &[(PathBuf, Action)]) -> ExitCode {
    for (path, action) in actions {
        let word = match action {
            Action::Created => "created",
            Action::Updated => "updated",
            Action::Unchanged => "unchanged",
            Action::Kept => "kept (yours)",
            Action::Stale => "stale: run `kezhan bdd generate` again",
        };
        println!("{}: {word}", path.display());
    }
    let stale = actions.iter().any(|(_, action)| *action == Action::Stale);
    if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
