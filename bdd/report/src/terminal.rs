//! The report that a person sees first.

use crate::messages::Status;
use crate::record::{Case, Record, StepRecord};
use std::fmt::Write;
use std::time::Duration;

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With ANSI colours. (ECMA-48 §8.3.117)
    Colour,
    /// Without.
    Plain,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const GREY: &str = "90";
const BOLD: &str = "1";

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Style::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Style::Plain => text.to_owned(),
        }
    }
}

fn look(status: Option<Status>) -> (&'static str, &'static str) {
    match status {
        Some(Status::Passed) => (GREEN, "✔"),
        Some(Status::Skipped) | None => (GREY, "-"),
        Some(Status::Pending | Status::Undefined) => (YELLOW, "?"),
        Some(Status::Ambiguous | Status::Failed | Status::Unknown) => (RED, "✘"),
    }
}

/// One scenario: a line if it passed, all its steps and the reason if it did not.
pub fn case_text(case: &Case, style: Style) -> String {
    let status = case.status();
    let (colour, mark) = look(Some(status));
    let mut text = format!("{} {}", style.paint(colour, mark), clean(&case.name));
    if case.attempts.len() > 1 {
        let word = if case.passed() { "passed on attempt" } else { "failed after attempt" };
        let _ =
            write!(text, " {}", style.paint(YELLOW, &format!("({word} {})", case.attempts.len())));
    }
    let place = format!("{}:{}  {}", case.uri, case.location.line, seconds(case.duration()));
    let _ = writeln!(text, "  {}", style.paint(GREY, &place));
    if case.passed() {
        return text;
    }
    let steps = case.attempts.last().map(|attempt| attempt.steps.as_slice()).unwrap_or_default();
    for step in steps {
        text.push_str(&step_text(step, &case.uri, style));
    }
    text
}

fn step_text(step: &StepRecord, uri: &str, style: Style) -> String {
    let (colour, mark) = look(step.status);
    // Between 而且 and API belongs a space that the tree does not keep.
    let mixed =
        !step.keyword.ends_with(' ') && step.text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let gap = if mixed { " " } else { "" };
    let sentence = format!("{}{gap}{}", step.keyword, clean(&step.text));
    let mut text =
        format!("    {} {}\n", style.paint(colour, mark), style.paint(colour, &sentence));
    let Some(message) = &step.message else { return text };
    let _ =
        writeln!(text, "        {}", style.paint(GREY, &format!("{uri}:{}", step.location.line)));
    for line in message.lines() {
        let _ = writeln!(text, "        {}", style.paint(colour, &clean(line)));
    }
    for attached in step.attachments.iter().filter(|attached| !attached.base64) {
        let _ = writeln!(
            text,
            "        {}",
            style.paint(GREY, &format!("── {} ──", clean(&attached.name)))
        );
        let lines: Vec<&str> = attached.body.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(15)) {
            let _ = writeln!(text, "        {} {}", style.paint(GREY, "│"), clean(line));
        }
    }
    text
}

/// The last lines: faults of files, failures once more, and the counts.
pub fn summary_text(record: &Record, style: Style) -> String {
    let mut text = String::from("\n");
    for (uri, location, message) in &record.faults {
        let _ = writeln!(text, "{} {uri}:{location}: {}", style.paint(RED, "✘"), clean(message));
    }
    for case in record.cases.iter().filter(|case| !case.passed()) {
        if let Some(step) = case.stopped_at() {
            let first =
                step.message.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
            let place = format!("{}:{}", case.uri, step.location.line);
            let _ = writeln!(
                text,
                "{} {place}: {}: {}",
                style.paint(RED, "✘"),
                clean(&case.name),
                clean(first)
            );
        }
    }
    let counts = record.counts();
    let parts: Vec<String> = counts
        .iter()
        .map(|(status, count)| {
            style.paint(look(Some(*status)).0, &format!("{count} {}", word(*status)))
        })
        .collect();
    let retried = record.cases.iter().filter(|case| case.attempts.len() > 1).count();
    let retried = if retried > 0 { format!(", {retried} retried") } else { String::new() };
    let total = style.paint(BOLD, &format!("{} scenarios", record.cases.len()));
    let time = record.duration.map(seconds).unwrap_or_default();
    let _ = writeln!(text, "{total}: {}{retried}  {}", parts.join(", "), style.paint(GREY, &time));
    text
}

pub(crate) fn word(status: Status) -> &'static str {
    match status {
        Status::Unknown => "not run",
        Status::Passed => "passed",
        Status::Skipped => "skipped",
        Status::Pending => "pending",
        Status::Undefined => "undefined",
        Status::Ambiguous => "ambiguous",
        Status::Failed => "failed",
    }
}

pub(crate) fn seconds(span: Duration) -> String {
    match span.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// A guest's output must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
