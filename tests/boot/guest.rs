//! A guest that runs one of `guests/scripts`, and what came out of it.

use libtest_mimic::Failed;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// In seconds; longer than any boot takes on a busy machine.
const TIMEOUT: &str = "300";

/// A machine to be.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    /// `cloud` or `full`.
    pub kernel: &'static str,
    /// `busybox` or `debian`.
    pub userland: &'static str,
    /// Number of CPUs.
    pub cpus: u32,
    /// As `--memory` takes it.
    pub memory: &'static str,
}

/// The plainest of them.
pub const PLAIN: Guest = Guest { kernel: "cloud", userland: "busybox", cpus: 1, memory: "512M" };

/// What a guest wrote to its console, and how it ended.
#[derive(Debug)]
pub struct Transcript {
    /// Each line without its end, with the host's time of its arrival.
    pub lines: Vec<(Duration, String)>,
    /// What `kezhan` wrote to standard error.
    pub messages: String,
    /// Exit status.
    pub status: Option<i32>,
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of a guest in the cache.
pub fn file(guest: &str, name: &str) -> Result<PathBuf, Failed> {
    let path = root().join(".cache/guests").join(guest).join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!("{}: is missing; `make guests` makes it", path.display()).into())
}

/// `kezhan` with these arguments.
pub fn kezhan(arguments: &[&str]) -> Result<Command, Failed> {
    let built = || root().join("target/release/kezhan");
    let path = env::var_os("KEZHAN").map_or_else(built, PathBuf::from);
    if !path.exists() {
        return Err(format!("{}: is missing; `make build` builds it", path.display()).into());
    }
    let mut command = Command::new(path);
    command.args(arguments);
    Ok(command)
}

/// `kezhan run` on the engine that is tested.
pub fn run() -> Result<Command, Failed> {
    let engine = env::var("KEZHAN_ENGINE").unwrap_or_else(|_| "soft".to_owned());
    kezhan(&["run", "--engine", &engine, "--timeout", TIMEOUT])
}

impl Guest {
    /// The command that runs this machine, with `append` after what puts the console on the terminal.
    pub fn command(&self, append: &str) -> Result<Command, Failed> {
        let mut command = run()?;
        command.args(["--memory", self.memory, "--cpus", &self.cpus.to_string()]);
        command.arg("--kernel").arg(file(self.kernel, "vmlinuz")?);
        command.arg("--initrd").arg(file(self.userland, "initrd")?);
        command.args(["--append", format!("console=ttyS0 {append}").trim()]);
        Ok(command)
    }

    /// Runs `script` in it, to the end.
    pub fn run(&self, script: &str) -> Result<Transcript, Failed> {
        Transcript::of(self.command(&format!("kezhan.run={script}"))?)
    }
}

impl Transcript {
    /// Runs a machine to its end.
    pub fn of(mut command: Command) -> Result<Transcript, Failed> {
        let start = Instant::now();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut lines = Vec::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).trim_end_matches('\r').to_owned();
            lines.push((start.elapsed(), line));
        }
        let mut messages = String::new();
        child.stderr.take().ok_or("no standard error")?.read_to_string(&mut messages)?;
        Ok(Transcript { lines, messages, status: child.wait()?.code() })
    }

    /// It powered itself off, its script ended well, and `kezhan` with status 0.
    pub fn assert_clean(&self, script: &str) -> Result<(), Failed> {
        let ended = format!("kezhan: end {script}, status 0");
        if self.status != Some(0) {
            return Err(self.failed(&format!("exit status {:?} instead of 0", self.status)));
        }
        if !self.lines.iter().any(|(_, line)| line.ends_with(&ended)) {
            return Err(self.failed(&format!("no line `{ended}`")));
        }
        match self.lines.iter().any(|(_, line)| line.ends_with("reboot: Power down")) {
            true => Ok(()),
            false => Err(self.failed("the kernel did not say that it powers down")),
        }
    }

    /// What the script wrote: the lines between init's two marks, with their times.
    pub fn of_script(&self) -> impl Iterator<Item = &(Duration, String)> {
        let after = self.lines.iter().skip_while(|(_, line)| !line.starts_with("kezhan: begin "));
        after.skip(1).take_while(|(_, line)| !line.starts_with("kezhan: end "))
    }

    /// A part of the report: the lines after `== NAME`, up to the next such mark.
    pub fn part(&self, name: &str) -> Vec<&str> {
        let mark = format!("== {name}");
        let after =
            self.of_script().map(|(_, line)| line.as_str()).skip_while(|line| *line != mark);
        after.skip(1).take_while(|line| !line.starts_with("== ")).collect()
    }

    /// How many lines of the script hold these words.
    pub fn all(&self, words: &str) -> usize {
        self.of_script().filter(|(_, line)| line.contains(words)).count()
    }

    /// A failure, with the end of the console and the messages.
    pub fn failed(&self, what: &str) -> Failed {
        let from = self.lines.len().saturating_sub(30);
        let tail: Vec<&str> = self.lines[from..].iter().map(|(_, line)| line.as_str()).collect();
        format!("{what}\n--- console\n{}\n--- messages\n{}", tail.join("\n"), self.messages).into()
    }
}
