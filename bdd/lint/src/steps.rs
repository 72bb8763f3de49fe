//! Sentences that no step means, or several; steps that no sentence says.

use crate::{Finding, Findings, Level};
use kezhan_features::{Feature, Loaded};
use kezhan_gherkin::ast::{Child, Location, Step};
use kezhan_steps::{Action, Catalogue, Found};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn look(feature: &Feature, catalogue: &Catalogue, findings: &mut Findings<'_>) {
    let mut places = BTreeMap::new();
    if let Some(tree) = &feature.document.feature {
        collect(&tree.children, &mut places);
    }
    let mut told = BTreeSet::new();
    for step in feature.pickles.iter().flat_map(|pickle| &pickle.steps) {
        let place = step
            .ast_node_ids
            .first()
            .and_then(|id| places.get(id.as_str()))
            .copied()
            .unwrap_or_default();
        if !told.insert((place, step.text.as_str())) {
            continue;
        }
        match catalogue.find(&step.text) {
            Ok(Found::One(found)) => {
                for argument in &found.arguments {
                    if let Err(error) = &argument.value {
                        findings.add(Level::Error, "undefined", place, error.to_string());
                    }
                }
            }
            Ok(Found::None) => {
                let message = format!(
                    "no step means \"{}\"; `kezhan bdd steps` lists what there is",
                    step.text
                );
                findings.add(Level::Error, "undefined", place, message);
            }
            Ok(Found::Several(matches)) => {
                let phrases: Vec<String> =
                    matches.iter().map(|found| format!("\"{}\"", found.phrase)).collect();
                let message = format!(
                    "several steps mean \"{}\": {}; say it otherwise",
                    step.text,
                    phrases.join(", ")
                );
                findings.add(Level::Error, "ambiguous", place, message);
            }
            Err(failure) => findings.add(Level::Error, "undefined", place, failure.to_string()),
        }
    }
}

fn collect<'a>(children: &'a [Child], places: &mut BTreeMap<&'a str, Location>) {
    let mut note = |steps: &'a [Step]| {
        places.extend(steps.iter().map(|step| (step.id.as_str(), step.location)))
    };
    for child in children {
        match child {
            Child::Background(background) => note(&background.steps),
            Child::Scenario(scenario) => note(&scenario.steps),
            Child::Rule(_) => {}
        }
    }
    for child in children {
        if let Child::Rule(rule) = child {
            collect(&rule.children, places);
        }
    }
}

/// Steps of one's own that no feature says. The built-in ones are for everybody and are not listed.
pub(crate) fn unused(loaded: &Loaded, catalogue: &Catalogue, list: &mut Vec<Finding>) {
    let mut used = BTreeSet::new();
    for step in
        loaded.features.iter().flat_map(|feature| &feature.pickles).flat_map(|pickle| &pickle.steps)
    {
        use_step(&step.text, catalogue, &mut used);
    }
    for (index, definition) in catalogue.definitions().iter().enumerate() {
        if definition.built_in || used.contains(&index) {
            continue;
        }
        let line = usize::try_from(definition.place.line).unwrap_or(0);
        list.push(Finding {
            path: definition.place.file.to_string().into(),
            location: Location::new(line, 1),
            level: Level::Warning,
            code: "unused",
            message: format!("no feature says step \"{}\"; remove it or use it", definition.name),
        });
    }
}

/// Notes the step that a sentence means, and those that it is made of.
fn use_step(sentence: &str, catalogue: &Catalogue, used: &mut BTreeSet<usize>) {
    let Ok(Found::One(found)) = catalogue.find(sentence) else { return };
    let new = used.insert(found.definition);
    let action = catalogue.definition(&found).map(|definition| &definition.action);
    if let (true, Some(Action::Composite(composite))) = (new, action) {
        let values = found.arguments.iter().filter_map(|argument| argument.value.clone().ok());
        for sentence in composite.sentences(&values.collect::<Vec<_>>()) {
            use_step(&sentence, catalogue, used);
        }
    }
}
