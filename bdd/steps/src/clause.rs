//! Clauses that every `Then` takes: within, for, not.
//!
//! ```text
//! the console shows "login:" within 60 seconds      控制台在 60 秒内显示 "login:"
//! the machine is running for 5 seconds              机器处于运行状态，持续 5 秒
//! the output does not contain "error"               输出不包含 "error"
//! ```
//!
//! The clause is cut out and the rest is looked up. A sentence that matches as it stands is never cut, so a
//! step whose own words are "within {duration}" keeps them. Nothing inside quotes is touched.

use crate::failure::Failure;
use kezhan_expressions::{ParameterTypes, Value};
use regex::Regex;
use std::sync::LazyLock;
use std::time::Duration;

/// How a check is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clause {
    /// It must hold at some moment of this time.
    pub within: Option<Duration>,
    /// It must hold all through this time.
    pub hold: Option<Duration>,
    /// It must not hold.
    pub not: bool,
}

struct Patterns {
    within: Vec<Regex>,
    hold: Vec<Regex>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let types = ParameterTypes::default();
    let duration = types.find("duration").map(|kind| kind.pattern.clone()).unwrap_or_default();
    let build = |pattern: &str| {
        let pattern = pattern.replace("DURATION", &format!("({duration})"));
        // PANIC: the patterns are constants, and a test uses each.
        Regex::new(&pattern).unwrap_or_else(|error| unreachable!("{pattern}: {error}"))
    };
    Patterns {
        within: vec![
            build(r",? within DURATION$"),
            build(r"[，,]?\s*在\s*DURATION\s*(?:之|以)?内[，,]?\s*"),
        ],
        hold: vec![build(r",? for DURATION$"), build(r"[，,]?\s*持续\s*DURATION$")],
    }
});

/// Words of negation and what takes their place; tried in order.
static NEGATIONS: [(&str, &str); 12] = [
    (" is not ", " is "),
    (" are not ", " are "),
    (" cannot ", " can "),
    (" has no ", " has a "),
    (" does not have ", " has "),
    (" do not ", " "),
    ("不是", "是"),
    ("不能", "能"),
    ("没有", "有"),
    ("未", ""),
    ("并不", ""),
    ("不", ""),
];

impl Clause {
    /// Whether the sentence says anything about time or negation.
    pub fn is_plain(&self) -> bool {
        *self == Clause::default()
    }

    /// The readings of a sentence: shorter sentence and clause, most literal first.
    ///
    /// # Errors
    /// A duration beyond all measure.
    pub(crate) fn readings(sentence: &str) -> Result<Vec<(String, Clause)>, Failure> {
        let mut readings = vec![(sentence.to_owned(), Clause::default())];
        let mut clause = Clause::default();
        let mut rest = sentence.to_owned();
        clause.within = cut(&mut rest, &PATTERNS.within)?;
        clause.hold = cut(&mut rest, &PATTERNS.hold)?;
        if !clause.is_plain() {
            readings.push((rest.clone(), clause.clone()));
        }
        readings.extend(
            negated(&rest)
                .into_iter()
                .map(|positive| (positive, Clause { not: true, ..clause.clone() })),
        );
        Ok(readings)
    }
}

/// Cuts the first clause that stands outside quotes.
fn cut(sentence: &mut String, patterns: &[Regex]) -> Result<Option<Duration>, Failure> {
    let types = ParameterTypes::default();
    for pattern in patterns {
        let Some(captures) = pattern.captures(sentence) else { continue };
        let (Some(whole), Some(duration)) = (captures.get(0), captures.get(1)) else { continue };
        if quoted_at(sentence, whole.start()) {
            continue;
        }
        let value = types.find("duration").map(|kind| kind.value(duration.as_str()));
        let Some(Ok(Value::Duration(duration))) = value else {
            return Err(Failure::Broken(format!("\"{}\" is too long a time", duration.as_str())));
        };
        let range = whole.range();
        sentence.replace_range(range, "");
        return Ok(Some(duration));
    }
    Ok(None)
}

/// Whether a place lies inside quotes.
fn quoted_at(sentence: &str, place: usize) -> bool {
    let mut open: Option<char> = None;
    for (_, letter) in sentence.char_indices().take_while(|(at, _)| *at < place) {
        open = match (open, letter) {
            (None, '"') => Some('"'),
            (None, '“') => Some('”'),
            (None, '「') => Some('」'),
            (Some(close), letter) if close == letter => None,
            (open, _) => open,
        };
    }
    open.is_some()
}

/// The sentence without its negation, in every way that it can be read.
fn negated(sentence: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if let Some(at) = sentence.find(" does not ").filter(|at| !quoted_at(sentence, *at)) {
        let (before, after) = (&sentence[..at], &sentence[at + " does not ".len()..]);
        let (verb, rest) = after
            .split_once(' ')
            .map_or((after, String::new()), |(verb, rest)| (verb, format!(" {rest}")));
        readings.push(format!("{before} {}{rest}", third_person(verb)));
    }
    for (negation, positive) in NEGATIONS {
        if let Some(at) = sentence.find(negation).filter(|at| !quoted_at(sentence, *at)) {
            readings.push(format!(
                "{}{positive}{}",
                &sentence[..at],
                &sentence[at + negation.len()..]
            ));
        }
    }
    readings
}

fn third_person(verb: &str) -> String {
    let hissing = ["s", "x", "ch", "sh"].iter().any(|end| verb.ends_with(end));
    match verb {
        "have" => "has".to_owned(),
        verb if hissing => format!("{verb}es"),
        verb => format!("{verb}s"),
    }
}
