//! The spoken languages of Gherkin and their keywords.
//!
//! The table is data (`data/languages.txt`, one block per language) and is read once. Two facts of the
//! official table shape the code: a step keyword carries the space that must follow it (`Given `), so that
//! languages written without spaces (`假如`) need none; and one word may belong to several kinds (`* `),
//! in which case the step has no kind of its own.

use crate::ast::KeywordType;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The keywords of one language, in the order of the table: the first of a kind is the usual one.
#[derive(Debug, Default)]
pub struct Language {
    /// The code written in `# language: CODE`.
    pub code: &'static str,
    /// Its name in English.
    pub name: &'static str,
    /// Its name in itself.
    pub native: &'static str,
    words: BTreeMap<&'static str, Vec<String>>,
    steps: Vec<(String, KeywordType)>,
}

/// The kinds of line that begin with `KEYWORD:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Title {
    /// `Feature:`
    Feature,
    /// `Rule:`
    Rule,
    /// `Background:`
    Background,
    /// `Scenario:` and `Scenario Outline:`
    Scenario,
    /// `Examples:`
    Examples,
}

const STEP_KINDS: [(&str, KeywordType); 5] = [
    ("given", KeywordType::Context),
    ("when", KeywordType::Action),
    ("then", KeywordType::Outcome),
    ("and", KeywordType::Conjunction),
    ("but", KeywordType::Conjunction),
];

impl Language {
    /// The language of a code such as `en` or `zh-CN`.
    pub fn find(code: &str) -> Option<&'static Language> {
        table().iter().find(|language| language.code == code)
    }

    /// Every language, in the order of the table.
    pub fn all() -> &'static [Language] {
        table()
    }

    /// The keywords of a title line, without the colon.
    pub fn titles(&self, title: Title) -> impl Iterator<Item = &str> {
        let kinds: &[&str] = match title {
            Title::Feature => &["feature"],
            Title::Rule => &["rule"],
            Title::Background => &["background"],
            Title::Scenario => &["scenario", "outline"],
            Title::Examples => &["examples"],
        };
        kinds.iter().flat_map(|kind| self.words(kind)).map(String::as_str)
    }

    /// Every step keyword with the kind it gives to its step, longest first.
    pub fn steps(&self) -> &[(String, KeywordType)] {
        &self.steps
    }

    /// The keywords of one row of the table: `given`, `outline`, …
    pub fn words(&self, kind: &str) -> &[String] {
        self.words.get(kind).map(Vec::as_slice).unwrap_or_default()
    }

    fn sort_steps(&mut self) {
        let mut steps: Vec<(String, KeywordType)> = Vec::new();
        for (row, kind) in STEP_KINDS {
            for word in self.words(row) {
                match steps.iter_mut().find(|(known, _)| known == word) {
                    Some((_, known)) => *known = KeywordType::Unknown,
                    None => steps.push((word.clone(), kind)),
                }
            }
        }
        steps.sort_by_key(|(word, _)| std::cmp::Reverse(word.chars().count()));
        self.steps = steps;
    }
}

fn table() -> &'static [Language] {
    static TABLE: OnceLock<Vec<Language>> = OnceLock::new();
    TABLE.get_or_init(|| read_table(include_str!("../data/languages.txt")))
}

fn read_table(text: &'static str) -> Vec<Language> {
    let mut languages: Vec<Language> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some((code, names)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            let (name, native) = names.split_once(" | ").unwrap_or((names, names));
            languages.push(Language { code, name, native, ..Language::default() });
        } else if let Some(language) = languages.last_mut() {
            let (kind, words) = line.split_once(' ').unwrap_or((line, ""));
            let words = words.split(" | ").map(|word| word.replace('_', " ")).collect();
            language.words.insert(kind, words);
        }
    }
    languages.iter_mut().for_each(Language::sort_steps);
    languages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_language_and_each_has_every_kind_of_keyword() {
        assert_eq!(Language::all().len(), 80);
        for language in Language::all() {
            for kind in ["feature", "rule", "background", "scenario", "outline", "examples"] {
                assert!(
                    language.words(kind).iter().all(|word| !word.is_empty()),
                    "{}",
                    language.code
                );
            }
            assert!(language.steps().len() >= 3, "{}", language.code);
        }
    }

    #[test]
    fn a_star_has_no_kind_of_its_own() {
        let english = Language::find("en").unwrap();
        let star = english.steps().iter().find(|(word, _)| word == "* ").unwrap();
        assert_eq!(star.1, KeywordType::Unknown);
    }
}
