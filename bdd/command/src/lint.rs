//! `kezhan bdd lint`.

use crate::sources::{FeatureArgs, StepArgs};
use kezhan_lint::{Level, lint};
use kezhan_steps::StepDefinition;
use std::process::ExitCode;

/// Arguments of `kezhan bdd lint`.
#[derive(Clone, Debug, clap::Args)]
pub struct LintArgs {
    #[command(flatten)]
    features: FeatureArgs,
    #[command(flatten)]
    steps: StepArgs,
    /// Do not look sentences up: for features that code is generated from
    #[arg(long)]
    no_steps: bool,
    /// Exit with 1 for warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Print findings as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &LintArgs, own: Vec<StepDefinition>) -> ExitCode {
    let (catalogue, sound) = args.steps.catalogue(&args.features.features, own);
    let loaded = args.features.load();
    let findings = lint(&loaded, (!args.no_steps).then_some(&catalogue));
    if args.json {
        println!("{}", serde_json::json!(findings));
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
        let files = loaded.features.len() + loaded.problems.len();
        eprintln!("{} findings in {files} files", findings.len());
    }
    let bar = if args.deny_warnings { Level::Warning } else { Level::Error };
    let clean = sound && findings.iter().all(|finding| finding.level < bar);
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
