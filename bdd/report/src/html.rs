//! The report as one page: no scripts, nothing loaded from elsewhere, light and dark.
//!
//! What failed is open, the rest folds. The page forbids itself scripts and foreign content (`Content-Security-Policy`),
//! so that a guest's output in it can do nothing.

use crate::messages::Status;
use crate::record::{Attached, Case, Record, StepRecord};
use crate::terminal::{seconds, word};
use kezhan_gherkin::PickleArgument;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The run as a page.
pub fn html(record: &Record) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\n<style>{STYLE}</style></head><body>\n",
        escape(&headline(record))
    );
    text.push_str(&head(record));
    let mut file: Option<&str> = None;
    let mut rule: Option<&str> = None;
    for case in &record.cases {
        if file != Some(case.uri.as_str()) {
            (file, rule) = (Some(case.uri.as_str()), None);
            text.push_str(&feature(case));
        }
        if case.rule.as_deref() != rule {
            rule = case.rule.as_deref();
            let _ = writeln!(text, "<h3>{}</h3>", escape(rule.unwrap_or_default()));
        }
        text.push_str(&scenario(case));
    }
    text.push_str("</body></html>\n");
    text
}

fn headline(record: &Record) -> String {
    let counts = record.counts();
    let parts: Vec<String> =
        counts.iter().map(|(status, count)| format!("{count} {}", word(*status))).collect();
    format!("{} scenarios: {}", record.cases.len(), parts.join(", "))
}

fn head(record: &Record) -> String {
    let mut text = format!("<h1>{}</h1>\n", escape(&headline(record)));
    let took = record.duration.map(seconds).unwrap_or_default();
    let _ = writeln!(
        text,
        "<div class=\"soft\">{} UTC, {took}</div>",
        crate::junit::moment(record.started.seconds)
    );
    text.push_str("<div class=\"bar\">");
    let total = record.cases.len().max(1);
    for (status, count) in record.counts() {
        let width = count * 1000 / total;
        let _ = write!(
            text,
            "<i class=\"{}\" style=\"width:{}.{}%\"></i>",
            word(status),
            width / 10,
            width % 10
        );
    }
    text.push_str("</div>\n");
    for (uri, location, message) in &record.faults {
        let _ = writeln!(
            text,
            "<pre class=\"reason\">{}:{location}: {}</pre>",
            escape(uri),
            escape(message)
        );
    }
    text
}

fn feature(case: &Case) -> String {
    let mut text = format!(
        "<h2>{}</h2>\n<div class=\"place\">{}</div>\n",
        escape(&case.feature),
        escape(&case.uri)
    );
    if let Some(story) = &case.story {
        let lines: Vec<String> = story.sentences().iter().map(|line| escape(line)).collect();
        let _ = writeln!(text, "<blockquote>{}</blockquote>", lines.join("<br>"));
    }
    text
}

fn mark(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Passed) => "✔",
        Some(Status::Failed | Status::Ambiguous) => "✘",
        Some(Status::Pending | Status::Undefined) => "?",
        Some(Status::Skipped | Status::Unknown) | None => "–",
    }
}

fn class(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Unknown) | None => "unknown",
        Some(status) => word(status),
    }
}

fn scenario(case: &Case) -> String {
    let status = Some(case.status());
    let open = if case.passed() { "" } else { " open" };
    let mut text = format!(
        "<details{open}><summary class=\"{}\"><span class=\"mark\">{}</span> {}",
        class(status),
        mark(status),
        escape(&case.name)
    );
    if case.attempts.len() > 1 {
        let _ = write!(text, " <span class=\"retried\">attempt {}</span>", case.attempts.len());
    }
    for tag in &case.tags {
        let _ = write!(text, "<span class=\"tag\">{}</span>", escape(tag));
    }
    let _ = writeln!(
        text,
        " <span class=\"place\">line {}, {}</span></summary><div class=\"body\">",
        case.location.line,
        seconds(case.duration())
    );
    for (number, attempt) in case.attempts.iter().enumerate() {
        if case.attempts.len() > 1 {
            let _ = writeln!(text, "<h3>attempt {}</h3>", number + 1);
        }
        attempt.steps.iter().for_each(|step| text.push_str(&step_html(step)));
    }
    text.push_str("</div></details>\n");
    text
}

fn step_html(step: &StepRecord) -> String {
    let mut text = format!(
        "<div class=\"step {}\"><span class=\"mark\">{}</span> <b>{}</b>{} <span class=\"place\">{}</span>",
        class(step.status),
        mark(step.status),
        escape(&step.keyword),
        escape(&step.text),
        seconds(step.duration)
    );
    text.push_str(&below(step.below.as_ref()));
    if let Some(message) = &step.message {
        let _ = write!(text, "<pre class=\"reason\">{}</pre>", escape(message));
    }
    step.attachments.iter().for_each(|attached| text.push_str(&attachment(attached)));
    text.push_str("</div>\n");
    text
}

fn below(below: Option<&PickleArgument>) -> String {
    let mut text = String::new();
    let Some(below) = below else { return text };
    if let Some(table) = &below.data_table {
        text.push_str("<table>");
        for row in &table.rows {
            let cells = row.cells.iter().map(|cell| format!("<td>{}</td>", escape(&cell.value)));
            let _ = write!(text, "<tr>{}</tr>", cells.collect::<String>());
        }
        text.push_str("</table>");
    }
    if let Some(doc) = &below.doc_string {
        let _ = write!(text, "<pre>{}</pre>", escape(&doc.content));
    }
    text
}

/// Pictures are shown only of types that hold no program.
fn attachment(attached: &Attached) -> String {
    let name = escape(&attached.name);
    let picture = ["image/png", "image/jpeg", "image/gif", "image/webp"]
        .contains(&attached.media_type.as_str());
    if picture && attached.base64 {
        return format!(
            "<div class=\"soft\">{name}</div><img alt=\"{name}\" src=\"data:{};base64,{}\">",
            attached.media_type,
            escape(&attached.body)
        );
    }
    if attached.base64 {
        return format!(
            "<div class=\"soft\">{name}: {}, {} characters of Base64</div>",
            escape(&attached.media_type),
            attached.body.len()
        );
    }
    format!("<div class=\"soft\">{name}</div><pre>{}</pre>", escape(&attached.body))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && !"\n\t".contains(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
