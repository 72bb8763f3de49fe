//! The parameter types: what `{name}` matches and what it becomes.

use crate::spec::{DURATION_UNITS, QUOTES, SIZE_UNITS};
use crate::value::{self, Parser, Value, ValueError};

/// A parameter type.
#[derive(Clone, Debug)]
pub struct ParameterType {
    /// The name between braces; empty for `{}`.
    pub name: String,
    /// What it matches, as a regular expression without capturing groups.
    pub pattern: String,
    /// An example in a sentence.
    pub example: String,
    parser: Parser,
}

impl ParameterType {
    /// A type whose value is the text itself.
    pub fn text(name: &str, pattern: &str, example: &str) -> ParameterType {
        ParameterType::new(name, pattern, example, value::text)
    }

    fn new(name: &str, pattern: &str, example: &str, parser: Parser) -> ParameterType {
        ParameterType {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            example: example.to_owned(),
            parser,
        }
    }

    /// The value of a text that the pattern matched.
    ///
    /// # Errors
    /// When it has the form of a value but is none, such as port 70000.
    pub fn value(&self, text: &str) -> Result<Value, ValueError> {
        (self.parser)(text)
    }
}

/// The types that expressions may name.
#[derive(Clone, Debug)]
pub struct ParameterTypes(Vec<ParameterType>);

const DIGITS: &str = "[0-9０-９]";
const INT: &str = "[-+－＋]?[0-9０-９]+";
const FLOAT: &str = "[-+－＋]?[0-9０-９]*[.．]?[0-9０-９]+(?:[eE][-+]?[0-9]+)?";

impl Default for ParameterTypes {
    fn default() -> ParameterTypes {
        let new = ParameterType::new;
        ParameterTypes(vec![
            new("", ".*", "anything", value::text),
            new("int", INT, "42", value::int),
            new("float", FLOAT, "3.6", value::float),
            new("word", r"[^\s]+", "banana", value::text),
            new("string", &string_pattern(), "\"two words\"", value::quoted),
            new("size", &with_units(SIZE_UNITS.map(|(unit, _)| unit)), "512 MiB", value::size),
            new(
                "duration",
                &with_units(DURATION_UNITS.map(|(unit, _)| unit)),
                "60 seconds",
                value::duration,
            ),
            new(
                "state",
                "running|paused|stopped|crashed|运行|暂停|停止|关机|崩溃",
                "running",
                value::state,
            ),
            new("port", &format!("{DIGITS}+"), "8080", value::port),
            new("status", "[1-5][0-9][0-9]", "201", value::int),
            new(
                "address",
                r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+|[0-9a-fA-F:]*:[0-9a-fA-F:]+",
                "10.0.0.1",
                value::address,
            ),
            new("cidr", r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/[0-9]+", "10.0.0.0/24", value::text),
            new(
                "path",
                &format!(r"{}|[.~]{{0,2}}/[^\s]*", string_pattern()),
                "/etc/hosts",
                value::quoted,
            ),
            new("regex", r"/(?:[^/\\]|\\.)+/", "/^[0-9]+$/", value::slashed),
            new("method", "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS", "GET", value::text),
            new("pointer", r"(?:/[^\s/，：；。]*)+", "/state", value::text),
            new("key", "[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*", "ctrl-alt-delete", value::text),
        ])
    }
}

impl ParameterTypes {
    /// The type of a name.
    pub fn find(&self, name: &str) -> Option<&ParameterType> {
        self.0.iter().find(|kind| kind.name == name)
    }

    /// Adds a type, or replaces the one of that name.
    pub fn define(&mut self, kind: ParameterType) {
        self.0.retain(|known| known.name != kind.name);
        self.0.push(kind);
    }

    /// Every type, in order of definition.
    pub fn iter(&self) -> impl Iterator<Item = &ParameterType> {
        self.0.iter()
    }
}

fn string_pattern() -> String {
    let quotes = QUOTES.iter().map(|(open, close)| format!(r"{open}(?:[^{close}\\]|\\.)*{close}"));
    quotes.collect::<Vec<_>>().join("|")
}

fn with_units<const N: usize>(units: [&str; N]) -> String {
    format!(r"{DIGITS}+(?:[.．]{DIGITS}+)?\s?(?:{})", units.join("|"))
}
