//! What a line is: the words of the grammar.
//!
//! A line means different things in different places (`* a` is a step among steps, text in a description), so
//! nothing is classified ahead: the parser asks, kind by kind, whether a line is one that its place allows.

use crate::ast::{KeywordType, Location, TableCell, Tag};
use crate::language::{Language, Title};
use crate::line::{Line, is_space, trim};
use crate::spec::{COLONS, DOC_STRINGS};

/// A kind of line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    Language,
    Comment,
    Row,
    DocString,
    Background,
    Step,
    Tags,
    Examples,
    Scenario,
    Rule,
    Feature,
    Other,
}

/// The order in which kinds are tried: the first that the place allows and the line fits wins.
pub(crate) const ORDER: [Kind; 13] = [
    Kind::Empty,
    Kind::Language,
    Kind::Comment,
    Kind::Row,
    Kind::DocString,
    Kind::Background,
    Kind::Step,
    Kind::Tags,
    Kind::Examples,
    Kind::Scenario,
    Kind::Rule,
    Kind::Feature,
    Kind::Other,
];

/// A line with its meaning.
#[derive(Debug)]
pub(crate) enum Token<'a> {
    Empty,
    Language(&'a str),
    Comment(&'a str),
    Row(Vec<TableCell>),
    DocString { delimiter: &'static str, media_type: &'a str },
    Step { keyword: &'a str, kind: KeywordType, text: &'a str },
    Tags(Result<Vec<Tag>, Location>),
    Title { title: Title, keyword: &'a str, name: &'a str },
    Other,
}

impl Kind {
    /// How a message names the kind; nothing for the two that may stand almost everywhere.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Kind::Empty | Kind::Comment => return None,
            Kind::Language => "a language comment",
            Kind::Row => "a table row",
            Kind::DocString => "a doc string",
            Kind::Background => "a background",
            Kind::Step => "a step",
            Kind::Tags => "a tag",
            Kind::Examples => "examples",
            Kind::Scenario => "a scenario",
            Kind::Rule => "a rule",
            Kind::Feature => "a feature",
            Kind::Other => "a description",
        })
    }

    /// The line as this kind, if it can be read so.
    pub fn read<'a>(self, line: &Line<'a>, language: &'static Language) -> Option<Token<'a>> {
        let starts = |prefix: &str| line.trimmed.starts_with(prefix);
        match self {
            Kind::Empty => line.trimmed.is_empty().then_some(Token::Empty),
            Kind::Language => language_comment(line.trimmed).map(Token::Language),
            Kind::Comment => starts("#").then_some(Token::Comment(line.text)),
            Kind::Row => starts("|").then(|| Token::Row(line.cells())),
            Kind::DocString => doc_string(line),
            Kind::Step => step(line, language),
            Kind::Tags => starts("@").then(|| Token::Tags(line.tags())),
            Kind::Background => title(line, language, Title::Background),
            Kind::Examples => title(line, language, Title::Examples),
            Kind::Scenario => title(line, language, Title::Scenario),
            Kind::Rule => title(line, language, Title::Rule),
            Kind::Feature => title(line, language, Title::Feature),
            Kind::Other => Some(Token::Other),
        }
    }
}

/// `# language: CODE`. (Gherkin reference, "Spoken Languages")
fn language_comment(trimmed: &str) -> Option<&str> {
    let rest = trim(trimmed.strip_prefix('#')?).strip_prefix("language")?;
    let code = trim(rest.trim_start_matches(is_space).strip_prefix(':')?);
    let letter = |c: char| c.is_ascii_alphabetic() || c == '-' || c == '_';
    (!code.is_empty() && code.chars().all(letter)).then_some(code)
}

fn doc_string<'a>(line: &Line<'a>) -> Option<Token<'a>> {
    let (delimiter, _) = DOC_STRINGS.iter().find(|(mark, _)| line.trimmed.starts_with(mark))?;
    Some(Token::DocString { delimiter, media_type: line.after(delimiter) })
}

fn step<'a>(line: &Line<'a>, language: &'static Language) -> Option<Token<'a>> {
    let (word, kind) = language.steps().iter().find(|(word, _)| line.trimmed.starts_with(word))?;
    let keyword = line.trimmed.get(..word.len())?;
    Some(Token::Step { keyword, kind: *kind, text: line.after(word) })
}

fn title<'a>(line: &Line<'a>, language: &'static Language, title: Title) -> Option<Token<'a>> {
    language.titles(title).find_map(|word| {
        let rest = line.trimmed.strip_prefix(word)?.strip_prefix(COLONS)?;
        Some(Token::Title { title, keyword: line.trimmed.get(..word.len())?, name: trim(rest) })
    })
}
