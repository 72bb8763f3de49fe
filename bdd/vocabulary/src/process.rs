//! Programs that steps start: each in a process group of its own, with bounded output, ended with the world.
//!
//! The group is noted with the runner's reaper before anything is waited for, so that even a runner that is killed
//! leaves nothing behind.

use kezhan_steps::{Failure, World};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most of a program's output that is kept, in bytes; the rest is read and dropped.
const MAX_OUTPUT: usize = 16 << 20;

/// How long the output of a command that has ended may stay open, held by what it left behind.
const LINGERING: Duration = Duration::from_secs(2);

/// A program that was started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    reaper: Option<Arc<dyn kezhan_steps::Reaper>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command line with the shell, in the scenario's folder.
    ///
    /// # Errors
    /// When the shell cannot be started.
    pub fn shell(world: &World, line: &str) -> Result<Process, Failure> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        Process::start(world, command, line)
    }

    /// Starts a command in the scenario's folder; standard output and error are read together.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(world: &World, mut command: Command, name: &str) -> Result<Process, Failure> {
        command.current_dir(&world.folder).env("PATH", search_path(world)).process_group(0);
        let failed = |error: std::io::Error| Failure::broken(format!("command \"{name}\""), error);
        // One pipe for both, so that what was written first stands first.
        let (pipe, end) = std::io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(end.try_clone().map_err(failed)?).stderr(end);
        let reaper = world.settings.reaper.clone();
        reaper.iter().for_each(|reaper| reaper.mark(&mut command));
        let child = command.spawn().map_err(failed)?;
        // The command holds the pipe's other end; with it open the output would never end.
        drop(command);
        reaper.iter().for_each(|reaper| reaper.started(child.id()));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![collect(pipe, output.clone())];
        Ok(Process { child, output, readers, reaper, status: None })
    }

    /// What the program wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    /// How it ended, if it has; what it wrote before its end has been read by then. What a command left behind in the
    /// background may hold its output open and is not waited for.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                drain(&self.readers, Instant::now() + LINGERING);
            }
        }
        self.status
    }

    /// Waits for the end, at most until a deadline; then the program is killed.
    ///
    /// # Errors
    /// When time is up.
    pub fn wait(&mut self, deadline: Instant) -> Result<ExitStatus, Failure> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.end();
                let seen = crate::files::tail(&self.output());
                return Err(Failure::Broken(format!(
                    "the command did not end in time; its output:\n         {seen}"
                )));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn end(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
        self.reaper.take().iter().for_each(|reaper| reaper.ended(self.child.id()));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until threads that read what somebody writes have come to its end.
pub(crate) fn drain(readers: &[JoinHandle<()>], deadline: Instant) {
    while !readers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `kezhan` itself is found by name.
fn search_path(world: &World) -> std::ffi::OsString {
    let mut path = world
        .settings
        .kezhan
        .parent()
        .map(|folder| folder.as_os_str().to_owned())
        .unwrap_or_default();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

fn collect(mut pipe: impl Read + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_OUTPUT.saturating_sub(output.len()).min(count);
            output.extend_from_slice(chunk.get(..room).unwrap_or_default());
        }
    })
}
