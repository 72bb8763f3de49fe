//! Scenarios that repeat others, check nothing, or are empty.

use crate::{Findings, Level, all_scenarios};
use kezhan_features::Feature;
use kezhan_gherkin::ast::{KeywordType, Scenario};
use std::collections::BTreeMap;

pub(crate) fn look(feature: &Feature, findings: &mut Findings<'_>) {
    let Some(tree) = &feature.document.feature else { return };
    let scenarios = all_scenarios(&tree.children);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bodies: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for scenario in &scenarios {
        let line = scenario.location.line;
        if let Some(first) = names.get(scenario.name.as_str()).filter(|_| !scenario.name.is_empty())
        {
            let message = format!(
                "\"{}\" is already the name of the scenario in line {first}",
                scenario.name
            );
            findings.add(Level::Warning, "duplicate", scenario.location, message);
        }
        names.entry(&scenario.name).or_insert(line);
        let body = body(scenario);
        if let Some(first) = bodies.get(&body).filter(|_| !body.is_empty()) {
            let message = format!("it has the same steps as the scenario in line {first}");
            findings.add(Level::Warning, "duplicate", scenario.location, message);
        }
        bodies.entry(body).or_insert(line);
        contents(scenario, findings);
    }
    if scenarios.is_empty() {
        findings.add(
            Level::Warning,
            "empty",
            tree.location,
            "the feature has no scenario".to_owned(),
        );
    }
}

/// What a scenario does, as far as it can be compared.
fn body(scenario: &Scenario) -> Vec<String> {
    let steps = scenario.steps.iter().map(|step| {
        let doc = step.doc_string.as_ref().map(|doc| &doc.content);
        let rows = step.data_table.iter().flat_map(|table| &table.rows);
        let cells: Vec<&str> =
            rows.flat_map(|row| &row.cells).map(|cell| cell.value.as_str()).collect();
        format!("{} {doc:?} {cells:?}", step.text)
    });
    let rows = scenario.examples.iter().flat_map(|examples| &examples.table_body);
    let rows = rows
        .map(|row| format!("{:?}", row.cells.iter().map(|cell| &cell.value).collect::<Vec<_>>()));
    steps.chain(rows).collect()
}

fn contents(scenario: &Scenario, findings: &mut Findings<'_>) {
    if scenario.steps.is_empty() {
        let message = "the scenario has no steps; write them or remove it".to_owned();
        findings.add(Level::Warning, "empty", scenario.location, message);
        return;
    }
    let checks = |kind: KeywordType| matches!(kind, KeywordType::Outcome | KeywordType::Unknown);
    if !scenario.steps.iter().any(|step| checks(step.keyword_type)) {
        let message = "the scenario checks nothing; add a Then".to_owned();
        findings.add(Level::Warning, "no-then", scenario.location, message);
    }
    for examples in scenario.examples.iter().filter(|examples| examples.table_body.is_empty()) {
        findings.add(
            Level::Warning,
            "empty",
            examples.location,
            "the examples have no rows".to_owned(),
        );
    }
}
