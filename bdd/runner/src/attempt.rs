//! One attempt at one scenario, on its own thread.

use crate::reaper::ScriptReaper;
use kezhan_gherkin::PickleStep;
use kezhan_report::messages::{
    Attachment, Envelope, Status, TestStepFinished, TestStepResult, TestStepStarted, Timestamp,
};
use kezhan_steps::{Catalogue, Failure, Found, Settings, World, perform};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// What an attempt needs.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub catalogue: Arc<Catalogue>,
    pub settings: Arc<Settings>,
    pub reaper: Arc<ScriptReaper>,
    /// Identifier of the attempt.
    pub id: String,
    /// The steps, each with the identifier of its test step.
    pub steps: Vec<(String, PickleStep)>,
    pub feature_folder: PathBuf,
    pub limit: Duration,
    pub keep: bool,
}

/// Performs the steps and sends their events. Answers the worst status.
pub(crate) fn perform_all(attempt: &Attempt, events: &Sender<Envelope>) -> Status {
    let folder = match tempfile::Builder::new().prefix("kezhan-bdd-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            return refuse_all(attempt, events, &format!("folder of the scenario: {error}"));
        }
    };
    let number = attempt.reaper.folder_made(folder.path());
    let settings = attempt.settings.clone();
    let mut world = World::new(folder.path(), &attempt.feature_folder, settings, attempt.limit);
    let mut worst = Status::Passed;
    for (id, step) in &attempt.steps {
        let result = match worst {
            Status::Passed => one(attempt, &mut world, (id, step), events),
            _ => TestStepResult {
                status: unreached(&attempt.catalogue, step),
                ..TestStepResult::default()
            },
        };
        worst = worst.max(result.status);
        finish(attempt, id, result, events);
    }
    // Machines and programs end here, before the folder that they use goes.
    drop(world);
    let kept = attempt.keep && worst > Status::Skipped;
    if kept {
        let _ = folder.keep();
    } else {
        drop(folder);
    }
    attempt.reaper.folder_gone(number);
    worst
}

fn refuse_all(attempt: &Attempt, events: &Sender<Envelope>, reason: &str) -> Status {
    for (id, _) in &attempt.steps {
        let message = Some(reason.to_owned());
        finish(
            attempt,
            id,
            TestStepResult { status: Status::Failed, message, ..TestStepResult::default() },
            events,
        );
    }
    Status::Failed
}

/// A step after the one that stopped: skipped, unless it would not have been found anyway.
fn unreached(catalogue: &Catalogue, step: &PickleStep) -> Status {
    match catalogue.find(&step.text) {
        Ok(Found::None) => Status::Undefined,
        Ok(Found::Several(_)) => Status::Ambiguous,
        _ => Status::Skipped,
    }
}

fn one(
    attempt: &Attempt,
    world: &mut World,
    (id, step): (&String, &PickleStep),
    events: &Sender<Envelope>,
) -> TestStepResult {
    let started = TestStepStarted {
        test_case_started_id: attempt.id.clone(),
        test_step_id: id.clone(),
        timestamp: Timestamp::now(),
    };
    let _ = events.send(Envelope::TestStepStarted(started));
    let begun = Instant::now();
    let result = look_up_and_perform(attempt, world, step);
    if matches!(result, Err(Stop::Failure(_))) {
        world.gather_evidence();
    }
    for attachment in world.take_attachments() {
        let text = String::from_utf8(attachment.body.clone())
            .ok()
            .filter(|_| attachment.media_type.starts_with("text/"));
        let encoding = if text.is_some() { "IDENTITY" } else { "BASE64" };
        let _ = events.send(Envelope::Attachment(Attachment {
            body: text.map_or_else(
                || kezhan_report::encode(&attachment.body),
                |text| world.variables.mask(&text),
            ),
            content_encoding: encoding.to_owned(),
            file_name: Some(attachment.name),
            media_type: attachment.media_type,
            test_case_started_id: Some(attempt.id.clone()),
            test_step_id: Some(id.clone()),
            timestamp: Some(Timestamp::now()),
        }));
    }
    let (status, message) = match result {
        Ok(()) => (Status::Passed, None),
        Err(Stop::Undefined(message)) => (Status::Undefined, Some(message)),
        Err(Stop::Ambiguous(message)) => (Status::Ambiguous, Some(message)),
        Err(Stop::Failure(Failure::Pending)) => {
            (Status::Pending, Some(Failure::Pending.to_string()))
        }
        Err(Stop::Failure(Failure::Skipped(reason))) => (Status::Skipped, Some(reason)),
        Err(Stop::Failure(failure)) => (Status::Failed, Some(failure.to_string())),
    };
    let message = message.map(|message| world.variables.mask(&message));
    TestStepResult { duration: begun.elapsed().into(), message, status }
}

enum Stop {
    Undefined(String),
    Ambiguous(String),
    Failure(Failure),
}

fn look_up_and_perform(
    attempt: &Attempt,
    world: &mut World,
    step: &PickleStep,
) -> Result<(), Stop> {
    match attempt.catalogue.find(&step.text).map_err(Stop::Failure)? {
        Found::One(found) => perform(&attempt.catalogue, world, &found, step.argument.as_ref())
            .map_err(Stop::Failure),
        Found::None => {
            let proposal = kezhan_expressions::propose(&step.text);
            Err(Stop::Undefined(format!(
                "no step means this sentence; define one with the phrase\n\"{}\"",
                proposal.expression
            )))
        }
        Found::Several(matches) => {
            let phrases: Vec<String> =
                matches.iter().map(|found| format!("\"{}\"", found.phrase)).collect();
            Err(Stop::Ambiguous(format!(
                "several steps mean this sentence: {}",
                phrases.join(", ")
            )))
        }
    }
}

fn finish(attempt: &Attempt, id: &str, result: TestStepResult, events: &Sender<Envelope>) {
    let finished = TestStepFinished {
        test_case_started_id: attempt.id.clone(),
        test_step_id: id.to_owned(),
        test_step_result: result,
        timestamp: Timestamp::now(),
    };
    let _ = events.send(Envelope::TestStepFinished(finished));
}
