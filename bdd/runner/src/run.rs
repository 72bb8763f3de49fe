//! A whole run.

use crate::attempt::{Attempt, perform_all};
use crate::budget::{Budget, Cost};
use crate::plan::{Selection, select};
use crate::reaper::ScriptReaper;
use kezhan_features::{Feature, Loaded};
use kezhan_gherkin::{Ids, Pickle, spec};
use kezhan_report::Record;
use kezhan_report::messages::{
    Envelope, Group, Meta, ParseError, Pattern, Source, SourceReference, Status, StepDefinition,
    StepMatchArgument, StepMatchArgumentsList, TestCase, TestCaseFinished, TestCaseStarted,
    TestRunFinished, TestRunStarted, TestStep, TestStepFinished, TestStepResult, Timestamp,
};
use kezhan_steps::{Catalogue, Found, Settings, StepMatch};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to run.
    pub selection: Selection,
    /// What scenarios may use together.
    pub budget: Cost,
    /// Scenarios at one time, whatever they use.
    pub jobs: usize,
    /// More attempts for scenarios that fail; `@retry(N)` on a scenario counts more.
    pub retries: u32,
    /// No new scenario after the first failure.
    pub fail_fast: bool,
    /// Look sentences up, perform nothing.
    pub dry_run: bool,
    /// Keep the folders of scenarios that failed.
    pub keep: bool,
    /// How long one attempt may take, before the time scale; `@timeout:120s` on a scenario counts more.
    pub limit: Duration,
    /// What all scenarios share.
    pub settings: Settings,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub record: Record,
    /// The scenarios that did not pass, as `FILE:LINE`.
    pub failed: Vec<String>,
}

/// How long after its deadline a scenario is waited for before it is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Runs scenarios; every event goes through `watch`, in order, on the caller's thread.
///
/// # Errors
/// When the reaper cannot be started.
pub fn run(
    loaded: &Loaded,
    catalogue: Catalogue,
    options: Options,
    watch: &mut dyn FnMut(&Envelope, &Record),
) -> std::io::Result<Outcome> {
    let reaper = Arc::new(ScriptReaper::start()?);
    let settings = Settings { reaper: Some(reaper.clone()), ..options.settings.clone() };
    let (sender, events) = channel();
    let ids = Arc::new(Mutex::new(Ids::from(first_free(loaded))));
    let mut run = Run {
        catalogue: Arc::new(catalogue),
        settings: Arc::new(settings),
        budget: Arc::new(Budget::new(options.budget)),
        stop: Arc::new(AtomicBool::new(false)),
        options,
        reaper,
        ids,
        definition_ids: Vec::new(),
        sender,
    };
    run.announce(loaded);
    let started = run.next_id();
    run.send(Envelope::TestRunStarted(TestRunStarted {
        id: started.clone(),
        timestamp: Timestamp::now(),
    }));
    let jobs = run.prepare(&loaded.features, &started);
    let workers = run.start(jobs);
    drop(run);
    let mut record = Record::default();
    for event in events {
        record.add(&event);
        watch(&event, &record);
    }
    workers.into_iter().for_each(|worker| drop(worker.join()));
    let finished = Envelope::TestRunFinished(TestRunFinished {
        message: None,
        success: record.success(),
        timestamp: Timestamp::now(),
        test_run_started_id: Some(started),
    });
    record.add(&finished);
    watch(&finished, &record);
    let failed = record.cases.iter().filter(|case| !case.passed());
    let failed = failed.map(|case| format!("{}:{}", case.uri, case.location.line)).collect();
    Ok(Outcome { record, failed })
}

/// Pickles and trees are numbered already; a run goes on from there.
fn first_free(loaded: &Loaded) -> u64 {
    let pickles = loaded.features.iter().flat_map(|feature| &feature.pickles);
    let last = pickles.filter_map(|pickle| pickle.id.parse::<u64>().ok()).max();
    // Tags of a feature without scenarios are numbered too; a gap does no harm.
    last.map_or(1 << 20, |last| last + (1 << 20))
}

/// One scenario to be run.
struct Job {
    test_case: String,
    attempt: Attempt,
    cost: Cost,
    retries: u32,
}

struct Run {
    catalogue: Arc<Catalogue>,
    settings: Arc<Settings>,
    budget: Arc<Budget>,
    stop: Arc<AtomicBool>,
    options: Options,
    reaper: Arc<ScriptReaper>,
    ids: Arc<Mutex<Ids>>,
    definition_ids: Vec<String>,
    sender: Sender<Envelope>,
}

impl Run {
    fn next_id(&self) -> String {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).next_id()
    }

    fn send(&self, event: Envelope) {
        let _ = self.sender.send(event);
    }

    /// Everything that is known before the first step: who runs, files, faults, scenarios, definitions.
    fn announce(&mut self, loaded: &Loaded) {
        self.send(Envelope::Meta(Meta::here(env!("CARGO_PKG_VERSION"))));
        for problem in &loaded.problems {
            let source = SourceReference {
                uri: Some(problem.path.display().to_string()),
                location: problem.location,
            };
            self.send(Envelope::ParseError(ParseError {
                source,
                message: problem.message.clone(),
            }));
        }
        for feature in &loaded.features {
            let uri = feature.path.display().to_string();
            let media_type = spec::MEDIA_TYPE.to_owned();
            self.send(Envelope::Source(Source { uri, data: feature.text.clone(), media_type }));
            self.send(Envelope::GherkinDocument(feature.document.clone()));
            feature.pickles.iter().for_each(|pickle| self.send(Envelope::Pickle(pickle.clone())));
        }
        for definition in self.catalogue.clone().definitions() {
            let id = self.next_id();
            let phrase = definition
                .phrases
                .first()
                .map(|phrase| phrase.expression.to_string())
                .unwrap_or_default();
            let regular = phrase.starts_with('/') || phrase.starts_with('^');
            let kind = if regular { "REGULAR_EXPRESSION" } else { "CUCUMBER_EXPRESSION" };
            let line = usize::try_from(definition.place.line).unwrap_or(1);
            self.send(Envelope::StepDefinition(StepDefinition {
                id: id.clone(),
                pattern: Pattern { source: phrase, kind: kind.to_owned() },
                source_reference: SourceReference {
                    uri: Some(definition.place.file.to_string()),
                    location: Some(kezhan_gherkin::ast::Location { line, column: None }),
                },
            }));
            self.definition_ids.push(id);
        }
    }

    /// Matches every chosen scenario.
    fn prepare(&self, features: &[Feature], run: &str) -> Vec<Job> {
        let plan = select(features, &self.options.selection);
        plan.scenarios.into_iter().map(|(feature, pickle)| self.job(feature, pickle, run)).collect()
    }

    fn job(&self, feature: &Feature, pickle: &Pickle, run: &str) -> Job {
        let mut test_steps = Vec::new();
        let mut steps = Vec::new();
        for step in &pickle.steps {
            let id = self.next_id();
            let matches = match self.catalogue.find(&step.text) {
                Ok(Found::One(found)) => vec![found],
                Ok(Found::Several(matches)) => matches,
                Ok(Found::None) | Err(_) => Vec::new(),
            };
            test_steps.push(TestStep {
                id: id.clone(),
                pickle_step_id: Some(step.id.clone()),
                step_definition_ids: matches
                    .iter()
                    .filter_map(|found| self.definition_ids.get(found.definition).cloned())
                    .collect(),
                step_match_arguments_lists: matches.iter().map(argument_list).collect(),
            });
            steps.push((id, step.clone()));
        }
        let test_case = self.next_id();
        self.send(Envelope::TestCase(TestCase {
            id: test_case.clone(),
            pickle_id: pickle.id.clone(),
            test_steps,
            test_run_started_id: Some(run.to_owned()),
        }));
        let scale = self.options.settings.time_scale;
        let limit =
            tag_value(pickle, "@timeout:").and_then(parse_seconds).unwrap_or(self.options.limit);
        let attempt = Attempt {
            catalogue: self.catalogue.clone(),
            settings: self.settings.clone(),
            reaper: self.reaper.clone(),
            id: String::new(),
            steps,
            feature_folder: feature
                .path
                .parent()
                .map(std::path::Path::to_owned)
                .unwrap_or_default(),
            limit: limit.mul_f64(scale.clamp(0.001, 1000.0)),
            keep: self.options.keep,
        };
        let cost = Cost::of(pickle, &self.catalogue, self.options.budget);
        let retries =
            tag_value(pickle, "@retry(").and_then(|rest| rest.trim_end_matches(')').parse().ok());
        Job { test_case, attempt, cost, retries: retries.unwrap_or(self.options.retries) }
    }

    /// Starts the workers. They take jobs in order; each waits until its job's cost fits.
    fn start(&self, jobs: Vec<Job>) -> Vec<std::thread::JoinHandle<()>> {
        let workers = self.options.jobs.clamp(1, jobs.len().max(1));
        let queue = Arc::new(Mutex::new(jobs.into_iter()));
        (0..workers).map(|number| self.worker(number, queue.clone())).collect()
    }

    fn worker(
        &self,
        number: usize,
        queue: Arc<Mutex<std::vec::IntoIter<Job>>>,
    ) -> std::thread::JoinHandle<()> {
        let worker = Worker {
            number: number.to_string(),
            budget: self.budget.clone(),
            stop: self.stop.clone(),
            fail_fast: self.options.fail_fast,
            dry_run: self.options.dry_run,
            ids: self.ids.clone(),
            sender: self.sender.clone(),
        };
        std::thread::spawn(move || {
            while let Some(job) = next(&queue) {
                if worker.stop.load(Ordering::SeqCst) {
                    break;
                }
                worker.budget.take(job.cost);
                worker.attempts(&job);
                worker.budget.give(job.cost);
            }
        })
    }
}

fn next(queue: &Mutex<std::vec::IntoIter<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn argument_list(found: &StepMatch) -> StepMatchArgumentsList {
    let arguments = found.arguments.iter().map(|argument| StepMatchArgument {
        group: Group {
            children: Vec::new(),
            start: argument.start,
            value: argument.start.map(|_| argument.text.clone()),
        },
        parameter_type_name: argument.parameter.clone(),
    });
    StepMatchArgumentsList { step_match_arguments: arguments.collect() }
}

fn tag_value<'p>(pickle: &'p Pickle, prefix: &str) -> Option<&'p str> {
    pickle.tags.iter().find_map(|tag| tag.name.strip_prefix(prefix))
}

fn parse_seconds(text: &str) -> Option<Duration> {
    text.trim_end_matches('s').parse().ok().map(Duration::from_secs)
}

struct Worker {
    number: String,
    budget: Arc<Budget>,
    stop: Arc<AtomicBool>,
    fail_fast: bool,
    dry_run: bool,
    ids: Arc<Mutex<Ids>>,
    sender: Sender<Envelope>,
}

impl Worker {
    fn send(&self, event: Envelope) {
        let _ = self.sender.send(event);
    }

    fn attempts(&self, job: &Job) {
        for number in 0..=job.retries {
            let id = self.ids.lock().unwrap_or_else(PoisonError::into_inner).next_id();
            self.send(Envelope::TestCaseStarted(TestCaseStarted {
                attempt: number,
                id: id.clone(),
                test_case_id: job.test_case.clone(),
                worker_id: Some(self.number.clone()),
                timestamp: Timestamp::now(),
            }));
            let attempt = Attempt { id: id.clone(), ..job.attempt.clone() };
            let status = if self.dry_run { self.look_up(&attempt) } else { self.watched(attempt) };
            let again = status == Status::Failed && number < job.retries;
            self.send(Envelope::TestCaseFinished(TestCaseFinished {
                test_case_started_id: id,
                timestamp: Timestamp::now(),
                will_be_retried: again,
            }));
            if !again {
                if self.fail_fast && status > Status::Skipped {
                    self.stop.store(true, Ordering::SeqCst);
                }
                return;
            }
        }
    }

    /// Performs an attempt on a thread of its own, and gives it up when it does not come back.
    fn watched(&self, attempt: Attempt) -> Status {
        let (done, answer) = channel();
        let (inner, events) = channel();
        let limit = attempt.limit + GRACE;
        let shared = attempt.clone();
        std::thread::spawn(move || {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                perform_all(&shared, &inner)
            }));
            let _ = done.send(status.ok());
        });
        let ended = std::time::Instant::now() + limit;
        let mut open: BTreeMap<String, ()> =
            attempt.steps.iter().map(|(id, _)| (id.clone(), ())).collect();
        loop {
            match events.recv_timeout(ended.saturating_duration_since(std::time::Instant::now())) {
                Ok(event) => {
                    if let Envelope::TestStepFinished(finished) = &event {
                        open.remove(&finished.test_step_id);
                    }
                    self.send(event);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!(
                        "the step did not come back within {:.0} s and was given up",
                        limit.as_secs_f64()
                    );
                    return self.give_up(&attempt, &open, &message);
                }
            }
        }
        match answer.recv_timeout(Duration::from_secs(1)) {
            Ok(Some(status)) => status,
            _ => self.give_up(&attempt, &open, "the step panicked: a fault of the step's code"),
        }
    }

    /// Ends every step that has no end yet: the first failed, the others were not reached.
    fn give_up(&self, attempt: &Attempt, open: &BTreeMap<String, ()>, message: &str) -> Status {
        let mut reason = Some(message.to_owned());
        for (id, _) in attempt.steps.iter().filter(|(id, _)| open.contains_key(id)) {
            let status = if reason.is_some() { Status::Failed } else { Status::Skipped };
            let result =
                TestStepResult { status, message: reason.take(), ..TestStepResult::default() };
            self.finish_step(&attempt.id, id, result);
        }
        Status::Failed
    }

    /// Only looks sentences up: for `--dry-run`.
    fn look_up(&self, attempt: &Attempt) -> Status {
        let mut worst = Status::Passed;
        for (id, step) in &attempt.steps {
            let (status, message) = match attempt.catalogue.find(&step.text) {
                Ok(Found::One(_)) => (Status::Skipped, None),
                Ok(Found::None) => {
                    (Status::Undefined, Some("no step means this sentence".to_owned()))
                }
                Ok(Found::Several(_)) => {
                    (Status::Ambiguous, Some("several steps mean this sentence".to_owned()))
                }
                Err(failure) => (Status::Undefined, Some(failure.to_string())),
            };
            worst = worst.max(status);
            self.finish_step(
                &attempt.id,
                id,
                TestStepResult { status, message, ..TestStepResult::default() },
            );
        }
        worst
    }

    fn finish_step(&self, attempt: &str, step: &str, result: TestStepResult) {
        self.send(Envelope::TestStepFinished(TestStepFinished {
            test_case_started_id: attempt.to_owned(),
            test_step_id: step.to_owned(),
            test_step_result: result,
            timestamp: Timestamp::now(),
        }));
    }
}
