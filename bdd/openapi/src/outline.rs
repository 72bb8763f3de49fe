//! Features out of an OpenAPI document: one per tag, one scenario per answer.
//!
//! They are beginnings: the happy paths run as they stand when the document has examples; what is to be refused is
//! tagged `@wip`, since only a person knows what provokes it.

use crate::spec::METHODS;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// The deepest that references are followed.
const MAX_DEPTH: usize = 16;

/// Feature files: name and text.
pub fn outline(document: &Value) -> Vec<(PathBuf, String)> {
    let mut features: BTreeMap<String, String> = BTreeMap::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            let Some(operation) = item.get(method) else { continue };
            let tag =
                operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("api").to_owned();
            let text = features
                .entry(tag.clone())
                .or_insert_with(|| format!("Feature: {}\n", one_line(&tag)));
            let call = Operation { document, item, operation, method, path };
            text.push_str(&call.scenarios());
        }
    }
    features
        .into_iter()
        .map(|(tag, text)| (PathBuf::from(format!("{}.feature", file_name(&tag))), text))
        .collect()
}

fn file_name(tag: &str) -> String {
    let letters = tag.chars().map(|c| if c.is_alphanumeric() { c } else { '-' });
    letters.take(60).collect::<String>().to_lowercase()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Operation<'a> {
    document: &'a Value,
    item: &'a Value,
    operation: &'a Value,
    method: &'a str,
    path: &'a str,
}

impl Operation<'_> {
    fn scenarios(&self) -> String {
        let mut text = String::new();
        let summary =
            ["summary", "operationId"].iter().find_map(|name| self.operation.get(*name)?.as_str());
        let name = summary
            .map_or_else(|| format!("{} {}", self.method.to_uppercase(), self.path), one_line);
        let responses = self.operation.get("responses").and_then(Value::as_object);
        for (status, response) in responses.into_iter().flatten() {
            let Ok(code) = status.parse::<u16>() else { continue };
            let response = self.follow(response);
            let reason = response
                .get("description")
                .and_then(Value::as_str)
                .map(one_line)
                .unwrap_or_default();
            let wip = if code >= 400 { "  @wip\n" } else { "" };
            let _ = write!(
                text,
                "\n{wip}  Scenario: {name}: {code} {reason}\n    When I {} {}",
                self.method.to_uppercase(),
                self.concrete_path()
            );
            match self.body() {
                Some(body) => {
                    let body = serde_json::to_string_pretty(&body)
                        .unwrap_or_default()
                        .replace('\n', "\n      ");
                    let _ = write!(text, " with:\n      \"\"\"json\n      {body}\n      \"\"\"\n");
                }
                None => text.push('\n'),
            }
            let _ = writeln!(text, "    Then the API answers {code}");
            text.push_str(&self.members(response));
        }
        text
    }

    /// The members that the answer must have.
    fn members(&self, response: &Value) -> String {
        let content = response.get("content").and_then(Value::as_object);
        let schema = content
            .and_then(|content| content.values().next())
            .and_then(|media| media.get("schema"));
        let Some(schema) = schema.map(|schema| self.follow(schema)) else { return String::new() };
        let mut rows = String::new();
        for name in schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            let kind = schema.pointer(&format!("/properties/{name}/type")).and_then(Value::as_str);
            let marker = kind.map_or_else(|| "#any".to_owned(), |kind| format!("#{kind}"));
            let _ = writeln!(rows, "      | /{name} | {marker} |");
        }
        if rows.is_empty() { rows } else { format!("    And the response has:\n{rows}") }
    }

    /// The path with examples in the place of parameters.
    fn concrete_path(&self) -> String {
        let own = self.operation.get("parameters").and_then(Value::as_array);
        let shared = self.item.get("parameters").and_then(Value::as_array);
        let mut path = self.path.to_owned();
        for parameter in
            own.into_iter().chain(shared).flatten().map(|parameter| self.follow(parameter))
        {
            let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default();
            let example = parameter.get("example").or_else(|| parameter.pointer("/schema/example"));
            let text = example.map_or_else(
                || "1".to_owned(),
                |example| example.as_str().map_or_else(|| example.to_string(), str::to_owned),
            );
            path = path.replace(&format!("{{{name}}}"), &text);
        }
        path
    }

    fn body(&self) -> Option<Value> {
        let body = self.follow(self.operation.get("requestBody")?);
        let media = body.get("content")?.as_object()?.values().next()?;
        media.get("example").cloned().or_else(|| Some(self.example(media.get("schema")?, 0)))
    }

    /// A value that a schema allows, from its examples where there are any.
    fn example(&self, schema: &Value, depth: usize) -> Value {
        let schema = self.follow(schema);
        if let Some(example) = schema
            .get("example")
            .or_else(|| schema.pointer("/examples/0"))
            .or_else(|| schema.get("default"))
        {
            return example.clone();
        }
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") | None => {
                let properties = schema.get("properties").and_then(Value::as_object);
                let fields = properties.into_iter().flatten();
                Value::Object(
                    fields
                        .map(|(name, schema)| (name.clone(), self.example(schema, depth + 1)))
                        .collect(),
                )
            }
            Some("array") => Value::Array(
                schema
                    .get("items")
                    .map(|items| self.example(items, depth + 1))
                    .into_iter()
                    .collect(),
            ),
            Some("integer" | "number") => {
                schema.get("minimum").cloned().unwrap_or_else(|| Value::from(1))
            }
            Some("boolean") => Value::from(true),
            Some(_) => Value::from("text"),
        }
    }

    /// A reference within the document, followed. (OpenAPI Specification 3.1.0, §4.8.23)
    fn follow<'v>(&'v self, value: &'v Value) -> &'v Value {
        let mut value = value;
        for _ in 0..MAX_DEPTH {
            let target =
                value.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
            match target.and_then(|pointer| self.document.pointer(pointer)) {
                Some(found) => value = found,
                None => break,
            }
        }
        value
    }
}
