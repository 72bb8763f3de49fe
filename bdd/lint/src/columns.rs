//! Columns of examples that nothing uses, and names without a column.

use crate::{Findings, Level, all_scenarios};
use kezhan_features::Feature;
use kezhan_gherkin::ast::{Location, Scenario};

pub(crate) fn look(feature: &Feature, findings: &mut Findings<'_>) {
    let Some(tree) = &feature.document.feature else { return };
    for scenario in
        all_scenarios(&tree.children).into_iter().filter(|scenario| !scenario.examples.is_empty())
    {
        let texts = texts(scenario);
        unused(scenario, &texts, findings);
        missing(scenario, findings);
    }
}

/// Every text of a scenario in which `<name>` is replaced, with its place.
fn texts(scenario: &Scenario) -> Vec<(Location, &str)> {
    let mut texts = vec![(scenario.location, scenario.name.as_str())];
    for step in &scenario.steps {
        texts.push((step.location, &step.text));
        texts.extend(step.doc_string.iter().map(|doc| (doc.location, doc.content.as_str())));
        let rows = step.data_table.iter().flat_map(|table| &table.rows);
        texts.extend(
            rows.flat_map(|row| &row.cells).map(|cell| (cell.location, cell.value.as_str())),
        );
    }
    texts
}

fn unused(scenario: &Scenario, texts: &[(Location, &str)], findings: &mut Findings<'_>) {
    let headers = scenario.examples.iter().filter_map(|examples| examples.table_header.as_ref());
    for cell in headers.flat_map(|header| &header.cells) {
        let mark = format!("<{}>", cell.value);
        if !texts.iter().any(|(_, text)| text.contains(&mark)) {
            let message = format!(
                "no step uses column \"{}\"; write {mark} in one or remove the column",
                cell.value
            );
            findings.add(Level::Warning, "column", cell.location, message);
        }
    }
}

fn missing(scenario: &Scenario, findings: &mut Findings<'_>) {
    let headers: Vec<_> =
        scenario.examples.iter().filter_map(|examples| examples.table_header.as_ref()).collect();
    let known = |name: &str| {
        headers.iter().any(|header| header.cells.iter().any(|cell| cell.value == name))
    };
    for step in &scenario.steps {
        for name in names(&step.text).filter(|name| !known(name)) {
            let message = format!("<{name}> has no column in the examples; add one");
            findings.add(Level::Error, "column", step.location, message);
        }
    }
}

/// The names between angle brackets.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('<')
        .skip(1)
        .filter_map(|rest| rest.split_once('>'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty())
}
