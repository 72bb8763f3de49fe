//! JSON Schemas out of examples.

use serde_json::{Map, Value, json};

/// The schema that all examples fit. Members that some example lacks are not required; markers such as `#uuid` say
/// what they stand for.
pub(crate) fn infer(examples: &[&Value]) -> Value {
    let mut kinds: Vec<&str> = examples.iter().map(|example| kind(example)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds == ["integer", "number"] {
        kinds = vec!["number"];
    }
    match kinds.as_slice() {
        ["object"] => object(examples),
        ["array"] => {
            let items: Vec<&Value> =
                examples.iter().filter_map(|example| example.as_array()).flatten().collect();
            if items.is_empty() {
                json!({"type": "array"})
            } else {
                json!({"type": "array", "items": infer(&items)})
            }
        }
        ["any"] | [] => json!({}),
        ["uuid"] => json!({"type": "string", "format": "uuid"}),
        [one] => json!({"type": one}),
        several => {
            json!({"type": several.iter().map(|kind| if *kind == "uuid" { "string" } else { *kind }).collect::<Vec<_>>()})
        }
    }
}

fn kind(value: &Value) -> &str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::String(text) => match text.trim_start_matches('#') {
            _ if !text.starts_with('#') => "string",
            name @ ("string" | "number" | "integer" | "boolean" | "array" | "object" | "null"
            | "uuid") => name,
            pattern if pattern.starts_with("regex ") => "string",
            _ => "any",
        },
    }
}

fn object(examples: &[&Value]) -> Value {
    let objects: Vec<&Map<String, Value>> =
        examples.iter().filter_map(|example| example.as_object()).collect();
    let mut properties: Map<String, Value> = Map::new();
    let mut required: Vec<&str> = Vec::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        if properties.contains_key(name) {
            continue;
        }
        let values: Vec<&Value> = objects.iter().filter_map(|object| object.get(name)).collect();
        let optional = values.len() < objects.len()
            || values.iter().any(|value| value.as_str().is_some_and(|t| t.starts_with("##")));
        properties.insert(name.clone(), infer(&values));
        if !optional {
            required.push(name);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if let (Some(fields), false) = (schema.as_object_mut(), required.is_empty()) {
        fields.insert("required".to_owned(), json!(required));
    }
    schema
}

/// Whether a value holds a marker: such a one is no example.
pub(crate) fn has_marker(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with('#'),
        Value::Array(items) => items.iter().any(has_marker),
        Value::Object(fields) => fields.values().any(has_marker),
        _ => false,
    }
}
