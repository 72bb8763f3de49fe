use super::*;
use crate::ast::{Child, Document, Scenario};
use proptest::prelude::*;

fn read(text: &str) -> Document {
    parse(text, "en").unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn faults(text: &str) -> Vec<String> {
    parse(text, "en").unwrap_err().iter().map(ToString::to_string).collect()
}

fn scenarios(document: &Document) -> Vec<&Scenario> {
    let children = &document.feature.as_ref().unwrap().children;
    children
        .iter()
        .filter_map(|child| match child {
            Child::Scenario(scenario) => Some(scenario),
            _ => None,
        })
        .collect()
}

#[test]
fn three_faults_in_one_file_are_reported_as_three() {
    let text = "Feature: x\n  Scenario: y\n    Given a\n    Gven b\n    When c\n      | a | b |\n      | c |\n    Tehn d\n";
    let faults = faults(text);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(
        faults[0].starts_with("4:5: \"Gven b\" cannot stand here (is \"Given\" meant?)"),
        "{}",
        faults[0]
    );
    assert_eq!(faults[1], "7:7: this row has 1 cells, the first row has 2; give every row 2");
    assert!(
        faults[2].starts_with("8:5: \"Tehn d\" cannot stand here (is \"Then\" meant?)"),
        "{}",
        faults[2]
    );
}

#[test]
fn chinese_keywords_need_no_space_and_take_a_full_width_colon() {
    let document = read(
        "# language: zh-CN\n功能：取款\n  场景：余额足够\n    假如账户有余额\n    当取款\n    那么付款\n",
    );
    let feature = document.feature.as_ref().unwrap();
    assert_eq!((feature.keyword.as_str(), feature.name.as_str()), ("功能", "取款"));
    let steps: Vec<_> = scenarios(&document)[0]
        .steps
        .iter()
        .map(|step| (step.keyword.as_str(), step.text.as_str()))
        .collect();
    assert_eq!(steps, [("假如", "账户有余额"), ("当", "取款"), ("那么", "付款")]);
}

#[test]
fn a_description_belongs_to_the_title_above_it() {
    let document = read("Feature: x\n  Scenario: y\n    text of y\n  Scenario: z\n    Given a\n");
    let descriptions: Vec<_> =
        scenarios(&document).iter().map(|scenario| scenario.description.as_str()).collect();
    assert_eq!(descriptions, ["    text of y", ""]);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_change_nothing() {
    let plain = "Feature: x\n  Scenario: y\n    Given z\n      \"\"\"\n      a\n      \"\"\"\n";
    let dressed = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    assert_eq!(parse_bytes(dressed.as_bytes(), "en").unwrap(), read(plain));
}

#[test]
fn bytes_that_are_not_utf_8_are_named_with_their_place() {
    let error = &parse_bytes(b"Feature: x\n  Sc\xffnario: y\n", "en").unwrap_err()[0];
    assert_eq!(error.to_string(), "2:5: byte 0xff is not UTF-8; save the file as UTF-8");
}

#[test]
fn a_file_above_the_limit_is_refused_unread() {
    let bytes = vec![b'a'; usize::try_from(spec::MAX_SOURCE).unwrap() + 1];
    let error = &parse_bytes(&bytes, "en").unwrap_err()[0];
    assert!(matches!(error.fault, Fault::TooLarge(_)));
}

#[test]
fn an_open_doc_string_names_the_line_that_opened_it() {
    let faults = faults("Feature: x\n  Scenario: y\n    Given z\n      \"\"\"\n      text\n");
    assert_eq!(faults, ["6:1: the doc string opened at line 4 is not closed; end it with \"\"\""]);
}

#[test]
fn a_hundred_faults_are_enough() {
    let text = format!("Feature: x\n  Scenario: y\n    Given z\n{}", "    nonsense\n".repeat(1000));
    let faults = faults(&text);
    assert_eq!(faults.len(), spec::MAX_ERRORS + 1);
    assert!(faults.last().unwrap().contains("more than 100 faults"));
}

#[test]
fn an_outline_that_explodes_is_refused() {
    let rows = format!("      | {} |\n", "x".repeat(1000)).repeat(3000);
    let text = format!(
        "Feature: x\n  Scenario Outline: y\n    Given {}\n    Examples:\n      | a |\n{rows}",
        "<a>".repeat(1000)
    );
    let error = pickles(&read(&text), &mut Ids::default()).unwrap_err();
    assert_eq!(error.fault, Fault::TooManyRows);
}

#[test]
fn a_row_of_examples_names_its_pickle_and_fills_its_arguments() {
    let text = "Feature: x\n  Scenario Outline: take <n>\n    Given table\n      | <n> |\n    When doc\n      \"\"\"<n>\n      <n>\n      \"\"\"\n    Examples:\n      | n |\n      | 7 |\n";
    let pickles = pickles(&read(text), &mut Ids::default()).unwrap();
    assert_eq!(pickles[0].name, "take 7");
    assert_eq!(pickles[0].location.line, 11);
    let table = pickles[0].steps[0].argument.as_ref().unwrap().data_table.as_ref().unwrap();
    assert_eq!(table.rows[0].cells[0].value, "7");
    let doc = pickles[0].steps[1].argument.as_ref().unwrap().doc_string.as_ref().unwrap();
    assert_eq!((doc.media_type.as_deref(), doc.content.as_str()), (Some("7"), "7"));
}

/// Lines that look like Gherkin, so that random files reach deep places.
fn line() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "Feature: f",
        "功能: f",
        "Rule: r",
        "Background:",
        "Scenario: s",
        "Scenario Outline: <a>",
        "Examples:",
        "场景：s",
        "假如x",
        "Given x <a>",
        "And y",
        "* z",
        "@t @u",
        "@bad tag",
        "# c",
        "# language: zh-CN",
        "#language:xx",
        "| a | b |",
        "| <a> |",
        "|\\",
        "\"\"\"",
        "```sh",
        "",
        "text",
        "\u{3000}",
        "\r",
    ]);
    prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(lines in prop::collection::vec(line(), 0..40)) {
        let text = lines.join("\n");
        if let Ok(document) = parse(&text, "en") {
            let _ = pickles(&document, &mut Ids::default());
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_bytes(&bytes, "en");
    }

    #[test]
    fn every_fault_lies_within_the_file_or_right_after_it(lines in prop::collection::vec(line(), 0..20)) {
        let text = lines.join("\n");
        for error in parse(&text, "en").err().unwrap_or_default() {
            prop_assert!(error.location.line <= text.matches('\n').count() + 2);
        }
    }
}
