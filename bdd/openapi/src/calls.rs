//! The calls that scenarios make.

use crate::bindings::{Binding, Bindings, fill};
use kezhan_expressions::{ParameterTypes, Value as Parameter};
use kezhan_features::Feature;
use kezhan_gherkin::{Pickle, PickleStep};
use kezhan_steps::{Catalogue, Found};
use serde_json::{Map, Value};

/// One call of one scenario.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// `POST`, …
    pub method: String,
    /// The path template.
    pub path: String,
    /// `operationId`, where a binding gives one.
    pub id: Option<String>,
    /// The body that was sent.
    pub request: Option<Value>,
    /// The status that is expected.
    pub status: Option<u16>,
    /// What is known of the answer's body.
    pub response: Option<Value>,
    /// The feature's name.
    pub feature: String,
    /// `FILE:LINE NAME` of the scenario.
    pub scenario: String,
}

/// Every call of some features, in order.
pub fn calls(features: &[Feature], bindings: &Bindings) -> Vec<Call> {
    let mut catalogue = Catalogue::default();
    catalogue.add(kezhan_vocabulary::rest::steps(), &ParameterTypes::default());
    let mut all = Vec::new();
    for feature in features {
        let name =
            feature.document.feature.as_ref().map(|tree| tree.name.clone()).unwrap_or_default();
        for pickle in &feature.pickles {
            let mut reader = Reader { catalogue: &catalogue, bindings, calls: Vec::new() };
            pickle.steps.iter().for_each(|step| reader.step(step));
            let scenario = scenario(feature, pickle);
            let named = reader.calls.into_iter();
            all.extend(named.map(|call| Call {
                feature: name.clone(),
                scenario: scenario.clone(),
                ..call
            }));
        }
    }
    all
}

fn scenario(feature: &Feature, pickle: &Pickle) -> String {
    format!("{}:{} {}", feature.path.display(), pickle.location.line, pickle.name)
}

struct Reader<'a> {
    catalogue: &'a Catalogue,
    bindings: &'a Bindings,
    calls: Vec<Call>,
}

impl Reader<'_> {
    fn step(&mut self, step: &PickleStep) {
        for (binding, values) in self.bindings.find(&step.text) {
            self.bound(binding, &values);
        }
        let Ok(Found::One(found)) = self.catalogue.find(&step.text) else { return };
        let Some(definition) = self.catalogue.definition(&found) else { return };
        let texts: Vec<String> = found
            .arguments
            .iter()
            .map(|argument| match &argument.value {
                Ok(Parameter::Text(text)) => text.clone(),
                _ => argument.text.clone(),
            })
            .collect();
        let doc = step.argument.as_ref().and_then(|argument| argument.doc_string.as_ref());
        let json = doc.and_then(|doc| serde_json::from_str(&doc.content).ok());
        match (definition.name.as_ref(), texts.as_slice()) {
            ("request" | "request_with", [method, path]) => self.calls.push(Call {
                method: method.clone(),
                path: self.bindings.template(path),
                request: json,
                ..Call::default()
            }),
            ("answers" | "answers_with", [status]) => self.answer(status, json),
            ("answers_problem", [status, kind]) => {
                let body = serde_json::json!({"type": kind, "status": status.parse::<u16>().ok()});
                self.answer(status, Some(body));
            }
            ("answers_fields", []) => self.fields(step),
            _ => {}
        }
    }

    fn answer(&mut self, status: &str, body: Option<Value>) {
        if let Some(call) = self.calls.last_mut() {
            call.status = status.parse().ok();
            call.response = body.or(call.response.take());
        }
    }

    fn fields(&mut self, step: &PickleStep) {
        let rows = step
            .argument
            .iter()
            .filter_map(|argument| argument.data_table.as_ref())
            .flat_map(|table| &table.rows);
        for row in rows {
            if let [pointer, value] = row.cells.as_slice() {
                let value = serde_json::from_str(&value.value)
                    .unwrap_or_else(|_error| Value::from(value.value.clone()));
                self.member(&pointer.value, value);
            }
        }
    }

    fn bound(&mut self, binding: &Binding, values: &[Value]) {
        if let Some(operation) = &binding.operation {
            self.calls.push(Call {
                method: operation.method.to_uppercase(),
                path: operation.path.clone(),
                id: operation.id.clone(),
                request: binding.request.as_ref().map(|request| fill(request, values)),
                ..Call::default()
            });
        }
        let Some(expect) = &binding.expect else { return };
        let Some(call) = self.calls.last_mut() else { return };
        // The first expectation decides which answer it is; one of another answer says nothing here.
        if expect.status.is_some() && call.status.is_some() && call.status != expect.status {
            return;
        }
        call.status = expect.status.or(call.status);
        if let (Some(pointer), Some(value)) = (&expect.pointer, values.first()) {
            self.member(pointer, value.clone());
        }
    }

    /// Notes a member of the last answer; arrays are not made up.
    fn member(&mut self, pointer: &str, value: Value) {
        let Some(call) = self.calls.last_mut() else { return };
        let body = call.response.get_or_insert_with(|| Value::Object(Map::new()));
        let mut place = body;
        for name in pointer.trim_start_matches('/').split('/').take(32) {
            let Value::Object(fields) = place else { return };
            let name = name.replace("~1", "/").replace("~0", "~");
            place = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = value;
    }
}
