//! The OpenAPI document of some calls.

use crate::calls::Call;
use crate::schema::{has_marker, infer};
use crate::spec::{JSON, PROBLEM, REASONS, VERSION};
use serde_json::{Map, Value, json};

/// The document. Operations without an expected status get none but `default`.
pub fn draw(calls: &[Call], title: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for path in unique(calls.iter().map(|call| call.path.as_str())) {
        let mut item = Map::new();
        let parameters = parameters(path);
        if !parameters.is_empty() {
            item.insert("parameters".to_owned(), Value::Array(parameters));
        }
        let here: Vec<&Call> = calls.iter().filter(|call| call.path == path).collect();
        for method in unique(here.iter().map(|call| call.method.as_str())) {
            let same: Vec<&Call> =
                here.iter().copied().filter(|call| call.method == method).collect();
            item.insert(method.to_lowercase(), operation(&same));
        }
        paths.insert(path.to_owned(), Value::Object(item));
    }
    let tags = unique(calls.iter().map(|call| call.feature.as_str()));
    json!({
        "openapi": VERSION,
        "info": {"title": title, "version": "0.1.0"},
        "tags": tags.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "paths": paths,
    })
}

fn unique<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen: Vec<&str> = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

/// The parameters in braces. (OpenAPI Specification 3.1.0, §4.8.12)
fn parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect()
}

fn operation(calls: &[&Call]) -> Value {
    let id = calls.iter().find_map(|call| call.id.clone()).unwrap_or_else(|| operation_id(calls));
    let tags = unique(calls.iter().map(|call| call.feature.as_str()));
    let scenarios = unique(calls.iter().map(|call| call.scenario.as_str()));
    let mut fields = json!({"operationId": id, "tags": tags, "responses": responses(calls), "x-scenarios": scenarios});
    let bodies: Vec<&Value> = calls.iter().filter_map(|call| call.request.as_ref()).collect();
    if let (Some(fields), false) = (fields.as_object_mut(), bodies.is_empty()) {
        // What is refused as malformed is no example of what is accepted.
        let accepted: Vec<&Value> = calls
            .iter()
            .filter(|call| call.status != Some(400))
            .filter_map(|call| call.request.as_ref())
            .collect();
        let good = if accepted.is_empty() { bodies } else { accepted };
        fields.insert(
            "requestBody".to_owned(),
            json!({"required": true, "content": {JSON: media(&good)}}),
        );
    }
    fields
}

fn operation_id(calls: &[&Call]) -> String {
    let Some(call) = calls.first() else { return String::new() };
    let words = call.path.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut id = call.method.to_lowercase();
    for word in words {
        let mut letters = word.chars();
        id.extend(letters.next().into_iter().flat_map(char::to_uppercase).chain(letters));
    }
    id
}

fn responses(calls: &[&Call]) -> Value {
    let mut statuses: Vec<u16> = calls.iter().filter_map(|call| call.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let mut responses = Map::new();
    for status in statuses {
        let reason = REASONS
            .iter()
            .find(|(code, _)| *code == status)
            .map_or("As the scenarios say", |(_, reason)| reason);
        let bodies: Vec<&Value> = calls
            .iter()
            .filter(|call| call.status == Some(status))
            .filter_map(|call| call.response.as_ref())
            .collect();
        let mut response = json!({"description": reason});
        if let (Some(fields), false) = (response.as_object_mut(), bodies.is_empty()) {
            let media_type = if status >= 400 { PROBLEM } else { JSON };
            fields.insert("content".to_owned(), json!({media_type: media(&bodies)}));
        }
        responses.insert(status.to_string(), response);
    }
    if responses.is_empty() {
        responses.insert(
            "default".to_owned(),
            json!({"description": "No scenario says what is answered"}),
        );
    }
    Value::Object(responses)
}

fn media(examples: &[&Value]) -> Value {
    let mut media = json!({"schema": infer(examples)});
    if let (Some(fields), Some(example)) =
        (media.as_object_mut(), examples.iter().find(|example| !has_marker(example)))
    {
        fields.insert("example".to_owned(), (*example).clone());
    }
    media
}
