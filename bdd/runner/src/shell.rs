//! Steps written as shell scripts.
//!
//! ```text
//! #!/bin/sh
//! # @check zh: 缓存 {string} 是空的
//! # @check the cache {string} is empty
//! # @about Looks whether a cache holds anything.
//! test -z "$(ls "$ARG1")"
//! ```
//!
//! The first comment lines say what the step is. Values are `ARG1`, `ARG2`, …; a doc string is standard input, a table
//! is `TABLE` as JSON; variables are in the environment as `VAR_name`. Exit status 0 passes. A check that exits with
//! another status does not hold yet, a step has failed; what it wrote says why.

use kezhan_steps::{
    Arguments, Failure, FromValue, Phrase, Place, StepDefinition, StepProgram, World,
};
use std::borrow::Cow;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A script that is a step.
#[derive(Debug)]
struct Script {
    path: PathBuf,
    check: bool,
}

/// The definition in a script's head; nothing if the head has none.
pub(crate) fn definition(path: &Path, text: &str) -> Option<StepDefinition> {
    let mut phrases = Vec::new();
    let mut check = false;
    let mut about = String::new();
    let mut line = 1;
    for (number, head) in text.lines().enumerate().take_while(|(_, line)| line.starts_with('#')) {
        let Some(rest) = head.trim_start_matches('#').trim_start().strip_prefix('@') else {
            continue;
        };
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "step" | "check" => {
                check |= word == "check";
                line = number + 1;
                phrases.push(phrase(rest));
            }
            "about" => about = rest.to_owned(),
            _ => {}
        }
    }
    let values =
        phrases.first().map(|phrase| phrase.expression.replace("\\{", "").matches('{').count())?;
    let name = path.file_stem()?.to_string_lossy().into_owned();
    Some(StepDefinition {
        name: Cow::Owned(name),
        phrases,
        about: Cow::Owned(about),
        check,
        patience: Duration::ZERO,
        values,
        table: false,
        doc_string: false,
        built_in: false,
        place: Place {
            file: Cow::Owned(path.display().to_string()),
            line: u32::try_from(line).unwrap_or(1),
        },
        action: kezhan_steps::Action::Program(Arc::new(Script { path: path.to_owned(), check })),
    })
}

fn phrase(text: &str) -> Phrase {
    let (language, expression) = match text.split_once(": ") {
        Some(("zh", expression)) => ("zh-CN", expression),
        Some(("en", expression)) => ("en", expression),
        _ => ("en", text),
    };
    Phrase { language: language.into(), expression: Cow::Owned(expression.trim().to_owned()) }
}

impl StepProgram for Script {
    fn run(&self, world: &mut World, _step: &str, arguments: &Arguments) -> Result<(), Failure> {
        let name = self.path.display();
        let path = self.path.canonicalize().map_err(|error| Failure::broken(&name, error))?;
        let mut command = Command::new("/bin/sh");
        command.arg(path).current_dir(&world.folder).process_group(0);
        for (value, number) in arguments.values.iter().zip(1..) {
            let text = String::from_value(value)
                .or_else(|_failure| u64::from_value(value).map(|bytes| bytes.to_string()));
            command
                .env(format!("ARG{number}"), text.unwrap_or_else(|_failure| format!("{value:?}")));
        }
        if let Some(table) = arguments.table_below() {
            command.env("TABLE", serde_json::json!(table.rows).to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        world.settings.reaper.iter().for_each(|reaper| reaper.mark(&mut command));
        let mut child = command.spawn().map_err(|error| Failure::broken(&name, error))?;
        let group = child.id();
        world.settings.reaper.iter().for_each(|reaper| reaper.started(group));
        let input = arguments.doc_string_below().map(|doc| doc.content.clone()).unwrap_or_default();
        let mut pipe = child.stdin.take();
        let writer =
            std::thread::spawn(move || pipe.as_mut().map(|pipe| pipe.write_all(input.as_bytes())));
        let output = crate::external::wait(
            child,
            world.deadline.min(Instant::now() + Duration::from_secs(600)),
        );
        drop(writer.join());
        world.settings.reaper.iter().for_each(|reaper| reaper.ended(group));
        let (status, text) =
            output.map_err(|reason| Failure::Broken(format!("{name}: {reason}")))?;
        match status {
            Some(0) => Ok(()),
            _ if self.check => Err(Failure::mismatch(format!("{name} to hold"), text)),
            Some(status) => Err(Failure::Broken(format!("{name} exited with {status}:\n{text}"))),
            None => Err(Failure::Broken(format!("{name} was ended by a signal:\n{text}"))),
        }
    }
}
