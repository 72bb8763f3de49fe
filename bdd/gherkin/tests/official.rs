//! Our parser against the official one, on our corpus, on a file per language, and on the compatibility kit.
//!
//! Needs the peers, which `cargo xtask peers` installs. What is absent is skipped with the reason printed: such a
//! machine has proved nothing.

use kezhan_gherkin::{Ids, Language, parse_bytes, pickles};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// A file of the peers; `KEZHAN_PEERS` names another folder.
fn peer(path: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/peers");
    let file = std::env::var_os("KEZHAN_PEERS").map_or(ours, PathBuf::from).join(path);
    if !file.exists() {
        eprintln!("SKIPPED: {} is not there; run `cargo xtask peers`", file.display());
    }
    Some(file).filter(|file| file.exists())
}

fn features(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(features(&path));
        } else if path.extension().is_some_and(|extension| extension == "feature") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn official(files: &[PathBuf]) -> Option<Vec<Value>> {
    let python = peer("venv/bin/python")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    child.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn ours(file: &Path) -> Value {
    match parse_bytes(&std::fs::read(file).unwrap(), "en") {
        Ok(mut document) => {
            document.uri = Some(file.to_str().unwrap().to_owned());
            let tree = serde_json::to_value(&document).unwrap();
            let mut ids = Ids::from(first_free(&tree));
            json!({"document": tree, "pickles": pickles(&document, &mut ids).unwrap()})
        }
        Err(errors) => {
            let places =
                errors.iter().map(|error| json!([error.location.line, error.location.column]));
            json!({"faults": places.collect::<Vec<_>>()})
        }
    }
}

/// The official tools number trees and pickles from one counter.
fn first_free(tree: &Value) -> u64 {
    match tree {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value.as_str().filter(|_| name == "id") {
                Some(id) => id.parse::<u64>().unwrap() + 1,
                None => first_free(value),
            })
            .max()
            .unwrap_or(0),
        Value::Array(items) => items.iter().map(first_free).max().unwrap_or(0),
        _ => 0,
    }
}

/// The official compiler gives no kind to a step that follows nothing; the schema has a word for it.
fn name_missing_kinds(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
            Value::Null if name == "type" => *value = json!("Unknown"),
            value => name_missing_kinds(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(name_missing_kinds),
        _ => {}
    }
}

fn compare(files: &[PathBuf]) -> usize {
    let Some(answers) = official(files) else { return 0 };
    assert_eq!(answers.len(), files.len());
    for (file, mut theirs) in files.iter().zip(answers) {
        name_missing_kinds(&mut theirs);
        let ours = ours(file);
        assert_eq!(
            serde_json::to_string_pretty(&ours).unwrap(),
            serde_json::to_string_pretty(&theirs).unwrap(),
            "{}",
            file.display()
        );
    }
    files.len()
}

#[test]
fn the_corpus_reads_as_the_official_parser_reads_it() {
    let files = features(&corpus());
    assert!(files.len() >= 100, "the corpus has {} files", files.len());
    eprintln!("{} files of the corpus are equal", compare(&files));
}

#[test]
fn every_language_reads_as_the_official_parser_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for language in Language::all() {
        let file = folder.path().join(format!("{}.feature", language.code));
        std::fs::write(&file, every_keyword(language)).unwrap();
        files.push(file);
    }
    eprintln!("{} languages are equal", compare(&files));
}

/// A file that uses each keyword of a language at least once.
fn every_keyword(language: &Language) -> String {
    let mut text =
        format!("# language: {}\n{}: all\n", language.code, language.words("feature")[0]);
    let steps = ["given", "when", "then", "and", "but"].map(|kind| language.words(kind));
    for (scenario, outline) in language
        .words("scenario")
        .iter()
        .map(|word| (word, false))
        .chain(language.words("outline").iter().map(|word| (word, true)))
    {
        text += &format!("  {scenario}: one <n>\n");
        for step in steps.iter().copied().flatten() {
            text += &format!("    {step}a step <n>\n");
        }
        for examples in language.words("examples").iter().filter(|_| outline) {
            text += &format!("    {examples}: some\n      | n |\n      | 1 |\n");
        }
    }
    for rule in language.words("rule") {
        for background in &language.words("background")[..1] {
            text += &format!("  {rule}: a rule\n    {background}:\n");
        }
        text += &format!(
            "    {}: x\n      {}y\n",
            language.words("scenario")[0],
            language.words("when")[0]
        );
    }
    text
}

#[test]
fn the_compatibility_kit_reads_as_the_official_parser_reads_it() {
    let Some(kit) = peer("node_modules/@cucumber/compatibility-kit") else { return };
    let files = features(&kit);
    assert!(!files.is_empty());
    eprintln!("{} files of the compatibility kit are equal", compare(&files));
}
