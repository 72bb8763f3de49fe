use super::*;
use kezhan_expressions::ParameterTypes;

fn found(text: &str, with_steps: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.feature");
    std::fs::write(&path, text).unwrap();
    let loaded = kezhan_features::load(&[path], "en");
    let mut catalogue = Catalogue::default();
    catalogue.add(kezhan_vocabulary::all(), &ParameterTypes::default());
    let findings = lint(&loaded, with_steps.then_some(&catalogue));
    let short =
        |finding: &Finding| format!("{} {}: {}", finding.location, finding.code, finding.message);
    findings.iter().map(short).collect()
}

#[test]
fn misspelt_keywords_are_found_in_both_languages() {
    let english = found("Feature: x\n  Scenario: y\n    Gven a\n    Then b\n", false);
    assert_eq!(english, ["3:5 keyword: this is read as free text; is \"Given\" meant?"]);
    let chinese =
        found("# language: zh-CN\n功能: x\n  场景: y\n    假入余额\n    那么付款\n", false);
    assert_eq!(chinese, ["4:5 keyword: this is read as free text; is \"假如\" meant?"]);
}

#[test]
fn steps_without_a_scenario_are_found() {
    let found = found("Feature: x\n  Given a\n", false);
    assert!(
        found
            .iter()
            .any(|finding| finding.starts_with("2:3 keyword: free text begins with \"Given\"")),
        "{found:?}"
    );
}

#[test]
fn undefined_and_ambiguous_sentences_are_found_once() {
    let text = "Feature: x\n  Background:\n    Given nonsense\n  Scenario: y\n    Then the command succeeds\n  Scenario: z\n    Then the command fails\n    And the API answers 201\n";
    let found = found(text, true);
    assert_eq!(
        found,
        ["3:5 undefined: no step means \"nonsense\"; `kezhan bdd steps` lists what there is"]
    );
}

#[test]
fn duplicates_columns_and_scenarios_that_check_nothing_are_found() {
    let text = "Feature: x\n  Scenario: y\n    Given a\n  Scenario: y\n    Given a\n  Scenario Outline: z\n    Then <b> <d>\n    Examples:\n      | b | c |\n      | 1 | 2 |\n  Scenario: e\n";
    let codes: Vec<String> =
        found(text, false).iter().map(|f| f.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(
        codes,
        [
            "2:3 no-then",
            "4:3 duplicate",
            "4:3 duplicate",
            "4:3 no-then",
            "7:5 column",
            "9:13 column",
            "11:3 empty"
        ]
    );
}

#[test]
fn faults_of_syntax_are_findings_too() {
    let found = found("Feature: x\n  Scenario: y\n    Given a\n    bad\n", false);
    assert!(found[0].starts_with("4:5 syntax: \"bad\" cannot stand here"), "{found:?}");
}
