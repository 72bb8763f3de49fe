use super::*;
use kezhan_expressions::ParameterTypes;
use kezhan_gherkin::{Ids, parse, pickles};
use std::sync::Arc;
use std::time::Duration;

/// What the steps below share.
#[derive(Default)]
struct Counter {
    value: i64,
    asked: i64,
}

/// Counts up.
#[step(en = "I count {int}", zh = "我数 {int}")]
fn count(world: &mut World, number: i64) -> Result<(), Failure> {
    world.state::<Counter>().value += number;
    Ok(())
}

#[step(en = "I remember {string} as {string}")]
fn remember(world: &mut World, value: &str, name: &str) -> Result<(), Failure> {
    world.variables.set(name, value);
    Ok(())
}

#[check(en = "the counter shows {int}", zh = "计数器显示 {int}")]
fn shows(world: &mut World, number: i64) -> Result<(), Failure> {
    let counter = world.state::<Counter>();
    counter.asked += 1;
    let seen = counter.value;
    if seen == number {
        Ok(())
    } else {
        Err(Failure::mismatch(number.to_string(), seen.to_string()))
    }
}

#[check(en = "the counter has grown to {int}", patience = "5 s")]
fn grows(world: &mut World, number: i64) -> Result<(), Failure> {
    world.state::<Counter>().value += 1;
    shows(world, number)
}

#[step(en = "the rows are")]
fn rows(world: &mut World, table: Table) -> Result<(), Failure> {
    for (_, value) in table.pairs()? {
        world.state::<Counter>().value +=
            value.parse::<i64>().map_err(|error| Failure::broken(value, error))?;
    }
    Ok(())
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    let errors =
        catalogue.add(steps![count, remember, shows, grows, rows], &ParameterTypes::default());
    assert_eq!(errors, []);
    catalogue
}

fn world() -> World {
    let folder = std::env::temp_dir();
    World::new(&folder, &folder, Arc::new(Settings::default()), Duration::from_secs(10))
}

fn play(world: &mut World, sentence: &str) -> Result<(), Failure> {
    let catalogue = catalogue();
    match catalogue.find(sentence)? {
        Found::One(found) => perform(&catalogue, world, &found, None),
        other => panic!("{sentence}: {other:?}"),
    }
}

#[test]
fn one_function_serves_both_languages() {
    let mut world = world();
    play(&mut world, "I count 2").unwrap();
    play(&mut world, "我数３").unwrap();
    play(&mut world, "计数器显示 5").unwrap();
}

#[test]
fn a_failed_check_says_what_was_expected_and_what_was_seen() {
    let failure = play(&mut world(), "the counter shows 1").unwrap_err();
    assert_eq!(failure.to_string(), "expected 1\n     saw 0");
}

#[test]
fn within_asks_again_and_patience_is_used_when_the_sentence_is_silent() {
    play(&mut world(), "the counter has grown to 3 within 2 seconds").unwrap();
    play(&mut world(), "the counter has grown to 3").unwrap();
    let failure = play(&mut world(), "the counter shows 1 within 20 ms").unwrap_err();
    assert_eq!(failure, Failure::mismatch("1, within 0.0 s", "0"));
}

#[test]
fn for_must_hold_to_the_end() {
    let mut world = world();
    play(&mut world, "the counter shows 0 for 250 ms").unwrap();
    assert!(world.state::<Counter>().asked >= 2);
    let failure = play(&mut world, "the counter has grown to 1, for 1 s").unwrap_err();
    assert!(failure.to_string().contains("for 1.0 s"), "{failure}");
}

#[test]
fn not_turns_a_check_around_in_both_languages_but_not_inside_quotes() {
    let mut world = world();
    play(&mut world, "the counter does not show 4").unwrap();
    play(&mut world, "计数器不显示 4").unwrap();
    play(&mut world, "the counter does not show 0").unwrap_err();
    let found = catalogue().find("I remember \"it does not show\" as \"不\"").unwrap();
    assert!(matches!(found, Found::One(found) if found.clause.is_plain()));
}

#[test]
fn a_clause_may_stand_inside_a_chinese_sentence() {
    let Found::One(found) = catalogue().find("计数器在 3 秒内显示 5").unwrap() else {
        panic!()
    };
    assert_eq!(found.clause.within, Some(Duration::from_secs(3)));
}

#[test]
fn only_checks_take_clauses() {
    assert!(matches!(catalogue().find("I count 3 within 5 seconds").unwrap(), Found::None));
}

#[test]
fn variables_are_filled_and_missing_ones_are_named() {
    let mut world = world();
    play(&mut world, "I remember \"10.0.0.1\" as \"ip\"").unwrap();
    play(&mut world, "I remember \"http://${ip}/$${x}\" as \"url\"").unwrap();
    assert_eq!(world.variables.get("url"), Some("http://10.0.0.1/${x}"));
    let failure = play(&mut world, "I remember \"${nothing}\" as \"x\"").unwrap_err();
    assert_eq!(failure.to_string(), "variable \"nothing\" has no value; known are: ip, url");
}

#[test]
fn hidden_text_never_leaves() {
    let mut world = world();
    world.variables.hide("hunter2");
    assert_eq!(world.variables.mask("password hunter2!"), "password ••••••!");
}

#[test]
fn steps_are_made_of_steps() {
    let document = parse("Feature: x\n  Scenario: y\n    When I count <1>\n    And I count <1>\n    Then the counter shows 6\n", "en").unwrap();
    let steps = pickles(&document, &mut Ids::default()).unwrap().remove(0).steps;
    let mut catalogue = catalogue();
    let mut twice = count::definition();
    twice.name = "twice".into();
    twice.phrases =
        vec![Phrase { language: "en".into(), expression: "I count {int} twice".into() }];
    twice.action = Action::Composite(Arc::new(Composite { steps }));
    assert_eq!(catalogue.add(vec![twice], &ParameterTypes::default()), []);
    let mut world = world();
    let Found::One(found) = catalogue.find("I count 3 twice").unwrap() else { panic!() };
    perform(&catalogue, &mut world, &found, None).unwrap();
    assert_eq!(world.state::<Counter>().value, 6);
}

#[test]
fn a_definition_whose_phrase_and_function_disagree_is_refused_with_its_place() {
    let mut wrong = count::definition();
    wrong.phrases =
        vec![Phrase { language: "en".into(), expression: "/^count (\\d+) (\\d+)$/".into() }];
    let mut catalogue = Catalogue::default();
    let errors = catalogue.add(vec![wrong], &ParameterTypes::default());
    assert!(
        errors[0].to_string().contains("gives 2 values, the function takes 1"),
        "{}",
        errors[0]
    );
    assert!(errors[0].to_string().contains("tests.rs:"));
    let errors =
        catalogue.add(vec![count::definition(), count::definition()], &ParameterTypes::default());
    assert!(matches!(errors[..], [CatalogueError::Duplicate { .. }]));
}

#[test]
fn a_sentence_that_two_steps_mean_is_ambiguous() {
    let mut other = count::definition();
    other.name = "other".into();
    other.phrases = vec![Phrase { language: "en".into(), expression: "I count {word}".into() }];
    let mut catalogue = catalogue();
    catalogue.add(vec![other], &ParameterTypes::default());
    assert!(
        matches!(catalogue.find("I count 3").unwrap(), Found::Several(both) if both.len() == 2)
    );
}
