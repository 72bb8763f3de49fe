//! What must not outlive the runner, even when it is killed.
//!
//! A small shell script waits at the end of a pipe. The runner writes to it which process groups and folders there
//! are, and by which commands other things (networks of the host) are taken away; when the pipe closes, for whatever
//! reason, the script kills the groups, runs the commands, removes the folders and ends. A script, because it must survive
//! the runner and needs nothing of it; process groups, because children have children.
//!
//! A runner may be killed after it has started a program and before it has written so. Programs therefore have a mark
//! in their environment; the script looks for it (proc(5)), unless the runner took leave. Twice, because a child that
//! has not begun its program yet has its parent's environment.

use kezhan_steps::Reaper;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// In the environment of what is started; the value is the runner's own.
const MARK: &str = "KEZHAN_BDD_RUN";

/// Reads `leave`, `+group N`, `-group N`, `+undo N COMMAND`, `-undo N`, `+folder N PATH`, `-folder N`; at the end of input clears
/// away what is left. Only numbers become part of a variable's name.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=''
folders=''
undos=''
lost=yes
while read -r word number path; do
    [ "$word" = leave ] && lost=
    case $number in ''|*[!0-9]*) continue ;; esac
    case $word in
        +group) groups="$groups $number"; eval "group_$number=1" ;;
        -group) eval "group_$number=" ;;
        +undo) undos="$undos $number"; eval "undo_$number=\$path" ;;
        -undo) eval "undo_$number=" ;;
        +folder) folders="$folders $number"; eval "folder_$number=\$path" ;;
        -folder) eval "folder_$number=" ;;
    esac
done
for number in $groups; do
    eval "alive=\$group_$number"
    [ -n "$alive" ] && kill -s KILL -- "-$number" 2>/dev/null
done
for pause in ${lost:+0 0.2}; do
    sleep $pause
    for file in $(grep -lsxzF -- "$1" /proc/[0-9]*/environ); do
        number=${file#/proc/}
        kill -s KILL "${number%/environ}" 2>/dev/null
    done
done
for number in $undos; do
    eval "command=\$undo_$number"
    [ -n "$command" ] && /bin/sh -c "$command"
done
for number in $folders; do
    eval "path=\$folder_$number"
    [ -n "$path" ] && rm -rf -- "$path"
done
"#;

/// The script, and the pipe to it. Dropping it clears away what is left.
#[derive(Debug)]
pub struct ScriptReaper {
    child: Mutex<Child>,
    pipe: Mutex<Option<ChildStdin>>,
    numbers: AtomicU64,
    mark: String,
}

impl ScriptReaper {
    /// Starts the script, in a process group of its own.
    ///
    /// # Errors
    /// When there is no shell.
    pub fn start() -> std::io::Result<ScriptReaper> {
        let mark = format!("{}.{:x}", std::process::id(), nanoseconds());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "kezhan-reaper", &format!("{MARK}={mark}")]).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        Ok(ScriptReaper {
            child: Mutex::new(child),
            pipe: Mutex::new(pipe),
            numbers: AtomicU64::new(0),
            mark,
        })
    }

    /// A folder must be removed. Answers its number.
    pub fn folder_made(&self, folder: &Path) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.say(&format!("+folder {number} {}", folder.display()));
        number
    }

    /// A folder was removed, or is to stay.
    pub fn folder_gone(&self, number: u64) {
        self.say(&format!("-folder {number}"));
    }

    fn say(&self, line: &str) {
        if line.contains('\n') {
            return;
        }
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            // A reaper that died can only be noticed here; the run itself does not need it.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

/// Since 1970, to tell this runner from one that had its process identifier before.
fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

impl Reaper for ScriptReaper {
    fn mark(&self, program: &mut Command) {
        program.env(MARK, &self.mark);
    }

    fn started(&self, group: u32) {
        self.say(&format!("+group {group}"));
    }

    fn ended(&self, group: u32) {
        self.say(&format!("-group {group}"));
    }

    fn made(&self, undo: &str) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.say(&format!("+undo {number} {undo}"));
        number
    }

    fn gone(&self, number: u64) {
        self.say(&format!("-undo {number}"));
    }
}

impl Drop for ScriptReaper {
    fn drop(&mut self) {
        self.say("leave");
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_runner_had_no_time_to_note_is_found_by_its_mark() {
        let reaper = ScriptReaper::start().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60; true"]).process_group(0);
        reaper.mark(&mut shell);
        let mut unnoted = shell.spawn().unwrap();
        // As when the runner is killed: it takes no leave.
        reaper.pipe.lock().unwrap().take();
        reaper.child.lock().unwrap().wait().unwrap();
        assert!(!unnoted.wait().unwrap().success());
    }
}
