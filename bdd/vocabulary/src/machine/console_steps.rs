//! Steps on serial consoles.

use super::console::ConsoleError;
use super::{Machine, current};
use crate::files::tail;
use kezhan_steps::{Failure, StepDefinition, World, check, step, steps};
use regex::RegexBuilder;

/// The family's steps.
pub(crate) fn steps() -> Vec<StepDefinition> {
    steps![
        type_it,
        enter,
        press,
        log_in,
        log_in_without,
        has_booted,
        shows,
        shows_match,
        log_has_line
    ]
}

pub(crate) fn typing(
    machine: &mut Machine,
    what: &str,
    result: Result<(), ConsoleError>,
) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => {
            machine.watch()?;
            Err(Failure::Broken(format!("typing {what:?} on the console: {error}")))
        }
    }
}

/// Types a text, and sees to it that it is echoed.
#[step(en = "I type {string} on the console", zh = "我在控制台输入 {string}")]
fn type_it(world: &mut World, text: &str) -> Result<(), Failure> {
    let machine = current(world)?;
    let result = machine.console()?.type_text(text);
    typing(machine, text, result)
}

/// Types a line, sees to it that it is echoed, and presses Enter.
#[step(en = "I enter {string} on the console", zh = "我在控制台输入 {string} 并回车")]
fn enter(world: &mut World, text: &str) -> Result<(), Failure> {
    let machine = current(world)?;
    let result = machine.console()?.enter(text);
    typing(machine, text, result)
}

/// Presses a key that no text has: `enter`, `ctrl-c`, `ctrl-d`, `esc`, `tab`.
#[step(en = "I press {key} on the console", zh = "我在控制台按 {key}")]
fn press(world: &mut World, key: &str) -> Result<(), Failure> {
    let bytes = match key.to_ascii_lowercase().as_str() {
        "enter" => vec![b'\r'],
        "esc" | "escape" => vec![0x1b],
        "tab" => vec![b'\t'],
        "backspace" => vec![0x7f],
        key => match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter @ b'a'..=b'z']) => vec![letter - b'a' + 1],
            _ => {
                return Err(Failure::Broken(format!(
                    "key \"{key}\": keys are enter, esc, tab, backspace, ctrl-a … ctrl-z"
                )));
            }
        },
    };
    let machine = current(world)?;
    let result = machine.console()?.send(&bytes);
    typing(machine, key, result)
}

/// Looks behind the cursor, which moves behind what is found.
fn look(
    machine: &mut Machine,
    what: &str,
    find: &dyn Fn(&str) -> Option<usize>,
) -> Result<(), Failure> {
    let console = machine.console()?;
    if console.take(find).is_some() {
        return Ok(());
    }
    let seen = tail(&console.fresh());
    machine.watch()?;
    Err(Failure::mismatch(format!("{what} on the console"), seen))
}

fn text_end(text: &str, shown: &str) -> Option<usize> {
    shown.find(text).map(|at| at + text.len())
}

/// Waits for a text on the console, in what came after the last thing done or seen there.
#[check(en = "the console shows {string}", zh = "控制台显示 {string}", patience = "30 s")]
fn shows(world: &mut World, text: &str) -> Result<(), Failure> {
    look(current(world)?, &format!("{text:?}"), &|shown| text_end(text, shown))
}

/// Waits for a pattern on the console; `^` and `$` are the ends of a line.
#[check(
    en = "the console shows a match of {regex}",
    zh = "控制台显示匹配 {regex} 的内容",
    patience = "30 s"
)]
fn shows_match(world: &mut World, pattern: &str) -> Result<(), Failure> {
    let regex = RegexBuilder::new(pattern).multi_line(true).build();
    let regex = regex.map_err(|error| Failure::broken(format!("/{pattern}/"), error))?;
    look(current(world)?, &format!("/{pattern}/"), &|shown| {
        regex.find(shown).map(|found| found.end())
    })
}

/// Looks for a line in all that the console ever showed.
#[check(en = "the console log has a line matching {regex}", zh = "控制台日志中有匹配 {regex} 的行")]
fn log_has_line(world: &mut World, pattern: &str) -> Result<(), Failure> {
    let regex = RegexBuilder::new(pattern).multi_line(true).build();
    let regex = regex.map_err(|error| Failure::broken(format!("/{pattern}/"), error))?;
    let log = current(world)?.console()?.log();
    match log.lines().find(|line| regex.is_match(line)) {
        Some(_) => Ok(()),
        None => Err(Failure::mismatch(
            format!("a line matching /{pattern}/ in the console log"),
            tail(&log),
        )),
    }
}

/// What a shell's prompt ends with, and what a guest says to a stranger.
const AFTER_LOGIN: [&str; 3] = ["$ ", "# ", "Login incorrect"];

/// Waits for the login prompt, logs in, and waits for the shell's prompt.
#[step(
    en = "I log in on the console as {string} with password {string}",
    zh = "我在控制台以 {string} 身份、密码 {string} 登录"
)]
fn log_in(world: &mut World, user: &str, password: &str) -> Result<(), Failure> {
    world.variables.hide(password);
    await_prompt(world, &["login:"])?;
    enter(world, user)?;
    await_prompt(world, &["assword:"])?;
    let machine = current(world)?;
    // A password is not echoed.
    let result = machine.console()?.send(format!("{password}\r").as_bytes());
    typing(machine, "the password", result)?;
    greeted(world, user)
}

/// Waits for the login prompt, logs in as a user who has no password, and waits for the shell's prompt.
#[step(en = "I log in on the console as {string}", zh = "我在控制台以 {string} 身份登录")]
fn log_in_without(world: &mut World, user: &str) -> Result<(), Failure> {
    await_prompt(world, &["login:"])?;
    enter(world, user)?;
    greeted(world, user)
}

fn greeted(world: &mut World, user: &str) -> Result<(), Failure> {
    match await_prompt(world, &AFTER_LOGIN)? {
        2 => Err(Failure::Broken(format!("the guest refuses to log in \"{user}\""))),
        _ => Ok(()),
    }
}

/// Looks for a prompt, for the user's name or for a command, that a guest shows when it is ready to be spoken to.
#[check(en = "the machine has booted", zh = "机器已启动完成", patience = "120 s")]
fn has_booted(world: &mut World) -> Result<(), Failure> {
    let machine = current(world)?;
    let log = machine.console()?.log();
    let last = log.lines().last().unwrap_or_default();
    if ["login: ", "# ", "$ "].iter().any(|prompt| last.ends_with(prompt)) {
        return Ok(());
    }
    machine.watch()?;
    Err(Failure::mismatch("a prompt on the console", tail(&log)))
}

/// Waits for the first of several texts; answers which. Up to the scenario's deadline, since a guest may be booting.
fn await_prompt(world: &mut World, texts: &[&str]) -> Result<usize, Failure> {
    loop {
        let out_of_time = world.deadline <= std::time::Instant::now();
        let machine = current(world)?;
        for (index, text) in texts.iter().enumerate() {
            if machine.console()?.take(&|shown| text_end(text, shown)).is_some() {
                return Ok(index);
            }
        }
        machine.watch()?;
        if out_of_time {
            let seen = tail(&machine.console()?.fresh());
            return Err(Failure::mismatch(format!("{} on the console", texts.join(" or ")), seen));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
