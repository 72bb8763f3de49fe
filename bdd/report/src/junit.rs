//! JUnit XML: one suite per feature, one test case per scenario or row.
//!
//! There is no standard but two schemas that tools go by: Ant's (JUnit.xsd) and Jenkins' (jenkins-junit.xsd). A report
//! fits both: suites with counts, time, host and at least one property; cases with at most one of failure and error.
//! Only a run that skipped something says so in Jenkins' words alone, since Ant's older schema has none for it.

use crate::messages::Status;
use crate::record::{Case, Record};
use crate::terminal::word;
use std::fmt::Write;
use std::time::Duration;

/// The run as JUnit XML.
pub fn junit(record: &Record) -> String {
    let mut files: Vec<&str> = Vec::new();
    for case in &record.cases {
        if !files.contains(&case.uri.as_str()) {
            files.push(&case.uri);
        }
    }
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (id, file) in files.iter().enumerate() {
        let cases: Vec<&Case> = record.cases.iter().filter(|case| case.uri == *file).collect();
        text.push_str(&suite(record, id, &cases));
    }
    text.push_str("</testsuites>\n");
    text
}

fn suite(record: &Record, id: usize, cases: &[&Case]) -> String {
    let count = |kind: Kind| cases.iter().filter(|case| kind_of(case) == kind).count();
    let time: Duration = cases.iter().map(|case| case.duration()).sum();
    let skipped = match count(Kind::Skipped) {
        0 => String::new(),
        skipped => format!(" skipped=\"{skipped}\""),
    };
    let first = cases.first();
    let name = first.map(|case| case.feature.as_str()).unwrap_or_default();
    let file = first.map(|case| case.uri.as_str()).unwrap_or_default();
    let mut text = format!(
        "  <testsuite id=\"{id}\" name=\"{}\" package=\"{}\" timestamp=\"{}\" hostname=\"localhost\" tests=\"{}\" \
         failures=\"{}\" errors=\"{}\"{} time=\"{:.3}\">\n    <properties>\n      \
         <property name=\"program\" value=\"kezhan {}\"/>\n    </properties>\n",
        escape(name),
        escape(file),
        moment(record.started.seconds),
        cases.len(),
        count(Kind::Failure),
        count(Kind::Error),
        skipped,
        time.as_secs_f64(),
        env!("CARGO_PKG_VERSION")
    );
    cases.iter().for_each(|case| text.push_str(&test_case(case)));
    text.push_str("    <system-out/>\n    <system-err/>\n  </testsuite>\n");
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Passed,
    Failure,
    Error,
    Skipped,
}

fn kind_of(case: &Case) -> Kind {
    match case.status() {
        Status::Passed => Kind::Passed,
        Status::Skipped | Status::Unknown => Kind::Skipped,
        Status::Failed => Kind::Failure,
        Status::Pending | Status::Undefined | Status::Ambiguous => Kind::Error,
    }
}

fn test_case(case: &Case) -> String {
    let mut class = case.feature.clone();
    if let Some(rule) = &case.rule {
        let _ = write!(class, " - {rule}");
    }
    let name = format!("{} ({}:{})", case.name, case.uri, case.location.line);
    let mut text = format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escape(&class),
        escape(&name),
        case.duration().as_secs_f64()
    );
    let element = match kind_of(case) {
        Kind::Passed => {
            text.push_str("/>\n");
            return text;
        }
        Kind::Skipped => {
            text.push_str("><skipped/></testcase>\n");
            return text;
        }
        Kind::Failure => "failure",
        Kind::Error => "error",
    };
    let step = case.stopped_at();
    let message = step.and_then(|step| step.message.as_deref()).unwrap_or_default();
    let first = message.lines().next().unwrap_or_default();
    let _ = write!(
        text,
        ">\n      <{element} message=\"{}\" type=\"{}\">{}</{element}>\n    </testcase>\n",
        escape(first),
        word(case.status()),
        escape(&story(case))
    );
    text
}

/// The steps up to the one that stopped, with its reason.
fn story(case: &Case) -> String {
    let mut text = String::new();
    for step in case.attempts.last().map(|attempt| attempt.steps.as_slice()).unwrap_or_default() {
        let status = step.status.map_or("not run", word);
        let _ = writeln!(text, "{}{} ... {status}", step.keyword, step.text);
        if let Some(message) = &step.message {
            let _ = writeln!(text, "{message}\n  at {}:{}", case.uri, step.location);
        }
    }
    text
}

/// Text for an element or an attribute; characters that XML 1.0 cannot hold become U+FFFD. (XML 1.0 §2.2, §2.4)
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(letter),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Seconds from the epoch as a date and time, in UTC. (ISO 8601; days by the proleptic Gregorian calendar)
pub(crate) fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years are counted from March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}
