//! From sentences of the business to operations: a table, not code.
//!
//! ```text
//! paths = ["/v1/accounts/{card}"]
//!
//! [[binding]]
//! step = "the customer requests {int}"
//! operation = { method = "POST", path = "/v1/withdrawals", id = "requestCash" }
//! request = { card = "4000001", amount = "{1}" }
//!
//! [[binding]]
//! step = "ensure {int} is dispensed"
//! expect = { status = 201, pointer = "/dispensed" }
//! ```
//!
//! `{1}`, `{2}` … stand for the step's values. An expectation belongs to the operation before it; the first one
//! decides its status, and those of other statuses are passed over. `when` picks among
//! rows of one step: the binding counts only when a value is this.

use kezhan_expressions::{Expression, ExpressionError, ParameterTypes};
use serde::Deserialize;
use serde_json::Value;

/// The table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bindings {
    /// Path templates: a concrete path that fits one is written as it.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The rows.
    #[serde(default, rename = "binding")]
    pub rows: Vec<Binding>,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The phrase of the sentences.
    pub step: String,
    /// What they ask for.
    pub operation: Option<Operation>,
    /// The body that they send.
    pub request: Option<Value>,
    /// What they expect.
    pub expect: Option<Expectation>,
    /// Only sentences with this value.
    pub when: Option<String>,
    #[serde(skip)]
    pub(crate) expression: Option<Expression>,
}

/// An operation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// `GET`, …
    pub method: String,
    /// The path template.
    pub path: String,
    /// `operationId`.
    pub id: Option<String>,
}

/// What a sentence says about an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The status.
    pub status: Option<u16>,
    /// The member that holds the sentence's first value. (RFC 6901)
    pub pointer: Option<String>,
}

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingsError {
    /// It is no TOML, or not of this shape.
    #[error("bindings: {0}")]
    Toml(String),
    /// A phrase is wrong.
    #[error("bindings: {0}")]
    Expression(Box<ExpressionError>),
}

impl Bindings {
    /// Reads a table.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Bindings, BindingsError> {
        let mut bindings: Bindings =
            toml::from_str(text).map_err(|error| BindingsError::Toml(error.to_string()))?;
        let types = ParameterTypes::default();
        for row in &mut bindings.rows {
            let expression = Expression::parse(&row.step, &types);
            row.expression =
                Some(expression.map_err(|error| BindingsError::Expression(Box::new(error)))?);
        }
        Ok(bindings)
    }

    /// The rows that a sentence fits, with its values.
    pub(crate) fn find(&self, sentence: &str) -> Vec<(&Binding, Vec<Value>)> {
        let fits = |row: &Binding| {
            let arguments = row.expression.as_ref()?.matches(sentence)?;
            let values: Vec<Value> = arguments
                .iter()
                .map(|argument| {
                    argument.value.as_ref().map_or(Value::Null, |value| serde_json::json!(value))
                })
                .collect();
            let wanted = row
                .when
                .as_ref()
                .is_none_or(|when| values.iter().any(|value| value.as_str() == Some(when)));
            wanted.then_some(values)
        };
        self.rows.iter().filter_map(|row| Some((row, fits(row)?))).collect()
    }

    /// The template that a concrete path fits; without one, segments that are numbers, identifiers or variables
    /// become parameters.
    pub(crate) fn template(&self, path: &str) -> String {
        let path = path.split('?').next().unwrap_or(path);
        let known = self
            .paths
            .iter()
            .chain(self.rows.iter().filter_map(|row| row.operation.as_ref().map(|op| &op.path)));
        known
            .into_iter()
            .find(|template| fits(template, path))
            .cloned()
            .unwrap_or_else(|| guess(path))
    }
}

/// Whether a concrete path fits a template.
pub(crate) fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(t, p)| (t.starts_with('{') && !p.is_empty()) || t == p)
}

fn guess(path: &str) -> String {
    let mut before = "";
    let mut segments = Vec::new();
    for segment in path.split('/') {
        let digits = segment.chars().filter(char::is_ascii_digit).count();
        let identifier = segment.starts_with("${")
            || (digits > 0
                && segment.len() > 3 * (digits > segment.len() / 2) as usize
                && !segment.starts_with('v'));
        if identifier && !before.is_empty() {
            segments.push(format!("{{{}}}", before.strip_suffix('s').unwrap_or(before)));
        } else {
            segments.push(segment.to_owned());
        }
        before = segment;
    }
    segments.join("/")
}

/// A value with `{1}`, `{2}` … replaced.
pub(crate) fn fill(pattern: &Value, values: &[Value]) -> Value {
    match pattern {
        Value::String(text) => {
            match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map(str::parse) {
                Some(Ok(number @ 1..)) => {
                    values.get::<usize>(number - 1).cloned().unwrap_or(Value::Null)
                }
                _ => pattern.clone(),
            }
        }
        Value::Array(items) => items.iter().map(|item| fill(item, values)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), fill(value, values))).collect()
        }
        other => other.clone(),
    }
}
