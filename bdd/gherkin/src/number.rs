//! Identifiers of nodes, in the order in which the official parser closes them.
//!
//! Inner nodes come first: the rows of a table before its step, the steps of a scenario before its tags, and
//! the scenario itself last. Keeping that order is what makes two trees comparable byte for byte.

use crate::ast::{Child, Document, Scenario, Step, TableRow, Tag};

/// Gives out identifiers: decimal numbers from a first one on.
#[derive(Debug, Default)]
pub struct Ids(u64);

impl Ids {
    /// Identifiers from `first` on.
    pub fn from(first: u64) -> Ids {
        Ids(first)
    }

    /// The next one.
    pub fn next_id(&mut self) -> String {
        let id = self.0.to_string();
        self.0 += 1;
        id
    }

    /// The number that the next one will be.
    pub fn position(&self) -> u64 {
        self.0
    }
}

/// Numbers a tree from zero.
pub(crate) fn number(document: &mut Document) {
    renumber(document, &mut Ids::default());
}

/// Numbers a tree anew, so that several files of one run share no identifier.
pub fn renumber(document: &mut Document, ids: &mut Ids) {
    if let Some(feature) = &mut document.feature {
        feature.children.iter_mut().for_each(|child| self::child(child, ids));
        tags(&mut feature.tags, ids);
    }
}

fn child(child: &mut Child, ids: &mut Ids) {
    match child {
        Child::Background(background) => {
            steps(&mut background.steps, ids);
            background.id = ids.next_id();
        }
        Child::Scenario(scenario) => self::scenario(scenario, ids),
        Child::Rule(rule) => {
            rule.children.iter_mut().for_each(|child| self::child(child, ids));
            tags(&mut rule.tags, ids);
            rule.id = ids.next_id();
        }
    }
}

fn scenario(scenario: &mut Scenario, ids: &mut Ids) {
    steps(&mut scenario.steps, ids);
    for examples in &mut scenario.examples {
        rows(examples.table_header.iter_mut().chain(&mut examples.table_body), ids);
        tags(&mut examples.tags, ids);
        examples.id = ids.next_id();
    }
    tags(&mut scenario.tags, ids);
    scenario.id = ids.next_id();
}

fn steps(steps: &mut [Step], ids: &mut Ids) {
    for step in steps {
        rows(step.data_table.iter_mut().flat_map(|table| &mut table.rows), ids);
        step.id = ids.next_id();
    }
}

fn rows<'a>(rows: impl Iterator<Item = &'a mut TableRow>, ids: &mut Ids) {
    rows.for_each(|row| row.id = ids.next_id());
}

fn tags(tags: &mut [Tag], ids: &mut Ids) {
    tags.iter_mut().for_each(|tag| tag.id = ids.next_id());
}
