use super::*;
use crate::messages::{Envelope, Status};
use proptest::prelude::*;
use serde_json::json;

/// A run of two scenarios: one passes on the second attempt, one fails.
fn events(hostile: &str) -> Vec<Envelope> {
    let document = kezhan_gherkin::parse(
        "Feature: f\n  As a user\n  I want x\n  Rule: r\n    @t\n    Scenario: s\n      Given a\n      Then b\n  Rule: q\n    Scenario: u\n      Then c\n",
        "en",
    )
    .unwrap();
    let mut ids = kezhan_gherkin::Ids::from(100);
    let pickles = kezhan_gherkin::pickles(&document, &mut ids).unwrap();
    let mut events = vec![json!({"gherkinDocument": document})];
    events.push(
        json!({"testRunStarted": {"id": "r", "timestamp": {"seconds": 1_000_000_000, "nanos": 0}}}),
    );
    for (at, pickle) in pickles.iter().enumerate() {
        events.push(json!({"pickle": pickle}));
        let steps: Vec<_> = pickle
            .steps
            .iter()
            .map(|step| json!({"id": format!("t{}", step.id), "pickleStepId": step.id}))
            .collect();
        events.push(json!({"testCase": {"id": format!("c{at}"), "pickleId": pickle.id, "testSteps": steps}}));
        for attempt in 0..2 - at {
            let id = format!("a{at}{attempt}");
            events.push(json!({"testCaseStarted": {"id": id, "testCaseId": format!("c{at}"), "attempt": attempt, "timestamp": {"seconds": 1_000_000_000, "nanos": 0}}}));
            let last = pickle.steps.last().unwrap();
            for step in &pickle.steps {
                let failed = step.id == last.id && !(at == 0 && attempt == 1);
                let mut result = json!({"status": if failed { "FAILED" } else { "PASSED" }, "duration": {"seconds": 0, "nanos": 5_000_000}});
                if failed {
                    result["message"] = json!(format!("expected 1\n     saw {hostile}"));
                    events.push(json!({"attachment": {"body": hostile, "contentEncoding": "IDENTITY", "fileName": hostile, "mediaType": "text/plain", "testCaseStartedId": id, "testStepId": format!("t{}", step.id)}}));
                }
                events.push(json!({"testStepFinished": {"testCaseStartedId": id, "testStepId": format!("t{}", step.id), "testStepResult": result, "timestamp": {"seconds": 1, "nanos": 0}}}));
            }
            let retried = at == 0 && attempt == 0;
            events.push(json!({"testCaseFinished": {"testCaseStartedId": id, "willBeRetried": retried, "timestamp": {"seconds": 1_000_000_002, "nanos": 0}}}));
        }
    }
    events.push(json!({"testRunFinished": {"success": false, "timestamp": {"seconds": 1_000_000_004, "nanos": 0}}}));
    events.into_iter().map(|event| serde_json::from_value(event).unwrap()).collect()
}

fn record(hostile: &str) -> Record {
    let mut record = Record::default();
    for event in events(hostile) {
        record.add(&event);
    }
    record
}

#[test]
fn events_add_up_to_cases_with_attempts() {
    let record = record("2");
    assert_eq!(record.cases.len(), 2);
    assert_eq!((record.cases[0].status(), record.cases[0].attempts.len()), (Status::Passed, 2));
    assert_eq!(record.cases[0].rule.as_deref(), Some("r"));
    assert_eq!(record.cases[1].status(), Status::Failed);
    assert!(!record.success());
}

#[test]
fn the_terminal_says_what_was_expected_what_was_seen_and_where() {
    let record = record("2");
    let passed = case_text(&record.cases[0], Style::Plain);
    assert!(passed.starts_with("✔ s (passed on attempt 2)"), "{passed}");
    let failed = case_text(&record.cases[1], Style::Plain);
    assert!(
        failed.contains("✘ Then c\n        :11\n        expected 1\n             saw 2"),
        "{failed}"
    );
    let summary = summary_text(&record, Style::Plain);
    assert!(summary.contains("2 scenarios: 1 passed, 1 failed, 1 retried  4.0 s"), "{summary}");
}

#[test]
fn junit_counts_and_escapes() {
    let xml = junit(&record("<&\u{1b}\">"));
    assert!(xml.contains("timestamp=\"2001-09-09T01:46:40\""), "{xml}");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\" time="));
    assert!(xml.contains("saw &lt;&amp;\u{fffd}&quot;&gt;"));
}

#[test]
fn the_page_opens_what_failed_and_runs_nothing() {
    let page = html(&record("<script>alert(1)</script>"));
    assert!(page.contains("<details open><summary class=\"failed\">"), "{page}");
    assert!(page.contains("As a user<br>I want x"));
    assert!(!page.contains("<script"));
}

#[test]
fn the_old_json_has_features_elements_and_steps() {
    let report = json(&record("2"));
    assert_eq!(report[0]["elements"][1]["steps"][0]["result"]["status"], "failed");
    assert_eq!(report[0]["elements"][0]["tags"][0]["name"], "@t");
}

#[test]
fn events_of_other_tools_are_read_and_kept() {
    let event: Envelope = serde_json::from_str("{\"hook\":{\"id\":\"1\"}}").unwrap();
    assert_eq!(serde_json::to_string(&event).unwrap(), "{\"hook\":{\"id\":\"1\"}}");
}

proptest! {
    #[test]
    fn no_text_breaks_a_report(hostile in ".{0,60}") {
        let record = record(&hostile);
        let page = html(&record);
        prop_assert!(!page.contains("<script"));
        let xml = junit(&record);
        prop_assert!(xml.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
        let shown = case_text(&record.cases[1], Style::Plain);
        prop_assert!(!shown.contains(char::from(27)));
    }
}
