//! Calls of other programs.

use crate::Outcome;
use std::process::{Command, Stdio};

/// Runs a program to its end and returns what it wrote.
///
/// # Errors
/// When it cannot be started or fails: its name, its arguments and what it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Outcome<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{}: {}: {}", line(command), done.status, said.trim()).into());
    }
    Ok(done.stdout)
}

/// The same, as text.
///
/// # Errors
/// As [`output`].
pub(crate) fn text(command: &mut Command) -> Outcome<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// Runs a program that writes to this terminal; whether it succeeded.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn succeeds(command: &mut Command) -> Outcome<bool> {
    Ok(command.status().map_err(|e| cannot_start(command, &e))?.success())
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("{}: cannot be started: {error}; `make setup` installs what is needed", line(command))
}
