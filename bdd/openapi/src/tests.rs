use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const FEATURE: &str = r##"Feature: Cash
  Scenario: paid
    When I POST /v1/withdrawals with:
      """json
      {"card": "4000001", "amount": 20}
      """
    Then the API answers 201 with:
      """json
      {"id": "#uuid", "balance": 80}
      """
    When I GET /v1/accounts/4000001
    Then the API answers 200
    And the response has:
      | /balance | 80 |

  Scenario: refused
    When I POST /v1/withdrawals with:
      """json
      {"card": "4000001", "amount": 5000, "note": "x"}
      """
    Then the API answers 409 with problem "not-enough-money"

  Scenario: in words
    When the customer requests 20
    Then ensure 20 is dispensed

  Scenario: refused in words
    When the customer requests 2000
    Then ensure the machine says "no money"
    And ensure 0 is dispensed
"##;

const BINDINGS: &str = r#"
paths = ["/v1/accounts/{card}"]

[[binding]]
step = "the customer requests {int}"
operation = { method = "POST", path = "/v1/withdrawals", id = "requestCash" }
request = { card = "4000001", amount = "{1}" }

[[binding]]
step = "ensure the machine says {string}"
when = "no money"
expect = { status = 409, pointer = "/title" }

[[binding]]
step = "ensure {int} is dispensed"
expect = { status = 201, pointer = "/dispensed" }
"#;

fn features(text: &str) -> Vec<kezhan_features::Feature> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cash.feature");
    std::fs::write(&path, text).unwrap();
    let loaded = kezhan_features::load(&[path], "en");
    assert_eq!(loaded.problems, []);
    loaded.features
}

fn drawn() -> Value {
    draw(&calls(&features(FEATURE), &Bindings::parse(BINDINGS).unwrap()), "Cash machine")
}

#[test]
fn steps_and_bound_sentences_become_one_operation() {
    let document = drawn();
    let operation = &document["paths"]["/v1/withdrawals"]["post"];
    assert_eq!(operation["operationId"], "requestCash");
    assert_eq!(operation["x-scenarios"].as_array().unwrap().len(), 4);
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["amount", "card"]));
    assert_eq!(schema["properties"]["note"], json!({"type": "string"}));
    let answer = &operation["responses"]["201"]["content"]["application/json"]["schema"];
    assert_eq!(answer["properties"]["id"], json!({"type": "string", "format": "uuid"}));
    assert_eq!(answer["properties"]["dispensed"], json!({"type": "integer"}));
    let refused = &operation["responses"]["409"]["content"]["application/problem+json"]["schema"];
    assert!(
        refused["properties"]["dispensed"].is_null() && refused["properties"]["title"].is_object()
    );
    assert!(operation["responses"]["409"]["content"]["application/problem+json"].is_object());
}

#[test]
fn concrete_paths_become_templates_with_parameters() {
    let item = &drawn()["paths"]["/v1/accounts/{card}"];
    assert_eq!(item["parameters"][0]["name"], "card");
    let guessed = draw(
        &calls(
            &features("Feature: x\n  Scenario: y\n    When I GET /v1/machines/${name}\n"),
            &Bindings::default(),
        ),
        "x",
    );
    assert!(
        guessed["paths"]["/v1/machines/{machine}"]["get"]["responses"]["default"].is_object(),
        "{guessed}"
    );
}

#[test]
fn every_response_has_the_description_that_the_standard_demands() {
    for (_, item) in drawn()["paths"].as_object().unwrap() {
        for (_, operation) in
            item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            assert!(
                operation["responses"]
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|response| response["description"].is_string())
            );
        }
    }
}

#[test]
fn features_come_back_and_cover_what_they_came_from() {
    let document = drawn();
    let files = outline(&document);
    assert_eq!(files[0].0.to_str(), Some("cash.feature"));
    let calls = calls(&features(&files[0].1), &Bindings::parse(BINDINGS).unwrap());
    let rows = coverage(&document, &calls);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.scenarios.len() == 1), "{rows:?}\n{}", files[0].1);
    let text = coverage_text(&coverage(&document, &[]));
    assert!(
        text.contains("| POST /v1/withdrawals | 409 | — |")
            && text.ends_with("0 of 3 answers are exercised\n"),
        "{text}"
    );
}

#[test]
fn faults_of_the_table_are_told() {
    assert!(
        Bindings::parse("[[binding]]\nstep = \"a {nonsense}\"\n")
            .unwrap_err()
            .to_string()
            .contains("nonsense")
    );
    assert!(Bindings::parse("unknown = 1").unwrap_err().to_string().contains("unknown"));
}

#[test]
fn references_that_go_in_circles_end() {
    let document = json!({
        "paths": {"/x": {"post": {"requestBody": {"$ref": "#/a"}, "responses": {"200": {"$ref": "#/a"}}}}},
        "a": {"$ref": "#/a"}
    });
    assert_eq!(outline(&document).len(), 1);
}

proptest! {
    #[test]
    fn no_document_makes_us_panic(text in "[\\{\\}\\[\\]\":,a-z/#$0-9 ]{0,80}") {
        if let Ok(document) = serde_json::from_str::<Value>(&text) {
            let _ = outline(&json!({"paths": {"/{a}": {"get": document.clone(), "parameters": [document.clone()]}}}));
            let _ = coverage(&json!({"paths": document}), &[]);
        }
        let _ = Bindings::parse(&text);
    }
}
