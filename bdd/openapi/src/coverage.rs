//! Which scenarios exercise which answers of which operations.

use crate::bindings::fits;
use crate::calls::Call;
use crate::spec::METHODS;
use serde_json::Value;

/// One answer of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// `POST`, …
    pub method: String,
    /// The path template.
    pub path: String,
    /// The status as the document writes it.
    pub status: String,
    /// The scenarios that expect it.
    pub scenarios: Vec<String>,
}

/// A row for each answer that a document promises.
pub fn coverage(document: &Value, calls: &[Call]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            let responses = item
                .get(method)
                .and_then(|operation| operation.get("responses"))
                .and_then(Value::as_object);
            for status in responses.into_iter().flatten().map(|(status, _)| status) {
                let expects = |call: &&Call| {
                    call.method.eq_ignore_ascii_case(method)
                        && (call.path == *path || fits(path, &call.path))
                        && call.status.is_some_and(|code| code.to_string() == *status)
                };
                let mut scenarios: Vec<String> =
                    calls.iter().filter(expects).map(|call| call.scenario.clone()).collect();
                scenarios.dedup();
                rows.push(Row {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    status: status.clone(),
                    scenarios,
                });
            }
        }
    }
    rows
}

/// The rows as a table of Markdown, and how many of them a scenario exercises.
pub fn coverage_text(rows: &[Row]) -> String {
    let mut text = String::from("| operation | status | scenarios |\n|---|---|---|\n");
    for row in rows {
        let scenarios =
            if row.scenarios.is_empty() { "—".to_owned() } else { row.scenarios.join("<br>") };
        text.push_str(&format!("| {} {} | {} | {scenarios} |\n", row.method, row.path, row.status));
    }
    let covered = rows.iter().filter(|row| !row.scenarios.is_empty()).count();
    text.push_str(&format!("\n{covered} of {} answers are exercised\n", rows.len()));
    text
}
