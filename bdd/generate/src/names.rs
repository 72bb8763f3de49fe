//! Identifiers out of sentences, in English and Chinese.
//!
//! The letters of every script stay: Rust, Go and Python all allow `账户余额为`. What cannot be in an identifier
//! (Unicode Standard Annex 31, `XID_Continue`) separates words. A name that is taken gets a number.

use std::collections::BTreeSet;
use unicode_ident::{is_xid_continue, is_xid_start};

/// How words become one identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `the_card_is_valid`
    Snake,
    /// `TheCardIsValid`
    Camel,
}

/// How a language spells names.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// Of methods.
    pub methods: Case,
    /// Words that are no names.
    pub reserved: &'static [&'static str],
}

impl Case {
    /// The identifier for a sentence; `step` when the sentence has no letter.
    pub fn identifier(self, sentence: &str) -> String {
        let words = sentence
            .split(|c: char| !(c.is_alphanumeric() && is_xid_continue(c)))
            .filter(|word| !word.is_empty());
        let name = match self {
            Case::Snake => words.map(str::to_lowercase).collect::<Vec<_>>().join("_"),
            Case::Camel => words.map(capitalise).collect(),
        };
        match name.chars().next() {
            None => Case::identifier(self, "step"),
            Some(first) if !is_xid_start(first) => format!("{}{name}", Case::prefix(self)),
            Some(_) => name,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Case::Snake => "step_",
            Case::Camel => "Step",
        }
    }
}

fn capitalise(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Names given out in one scope.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// A scope where these names cannot be given out.
    pub fn without(reserved: &[&str]) -> Names {
        Names(reserved.iter().map(|word| (*word).to_owned()).collect())
    }

    /// The name itself, or the name with the first free number from 2 on.
    pub fn take(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let free =
            std::iter::once(name.to_owned()).chain(numbered).find(|name| !self.0.contains(name));
        let free = free.unwrap_or_else(|| name.to_owned());
        self.0.insert(free.clone());
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_become_identifiers_in_every_script() {
        assert_eq!(
            Case::Snake.identifier("the customer's card is valid"),
            "the_customer_s_card_is_valid"
        );
        assert_eq!(Case::Camel.identifier("the card is valid"), "TheCardIsValid");
        assert_eq!(Case::Snake.identifier("账户余额为 元"), "账户余额为_元");
        assert_eq!(Case::Snake.identifier("3 cards"), "step_3_cards");
        assert_eq!(Case::Camel.identifier("?!"), "Step");
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let mut names = Names::without(&["self"]);
        assert_eq!([names.take("a"), names.take("a"), names.take("self")], ["a", "a_2", "self_2"]);
    }
}
