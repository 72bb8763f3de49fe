//! One machine: its options, its process, its console.
//!
//! ```text
//!             pseudo-terminal                           pipe
//! Console <------------------> kezhan run (serial port) -----> messages
//!    keys of the guest; Ctrl-] and a letter: kezhan's menu
//! ```
//!
//! The machine sits at a terminal of its own, as it does before a person, because the menu behind Ctrl-] is the way to
//! its reset and power buttons. Pausing is the operating system's: a machine is one Linux process, SIGSTOP holds it and
//! SIGCONT lets it go on.

use super::console::{Console, Lossy, Transcript};
use super::terminal::{read_console, read_messages, terminal};
use crate::files::tail;
use kezhan_steps::{Failure, MachineState, Reaper, Settings};
use regex::Regex;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a Linux kernel writes when it gives up. (Linux, `kernel/panic.c`, `arch/x86/kernel/dumpstack.c`)
static PANIC: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"Kernel panic - not syncing[^\n]*|(?m)^\[[^\]\n]*\] (?:BUG: |Oops: |general protection fault)[^\n]*";
    // PANIC: the pattern is a constant, and a test uses it.
    Regex::new(pattern).unwrap_or_else(|error| unreachable!("{pattern}: {error}"))
});

/// Becomes the program that it is given, without the signal for files that grow beyond the limit: a write beyond it then
/// fails, which is what a step wants when it fills up the host. (setrlimit(2), RLIMIT_FSIZE)
const PATIENT: &str = "trap '' XFSZ; exec \"$@\"";

/// A machine.
#[derive(Debug)]
pub struct Machine {
    name: String,
    options: Vec<(String, String)>,
    /// Every so manieth typed character is lost; 0 for none.
    loss: u64,
    /// Ports of the host, and the guest's ports that they lead to.
    ports: Vec<(u16, u16)>,
    /// Where the packets of its first card are written.
    capture: Option<PathBuf>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    console: Console,
    messages: Arc<Mutex<Vec<u8>>>,
    /// The threads that read console and messages.
    readers: Vec<JoinHandle<()>>,
    /// The devices of its disks, by the names of these.
    devices: BTreeMap<String, String>,
    status: Option<ExitStatus>,
    reaper: Option<Arc<dyn Reaper>>,
    /// The reaper's number of what takes away the socket of a machine that was killed.
    door: u64,
}

impl Machine {
    /// A machine that is described and started later.
    pub fn new(name: &str) -> Machine {
        Machine {
            name: name.to_owned(),
            options: Vec::new(),
            loss: 0,
            ports: Vec::new(),
            capture: None,
            running: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives an option of `kezhan run`, in the place of an earlier one.
    pub fn set(&mut self, option: &str, value: &str) {
        self.options.retain(|(known, _)| known != option);
        self.add(option, value);
    }

    /// Gives an option of `kezhan run` once more.
    pub fn add(&mut self, option: &str, value: &str) {
        self.options.push((option.to_owned(), value.to_owned()));
    }

    /// Takes away the options of a name whose value begins with a text; whether there was one.
    pub fn remove(&mut self, option: &str, value: &str) -> bool {
        let before = self.options.len();
        self.options.retain(|(known, given)| known != option || !given.starts_with(value));
        self.options.len() < before
    }

    /// Whether its process runs, be the machine held or not.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.state(), MachineState::Running | MachineState::Paused)
    }

    /// The device that it has for a disk.
    ///
    /// # Errors
    /// When it does not run, and when it has no such disk.
    pub fn device(&mut self, disk: &str) -> Result<String, Failure> {
        self.must_run()?;
        let device = self.running.as_ref().and_then(|running| running.devices.get(disk));
        device.cloned().ok_or_else(|| {
            Failure::Broken(format!("machine \"{}\" has no disk \"{disk}\"", self.name))
        })
    }

    /// Notes that it was given a disk, which has become a device.
    ///
    /// # Errors
    /// When it does not run.
    pub fn plugged(&mut self, disk: &str, device: &str) -> Result<(), Failure> {
        self.must_run()?;
        let devices = self.running.as_mut().map(|running| &mut running.devices);
        devices.and_then(|devices| devices.insert(disk.to_owned(), device.to_owned()));
        Ok(())
    }

    /// Notes that it has given a disk back.
    pub fn unplugged(&mut self, disk: &str) {
        self.running.iter_mut().for_each(|running| drop(running.devices.remove(disk)));
    }

    /// Lets none of its files grow beyond what its largest image takes now, or lets them grow again.
    ///
    /// # Errors
    /// When it does not run, and when it has no image that grows.
    pub fn limit_files(&mut self, full: bool) -> Result<(), Failure> {
        self.must_run()?;
        let disks = self.options.iter().filter(|(option, _)| option == "disk");
        let mut growing = Vec::new();
        for (_, value) in disks.filter(|(_, value)| !value.contains(",format=raw")) {
            let path = value.split(',').next().unwrap_or_default();
            growing.extend(std::fs::metadata(path).map(|file| file.len()));
        }
        let Some(largest) = growing.into_iter().max() else {
            return Err(Failure::Broken(format!(
                "machine \"{}\" has no disk in a format whose files grow; make one in qcow2 format",
                self.name
            )));
        };
        let process = self.running.as_ref().and_then(|running| pid(&running.child));
        let limit = Rlimit { current: full.then_some(largest), maximum: None };
        let set = prlimit(process, Resource::Fsize, limit);
        set.map(drop).map_err(|error| Failure::broken("prlimit", error))
    }

    /// Lengthens the last option of a name; whether there is one.
    pub fn extend(&mut self, option: &str, more: &str) -> bool {
        let last = self.options.iter_mut().rev().find(|(known, _)| known == option);
        let found = last.is_some();
        last.into_iter().for_each(|(_, value)| value.push_str(more));
        found
    }

    /// Notes that a port of the host leads to one of the guest.
    pub fn led(&mut self, from: u16, to: u16) {
        self.ports.push((from, to));
    }

    /// The port of the host that leads to one of the guest.
    pub fn leads_to(&self, port: u16) -> Option<u16> {
        self.ports.iter().find(|(_, to)| *to == port).map(|(from, _)| *from)
    }

    /// Notes where packets are captured, unless that is known already.
    pub fn captured_in(&mut self, file: PathBuf) {
        self.capture.get_or_insert(file);
    }

    /// Where packets are captured.
    pub fn capture(&self) -> Option<&Path> {
        self.capture.as_deref()
    }

    /// Loses every so manieth character that is typed, from the next start on.
    pub fn lose(&mut self, every: u64) {
        self.loss = every;
    }

    /// Starts the process. A machine that ended may be started again, with a fresh console.
    ///
    /// # Errors
    /// When it runs already, and when the program cannot be started.
    pub fn start(&mut self, settings: &Settings, folder: &Path) -> Result<(), Failure> {
        if self.is_alive() {
            return Err(Failure::Broken(format!("machine \"{}\" is running already", self.name)));
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", PATIENT, "sh"]).arg(&settings.kezhan);
        command.args(["run", "--name", &self.name, "--serial", "stdio"]);
        for (option, value) in &self.options {
            command.arg(format!("--{option}"));
            if !value.is_empty() {
                command.arg(value);
            }
        }
        command.current_dir(folder).process_group(0).stderr(Stdio::piped());
        let program = settings.kezhan.display();
        let failed = |error: std::io::Error| Failure::broken(format!("{program} run"), error);
        let (ours, its) = terminal().map_err(failed)?;
        command.stdin(its.try_clone().map_err(failed)?).stdout(its);
        settings.reaper.iter().for_each(|reaper| reaper.mark(&mut command));
        let mut child = command.spawn().map_err(failed)?;
        // The command holds the other end; with it open the console would never end.
        drop(command);
        settings.reaper.iter().for_each(|reaper| reaper.started(child.id()));
        let transcript = Arc::new(Transcript::default());
        let messages = Arc::new(Mutex::new(Vec::new()));
        let errors = child.stderr.take();
        let mut readers: Vec<JoinHandle<()>> =
            errors.into_iter().map(|errors| read_messages(errors, messages.clone())).collect();
        readers.push(read_console(ours.try_clone().map_err(failed)?, transcript.clone()));
        let keys: Box<dyn Write + Send> = match self.loss {
            0 => Box::new(ours),
            every => Box::new(Lossy { keys: ours, every, count: 0 }),
        };
        let console = Console::new(keys, transcript);
        let reaper = settings.reaper.clone();
        let undo = undo(&settings.kezhan, &self.name, child.id());
        let door = reaper.as_ref().map_or(0, |reaper| reaper.made(&undo));
        let devices = self.devices();
        let status = None;
        self.running =
            Some(Running { child, console, messages, readers, devices, status, reaper, door });
        Ok(())
    }

    /// Its console.
    ///
    /// # Errors
    /// Before it was started.
    pub fn console(&mut self) -> Result<&mut Console, Failure> {
        match &mut self.running {
            Some(running) => Ok(&mut running.console),
            None => Err(Failure::Broken(format!(
                "machine \"{}\" was not started; say `I start the machine`",
                self.name
            ))),
        }
    }

    /// How its process ended, if it has; what it wrote before its end has been read by then.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        let running = self.running.as_mut()?;
        if running.status.is_none() {
            running.status = running.child.try_wait().ok().flatten();
            if running.status.is_some() {
                crate::process::drain(&running.readers, Instant::now() + LAST_WORDS);
            }
        }
        running.status
    }

    /// What it is doing. A process that ended with status 0, or was told to stop, has stopped; any other has crashed.
    pub fn state(&mut self) -> MachineState {
        if self.running.is_none() {
            return MachineState::Stopped;
        }
        match self.exit_status() {
            None if self.is_held() => MachineState::Paused,
            None => MachineState::Running,
            Some(status) if status.success() => MachineState::Stopped,
            // 128 + 15: it was told to stop, by us.
            Some(status) if status.code() == Some(143) => MachineState::Stopped,
            Some(_) => MachineState::Crashed,
        }
    }

    /// How it ended, in words.
    pub fn ending(&mut self) -> Option<String> {
        let status = self.exit_status()?;
        Some(match status.code() {
            Some(code) => format!("its process exited with {code}"),
            None => format!("its process was ended: {status}"),
        })
    }

    /// Why it is dead: how it ended, kezhan's messages, the console's tail.
    pub fn death(&mut self) -> String {
        let ending = self.ending().unwrap_or_else(|| "it was not started".to_owned());
        let console =
            self.running.as_ref().map(|running| running.console.log()).unwrap_or_default();
        let messages = self.messages();
        format!(
            "machine \"{}\": {ending}\n messages {}\n  console {}",
            self.name,
            tail(&messages),
            tail(&console)
        )
    }

    /// What `kezhan` wrote to standard error.
    pub fn messages(&self) -> String {
        let bytes = self
            .running
            .as_ref()
            .map(|running| running.messages.lock().unwrap_or_else(PoisonError::into_inner).clone());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// A dead machine or a panicked kernel will not do what is waited for.
    ///
    /// # Errors
    /// [`Failure::Guard`] with the reason.
    pub fn watch(&mut self) -> Result<(), Failure> {
        if let Some(running) = &self.running
            && let Some(panic) = PANIC.find(&running.console.log())
        {
            let message = format!("the guest's kernel panicked: {}", panic.as_str());
            return Err(Failure::Guard(message));
        }
        match self.exit_status() {
            Some(_) => Err(Failure::Guard(self.death())),
            None => Ok(()),
        }
    }

    /// Tells the process to stop, and waits for it.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self, deadline: Instant) -> Result<(), Failure> {
        let Some(running) = &self.running else { return Ok(()) };
        if let Some(process) = pid(&running.child) {
            let _ = kill_process(process, Signal::TERM);
            // A machine that is held takes no notice before it goes on.
            let _ = kill_process(process, Signal::CONT);
        }
        while self.exit_status().is_none() {
            if Instant::now() > deadline {
                return Err(Failure::Broken(format!(
                    "machine \"{}\" did not stop; it was sent SIGTERM",
                    self.name
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether its process is held by SIGSTOP. (proc_pid_stat(5), field 3)
    fn is_held(&self) -> bool {
        let Some(running) = &self.running else { return false };
        let path = format!("/proc/{}/stat", running.child.id());
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Holds the machine, or lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hold(&mut self, held: bool) -> Result<(), Failure> {
        self.must_run()?;
        let signal = if held { Signal::STOP } else { Signal::CONT };
        let process = self.running.as_ref().and_then(|running| pid(&running.child));
        let sent = process.map_or(Ok(()), |process| kill_process(process, signal));
        sent.map_err(|error| Failure::broken(format!("machine \"{}\"", self.name), error))
    }

    /// Chooses from the menu behind Ctrl-]. What the console showed before is not looked at again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn choose(&mut self, letter: u8) -> Result<(), Failure> {
        self.must_run()?;
        let console = self.console()?;
        console.look_away();
        let sent = console.send(&[ESCAPE, letter]);
        sent.map_err(|error| Failure::Broken(format!("the menu behind Ctrl-]: {error}")))
    }

    /// How `kezhan net` finds it among machines of one name.
    ///
    /// # Errors
    /// When it does not run.
    pub fn address(&mut self) -> Result<String, Failure> {
        self.must_run()?;
        let process = self.running.as_ref().map(|running| running.child.id()).unwrap_or_default();
        Ok(format!("{}.{process}", self.name))
    }

    /// The devices of the disks that it is started with: they are numbered in their order.
    fn devices(&self) -> BTreeMap<String, String> {
        let disks = self.options.iter().filter(|(option, _)| option == "disk");
        let name = |value: &str| {
            let file = Path::new(value.split(',').next().unwrap_or_default()).file_name();
            file.map_or_else(String::new, |file| file.to_string_lossy().into_owned())
        };
        disks.enumerate().map(|(n, (_, value))| (name(value), format!("disk{n}"))).collect()
    }

    fn must_run(&mut self) -> Result<(), Failure> {
        if self.is_alive() { Ok(()) } else { Err(Failure::Broken(self.death())) }
    }

    /// What a report should show when something failed: names and texts.
    pub fn evidence(&mut self) -> Vec<(String, String)> {
        let Some(running) = &self.running else { return Vec::new() };
        let log = running.console.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(200)..).unwrap_or_default().join("\n");
        let mut messages = self.messages();
        if let Some(ending) = self.ending() {
            messages.push_str(&ending);
        }
        let mut texts = vec![
            (format!("console of {}", self.name), last),
            (format!("messages of {}", self.name), messages),
        ];
        texts.retain(|(_, text)| !text.is_empty());
        texts
    }
}

/// What takes away the socket of a machine that was killed: whoever asks it once it is gone.
fn undo(program: &Path, name: &str, process: u32) -> String {
    format!(
        "n=0; while kill -0 {process} && [ $n -lt 20 ]; do sleep 0.1; n=$((n + 1)); done; \
         '{}' net link '{}.{process}' down",
        program.display(),
        name.replace('\'', "")
    )
}

/// How long the reading of what a machine wrote before its end may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Opens the menu of a machine at a terminal: Ctrl-].
const ESCAPE: u8 = 0x1d;

impl Drop for Running {
    fn drop(&mut self) {
        // Told to end, it takes its socket for `kezhan net` with it.
        if let (None, Some(process)) = (self.status, pid(&self.child)) {
            let _ = kill_process(process, Signal::TERM);
            let _ = kill_process(process, Signal::CONT);
            let deadline = Instant::now() + LAST_WORDS;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        if let Some(group) = pid(&self.child) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        self.reaper.iter().for_each(|reaper| reaper.ended(self.child.id()));
        self.reaper.iter().for_each(|reaper| reaper.gone(self.door));
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}
