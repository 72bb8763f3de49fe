//! What a feature file says that its author cannot mean.
//!
//! The grammar takes `Gven x` below a title for free text, a column that no step names for data, a scenario without
//! `Then` for a test. All of it parses, none of it is meant. Each finding has a code, a place and a way out.
//!
//! | code | finding |
//! |---|---|
//! | `syntax` | the file does not parse |
//! | `keyword` | free text that looks like a keyword |
//! | `undefined` | no step means this sentence |
//! | `ambiguous` | several steps mean it |
//! | `unused` | no feature says this step |
//! | `duplicate` | two scenarios with one name, or with the same steps |
//! | `column` | a column that is never used, or a `<name>` without a column |
//! | `no-then` | a scenario that checks nothing |
//! | `empty` | a scenario without steps, or examples without rows |

mod columns;
mod prose;
mod scenarios;
mod steps;

use kezhan_features::Loaded;
use kezhan_gherkin::ast::{Child, Location, Scenario};
use kezhan_steps::Catalogue;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It runs, but likely not as meant.
    Warning,
    /// It cannot run.
    Error,
}

/// One finding. `Display` gives `FILE:LINE:COLUMN: LEVEL[CODE]: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub location: Location,
    /// How bad.
    pub level: Level,
    /// What kind.
    pub code: &'static str,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(
            f,
            "{}:{}: {level}[{}]: {}",
            self.path.display(),
            self.location,
            self.code,
            self.message
        )
    }
}

/// Findings of one file while it is looked at.
struct Findings<'a> {
    path: &'a std::path::Path,
    list: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, level: Level, code: &'static str, location: Location, message: String) {
        self.list.push(Finding { path: self.path.to_owned(), location, level, code, message });
    }
}

/// Everything that is wrong with some files, in order of file and line. Without a catalogue, sentences are not
/// looked up: for features that code is generated from.
pub fn lint(loaded: &Loaded, catalogue: Option<&Catalogue>) -> Vec<Finding> {
    let mut list: Vec<Finding> = loaded
        .problems
        .iter()
        .map(|problem| Finding {
            path: problem.path.clone(),
            location: problem.location.unwrap_or_default(),
            level: Level::Error,
            code: "syntax",
            message: problem.message.clone(),
        })
        .collect();
    for feature in &loaded.features {
        let mut findings = Findings { path: &feature.path, list: &mut list };
        prose::look(feature, &mut findings);
        scenarios::look(feature, &mut findings);
        columns::look(feature, &mut findings);
        if let Some(catalogue) = catalogue {
            steps::look(feature, catalogue, &mut findings);
        }
    }
    if let Some(catalogue) = catalogue {
        steps::unused(loaded, catalogue, &mut list);
    }
    list.sort_by(|a, b| (&a.path, a.location).cmp(&(&b.path, b.location)));
    list
}

/// Every scenario of a feature, rules included.
fn all_scenarios(children: &[Child]) -> Vec<&Scenario> {
    let mut scenarios = Vec::new();
    for child in children {
        match child {
            Child::Background(_) => {}
            Child::Scenario(scenario) => scenarios.push(scenario),
            Child::Rule(rule) => scenarios.extend(all_scenarios(&rule.children)),
        }
    }
    scenarios
}

#[cfg(test)]
mod tests;
