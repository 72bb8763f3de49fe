//! Cucumber Messages: the events of a run, one JSON object per line.
//!
//! Only what we write is modelled; members that we do not write are optional in the schema
//! (npm `@cucumber/messages`, `messages.schema.json`, protocol version 34).

use kezhan_gherkin::Pickle;
use kezhan_gherkin::ast::{Document, Location};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version of the protocol.
pub const PROTOCOL: &str = "34.2.1";

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Envelope {
    /// Who runs.
    Meta(Meta),
    /// A feature file's text.
    Source(Source),
    /// A feature file's tree.
    GherkinDocument(Document),
    /// A scenario ready to run.
    Pickle(Pickle),
    /// A file's fault.
    ParseError(ParseError),
    /// A step definition.
    StepDefinition(StepDefinition),
    /// The run begins.
    TestRunStarted(TestRunStarted),
    /// How a scenario's steps are matched.
    TestCase(TestCase),
    /// An attempt begins.
    TestCaseStarted(TestCaseStarted),
    /// A step begins.
    TestStepStarted(TestStepStarted),
    /// Something to look at.
    Attachment(Attachment),
    /// How one might define a missing step.
    Suggestion(Suggestion),
    /// A step ended.
    TestStepFinished(TestStepFinished),
    /// An attempt ended.
    TestCaseFinished(TestCaseFinished),
    /// The run ended.
    TestRunFinished(TestRunFinished),
    /// An event that we do not write.
    #[serde(untagged)]
    Other(serde_json::Value),
}

/// A moment, or a span. Nanoseconds are below a thousand million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: u64,
    /// The rest.
    pub nanos: u32,
}

impl Timestamp {
    /// This moment.
    pub fn now() -> Timestamp {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().into()
    }

    /// The time from the epoch, or the length of the span.
    pub fn as_duration(self) -> Duration {
        Duration::new(self.seconds, self.nanos)
    }
}

impl From<Duration> for Timestamp {
    fn from(span: Duration) -> Timestamp {
        Timestamp { seconds: span.as_secs(), nanos: span.subsec_nanos() }
    }
}

/// A name and a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The name.
    pub name: String,
    /// The version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
}

/// Who runs, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// [`PROTOCOL`].
    pub protocol_version: String,
    /// The runner.
    pub implementation: Product,
    /// The runner again.
    pub runtime: Product,
    /// The system.
    pub os: Product,
    /// The processor.
    pub cpu: Product,
}

impl Meta {
    /// This program, of a version, on this host.
    pub fn here(version: &str) -> Meta {
        let kezhan = Product { name: "kezhan".to_owned(), version: Some(version.to_owned()) };
        Meta {
            protocol_version: PROTOCOL.to_owned(),
            implementation: kezhan.clone(),
            runtime: kezhan,
            os: Product { name: std::env::consts::OS.to_owned(), version: None },
            cpu: Product { name: std::env::consts::ARCH.to_owned(), version: None },
        }
    }
}

/// A feature file's text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The file.
    pub uri: String,
    /// Its text.
    pub data: String,
    /// [`kezhan_gherkin::spec::MEDIA_TYPE`].
    pub media_type: String,
}

/// Where something is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReference {
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uri: Option<String>,
    /// The place in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<Location>,
}

/// A file's fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseError {
    /// Where.
    pub source: SourceReference,
    /// What.
    pub message: String,
}

/// A step definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepDefinition {
    /// Identifier.
    pub id: String,
    /// Its phrase.
    pub pattern: Pattern,
    /// Where it is.
    pub source_reference: SourceReference,
}

/// A phrase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// As written.
    pub source: String,
    /// `CUCUMBER_EXPRESSION` or `REGULAR_EXPRESSION`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The run begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRunStarted {
    /// Identifier.
    pub id: String,
    /// When.
    pub timestamp: Timestamp,
}

/// How a scenario's steps are matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestCase {
    /// Identifier.
    pub id: String,
    /// The scenario.
    pub pickle_id: String,
    /// Its steps.
    pub test_steps: Vec<TestStep>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_run_started_id: Option<String>,
}

/// How a step is matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestStep {
    /// Identifier.
    pub id: String,
    /// The step; absent for hooks, which we have none of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pickle_step_id: Option<String>,
    /// The definitions that match: one, or it is undefined or ambiguous.
    #[serde(default)]
    pub step_definition_ids: Vec<String>,
    /// The arguments of each match.
    #[serde(default)]
    pub step_match_arguments_lists: Vec<StepMatchArgumentsList>,
}

/// The arguments of one match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepMatchArgumentsList {
    /// The arguments.
    pub step_match_arguments: Vec<StepMatchArgument>,
}

/// One argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepMatchArgument {
    /// What it matched.
    pub group: Group,
    /// The name of its type.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parameter_type_name: Option<String>,
}

/// What a group matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Groups within.
    #[serde(default)]
    pub children: Vec<Group>,
    /// Where in the sentence, in characters from zero.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<usize>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
}

/// An attempt begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestCaseStarted {
    /// Attempts before this one.
    pub attempt: u32,
    /// Identifier.
    pub id: String,
    /// The scenario's matching.
    pub test_case_id: String,
    /// The worker that runs it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub worker_id: Option<String>,
    /// When.
    pub timestamp: Timestamp,
}

/// A step begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestStepStarted {
    /// The attempt.
    pub test_case_started_id: String,
    /// The step.
    pub test_step_id: String,
    /// When.
    pub timestamp: Timestamp,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Nobody knows.
    Unknown,
    /// It passed.
    #[default]
    Passed,
    /// One before it did not pass.
    Skipped,
    /// It is not written yet.
    Pending,
    /// No step means the sentence.
    Undefined,
    /// Several steps mean it.
    Ambiguous,
    /// It failed.
    Failed,
}

/// How a step ended, with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestStepResult {
    /// How long it took.
    pub duration: Timestamp,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// How it ended.
    pub status: Status,
}

/// A step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestStepFinished {
    /// The attempt.
    pub test_case_started_id: String,
    /// The step.
    pub test_step_id: String,
    /// How.
    pub test_step_result: TestStepResult,
    /// When.
    pub timestamp: Timestamp,
}

/// Something to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The text, or Base64 of the bytes.
    pub body: String,
    /// `IDENTITY` or `BASE64`.
    pub content_encoding: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file_name: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// The attempt.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_case_started_id: Option<String>,
    /// The step.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_step_id: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestamp: Option<Timestamp>,
}

/// How one might define a missing step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// Identifier.
    pub id: String,
    /// The step.
    pub pickle_step_id: String,
    /// The code.
    pub snippets: Vec<Snippet>,
}

/// A piece of code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// Its language.
    pub language: String,
    /// The code.
    pub code: String,
}

/// An attempt ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestCaseFinished {
    /// The attempt.
    pub test_case_started_id: String,
    /// When.
    pub timestamp: Timestamp,
    /// Another follows.
    pub will_be_retried: bool,
}

/// The run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestRunFinished {
    /// Why it could not go on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Nothing failed.
    pub success: bool,
    /// When.
    pub timestamp: Timestamp,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_run_started_id: Option<String>,
}
