//! `xtask/tidy-exceptions.toml`: what is excepted, and why.

use super::Violation;
use crate::Outcome;
use serde::Deserialize;
use std::fs;
use std::path::Path;

const FILE: &str = "xtask/tidy-exceptions.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    rule: String,
    /// Path from the root.
    place: String,
    /// Words of the message, when not every breach at that place is meant.
    about: Option<String>,
    reason: String,
    #[serde(skip)]
    used: bool,
}

impl Exceptions {
    /// Reads the list.
    ///
    /// # Errors
    /// It cannot be read or is not well formed, or an entry has no reason.
    pub(crate) fn read(root: &Path) -> Outcome<Exceptions> {
        let text = fs::read_to_string(root.join(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
        Exceptions::parse(&text)
    }

    fn parse(text: &str) -> Outcome<Exceptions> {
        let all: Exceptions = toml::from_str(text).map_err(|e| format!("{FILE}: {e}"))?;
        match all.exception.iter().find(|one| one.reason.trim().len() < 10) {
            Some(bare) => Err(format!("{FILE}: {}: say the reason", bare.place).into()),
            None => Ok(all),
        }
    }

    /// Is this breach excepted?
    pub(crate) fn covers(&mut self, violation: &Violation) -> bool {
        let fits = |one: &&mut Exception| {
            one.rule == violation.rule
                && one.place == violation.place
                && one.about.as_ref().is_none_or(|about| violation.message.contains(about))
        };
        let found = self.exception.iter_mut().find(fits);
        found.map(|one| one.used = true).is_some()
    }

    /// Entries that excepted nothing.
    pub(crate) fn unused(&self) -> Vec<Violation> {
        let stale = self.exception.iter().filter(|one| !one.used).map(|one| Violation {
            place: FILE.to_owned(),
            line: 1,
            rule: "exceptions",
            message: format!("{} at {} excepts nothing; remove it", one.rule, one.place),
        });
        stale.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breach(place: &str) -> Violation {
        let message = "`f` has 90 lines".to_owned();
        Violation { place: place.to_owned(), line: 1, rule: "budgets", message }
    }

    const LIST: &str =
        "[[exception]]\nrule = 'budgets'\nplace = 'a.rs'\nabout = '`f`'\nreason = 'a table'";

    #[test]
    fn an_exception_is_for_its_rule_place_and_words_and_must_be_used() {
        let long = LIST.replace("a table", "a table of one-line arms");
        let mut list = Exceptions::parse(&long).unwrap();
        assert!(!list.covers(&breach("b.rs")));
        assert_eq!(list.unused().len(), 1);
        assert!(list.covers(&breach("a.rs")));
        assert!(list.unused().is_empty());
    }

    #[test]
    fn an_exception_without_a_reason_is_refused() {
        assert!(Exceptions::parse(LIST).unwrap_err().to_string().contains("reason"));
    }
}
