//! From a sentence to the expression that would match it.
//!
//! Quoted texts, sizes, durations and numbers become parameters; the rest stays. It serves the snippets for
//! undefined steps and the generator's method names.

use crate::parameter::ParameterTypes;
use crate::spec::SPECIAL;
use crate::value::Value;
use regex::Regex;
use std::sync::OnceLock;

/// A proposed expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The expression.
    pub expression: String,
    /// The sentence's fixed parts, one more than there are parameters.
    pub words: Vec<String>,
    /// Name of the type, and value in this sentence, of each parameter.
    pub parameters: Vec<(&'static str, Value)>,
}

/// Types that are recognised in a sentence, most telling first.
const RECOGNISED: [&str; 5] = ["string", "size", "duration", "float", "int"];

/// The expression for a sentence.
pub fn propose(sentence: &str) -> Proposal {
    let (types, finder) = finder();
    let mut proposal =
        Proposal { expression: String::new(), words: Vec::new(), parameters: Vec::new() };
    let mut rest = 0;
    for captures in finder.captures_iter(sentence) {
        let found = RECOGNISED
            .iter()
            .zip(1..)
            .find_map(|(name, group)| Some((*name, captures.get(group)?)));
        let Some((name, text)) = found.filter(|(_, text)| stands_alone(sentence, text)) else {
            continue;
        };
        let name =
            if name == "float" && !text.as_str().contains(['.', '．']) { "int" } else { name };
        let Some(Ok(value)) = types.find(name).map(|kind| kind.value(text.as_str())) else {
            continue;
        };
        let words = sentence.get(rest..text.start()).unwrap_or_default();
        proposal.expression.push_str(&escape(words));
        proposal.expression.push_str(&format!("{{{name}}}"));
        proposal.words.push(words.to_owned());
        proposal.parameters.push((name, value));
        rest = text.end();
    }
    let words = sentence.get(rest..).unwrap_or_default();
    proposal.expression.push_str(&escape(words));
    proposal.words.push(words.to_owned());
    proposal
}

fn finder() -> &'static (ParameterTypes, Regex) {
    static FINDER: OnceLock<(ParameterTypes, Regex)> = OnceLock::new();
    FINDER.get_or_init(|| {
        let types = ParameterTypes::default();
        let groups = RECOGNISED
            .iter()
            .filter_map(|name| types.find(name))
            .map(|kind| format!("({})", kind.pattern));
        let pattern = groups.collect::<Vec<_>>().join("|");
        // PANIC: the patterns are the constants of this crate, and a test builds them.
        (types, Regex::new(&pattern).unwrap_or_else(|error| unreachable!("{pattern}: {error}")))
    })
}

/// A number or a quote inside a word (`ipv4`, `don't`) is no parameter.
fn stands_alone(sentence: &str, found: &regex::Match<'_>) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let before = sentence.get(..found.start()).and_then(|text| text.chars().next_back());
    let after = sentence.get(found.end()..).and_then(|text| text.chars().next());
    !before.is_some_and(word) && !after.is_some_and(word)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != ' ' && SPECIAL.contains(&letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
