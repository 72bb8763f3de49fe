//! What a step said: shown as it comes, and kept, so that the end of the log can tell why the step failed.

use crate::Outcome;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// How many lines of a failure the digest has.
const FAILURE: usize = 6;

/// How many lines the digest of a step has at most.
const DIGEST: usize = 30;

/// The lines that a step has shown.
#[derive(Debug, Default)]
pub(crate) struct Transcript(Vec<String>);

impl Transcript {
    /// Shows a line and keeps it.
    pub(crate) fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push(line.to_owned());
    }

    /// Runs a program to its end and hands over each line of its output, of both streams in the order in which
    /// they were written. Whether it succeeded.
    pub(crate) fn run(
        &mut self,
        command: &mut Command,
        mut each: impl FnMut(&mut Transcript, &str),
    ) -> Outcome<bool> {
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stderr(writer.try_clone()?).stdout(writer);
        let mut child = command.spawn()?;
        // Its copies of the writing end would keep the pipe open for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        for line in BufReader::new(reader).split(b'\n') {
            each(self, &String::from_utf8_lossy(&line?));
        }
        Ok(child.wait()?.success())
    }

    /// The first lines of each failure, or the last lines when none is known as such.
    pub(crate) fn digest(&self) -> Vec<String> {
        let mut left = 0;
        let mut digest = Vec::new();
        for line in &self.0 {
            left = if is_failure(line) { FAILURE } else { left };
            if left != 0 && digest.len() < DIGEST {
                left -= 1;
                digest.push(line.clone());
            }
        }
        if digest.is_empty() {
            digest = self.0[self.0.len().saturating_sub(DIGEST)..].to_vec();
        }
        digest
    }
}

/// `---- name stdout ----` and `---- name ----`, as test programs head what a failed test has said.
fn is_failure(line: &str) -> bool {
    line.starts_with("---- ") && line.ends_with(" ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(text: &str) -> Transcript {
        Transcript(text.lines().map(str::to_owned).collect())
    }

    #[test]
    fn a_digest_holds_the_first_lines_of_each_failure() {
        let said = transcript("warning\n---- a stdout ----\n2\n3\n4\n5\n6\n7\n---- b ----\n2");
        let digest = ["---- a stdout ----", "2", "3", "4", "5", "6", "---- b ----", "2"];
        assert_eq!(said.digest(), digest);
    }

    #[test]
    fn without_a_failure_the_last_lines_are_the_digest() {
        assert_eq!(transcript("one\ntwo").digest(), ["one", "two"]);
    }

    #[test]
    fn both_streams_are_read_to_their_end() {
        let mut said = Transcript::default();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!(said.run(&mut shell, Transcript::line).ok(), Some(false));
        assert_eq!(said.0, ["out", "err"]);
    }
}
