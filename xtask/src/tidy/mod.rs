//! The house rules, held by a program: a rule that nothing checks is a wish.
//!
//! ```text
//!   git ls-files ──► Tree (sources, parsed) ──► rule ──► Violation ──► exceptions.toml ──► file:line: …
//! ```
//!
//! One file for each rule, each a pure function of the [`Tree`] (commits and layers also ask git and
//! cargo). A violation says where and what to do. What is excepted stands with its reason in
//! `xtask/tidy-exceptions.toml`; an exception that excepts nothing is itself a violation, so that the list
//! shrinks. Rules that rustc and clippy hold (documentation of public items, SAFETY comments) are left to
//! them: the workspace's lints are denied in `cargo xtask test`.

mod budgets;
mod changelog;
mod citations;
mod commits;
mod essays;
mod exceptions;
mod layers;
mod machine;
mod markers;
mod names;
mod panics;
mod source;
mod tests_inline;
mod unsafety;

use crate::{Outcome, place};
use clap::Args;
use exceptions::Exceptions;
use source::Tree;
use std::fmt;

/// `cargo xtask tidy`
#[derive(Debug, Default, Args)]
pub(crate) struct Tidy {
    /// Only these rules
    rules: Vec<String>,
}

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Path from the root, or a commit.
    place: String,
    line: usize,
    rule: &'static str,
    /// What is wrong and what to do.
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} [{}]", self.place, self.line, self.message, self.rule)
    }
}

/// A rule: its name and the check, which gives place, line and message.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Outcome<Vec<Finding>>,
}

/// What a check found: place, line, message.
type Finding = (String, usize, String);

const RULES: &[Rule] = &[
    Rule { name: "layers", check: layers::check },
    Rule { name: "budgets", check: |tree| Ok(budgets::check(tree)) },
    Rule { name: "inline-tests", check: |tree| Ok(tests_inline::check(tree)) },
    Rule { name: "unsafe", check: |tree| Ok(unsafety::check(tree)) },
    Rule { name: "panics", check: |tree| Ok(panics::check(tree)) },
    Rule { name: "citations", check: |tree| Ok(citations::check(tree)) },
    Rule { name: "essays", check: |tree| Ok(essays::check(tree)) },
    Rule { name: "names", check: |tree| Ok(names::check(tree)) },
    Rule { name: "markers", check: |tree| Ok(markers::check(tree)) },
    Rule { name: "machine", check: |tree| Ok(machine::check(tree)) },
    Rule { name: "commits", check: commits::check },
    Rule { name: "changelog", check: |tree| Ok(changelog::check(tree)) },
];

impl Tidy {
    pub(crate) fn execute(self) -> Outcome {
        if let Some(unknown) = self.rules.iter().find(|name| RULES.iter().all(|r| r.name != **name))
        {
            let known = RULES.iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ");
            return Err(format!("{unknown}: no such rule; choose of {known}").into());
        }
        let wanted =
            |rule: &&Rule| self.rules.is_empty() || self.rules.iter().any(|r| r == rule.name);
        let tree = Tree::read(&place::root())?;
        let mut exceptions = Exceptions::read(&place::root())?;
        let mut violations = Vec::new();
        for rule in RULES.iter().filter(wanted) {
            let found = (rule.check)(&tree)?.into_iter().map(|(place, line, message)| Violation {
                place,
                line,
                rule: rule.name,
                message,
            });
            violations.extend(found.filter(|violation| !exceptions.covers(violation)));
        }
        if self.rules.is_empty() {
            violations.extend(exceptions.unused());
        }
        report(violations)
    }
}

fn report(mut violations: Vec<Violation>) -> Outcome {
    violations.sort();
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        n => Err(format!("{n} breaches of the house rules; mend each as its line says").into()),
    }
}
