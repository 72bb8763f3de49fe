//! `kezhan bdd run`.

use crate::sources::StepArgs;
use kezhan_features::load;
use kezhan_report::messages::Envelope;
use kezhan_report::{Record, Style, case_text, html, json, junit, summary_text};
use kezhan_runner::{Cost, Options, Order, Outcome, Selection, Shard, TagExpression, run};
use kezhan_steps::{Settings, StepDefinition};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `kezhan bdd run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Feature files and folders; FILE:LINE runs the scenario or row at that line
    #[arg(value_name = "FEATURES", default_value = "features")]
    features: Vec<String>,
    /// Spoken language of files without a `# language:` line
    #[arg(long, value_name = "CODE", default_value = "en")]
    language: String,
    /// Only scenarios whose tags fit: "@a and not @b"
    #[arg(long, value_name = "EXPRESSION", default_value = "")]
    tags: TagExpression,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    #[command(flatten)]
    steps: StepArgs,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    reports: ReportArgs,
    /// Where API steps go that name only a path: http://HOST:PORT or unix:SOCKET
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// The kezhan program that machine steps drive (default: this one)
    #[arg(long, value_name = "FILE")]
    kezhan: Option<PathBuf>,
    /// Keep the folders of scenarios that failed
    #[arg(long)]
    keep_on_failure: bool,
}

/// How fast, how often, in which order.
#[derive(Clone, Debug, clap::Args)]
pub struct PaceArgs {
    /// Scenarios at one time, whatever they use
    #[arg(long, value_name = "N", default_value_t = 64)]
    jobs: usize,
    /// Memory that machines may use together (default: three quarters of what is free)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Processors that machines may use together (default: four for each of the host's)
    #[arg(long, value_name = "N")]
    cpus: Option<u64>,
    /// More attempts for scenarios that fail
    #[arg(long, value_name = "N", default_value_t = 0)]
    retry: u32,
    /// Multiply every time in sentences, for slow hosts
    #[arg(long, value_name = "FACTOR", env = "KEZHAN_TIMEOUT_SCALE", default_value_t = 1.0)]
    timeout_scale: f64,
    /// How long one scenario may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Shuffle the scenarios by this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run one of several equal parts: 2/5
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// No new scenario after the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Look sentences up, perform nothing
    #[arg(long)]
    dry_run: bool,
}

/// Where reports go.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Write Cucumber Messages, as they happen
    #[arg(long, value_name = "FILE")]
    messages: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write Cucumber's old JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where failures are noted
    #[arg(long, value_name = "FILE", default_value = ".kezhan-bdd-failed")]
    failures: PathBuf,
    /// Run only what the last run noted as failed
    #[arg(long)]
    rerun_failed: bool,
    /// Colour the output
    #[arg(long, value_enum, default_value = "auto")]
    color: Color,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let types = kezhan_expressions::ParameterTypes::default();
    match types.find("size").map(|kind| kind.value(text)) {
        Some(Ok(kezhan_expressions::Value::Size(bytes))) => Ok(bytes),
        _ => Err(format!("size \"{text}\": write it as 512MiB or 3GiB")),
    }
}

/// A file, or a line of one.
fn place(text: &str) -> (PathBuf, Option<usize>) {
    match text.rsplit_once(':').and_then(|(file, line)| Some((file, line.parse().ok()?))) {
        Some((file, line)) => (PathBuf::from(file), Some(line)),
        None => (PathBuf::from(text), None),
    }
}

pub(crate) fn execute(args: &RunArgs, own: Vec<StepDefinition>) -> ExitCode {
    let places = match wanted(args) {
        Ok(places) => places,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if places.is_empty() {
        println!("nothing failed last time");
        return ExitCode::SUCCESS;
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for (file, _) in &places {
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    let loaded = load(&files, &args.language);
    let (catalogue, sound) = args.steps.catalogue(&files, own);
    let lines = places.into_iter().filter_map(|(file, line)| Some((file, line?))).collect();
    let style = style(args.reports.color);
    let outcome = with_messages(args, |messages| {
        let mut watch = |event: &Envelope, record: &Record| show(event, record, style, messages);
        run(&loaded, catalogue, options(args, lines), &mut watch)
    });
    match outcome {
        Ok(outcome) => finish(args, &outcome, style, sound),
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::from(70)
        }
    }
}

/// The files and lines of the command line, or those that failed last time.
fn wanted(args: &RunArgs) -> Result<Vec<(PathBuf, Option<usize>)>, String> {
    if !args.reports.rerun_failed {
        return Ok(args.features.iter().map(|text| place(text)).collect());
    }
    let path = &args.reports.failures;
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{}: {error}; --rerun-failed needs a run before it", path.display())
    })?;
    Ok(text.lines().map(place).collect())
}

fn options(args: &RunArgs, lines: Vec<(PathBuf, usize)>) -> Options {
    let host = Cost::of_this_host();
    let defaults = Settings::default();
    let pace = &args.pace;
    Options {
        selection: Selection {
            tags: args.tags.clone(),
            name: args.name.clone(),
            lines,
            shard: pace.shard,
            order: pace.seed.map_or(Order::Written, Order::Random),
        },
        budget: Cost {
            cpus: pace.cpus.unwrap_or(host.cpus),
            memory: pace.memory.unwrap_or(host.memory),
        },
        jobs: pace.jobs,
        retries: pace.retry,
        fail_fast: pace.fail_fast,
        dry_run: pace.dry_run,
        keep: args.keep_on_failure,
        limit: Duration::from_secs(pace.timeout),
        settings: Settings {
            kezhan: args.kezhan.clone().unwrap_or(defaults.kezhan),
            api: args.api.clone(),
            time_scale: pace.timeout_scale,
            reaper: None,
        },
    }
}

fn style(color: Color) -> Style {
    let terminal = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match color {
        Color::Always => Style::Colour,
        Color::Auto if terminal => Style::Colour,
        Color::Auto | Color::Never => Style::Plain,
    }
}

type Messages = Option<BufWriter<std::fs::File>>;

fn with_messages(
    args: &RunArgs,
    body: impl FnOnce(&mut Messages) -> std::io::Result<Outcome>,
) -> std::io::Result<Outcome> {
    let mut messages = match &args.reports.messages {
        Some(path) => Some(BufWriter::new(std::fs::File::create(path)?)),
        None => None,
    };
    let outcome = body(&mut messages)?;
    if let Some(mut messages) = messages {
        messages.flush()?;
    }
    Ok(outcome)
}

fn show(event: &Envelope, record: &Record, style: Style, messages: &mut Messages) {
    if let Some(messages) = messages {
        // A report that cannot be written must not stop the run; the flush at the end tells.
        let _ = serde_json::to_writer(&mut *messages, event).map(|()| messages.write_all(b"\n"));
    }
    if let Envelope::TestCaseFinished(finished) = event
        && !finished.will_be_retried
        && let Some(case) = record.case_of(&finished.test_case_started_id)
    {
        print!("{}", case_text(case, style));
        let _ = std::io::stdout().flush();
    }
}

fn finish(args: &RunArgs, outcome: &Outcome, style: Style, sound: bool) -> ExitCode {
    print!("{}", summary_text(&outcome.record, style));
    let reports = &args.reports;
    let mut written = true;
    let mut save = |path: &Option<PathBuf>, text: &dyn Fn() -> String| {
        if let Some(path) = path {
            written &= save(path, &text());
        }
    };
    save(&reports.junit, &|| junit(&outcome.record));
    save(&reports.json, &|| json(&outcome.record).to_string());
    save(&reports.html, &|| html(&outcome.record));
    note_failures(&reports.failures, &outcome.failed);
    let good = sound && written && outcome.record.success();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn save(path: &Path, text: &str) -> bool {
    match std::fs::write(path, text) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{}: cannot be written: {error}", path.display());
            false
        }
    }
}

/// A run without failures leaves no note, and takes an old one away.
fn note_failures(path: &Path, failed: &[String]) {
    if !failed.is_empty() {
        save(path, &(failed.join("\n") + "\n"));
    } else if path.exists() {
        save(path, "");
    }
}
