//! What the events of a run add up to.

use crate::messages::{Attachment, Envelope, Status, TestCase, TestStep, Timestamp};
use kezhan_gherkin::ast::{Child, Document, Examples, Location, Scenario, Step};
use kezhan_gherkin::{Pickle, PickleArgument, PickleStep, Story};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Every scenario that was to run, in order.
    pub cases: Vec<Case>,
    /// Faults of files: file, place, message.
    pub faults: Vec<(String, Location, String)>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; absent while it goes on.
    pub duration: Option<Duration>,
    features: BTreeMap<String, FeatureInfo>,
    pickles: BTreeMap<String, Pickle>,
    steps: BTreeMap<String, StepInfo>,
    test_cases: BTreeMap<String, usize>,
    attempts: BTreeMap<String, (usize, usize)>,
}

#[derive(Clone, Debug, Default)]
struct FeatureInfo {
    name: String,
    story: Option<Story>,
    rules: BTreeMap<String, String>,
    rows: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
struct StepInfo {
    keyword: String,
    location: Location,
}

/// A scenario, or a row of examples.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The feature file.
    pub uri: String,
    /// The feature's name.
    pub feature: String,
    /// The feature's user story.
    pub story: Option<Story>,
    /// Code of the spoken language.
    pub language: String,
    /// The rule that it stands under.
    pub rule: Option<String>,
    /// Its name, with the row's values where it is one of several rows.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its attempts; the last one counts.
    pub attempts: Vec<Attempt>,
    pickle_id: String,
    test_steps: Vec<TestStep>,
}

/// One attempt at a scenario.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// When it began.
    pub started: Timestamp,
    /// How long it took; absent while it goes on.
    pub duration: Option<Duration>,
}

/// One step of an attempt.
#[derive(Clone, Debug, Default)]
pub struct StepRecord {
    /// The keyword with its space.
    pub keyword: String,
    /// The sentence.
    pub text: String,
    /// What stands below it.
    pub below: Option<PickleArgument>,
    /// Where it is.
    pub location: Location,
    /// How it ended; absent before.
    pub status: Option<Status>,
    /// Why it did not pass.
    pub message: Option<String>,
    /// How long it took.
    pub duration: Duration,
    /// Things to look at.
    pub attachments: Vec<Attached>,
    id: String,
}

/// Something to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// The text, or Base64 of the bytes.
    pub body: String,
    /// The body is Base64.
    pub base64: bool,
}

impl Case {
    /// How the last attempt ended: the worst of its steps.
    pub fn status(&self) -> Status {
        let steps =
            self.attempts.last().map(|attempt| attempt.steps.as_slice()).unwrap_or_default();
        let known = steps.iter().filter_map(|step| step.status);
        known.filter(|status| *status != Status::Skipped || steps.len() == 1).max().unwrap_or(
            match steps {
                [] if self.attempts.is_empty() => Status::Unknown,
                [] => Status::Passed,
                _ => Status::Skipped,
            },
        )
    }

    /// Whether it counts as passed.
    pub fn passed(&self) -> bool {
        matches!(self.status(), Status::Passed | Status::Skipped)
    }

    /// The step at which the last attempt stopped.
    pub fn stopped_at(&self) -> Option<&StepRecord> {
        self.attempts.last()?.steps.iter().find(|step| {
            step.status.is_some_and(|status| !matches!(status, Status::Passed | Status::Skipped))
        })
    }

    /// How long all attempts took.
    pub fn duration(&self) -> Duration {
        self.attempts.iter().filter_map(|attempt| attempt.duration).sum()
    }
}

impl Record {
    /// Adds an event.
    pub fn add(&mut self, event: &Envelope) {
        match event {
            Envelope::GherkinDocument(document) => self.document(document),
            Envelope::Pickle(pickle) => {
                self.pickles.insert(pickle.id.clone(), pickle.clone());
            }
            Envelope::ParseError(error) => {
                let uri = error.source.uri.clone().unwrap_or_default();
                self.faults.push((
                    uri,
                    error.source.location.unwrap_or_default(),
                    error.message.clone(),
                ));
            }
            Envelope::TestRunStarted(started) => self.started = started.timestamp,
            Envelope::TestCase(case) => self.test_case(case),
            Envelope::TestCaseStarted(started) => {
                self.attempt(&started.test_case_id, &started.id, started.timestamp);
            }
            Envelope::TestStepFinished(finished) => {
                let (attempt, step) = (&finished.test_case_started_id, &finished.test_step_id);
                if let Some(step) = self.step(attempt, step) {
                    step.status = Some(finished.test_step_result.status);
                    step.message.clone_from(&finished.test_step_result.message);
                    step.duration = finished.test_step_result.duration.as_duration();
                }
            }
            Envelope::Attachment(attachment) => self.attachment(attachment),
            Envelope::TestCaseFinished(finished) => {
                if let Some(attempt) = self.attempt_mut(&finished.test_case_started_id) {
                    attempt.duration = Some(span(attempt.started, finished.timestamp));
                }
            }
            Envelope::TestRunFinished(finished) => {
                self.duration = Some(span(self.started, finished.timestamp))
            }
            _ => {}
        }
    }

    fn attempt_mut(&mut self, id: &str) -> Option<&mut Attempt> {
        let (case, attempt) = self.attempts.get(id).copied()?;
        self.cases.get_mut(case)?.attempts.get_mut(attempt)
    }

    fn document(&mut self, document: &Document) {
        let Some(feature) = &document.feature else { return };
        let mut info = FeatureInfo {
            name: feature.name.clone(),
            story: Story::find(&feature.description),
            ..FeatureInfo::default()
        };
        self.children(&feature.children, None, &mut info);
        self.features.insert(document.uri.clone().unwrap_or_default(), info);
    }

    fn children(&mut self, children: &[Child], rule: Option<&str>, info: &mut FeatureInfo) {
        for child in children {
            match child {
                Child::Background(background) => self.note_steps(&background.steps),
                Child::Scenario(Scenario { id, name, steps, examples, .. }) => {
                    self.note_steps(steps);
                    for table in examples {
                        note_rows(name, table, &mut info.rows);
                    }
                    info.rules.extend(rule.map(|rule| (id.clone(), rule.to_owned())));
                }
                Child::Rule(rule) => self.children(&rule.children, Some(&rule.name), info),
            }
        }
    }

    fn note_steps(&mut self, steps: &[Step]) {
        self.steps.extend(steps.iter().map(|step| {
            (step.id.clone(), StepInfo { keyword: step.keyword.clone(), location: step.location })
        }));
    }

    fn test_case(&mut self, case: &TestCase) {
        let Some(pickle) = self.pickles.get(&case.pickle_id) else { return };
        let info = self.features.get(&pickle.uri).cloned().unwrap_or_default();
        self.test_cases.insert(case.id.clone(), self.cases.len());
        self.cases.push(Case {
            uri: pickle.uri.clone(),
            feature: info.name,
            story: info.story,
            language: pickle.language.clone(),
            rule: pickle.ast_node_ids.first().and_then(|id| info.rules.get(id)).cloned(),
            name: name_with_row(pickle, &info.rows),
            location: pickle.location,
            tags: pickle.tags.iter().map(|tag| tag.name.clone()).collect(),
            attempts: Vec::new(),
            pickle_id: case.pickle_id.clone(),
            test_steps: case.test_steps.clone(),
        });
    }

    fn attempt(&mut self, test_case: &str, id: &str, started: Timestamp) {
        let Some(index) = self.test_cases.get(test_case).copied() else { return };
        let Some(case) = self.cases.get(index) else { return };
        let Some(pickle) = self.pickles.get(&case.pickle_id) else { return };
        let steps = case.test_steps.iter().filter_map(|test_step| {
            let step = pickle
                .steps
                .iter()
                .find(|step| Some(&step.id) == test_step.pickle_step_id.as_ref())?;
            Some(self.step_record(&test_step.id, step))
        });
        let attempt = Attempt { steps: steps.collect(), started, duration: None };
        self.attempts.insert(id.to_owned(), (index, case.attempts.len()));
        self.cases.get_mut(index).into_iter().for_each(|case| case.attempts.push(attempt.clone()));
    }

    fn step_record(&self, id: &str, step: &PickleStep) -> StepRecord {
        let info = step
            .ast_node_ids
            .first()
            .and_then(|id| self.steps.get(id))
            .cloned()
            .unwrap_or_default();
        StepRecord {
            keyword: info.keyword,
            text: step.text.clone(),
            below: step.argument.clone(),
            location: info.location,
            id: id.to_owned(),
            ..StepRecord::default()
        }
    }

    fn step(&mut self, attempt: &str, step: &str) -> Option<&mut StepRecord> {
        self.attempt_mut(attempt)?.steps.iter_mut().find(|record| record.id == step)
    }

    fn attachment(&mut self, attachment: &Attachment) {
        let (Some(attempt), Some(step)) =
            (&attachment.test_case_started_id, &attachment.test_step_id)
        else {
            return;
        };
        let attached = Attached {
            name: attachment.file_name.clone().unwrap_or_default(),
            media_type: attachment.media_type.clone(),
            body: attachment.body.clone(),
            base64: attachment.content_encoding == "BASE64",
        };
        if let Some(step) = self.step(attempt, step) {
            step.attachments.push(attached);
        }
    }

    /// The case of an attempt.
    pub fn case_of(&self, attempt: &str) -> Option<&Case> {
        self.cases.get(self.attempts.get(attempt)?.0)
    }

    /// How many cases ended in each way.
    pub fn counts(&self) -> BTreeMap<Status, usize> {
        let mut counts = BTreeMap::new();
        self.cases.iter().for_each(|case| *counts.entry(case.status()).or_insert(0) += 1);
        counts
    }

    /// Nothing failed and every file parsed.
    pub fn success(&self) -> bool {
        self.faults.is_empty() && self.cases.iter().all(Case::passed)
    }
}

/// What tells a row of examples from its sisters: its values, unless the title says a column already.
fn note_rows(title: &str, examples: &Examples, rows: &mut BTreeMap<String, String>) {
    let Some(header) = &examples.table_header else { return };
    if header.cells.iter().any(|cell| title.contains(&format!("<{}>", cell.value))) {
        return;
    }
    for row in &examples.table_body {
        let cells = header.cells.iter().zip(&row.cells);
        let values: Vec<String> =
            cells.map(|(name, cell)| format!("{}={}", name.value, cell.value)).collect();
        rows.insert(row.id.clone(), values.join(", "));
    }
}

fn name_with_row(pickle: &Pickle, rows: &BTreeMap<String, String>) -> String {
    match pickle.ast_node_ids.get(1).and_then(|id| rows.get(id)) {
        Some(values) => format!("{} ({values})", pickle.name),
        None => pickle.name.clone(),
    }
}

fn span(from: Timestamp, to: Timestamp) -> Duration {
    to.as_duration().saturating_sub(from.as_duration())
}
