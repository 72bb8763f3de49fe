//! `kezhan bdd steps`: the catalogue in both languages.

use crate::sources::StepArgs;
use kezhan_steps::{Catalogue, StepDefinition};
use serde_json::json;
use std::process::ExitCode;

/// Arguments of `kezhan bdd steps`.
#[derive(Clone, Debug, clap::Args)]
pub struct StepsArgs {
    /// Only steps whose phrases or description contain this
    #[arg(value_name = "WORD")]
    word: Option<String>,
    #[command(flatten)]
    steps: StepArgs,
    /// How to print
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// Ways to print the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For a terminal
    Text,
    /// A table of Markdown
    Markdown,
    /// JSON
    Json,
}

pub(crate) fn run(args: &StepsArgs, own: Vec<StepDefinition>) -> ExitCode {
    let (catalogue, sound) = args.steps.catalogue(&[], own);
    print!("{}", text(&catalogue, args));
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The catalogue as text.
fn text(catalogue: &Catalogue, args: &StepsArgs) -> String {
    let wanted = |definition: &&StepDefinition| {
        args.word.as_ref().is_none_or(|word| {
            definition.about.contains(word)
                || definition.phrases.iter().any(|phrase| phrase.expression.contains(word))
        })
    };
    let chosen: Vec<&StepDefinition> = catalogue.definitions().iter().filter(wanted).collect();
    match args.output {
        Output::Json => format!(
            "{}\n",
            json!(chosen.iter().map(|definition| object(definition)).collect::<Vec<_>>())
        ),
        Output::Markdown => {
            let rows = chosen.iter().map(|definition| row(definition));
            format!(
                "| step | English | 中文 | what it does |\n|---|---|---|---|\n{}",
                rows.collect::<String>()
            )
        }
        Output::Text => chosen.iter().map(|definition| entry(definition)).collect(),
    }
}

fn in_language<'d>(definition: &'d StepDefinition, code: &'d str) -> impl Iterator<Item = &'d str> {
    definition
        .phrases
        .iter()
        .filter(move |phrase| phrase.language == code)
        .map(|phrase| phrase.expression.as_ref())
}

fn object(definition: &StepDefinition) -> serde_json::Value {
    let phrases = definition
        .phrases
        .iter()
        .map(|phrase| json!({"language": phrase.language, "expression": phrase.expression}));
    json!({
        "name": definition.name,
        "about": definition.about,
        "check": definition.check,
        "phrases": phrases.collect::<Vec<_>>(),
        "table": definition.table,
        "docString": definition.doc_string,
        "place": definition.place.to_string(),
    })
}

fn row(definition: &StepDefinition) -> String {
    let cell = |code: &str| {
        in_language(definition, code)
            .map(|text| format!("`{}`", text.replace('|', "\\|")))
            .collect::<Vec<_>>()
            .join("<br>")
    };
    format!("| {} | {} | {} | {} |\n", definition.name, cell("en"), cell("zh-CN"), definition.about)
}

fn entry(definition: &StepDefinition) -> String {
    let mut text = String::new();
    for phrase in &definition.phrases {
        text.push_str(&format!("{}\n", phrase.expression));
    }
    let clauses = if definition.check { " (within, for, not)" } else { "" };
    text.push_str(&format!("    {}{clauses}\n", definition.about));
    text
}
