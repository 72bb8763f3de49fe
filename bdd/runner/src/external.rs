//! Steps in any language, by JSON lines on standard input and output.
//!
//! ```text
//! program: {"steps": [{"name": "pay", "phrases": {"en": "I pay {int}", "zh-CN": "我付 {int}"}, "check": false}]}
//! runner:  {"step": "pay", "arguments": [5], "table": null, "docString": null, "folder": "/tmp/…"}
//! program: {"ok": true, "save": {"receipt": "17"}}
//!      or  {"expected": "5", "seen": "4"}            a check that does not hold yet
//!      or  {"error": "no such account"}              the step failed
//! ```
//!
//! The program writes its first line when it starts, then one line per line that it reads. Each scenario has a
//! program of its own, so that what it remembers is the scenario's. A program that hangs, dies or writes anything
//! else fails the step that it was asked for, with what it wrote, and is started anew for the next.

use kezhan_steps::{Action, Arguments, Failure, Phrase, Place, StepDefinition, StepProgram, World};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a program may take to say what it can do.
const HELLO: Duration = Duration::from_secs(10);

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 4 << 20;

/// A program of steps.
#[derive(Debug)]
struct External {
    path: PathBuf,
}

/// Programs that run for a scenario.
#[derive(Debug, Default)]
struct Running(BTreeMap<PathBuf, Talk>);

/// A conversation with one program.
#[derive(Debug)]
struct Talk {
    child: Child,
    input: ChildStdin,
    lines: Receiver<Result<String, String>>,
    reaper: Option<Arc<dyn kezhan_steps::Reaper>>,
}

impl Drop for Talk {
    fn drop(&mut self) {
        kill(&mut self.child);
        self.reaper.iter().for_each(|reaper| reaper.ended(self.child.id()));
    }
}

fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn kill(child: &mut Child) {
    kill_group(child);
    let _ = child.wait();
}

/// Waits for a child and what it writes; at the deadline its group is killed. Answers status and output.
pub(crate) fn wait(mut child: Child, deadline: Instant) -> Result<(Option<i32>, String), String> {
    let (sender, receiver) = channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as _),
        child.stderr.take().map(|pipe| Box::new(pipe) as _),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.take(MAX_LINE).read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    drop(sender);
    let mut output = String::new();
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match receiver.recv_timeout(left) {
            Ok(text) => output.push_str(&text),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                let status = ending(&mut child, deadline).map_err(|error| error.to_string())?;
                return Ok((status.code(), output.trim_end().to_owned()));
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => break,
        }
    }
    kill(&mut child);
    Err(format!("did not end in time; it wrote: {}", output.trim_end()))
}

/// How long a child that closed its output may take to end.
const LINGERING: Duration = Duration::from_secs(5);

/// The end of a child that closed its output; what it left behind is killed.
fn ending(child: &mut Child, deadline: Instant) -> std::io::Result<ExitStatus> {
    let deadline = deadline.min(Instant::now() + LINGERING);
    let mut pause = Duration::from_millis(1);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            kill_group(child);
            return Ok(status);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    kill(child);
    child.wait()
}

impl Talk {
    fn start(
        path: &Path,
        folder: &Path,
        reaper: Option<Arc<dyn kezhan_steps::Reaper>>,
    ) -> Result<Talk, String> {
        let program = path.canonicalize().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.current_dir(folder).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        reaper.iter().for_each(|reaper| reaper.mark(&mut command));
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        reaper.iter().for_each(|reaper| reaper.started(child.id()));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            kill(&mut child);
            return Err("it has no standard input and output".to_owned());
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            while let Some(line) = read_line(&mut reader) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Talk { child, input, lines, reaper })
    }

    fn read(&self, limit: Duration) -> Result<Value, String> {
        let line = match self.lines.recv_timeout(limit) {
            Ok(line) => line?,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!("it said nothing for {:.1} s", limit.as_secs_f64()));
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                return Err("it ended".to_owned());
            }
        };
        serde_json::from_str(&line).map_err(|_error| {
            let shown: String = line.chars().take(200).collect();
            format!("it wrote what is no JSON line: {shown:?}")
        })
    }

    fn ask(&mut self, question: &Value, limit: Duration) -> Result<Value, String> {
        writeln!(self.input, "{question}").map_err(|error| format!("it does not read: {error}"))?;
        self.read(limit)
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<Result<String, String>> {
    let mut bytes = Vec::new();
    match reader.take(MAX_LINE).read_until(b'\n', &mut bytes) {
        Ok(0) => None,
        Ok(_) if bytes.last() == Some(&b'\n') || (bytes.len() as u64) < MAX_LINE => {
            Some(String::from_utf8(bytes).map_err(|_error| "it wrote what is not UTF-8".to_owned()))
        }
        Ok(_) => Some(Err(format!("it wrote a line of more than {MAX_LINE} bytes"))),
        Err(error) => Some(Err(error.to_string())),
    }
}

/// Asks a program which steps it has.
pub(crate) fn definitions(path: &Path) -> Result<Vec<StepDefinition>, String> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let talk = Talk::start(path, folder, None)?;
    let hello = talk.read(HELLO)?;
    let steps = hello
        .get("steps")
        .and_then(Value::as_array)
        .ok_or("its first line has no member \"steps\"")?;
    let external = Arc::new(External { path: path.to_owned() });
    steps.iter().map(|step| one_definition(step, path, &external)).collect()
}

fn one_definition(
    step: &Value,
    path: &Path,
    external: &Arc<External>,
) -> Result<StepDefinition, String> {
    let name =
        step.get("name").and_then(Value::as_str).ok_or("a step of its first line has no name")?;
    let phrases = step.get("phrases").and_then(Value::as_object);
    let phrases = phrases.ok_or_else(|| format!("step \"{name}\" has no phrases"))?;
    let phrases: Vec<Phrase> = phrases
        .iter()
        .filter_map(|(language, expression)| {
            let expression = Cow::Owned(expression.as_str()?.to_owned());
            Some(Phrase { language: Cow::Owned(language.clone()), expression })
        })
        .collect();
    let first = phrases.first().ok_or_else(|| format!("step \"{name}\" has no phrases"))?;
    Ok(StepDefinition {
        name: Cow::Owned(name.to_owned()),
        values: first.expression.replace("\\{", "").matches('{').count(),
        about: Cow::Owned(step.get("about").and_then(Value::as_str).unwrap_or_default().to_owned()),
        check: step.get("check").and_then(Value::as_bool).unwrap_or(false),
        patience: Duration::ZERO,
        table: false,
        doc_string: false,
        built_in: false,
        place: Place { file: Cow::Owned(path.display().to_string()), line: 1 },
        action: Action::Program(external.clone()),
        phrases,
    })
}

impl StepProgram for External {
    fn run(&self, world: &mut World, step: &str, arguments: &Arguments) -> Result<(), Failure> {
        let broken = |reason: String| {
            Failure::Broken(format!("step program {}: {reason}", self.path.display()))
        };
        let mut talk = match world.state::<Running>().0.remove(&self.path) {
            Some(talk) => talk,
            None => {
                let talk = Talk::start(&self.path, &world.folder, world.settings.reaper.clone())
                    .map_err(broken)?;
                talk.read(HELLO).map_err(broken)?;
                talk
            }
        };
        let doc = arguments.doc_string_below();
        let question = json!({
            "step": step,
            "arguments": arguments.values,
            "table": arguments.table_below().map(|table| &table.rows),
            "docString": doc.map(|doc| &doc.content),
            "mediaType": doc.and_then(|doc| doc.media_type.as_ref()),
            "folder": world.folder,
        });
        let limit = world.deadline.saturating_duration_since(Instant::now());
        // A program that fails is dropped here, and with it ended.
        let answer = talk.ask(&question, limit).map_err(broken)?;
        world.state::<Running>().0.insert(self.path.clone(), talk);
        self.judge(world, &answer)
    }
}

impl External {
    fn judge(&self, world: &mut World, answer: &Value) -> Result<(), Failure> {
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Some(error) = text("error") {
            return Err(Failure::Broken(error));
        }
        if let (Some(expected), Some(seen)) = (text("expected"), text("seen")) {
            return Err(Failure::Mismatch { expected, seen });
        }
        for (name, value) in answer.get("save").and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            world.variables.set(name, value);
        }
        match answer.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(Failure::Broken(format!(
                "step program {}: its answer has neither \"ok\": true, nor \"error\", nor \"expected\" and \"seen\": {answer}",
                self.path.display()
            ))),
        }
    }
}
