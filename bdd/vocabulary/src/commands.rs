//! Steps on programs of this host.
//!
//! A command that is run is waited for; a program in the background lives until the scenario ends. The checks speak
//! of the last command, wherever it ran.

use crate::files::tail;
use crate::process::Process;
use kezhan_steps::{DocString, Failure, StepDefinition, World, check, step, steps};
use regex::RegexBuilder;
use std::collections::BTreeMap;

/// The family's steps.
pub fn steps() -> Vec<StepDefinition> {
    steps![
        run_on_host,
        run_script_on_host,
        try_on_host,
        background,
        stop_background,
        succeeds,
        fails,
        exits_with,
        output_contains,
        output_matches,
        output_is,
        program_shows,
        program_address,
        program_runs,
        save_output
    ]
}

/// What the last command left.
#[derive(Clone, Debug, Default)]
pub struct LastCommand {
    /// The command line.
    pub line: String,
    /// Its exit status; absent before the first command, and when a signal ended it.
    pub status: Option<i32>,
    /// Standard output and error, as they came.
    pub output: String,
}

/// Programs in the background, by name.
#[derive(Debug, Default)]
struct Background(BTreeMap<String, Process>);

fn run(world: &mut World, line: &str) -> Result<LastCommand, Failure> {
    let mut process = Process::shell(world, line)?;
    let status = process.wait(world.deadline)?;
    let last =
        LastCommand { line: line.to_owned(), status: status.code(), output: process.output() };
    *world.state::<LastCommand>() = last.clone();
    Ok(last)
}

/// Runs a command line; it must succeed.
#[step(en = "I run {string} on the host", zh = "我在宿主机上运行 {string}")]
fn run_on_host(world: &mut World, line: &str) -> Result<(), Failure> {
    let last = run(world, line)?;
    must_succeed(&last)
}

/// Runs a script with the shell; it must succeed.
#[step(en = "I run the script on the host:", zh = "我在宿主机上运行脚本:")]
fn run_script_on_host(world: &mut World, script: DocString) -> Result<(), Failure> {
    let last = run(world, &script.content)?;
    must_succeed(&last)
}

/// Runs a command line, however it ends.
#[step(en = "I try to run {string} on the host", zh = "我尝试在宿主机上运行 {string}")]
fn try_on_host(world: &mut World, line: &str) -> Result<(), Failure> {
    run(world, line).map(drop)
}

pub(crate) fn must_succeed(last: &LastCommand) -> Result<(), Failure> {
    match last.status {
        Some(0) => Ok(()),
        status => Err(Failure::Broken(format!(
            "\"{}\" {}; its output:\n         {}",
            last.line,
            ending(status),
            tail(&last.output)
        ))),
    }
}

fn ending(status: Option<i32>) -> String {
    status.map_or_else(
        || "was ended by a signal".to_owned(),
        |status| format!("exited with {status}"),
    )
}

/// Starts a program that runs until the scenario ends.
#[step(
    en = "the program {string} runs in the background as {string}",
    zh = "程序 {string} 以 {string} 之名在后台运行"
)]
fn background(world: &mut World, line: &str, name: &str) -> Result<(), Failure> {
    let process = Process::shell(world, line)?;
    world.state::<Background>().0.insert(name.to_owned(), process);
    Ok(())
}

/// Ends a program of the background.
#[step(en = "I end the program {string}", zh = "我结束程序 {string}")]
fn stop_background(world: &mut World, name: &str) -> Result<(), Failure> {
    let ended = world.state::<Background>().0.remove(name);
    ended.map(drop).ok_or_else(|| Failure::Broken(format!("no program runs as \"{name}\"")))
}

fn program<'w>(world: &'w mut World, name: &str) -> Result<&'w mut Process, Failure> {
    let found = world.state::<Background>().0.get_mut(name);
    found.ok_or_else(|| Failure::Broken(format!("no program runs as \"{name}\"")))
}

/// Looks for a text in what a program of the background wrote.
#[check(
    en = "the program {string} shows {string}",
    zh = "程序 {string} 显示 {string}",
    patience = "10 s"
)]
fn program_shows(world: &mut World, name: &str, expected: &str) -> Result<(), Failure> {
    let process = program(world, name)?;
    let output = process.output();
    if output.contains(expected) {
        return Ok(());
    }
    match process.status() {
        Some(status) => {
            let seen =
                format!("it {}; its output:\n         {}", ending(status.code()), tail(&output));
            Err(Failure::Broken(format!("program \"{name}\" never showed {expected:?}: {seen}")))
        }
        None => Err(Failure::mismatch(format!("{expected:?} from {name}"), tail(&output))),
    }
}

/// Waits until a program of the background writes an address, `http://HOST:PORT`, and keeps it under a name: a server
/// that chooses its port says which.
#[check(
    en = "the program {string} tells its address as {string}",
    zh = "程序 {string} 给出的地址存为 {string}",
    patience = "10 s"
)]
fn program_address(world: &mut World, name: &str, variable: &str) -> Result<(), Failure> {
    let output = program(world, name)?.output();
    let address = output.find("http://").and_then(|at| output.get(at..)).map(|rest| {
        rest.trim_end_matches(char::is_whitespace)
            .split(|c: char| c.is_whitespace() || c == ',')
            .next()
            .unwrap_or(rest)
    });
    match address {
        Some(address) => {
            world.variables.set(variable, address);
            Ok(())
        }
        None => program_shows(world, name, "http://"),
    }
}

/// Whether a program of the background is still there.
#[check(en = "the program {string} is running", zh = "程序 {string} 在运行")]
fn program_runs(world: &mut World, name: &str) -> Result<(), Failure> {
    match program(world, name)?.status() {
        None => Ok(()),
        Some(status) => Err(Failure::mismatch(
            format!("{name} running"),
            format!("it {}", ending(status.code())),
        )),
    }
}

/// Whether the last command exited with 0.
#[check(en = "the command succeeds", zh = "命令成功")]
fn succeeds(world: &mut World) -> Result<(), Failure> {
    exits_with(world, 0)
}

/// Whether the last command exited with another status than 0.
#[check(en = "the command fails", zh = "命令失败")]
fn fails(world: &mut World) -> Result<(), Failure> {
    let last = world.state::<LastCommand>();
    if last.status == Some(0) {
        Err(Failure::mismatch("a status other than 0", "exit status 0"))
    } else {
        Ok(())
    }
}

/// Compares the last command's exit status.
#[check(en = "the command exits with {int}", zh = "命令退出码为 {int}")]
fn exits_with(world: &mut World, expected: i32) -> Result<(), Failure> {
    let last = world.state::<LastCommand>();
    if last.status == Some(expected) {
        return Ok(());
    }
    let seen = format!(
        "\"{}\" {}; its output:\n         {}",
        last.line,
        ending(last.status),
        tail(&last.output)
    );
    Err(Failure::mismatch(format!("exit status {expected}"), seen))
}

/// Looks for a text in the last command's output.
#[check(
    en = "its output contains {string}",
    en = "the output contains {string}",
    zh = "输出包含 {string}"
)]
fn output_contains(world: &mut World, expected: &str) -> Result<(), Failure> {
    let output = &world.state::<LastCommand>().output;
    if output.contains(expected) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("{expected:?} in the output"), tail(output)))
    }
}

/// Looks for a pattern in the last command's output; `^` and `$` are the ends of a line.
#[check(
    en = "its output matches {regex}",
    en = "the output matches {regex}",
    zh = "输出匹配 {regex}"
)]
fn output_matches(world: &mut World, pattern: &str) -> Result<(), Failure> {
    let regex = RegexBuilder::new(pattern)
        .multi_line(true)
        .build()
        .map_err(|error| Failure::broken(format!("/{pattern}/"), error))?;
    let output = &world.state::<LastCommand>().output;
    if regex.is_match(output) {
        Ok(())
    } else {
        Err(Failure::mismatch(format!("/{pattern}/ in the output"), tail(output)))
    }
}

/// Compares the last command's output, but for blank space at its end.
#[check(en = "its output is:", en = "the output is:", zh = "输出为:")]
fn output_is(world: &mut World, expected: DocString) -> Result<(), Failure> {
    let output = &world.state::<LastCommand>().output;
    if output.trim_end() == expected.content.trim_end() {
        Ok(())
    } else {
        Err(Failure::mismatch(expected.content, tail(output)))
    }
}

/// Keeps the last command's output, without blank space around it, under a name.
#[step(en = "I save the output as {string}", zh = "我把输出存为 {string}")]
fn save_output(world: &mut World, name: &str) -> Result<(), Failure> {
    let output = world.state::<LastCommand>().output.trim().to_owned();
    world.variables.set(name, output);
    Ok(())
}
