//! Free text that looks like a keyword.

use crate::{Findings, Level};
use kezhan_features::Feature;
use kezhan_gherkin::ast::{Child, Location};
use kezhan_gherkin::{Language, nearest_keyword};

pub(crate) fn look(feature: &Feature, findings: &mut Findings<'_>) {
    let Some(tree) = &feature.document.feature else { return };
    let Some(language) = Language::find(&tree.language) else { return };
    let lines: Vec<&str> = feature.text.lines().collect();
    let mut titles = vec![(tree.location.line, tree.description.as_str(), false)];
    collect(&tree.children, &mut titles);
    for (title, description, steps_follow) in titles {
        for (number, text) in below(&lines, title, description) {
            if let Some(message) = suspicion(language, text, steps_follow) {
                let column = lines
                    .get(number - 1)
                    .map_or(1, |line| line.chars().take_while(|c| c.is_whitespace()).count() + 1);
                findings.add(Level::Warning, "keyword", Location::new(number, column), message);
            }
        }
    }
}

/// Title lines with their descriptions, and whether steps may stand below.
fn collect<'a>(children: &'a [Child], titles: &mut Vec<(usize, &'a str, bool)>) {
    for child in children {
        match child {
            Child::Background(background) => {
                titles.push((background.location.line, &background.description, true))
            }
            Child::Scenario(scenario) => {
                titles.push((scenario.location.line, &scenario.description, true));
                let examples = scenario.examples.iter();
                titles.extend(examples.map(|examples| {
                    (examples.location.line, examples.description.as_str(), false)
                }));
            }
            Child::Rule(rule) => {
                titles.push((rule.location.line, &rule.description, false));
                collect(&rule.children, titles);
            }
        }
    }
}

/// The lines of a description with their numbers: the first that equals its first line, and on from there.
fn below<'a>(lines: &[&'a str], title: usize, description: &str) -> Vec<(usize, &'a str)> {
    let wanted: Vec<&str> =
        description.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut found = Vec::new();
    let mut wanted = wanted.into_iter().peekable();
    for (at, line) in lines.iter().enumerate().skip(title) {
        match wanted.peek() {
            None => break,
            Some(next) if line.trim() == *next => {
                found.push((at + 1, line.trim()));
                wanted.next();
            }
            Some(_) => {}
        }
    }
    found
}

fn suspicion(language: &Language, text: &str, steps_follow: bool) -> Option<String> {
    let keyword =
        language.steps().iter().find(|(word, _)| word != "* " && text.starts_with(word.as_str()));
    if let Some((word, _)) = keyword.filter(|_| !steps_follow) {
        let word = word.trim_end();
        return Some(format!(
            "free text begins with \"{word}\": a step needs a scenario or a background above it"
        ));
    }
    if text.starts_with('｜') {
        return Some(
            "free text begins with ｜, the full-width bar: a table row begins with |".to_owned(),
        );
    }
    let meant = nearest_keyword(language, text)?;
    Some(format!("this is read as free text; is \"{meant}\" meant?"))
}
