//! The rule that all rows of a table have as many cells as its first.

use crate::ast::{Child, Document, Scenario, Step, TableRow};
use crate::error::{Fault, ParseError};

/// The first ragged row of each table of a file.
pub(crate) fn ragged_rows(document: &Document) -> Vec<ParseError> {
    let mut errors = Vec::new();
    if let Some(feature) = &document.feature {
        children(&feature.children, &mut errors);
    }
    errors
}

fn children(children: &[Child], errors: &mut Vec<ParseError>) {
    for child in children {
        match child {
            Child::Background(background) => steps(&background.steps, errors),
            Child::Scenario(scenario) => self::scenario(scenario, errors),
            Child::Rule(rule) => self::children(&rule.children, errors),
        }
    }
}

fn scenario(scenario: &Scenario, errors: &mut Vec<ParseError>) {
    steps(&scenario.steps, errors);
    for examples in &scenario.examples {
        errors.extend(ragged(examples.table_header.iter().chain(&examples.table_body)));
    }
}

fn steps(steps: &[Step], errors: &mut Vec<ParseError>) {
    let tables = steps.iter().filter_map(|step| step.data_table.as_ref());
    errors.extend(tables.filter_map(|table| ragged(table.rows.iter())));
}

fn ragged<'a>(mut rows: impl Iterator<Item = &'a TableRow>) -> Option<ParseError> {
    let expected = rows.next()?.cells.len();
    let row = rows.find(|row| row.cells.len() != expected)?;
    let fault = Fault::RaggedTable { expected, found: row.cells.len() };
    Some(ParseError { location: row.location, fault })
}
