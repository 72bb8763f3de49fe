//! The process of a service: started, found again, ended.

use super::{Service, resolvers};
use crate::process::Process;
use crate::store::Record;
use crate::{NetworkError, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setsid};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// What the process says once it serves.
const READY: &str = "ready";

/// How long its end is waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Ends a process that serves a network, if it still is that one, and waits for its end.
pub(crate) fn end(process: Process) {
    let Some(pid) = Pid::from_raw(process.number) else { return };
    // A descriptor stays that of the process that it was made for.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if process.is_alive() && pidfd_send_signal(&handle, Signal::TERM).is_ok() {
        let mut ended = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
        poll(&mut ended, Some(&PATIENCE)).ok();
    }
}

/// Sees to it that a network is served; called with the store's lock.
pub(crate) fn ensure(store: &Store, record: &Record) -> Result<(), NetworkError> {
    if !record.dhcp || record.serving.is_some_and(Process::is_alive) {
        return Ok(());
    }
    let serving = start(store, &record.name).map_err(|error| NetworkError::Service {
        name: record.name.clone(),
        reason: error.to_string(),
    })?;
    store.write(&Record { serving: Some(serving), ..record.clone() })
}

/// Starts the process and waits for its first line.
fn start(store: &Store, name: &str) -> io::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["net", "serve", name]).env("KEZHAN_RUNTIME_DIR", store.folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let process = i32::try_from(child.id()).unwrap_or_default();
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim_end() == READY {
        return Process::of(process).ok_or_else(|| io::ErrorKind::NotFound.into());
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim_end().trim_start_matches("kezhan: ").to_owned()))
}

/// `kezhan net serve NAME`: serves until it is ended.
pub(crate) fn run(store: &Store, name: &str) -> Result<(), NetworkError> {
    let unknown = || NetworkError::Unknown(name.to_owned());
    let record = store.find(name)?.ok_or_else(unknown)?;
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let service = Service::open(&record, resolvers(&text))?;
    // Away from the terminal that started it: it belongs to the network.
    setsid().ok();
    rustix::thread::set_name(c"kezhan-net").ok();
    let mut output = io::stdout();
    writeln!(output, "{READY}").and_then(|()| output.flush()).ok();
    service.run().map_err(NetworkError::kernel(format!("network {name}")))
}
