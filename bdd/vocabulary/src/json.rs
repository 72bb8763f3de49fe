//! Comparing JSON with a pattern.
//!
//! Objects are compared by the members that the pattern names; arrays element by element. Texts that begin with `#`
//! are markers: `#any`, `#string`, `#number`, `#integer`, `#boolean`, `#array`, `#object`, `#null`, `#uuid`,
//! `#regex PATTERN`; with `##` the member may also be absent. `#(text)` stands for the text itself.

use regex::Regex;
use serde_json::Value;

/// How deep a document is followed.
const MAX_DEPTH: usize = 64;

/// The first place where a document differs from a pattern: JSON pointer, what was expected, what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where. (RFC 6901)
    pub pointer: String,
    /// What the pattern says.
    pub expected: String,
    /// What is there.
    pub seen: String,
}

/// Where a document first differs from a pattern.
pub fn difference(pattern: &Value, document: &Value) -> Option<Difference> {
    compare(pattern, Some(document), "", 0)
}

fn differ(pointer: &str, expected: impl ToString, seen: Option<&Value>) -> Option<Difference> {
    let seen = seen.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let pointer = if pointer.is_empty() { "the document".to_owned() } else { pointer.to_owned() };
    Some(Difference { pointer, expected: expected.to_string(), seen })
}

fn compare(
    pattern: &Value,
    document: Option<&Value>,
    pointer: &str,
    depth: usize,
) -> Option<Difference> {
    if depth > MAX_DEPTH {
        return differ(pointer, format!("at most {MAX_DEPTH} levels"), document);
    }
    match (pattern, document) {
        (Value::String(text), document) if text.starts_with('#') => marker(text, document, pointer),
        (Value::Object(wanted), Some(Value::Object(found))) => {
            wanted.iter().find_map(|(name, pattern)| {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                compare(pattern, found.get(name), &format!("{pointer}/{escaped}"), depth + 1)
            })
        }
        (Value::Array(wanted), Some(Value::Array(found))) if wanted.len() == found.len() => {
            wanted.iter().zip(found).enumerate().find_map(|(at, (pattern, value))| {
                compare(pattern, Some(value), &format!("{pointer}/{at}"), depth + 1)
            })
        }
        (Value::Array(wanted), Some(found @ Value::Array(_))) => {
            differ(pointer, format!("an array of {}", wanted.len()), Some(found))
        }
        (Value::Number(wanted), Some(Value::Number(found)))
            if wanted.as_f64() == found.as_f64() =>
        {
            None
        }
        (wanted, Some(found)) if wanted == found => None,
        (wanted, found) => differ(pointer, wanted, found),
    }
}

fn marker(text: &str, document: Option<&Value>, pointer: &str) -> Option<Difference> {
    if let Some(literal) = text.strip_prefix("#(").and_then(|rest| rest.strip_suffix(')')) {
        let same = document.and_then(Value::as_str) == Some(literal);
        return if same { None } else { differ(pointer, format!("{literal:?}"), document) };
    }
    let (optional, kind) =
        text.strip_prefix("##").map_or((false, text.trim_start_matches('#')), |kind| (true, kind));
    let Some(value) = document else {
        return if optional { None } else { differ(pointer, text, None) };
    };
    let fits = match kind {
        "any" | "present" | "optional" => true,
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        "uuid" => value.as_str().is_some_and(is_uuid),
        kind => match kind.strip_prefix("regex ").map(Regex::new) {
            Some(Ok(regex)) => value.as_str().is_some_and(|text| regex.is_match(text)),
            _ => value.as_str() == Some(text),
        },
    };
    if fits { None } else { differ(pointer, text, document) }
}

/// (RFC 9562 §4)
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_names_only_what_matters() {
        let document = json!({"id": "0b0b1f3a-1b1b-4c1c-8d1d-0123456789ab", "state": "running", "cpus": 2, "disks": [{"size": 5}]});
        let pattern = json!({"id": "#uuid", "cpus": 2.0, "disks": [{"size": "#integer"}], "note": "##string"});
        assert_eq!(difference(&pattern, &document), None);
    }

    #[test]
    fn a_difference_names_its_place() {
        let found =
            difference(&json!({"a/b": [1, {"c": "x"}]}), &json!({"a/b": [1, {"c": "y"}]})).unwrap();
        assert_eq!(
            (found.pointer.as_str(), found.expected.as_str(), found.seen.as_str()),
            ("/a~1b/1/c", "\"x\"", "\"y\"")
        );
        assert_eq!(difference(&json!({"a": 1}), &json!({})).unwrap().seen, "nothing");
        assert_eq!(difference(&json!([1]), &json!([1, 2])).unwrap().expected, "an array of 1");
        assert_eq!(
            difference(&json!("#regex ^a+$"), &json!("ab")).unwrap().expected,
            "#regex ^a+$"
        );
        assert_eq!(difference(&json!("#(#any)"), &json!("#any")), None);
    }
}
