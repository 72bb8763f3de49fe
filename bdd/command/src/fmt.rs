//! `kezhan bdd fmt`.

use crate::sources::{FeatureArgs, report_problems};
use kezhan_features::{Feature, format};
use std::process::ExitCode;

/// Arguments of `kezhan bdd fmt`.
#[derive(Clone, Debug, clap::Args)]
pub struct FmtArgs {
    #[command(flatten)]
    features: FeatureArgs,
    /// Change nothing; exit with 1 if a file would change
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &FmtArgs) -> ExitCode {
    let loaded = args.features.load();
    let mut fine = !report_problems(&loaded);
    for feature in &loaded.features {
        fine &= one(feature, args);
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Formats one file; whether all is well with it.
fn one(feature: &Feature, args: &FmtArgs) -> bool {
    let name = feature.path.display();
    let formatted = match format(&feature.text, &args.features.language) {
        Ok(formatted) => formatted,
        Err(error) => {
            eprintln!("{name}: {error}");
            return false;
        }
    };
    if formatted == feature.text {
        return true;
    }
    if args.check {
        println!("{name}: would change; run `kezhan bdd fmt {name}`");
        return false;
    }
    match std::fs::write(&feature.path, formatted) {
        Ok(()) => {
            println!("{name}: formatted");
            true
        }
        Err(error) => {
            eprintln!("{name}: cannot be written: {error}");
            false
        }
    }
}
