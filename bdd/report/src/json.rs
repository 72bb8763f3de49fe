//! The old JSON report of Cucumber: features, elements, steps. Many CI plug-ins still read it.

use crate::messages::Status;
use crate::record::{Case, Record, StepRecord};
use crate::terminal::word;
use serde_json::{Value, json};

/// The run as Cucumber JSON.
pub fn json(record: &Record) -> Value {
    let mut features: Vec<(String, String, Vec<Value>)> = Vec::new();
    for case in &record.cases {
        match features.iter_mut().find(|(uri, _, _)| *uri == case.uri) {
            Some((_, _, elements)) => elements.push(element(case)),
            None => features.push((case.uri.clone(), case.feature.clone(), vec![element(case)])),
        }
    }
    let objects = features.into_iter().map(|(uri, name, elements)| {
        json!({"uri": uri, "id": identifier(&name), "keyword": "Feature", "name": name, "line": 1,
               "description": "", "elements": elements})
    });
    Value::Array(objects.collect())
}

fn identifier(name: &str) -> String {
    name.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
}

fn element(case: &Case) -> Value {
    let steps = case.attempts.last().map(|attempt| attempt.steps.as_slice()).unwrap_or_default();
    json!({
        "id": format!("{};{};{}", identifier(&case.feature), identifier(&case.name), case.location.line),
        "keyword": "Scenario", "type": "scenario", "name": case.name, "description": "",
        "line": case.location.line,
        "tags": case.tags.iter().map(|tag| json!({"name": tag, "line": case.location.line})).collect::<Vec<_>>(),
        "steps": steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &StepRecord) -> Value {
    let status = match step.status {
        Some(
            status @ (Status::Passed
            | Status::Failed
            | Status::Skipped
            | Status::Pending
            | Status::Undefined),
        ) => word(status),
        Some(Status::Ambiguous) => "ambiguous",
        Some(Status::Unknown) | None => "skipped",
    };
    let mut result = json!({"status": status});
    if let Some(fields) = result.as_object_mut() {
        if !step.duration.is_zero() {
            fields.insert(
                "duration".to_owned(),
                json!(u64::try_from(step.duration.as_nanos()).unwrap_or(u64::MAX)),
            );
        }
        fields.extend(
            step.message.as_ref().map(|message| ("error_message".to_owned(), json!(message))),
        );
    }
    let embeddings = step.attachments.iter().map(|attached| {
        let data = if attached.base64 {
            attached.body.clone()
        } else {
            crate::encode(attached.body.as_bytes())
        };
        json!({"data": data, "mime_type": attached.media_type, "name": attached.name})
    });
    json!({
        "keyword": step.keyword, "name": step.text, "line": step.location.line,
        "match": {"location": ""}, "result": result, "embeddings": embeddings.collect::<Vec<_>>(),
    })
}
