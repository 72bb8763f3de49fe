//! Clauses that every `Then` takes (within, for, not), and the name of a machine, which every step takes.
//!
//! ```text
//! the console shows "login:" within 60 seconds      控制台在 60 秒内显示 "login:"
//! the response has within 5 s:                      响应在 5 秒内包含:
//! the machine is running for 5 seconds              机器处于运行状态，持续 5 秒
//! the output does not contain "error"               输出不包含 "error"
//! it is not true that the file "a" exists           并非文件 "a" 存在
//! I reset the machine "web"                         我重置机器 "web"
//! the console of the machine "web" shows "ok"       机器 "web" 的控制台显示 "ok"
//! I run "ls" on the machine "web"                   我在机器 "web" 上运行 "ls"
//! ```
//!
//! The clause is cut out and the rest is looked up. A sentence that matches as it stands is never cut, so a
//! step whose own words are "within {duration}" keeps them. Nothing inside quotes is touched. Languages negate in more
//! ways than can be listed: what no list knows is said with "it is not true that" or 并非.

use crate::failure::Failure;
use kezhan_expressions::{ParameterTypes, Value};
use regex::Regex;
use std::ops::Range;
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
    /// The machine that the sentence names, where the step says only "the machine".
    pub machine: Option<String>,
}

struct Patterns {
    within: Vec<Regex>,
    hold: Vec<Regex>,
    machine: Vec<(Regex, &'static str)>,
}

/// What stands behind a clause of time in English: more of the sentence, or its end.
const BEHIND: &str = "(?:[ ,，:：]|$)";

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let types = ParameterTypes::default();
    let pattern = |name: &str| types.find(name).map(|kind| kind.pattern.clone());
    let (duration, string) = (pattern("duration"), pattern("string"));
    let build = |pattern: &str| {
        let pattern = pattern.replace("DURATION", duration.as_deref().unwrap_or_default());
        let pattern = pattern.replace("NAME", string.as_deref().unwrap_or_default());
        // PANIC: the patterns are constants, and a test uses each.
        Regex::new(&pattern).unwrap_or_else(|error| unreachable!("{pattern}: {error}"))
    };
    Patterns {
        within: vec![
            build(&format!("(,? within (DURATION)){BEHIND}")),
            build(r"([，,]?\s*在\s*(DURATION)\s*(?:之|以)?内[，,]?\s*)"),
        ],
        hold: vec![
            build(&format!("(,? for (DURATION)){BEHIND}")),
            build(r"([，,]?\s*持续\s*(DURATION))"),
        ],
        machine: vec![
            (build("( (?:of|on|in) (?:the )?machine (NAME))"), ""),
            (build("((?:the )?machine (NAME))"), "the machine"),
            (build(r"(机器\s*(NAME)\s*的\s*)"), ""),
            (build(r"(在\s*机器\s*(NAME)\s*(?:上|中|里)\s*)"), ""),
            (build(r"(机器\s*(NAME)\s*)"), "机器"),
        ],
    }
});

/// Words of negation and what takes their place; tried in order.
static NEGATIONS: [(&str, &str); 19] = [
    ("it is not true that ", ""),
    ("并非", ""),
    (" is not ", " is "),
    (" is not:", " is:"),
    (" are not ", " are "),
    (" cannot ", " can "),
    (" has no ", " has a "),
    (" has not ", " has "),
    (" does not have ", " has "),
    (" do not ", " "),
    ("不是", "是"),
    ("不能", "能"),
    ("没有", "有"),
    ("没有", ""),
    ("尚未", "已"),
    ("未", "已"),
    ("未", ""),
    ("并不", ""),
    ("不", ""),
];

impl Clause {
    /// Whether the sentence says anything that only a check can be asked: time or negation.
    pub fn is_plain(&self) -> bool {
        self.within.is_none() && self.hold.is_none() && !self.not
    }

    /// The readings of a sentence: shorter sentence and clause, most literal first.
    ///
    /// # Errors
    /// A duration beyond all measure.
    pub(crate) fn readings(sentence: &str) -> Result<Vec<(String, Clause)>, Failure> {
        let mut readings = timed(sentence, &Clause::default())?;
        for (pattern, instead) in &PATTERNS.machine {
            let Some((clause, name)) = outside_quotes(sentence, pattern) else { continue };
            let machine = unquoted(&sentence[name]);
            let mut rest = sentence.to_owned();
            rest.replace_range(clause, instead);
            readings.extend(timed(&rest, &Clause { machine, ..Clause::default() })?);
        }
        Ok(readings)
    }
}

/// The readings of a sentence by time and negation.
fn timed(sentence: &str, clause: &Clause) -> Result<Vec<(String, Clause)>, Failure> {
    let mut readings = vec![(sentence.to_owned(), clause.clone())];
    let mut clause = clause.clone();
    let mut rest = sentence.to_owned();
    clause.within = cut(&mut rest, &PATTERNS.within)?;
    clause.hold = cut(&mut rest, &PATTERNS.hold)?;
    if !clause.is_plain() {
        readings.push((rest.clone(), clause.clone()));
    }
    let negative = Clause { not: true, ..clause };
    readings.extend(negated(&rest).into_iter().map(|positive| (positive, negative.clone())));
    Ok(readings)
}

/// A quoted text without its quotes.
fn unquoted(quoted: &str) -> Option<String> {
    let types = ParameterTypes::default();
    match types.find("string").map(|kind| kind.value(quoted)) {
        Some(Ok(Value::Text(text))) => Some(text),
        _ => None,
    }
}

/// Where a pattern's first and second group stand, at their first place outside quotes.
fn outside_quotes(sentence: &str, pattern: &Regex) -> Option<(Range<usize>, Range<usize>)> {
    for captures in pattern.captures_iter(sentence) {
        let (clause, value) = (captures.get(1)?, captures.get(2)?);
        if !quoted_at(sentence, clause.start()) {
            return Some((clause.range(), value.range()));
        }
    }
    None
}

/// Cuts the first clause that stands outside quotes.
fn cut(sentence: &mut String, patterns: &[Regex]) -> Result<Option<Duration>, Failure> {
    let types = ParameterTypes::default();
    for pattern in patterns {
        let Some((clause, duration)) = outside_quotes(sentence, pattern) else { continue };
        let duration = sentence[duration].to_owned();
        let value = types.find("duration").map(|kind| kind.value(&duration));
        let Some(Ok(Value::Duration(duration))) = value else {
            return Err(Failure::Broken(format!("\"{duration}\" is too long a time")));
        };
        sentence.replace_range(clause, "");
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

fn find_outside_quotes(sentence: &str, text: &str) -> Option<usize> {
    sentence.match_indices(text).map(|(at, _)| at).find(|at| !quoted_at(sentence, *at))
}

/// The sentence without its negation, in every way that it can be read.
fn negated(sentence: &str) -> Vec<String> {
    let mut readings = Vec::new();
    if let Some(at) = find_outside_quotes(sentence, " does not ") {
        let (before, after) = (&sentence[..at], &sentence[at + " does not ".len()..]);
        let (verb, rest) = after
            .split_once(' ')
            .map_or((after, String::new()), |(verb, rest)| (verb, format!(" {rest}")));
        readings.push(format!("{before} {}{rest}", third_person(verb)));
    }
    for (negation, positive) in NEGATIONS {
        if let Some(at) = find_outside_quotes(sentence, negation) {
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
    if let Some(verb) = verb.strip_suffix([':', '：']) {
        return third_person(verb) + ":";
    }
    let hissing = ["s", "x", "ch", "sh"].iter().any(|end| verb.ends_with(end));
    match verb {
        "have" => "has".to_owned(),
        verb if hissing => format!("{verb}es"),
        verb => format!("{verb}s"),
    }
}
