use super::*;
use kezhan_expressions::ParameterTypes;
use kezhan_gherkin::{Ids, parse, pickles};
use kezhan_report::Record;
use kezhan_report::messages::{Envelope, Status};
use kezhan_steps::{Catalogue, Failure, Settings, StepDefinition, World, check, step, steps};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static MEMORY: AtomicU64 = AtomicU64::new(0);
static MOST_MEMORY: AtomicU64 = AtomicU64::new(0);
static FLAKY: AtomicU64 = AtomicU64::new(0);

#[step(en = "nothing happens")]
fn nothing(_world: &mut World) -> Result<(), Failure> {
    Ok(())
}

/// Stands for a machine: it takes memory until another runs beside it, or for a while.
#[step(en = "a pretended machine with {int} vCPU(s) and {size} of memory")]
fn machine_with(_world: &mut World, _cpus: u64, memory: u64) -> Result<(), Failure> {
    let now = MEMORY.fetch_add(memory, Ordering::SeqCst) + memory;
    MOST_MEMORY.fetch_max(now, Ordering::SeqCst);
    let begun = Instant::now();
    while MOST_MEMORY.load(Ordering::SeqCst) <= memory && begun.elapsed() < Duration::from_secs(20)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(60));
    MEMORY.fetch_sub(memory, Ordering::SeqCst);
    Ok(())
}

#[step(en = "it fails once")]
fn fails_once(_world: &mut World) -> Result<(), Failure> {
    match FLAKY.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Failure::Broken("not yet".to_owned())),
        _ => Ok(()),
    }
}

#[step(en = "the step's code panics")]
fn panics(_world: &mut World) -> Result<(), Failure> {
    panic!("a fault of the step's code")
}

#[step(en = "the step never comes back")]
fn hangs(_world: &mut World) -> Result<(), Failure> {
    std::thread::sleep(Duration::from_secs(3600));
    Ok(())
}

#[check(en = "{int} is {int}")]
fn is(_world: &mut World, a: i64, b: i64) -> Result<(), Failure> {
    if a == b { Ok(()) } else { Err(Failure::mismatch(b.to_string(), a.to_string())) }
}

fn own() -> Vec<StepDefinition> {
    steps![nothing, machine_with, fails_once, panics, hangs, is]
}

fn loaded(folder: &Path, text: &str) -> kezhan_features::Loaded {
    let path = folder.join("x.feature");
    std::fs::write(&path, text).unwrap();
    kezhan_features::load(&[path], "en")
}

fn options() -> Options {
    Options {
        selection: Selection::default(),
        budget: Cost { cpus: 64, memory: 8 << 30 },
        jobs: 64,
        retries: 0,
        fail_fast: false,
        dry_run: false,
        keep: false,
        limit: Duration::from_secs(20),
        settings: Settings::default(),
    }
}

fn play(text: &str, options: Options, more: Vec<StepDefinition>) -> (Outcome, Vec<Envelope>) {
    let folder = tempfile::tempdir().unwrap();
    let loaded = loaded(folder.path(), text);
    let mut catalogue = Catalogue::default();
    let types = ParameterTypes::default();
    let mut errors = catalogue.add(kezhan_vocabulary::all(), &types);
    errors.extend(catalogue.add(own(), &types));
    errors.extend(catalogue.add(more, &types));
    assert_eq!(errors, []);
    let mut events = Vec::new();
    let outcome = run(&loaded, catalogue, options, &mut |event: &Envelope, _record: &Record| {
        events.push(event.clone())
    });
    (outcome.unwrap(), events)
}

fn statuses(outcome: &Outcome) -> Vec<Status> {
    outcome.record.cases.iter().map(kezhan_report::Case::status).collect()
}

#[test]
fn each_ending_is_told_apart_and_the_run_goes_on() {
    let text = "Feature: x\n  Scenario: a\n    Given nothing happens\n    Then 1 is 1\n  Scenario: b\n    Then 1 is 2\n    And nothing happens\n  Scenario: c\n    Given nonsense\n  Scenario: d\n    Given the step's code panics\n  Scenario: e\n";
    let (outcome, events) = play(text, options(), Vec::new());
    assert_eq!(
        statuses(&outcome),
        [Status::Passed, Status::Failed, Status::Undefined, Status::Failed, Status::Passed]
    );
    let case = &outcome.record.cases[1];
    assert_eq!(case.stopped_at().unwrap().message.as_deref(), Some("expected 2\n     saw 1"));
    assert_eq!(case.attempts[0].steps[1].status, Some(Status::Skipped));
    assert!(
        outcome.record.cases[3]
            .stopped_at()
            .unwrap()
            .message
            .as_deref()
            .unwrap()
            .contains("panicked")
    );
    assert!(matches!(events.first(), Some(Envelope::Meta(_))));
    assert!(
        matches!(events.last(), Some(Envelope::TestRunFinished(finished)) if !finished.success)
    );
    assert_eq!(outcome.failed.len(), 3);
}

#[test]
fn rows_run_at_once_and_never_exceed_the_budget() {
    let rows = "      | 256 MiB |\n".repeat(8);
    let text = format!(
        "Feature: x\n  Scenario Outline: y\n    Given a pretended machine with 1 vCPU and <m> of memory\n    Examples:\n      | m |\n{rows}"
    );
    let budget = Cost { cpus: 64, memory: 1 << 30 };
    let (outcome, _) = play(&text, Options { budget, ..options() }, Vec::new());
    assert!(outcome.record.success());
    let most = MOST_MEMORY.load(Ordering::SeqCst);
    assert!(most <= 1 << 30 && most > 256 << 20, "{most}");
}

#[test]
fn machines_in_steps_made_of_steps_count_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.steps"), "Feature: x\n  Scenario: a machine of {size}\n    Given a pretended machine with 2 vCPUs and <1> of memory\n").unwrap();
    let (definitions, errors) = load_steps(folder.path());
    assert_eq!(errors, []);
    let mut catalogue = Catalogue::default();
    catalogue.add(own(), &ParameterTypes::default());
    catalogue.add(definitions, &ParameterTypes::default());
    let loaded = loaded(
        folder.path(),
        "Feature: x\n  @needs:3cpu\n  Scenario: y\n    Given a machine of 256 MiB\n    And a pretended machine with 1 vCPU and 1 GiB of memory\n",
    );
    let budget = Cost { cpus: 64, memory: 8 << 30 };
    let cost = Cost::of(&loaded.features[0].pickles[0], &catalogue, budget);
    assert_eq!(cost, Cost { cpus: 3, memory: (1 << 30) + (256 << 20) });
}

#[test]
fn a_flaky_scenario_is_retried_and_says_so() {
    let (outcome, events) = play(
        "Feature: x\n  @retry(2)\n  Scenario: y\n    Given it fails once\n",
        options(),
        Vec::new(),
    );
    assert_eq!(outcome.record.cases[0].attempts.len(), 2);
    assert!(outcome.record.success());
    let retried = events
        .iter()
        .filter(|event| matches!(event, Envelope::TestCaseFinished(end) if end.will_be_retried));
    assert_eq!(retried.count(), 1);
}

#[test]
fn a_step_that_never_comes_back_is_given_up() {
    let begun = Instant::now();
    let limit = Duration::from_millis(50);
    let text =
        "Feature: x\n  Scenario: y\n    Given the step never comes back\n    And nothing happens\n";
    let (outcome, _) = play(text, Options { limit, ..options() }, Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(20));
    let message = outcome.record.cases[0].stopped_at().unwrap().message.clone().unwrap();
    assert!(message.contains("did not come back"), "{message}");
}

#[test]
fn a_dry_run_performs_nothing_and_finds_what_is_missing() {
    let text = "Feature: x\n  Scenario: a\n    Given the step's code panics\n  Scenario: b\n    Given nonsense\n";
    let (outcome, _) = play(text, Options { dry_run: true, ..options() }, Vec::new());
    assert_eq!(statuses(&outcome), [Status::Skipped, Status::Undefined]);
}

/// Writes down where the scenario's folder is.
#[step(en = "the scenario's folder is noted in {path}")]
fn note_folder(world: &mut World, file: &str) -> Result<(), Failure> {
    assert!(world.folder.is_dir());
    std::fs::write(file, world.folder.display().to_string()).unwrap();
    Ok(())
}

#[test]
fn folders_of_scenarios_are_removed() {
    let notes = tempfile::tempdir().unwrap();
    for (ending, status) in [("nothing happens", Status::Passed), ("1 is 2", Status::Failed)] {
        let note = notes.path().join("note");
        let text = format!(
            "Feature: x\n  Scenario: a\n    When the scenario's folder is noted in \"{}\"\n    Then {ending}\n",
            note.display()
        );
        let (outcome, _) = play(&text, options(), steps![note_folder]);
        assert_eq!(statuses(&outcome), [status]);
        let folder = std::fs::read_to_string(note).unwrap();
        assert!(!Path::new(&folder).exists(), "{folder} was left");
    }
}

#[test]
fn the_reaper_kills_groups_undoes_and_removes_folders_when_the_pipe_closes() {
    use kezhan_steps::Reaper;
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap().keep();
    let reaper = reaper::ScriptReaper::start().unwrap();
    let mut kept = std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    let mut killed = std::process::Command::new("sh")
        .args(["-c", "sleep 60 & sleep 60"])
        .process_group(0)
        .spawn()
        .unwrap();
    reaper.started(kept.id());
    reaper.started(killed.id());
    reaper.ended(kept.id());
    let stays = tempfile::tempdir().unwrap();
    let number = reaper.folder_made(stays.path());
    reaper.folder_made(&folder);
    reaper.folder_gone(number);
    let gone = reaper.made(&format!("touch '{}/gone'", stays.path().display()));
    reaper.made(&format!("touch '{}/left'", stays.path().display()));
    reaper.gone(gone);
    drop(reaper);
    assert!(stays.path().join("left").exists() && !stays.path().join("gone").exists());
    assert!(!killed.wait().unwrap().success());
    assert!(kept.try_wait().unwrap().is_none());
    assert!(!folder.exists() && stays.path().exists());
    kept.kill().unwrap();
    kept.wait().unwrap();
}

/// By a process of its own: another test's child could inherit a descriptor of ours that writes to the file, and what
/// somebody writes to cannot be executed (execve(2), ETXTBSY).
fn write_program(folder: &Path, name: &str, text: &str) {
    let mut install = std::process::Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(folder.join(name));
    let mut writer = install.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

#[test]
fn steps_come_from_scripts_from_programs_and_from_steps() {
    let folder = tempfile::tempdir().unwrap();
    write_program(
        folder.path(),
        "greet.sh",
        "#!/bin/sh\n# @check zh: 问候 {string}\n# @check the greeting is {string}\ntest \"$ARG1\" = hello || { echo \"not $ARG1\"; exit 1; }\n",
    );
    write_program(
        folder.path(),
        "adder",
        "#!/bin/sh\necho '{\"steps\": [{\"name\": \"add\", \"phrases\": {\"en\": \"I add {int}\"}}, {\"name\": \"sum\", \"check\": true, \"phrases\": {\"en\": \"the sum is {int}\"}}]}'\nsum=0\nwhile read -r line; do\n  n=${line#*arguments\\\":[}; n=${n%%]*}\n  case $line in\n    *'\"step\":\"add\"'*) sum=$((sum + n)); echo '{\"ok\": true}' ;;\n    *) if [ $sum = $n ]; then echo '{\"ok\": true}'; else echo \"{\\\"expected\\\": \\\"$n\\\", \\\"seen\\\": \\\"$sum\\\"}\"; fi ;;\n  esac\ndone\n",
    );
    std::fs::write(
        folder.path().join("twice.steps"),
        "Feature: steps\n  Scenario: I add {int} twice\n    When I add <1>\n    And I add <1>\n",
    )
    .unwrap();
    let (definitions, errors) = load_steps(folder.path());
    assert_eq!(errors, []);
    let text = "Feature: x\n  Scenario: a\n    When I add 3\n    And I add 4 twice\n    Then the sum is 11\n    And the greeting is \"hello\"\n    And 问候 \"hello\"\n  Scenario: b\n    Then the sum is 11\n  Scenario: c\n    Then the greeting is \"bye\"\n";
    let (outcome, _) = play(text, options(), definitions);
    assert_eq!(
        statuses(&outcome),
        [Status::Passed, Status::Failed, Status::Failed],
        "{:?}",
        outcome.record.cases[0]
    );
    assert_eq!(
        outcome.record.cases[1].stopped_at().unwrap().message.as_deref(),
        Some("expected 11\n     saw 0")
    );
    assert!(
        outcome.record.cases[2]
            .stopped_at()
            .unwrap()
            .message
            .as_deref()
            .unwrap()
            .ends_with("saw not bye")
    );
}

#[test]
fn a_step_program_that_hangs_or_writes_garbage_fails_its_step_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let hello = "#!/bin/sh\necho '{\"steps\": [{\"name\": \"NAME\", \"phrases\": {\"en\": \"I NAME\"}}]}'\n";
    write_program(
        folder.path(),
        "garbage",
        &format!("{}read -r line; echo '%%%'\n", hello.replace("NAME", "babble")),
    );
    write_program(folder.path(), "hang", &format!("{}sleep 3600\n", hello.replace("NAME", "hang")));
    write_program(folder.path(), "mute", "#!/bin/sh\necho hello\n");
    let (definitions, errors) = load_steps(folder.path());
    assert!(
        errors[0].to_string().ends_with("mute: it wrote what is no JSON line: \"hello\\n\""),
        "{errors:?}"
    );
    let text = "Feature: x\n  Scenario: a\n    When I babble\n  Scenario: b\n    When I hang\n  Scenario: c\n    When nothing happens\n";
    let (outcome, _) =
        play(text, Options { limit: Duration::from_secs(1), ..options() }, definitions);
    assert_eq!(statuses(&outcome), [Status::Failed, Status::Failed, Status::Passed]);
    let message =
        |at: usize| outcome.record.cases[at].stopped_at().unwrap().message.clone().unwrap();
    assert!(message(0).contains("no JSON line: \"%%%\\n\""), "{}", message(0));
    assert!(message(1).contains("it said nothing for"), "{}", message(1));
}

fn selected(text: &str, selection: &Selection) -> Vec<String> {
    let mut document = parse(text, "en").unwrap();
    document.uri = Some("x.feature".to_owned());
    let pickles = pickles(&document, &mut Ids::from(1000)).unwrap();
    let feature = kezhan_features::Feature {
        path: "x.feature".into(),
        text: text.to_owned(),
        document,
        pickles,
    };
    let features = [feature];
    select(&features, selection).scenarios.iter().map(|(_, pickle)| pickle.name.clone()).collect()
}

#[test]
fn scenarios_are_chosen_by_tag_line_name_and_shard() {
    let text = "Feature: x\n  @a\n  Scenario: one\n    Given x\n  @a @b\n  Scenario: two\n    Given x\n  Scenario: three\n    Given x\n";
    let of = |selection: Selection| selected(text, &selection);
    let tags = "@a and not @b".parse().unwrap();
    assert_eq!(of(Selection { tags, ..Selection::default() }), ["one"]);
    assert_eq!(
        of(Selection { lines: vec![("x.feature".into(), 7)], ..Selection::default() }),
        ["two"]
    );
    let elsewhere = vec![("y.feature".into(), 3)];
    assert_eq!(of(Selection { lines: elsewhere, ..Selection::default() }).len(), 3);
    let whole = vec![("x.feature".into(), 1)];
    assert_eq!(of(Selection { lines: whole, ..Selection::default() }).len(), 3);
    assert_eq!(of(Selection { name: Some("thr".into()), ..Selection::default() }), ["three"]);
    let shard =
        |text: &str| Selection { shard: Some(text.parse().unwrap()), ..Selection::default() };
    assert_eq!([of(shard("1/2")), of(shard("2/2"))].concat(), ["one", "three", "two"]);
    let mut random = of(Selection { order: Order::Random(7), ..Selection::default() });
    assert_eq!(random, of(Selection { order: Order::Random(7), ..Selection::default() }));
    random.sort();
    assert_eq!(random, ["one", "three", "two"]);
    "0/2".parse::<Shard>().unwrap_err();
}

#[test]
fn tag_expressions_have_their_usual_precedence() {
    let expression: TagExpression = "@a or @b and not (@c or @d)".parse().unwrap();
    assert!(expression.holds(&["@a", "@c"]));
    assert!(expression.holds(&["@b"]));
    assert!(!expression.holds(&["@b", "@d"]));
    for wrong in ["@a and", "a", "(@a", "@a @b", "not"] {
        wrong.parse::<TagExpression>().unwrap_err();
    }
}

proptest! {
    #[test]
    fn no_tag_expression_makes_us_panic(text in "[@ab()andornot ]{0,60}") {
        let _ = text.parse::<TagExpression>();
    }
}
