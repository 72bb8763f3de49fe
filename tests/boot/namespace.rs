//! A network namespace for a test: interfaces, addresses and rules that the host does not see, gone with it.

use crate::guest::kezhan;
use libtest_mimic::Failed;
use nix::sched::{CloneFlags, unshare};
use std::path::Path;
use std::process::Command;
use std::thread;

/// Does the work in a thread that is alone in a new namespace; what it starts is there, too. The folder is
/// the runtime folder of every `kezhan` in it. Needs root.
pub fn within(work: fn(&Path) -> Result<(), Failed>) -> Result<(), Failed> {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut up = Command::new("ip");
        succeeds(up.args("link set lo up".split(' ')))?;
        let folder = tempfile::tempdir()?;
        work(folder.path())
    });
    thread.join().unwrap_or_else(|_panic| Err("the test panicked".into()))
}

fn succeeds(command: &mut Command) -> Result<(), Failed> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// `kezhan net` with these words; what it says.
pub fn net(folder: &Path, words: &str) -> Result<String, Failed> {
    let mut command = kezhan(&["net"])?;
    command.args(words.split(' ')).env("KEZHAN_RUNTIME_DIR", folder);
    let done = command.output()?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// Interfaces beside the loopback one, tables of rules, and processes of ours that are in this namespace.
pub fn leavings() -> Result<Vec<String>, Failed> {
    const SCRIPT: &str = r#"
        sed -n 's/^ *\([^ :]*\):.*/\1/p' /proc/self/net/dev | grep -vx lo
        nft list tables
        for process in /proc/[0-9]*; do
            [ "$(readlink $process/ns/net)" = "$(readlink /proc/self/ns/net)" ] || continue
            read -r name <$process/comm && case $name in kezhan*) echo "$name" ;; esac
        done"#;
    let done = Command::new("sh").args(["-c", SCRIPT]).output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    Ok(text.lines().map(str::to_owned).collect())
}
