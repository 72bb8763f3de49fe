//! `kezhan bdd openapi`.

use crate::sources::{FeatureArgs, report_problems};
use kezhan_openapi::{Bindings, calls, coverage, coverage_text, draw, outline};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `kezhan bdd openapi`.
#[derive(Clone, Debug, clap::Args)]
pub struct OpenapiArgs {
    #[command(flatten)]
    features: FeatureArgs,
    /// Table from sentences to operations
    #[arg(long, value_name = "FILE")]
    bindings: Option<PathBuf>,
    /// Title of the document
    #[arg(long, value_name = "TEXT", default_value = "API")]
    title: String,
    /// Print which scenarios exercise this document's answers, instead of drawing one
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// With --from: write features for the document into this folder; existing ones are kept
    #[arg(long, value_name = "DIR", requires = "from")]
    out: Option<PathBuf>,
    /// With --from: exit with 1 unless every answer is exercised
    #[arg(long, requires = "from")]
    complete: bool,
}

pub(crate) fn run(args: &OpenapiArgs) -> ExitCode {
    match execute(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

fn execute(args: &OpenapiArgs) -> Result<bool, String> {
    let document: Option<Value> = match &args.from {
        Some(path) => Some(
            serde_json::from_str(&read(path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        ),
        None => None,
    };
    if let (Some(document), Some(folder)) = (&document, &args.out) {
        write_features(document, folder)?;
    }
    let bindings = match &args.bindings {
        Some(path) => {
            Bindings::parse(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Bindings::default(),
    };
    let loaded = args.features.load();
    let sound = !report_problems(&loaded);
    let calls = calls(&loaded.features, &bindings);
    match document {
        None => {
            println!("{:#}", draw(&calls, &args.title));
            Ok(sound)
        }
        Some(document) => {
            let rows = coverage(&document, &calls);
            print!("{}", coverage_text(&rows));
            Ok(sound && (!args.complete || rows.iter().all(|row| !row.scenarios.is_empty())))
        }
    }
}

fn write_features(document: &Value, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, text) in outline(document) {
        let path = folder.join(name);
        if path.exists() {
            eprintln!("{}: kept", path.display());
            continue;
        }
        let text = kezhan_features::format(&text, "en").unwrap_or(text);
        std::fs::write(&path, text)
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
        eprintln!("{}: written", path.display());
    }
    Ok(())
}
