//! A process of this host, told from later ones of its number.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::str::FromStr;

/// Its number, and when it was started in the kernel's clock, since numbers are used again (proc_pid_stat(5), field
/// 22).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    #[serde(rename = "process")]
    pub(crate) number: i32,
    started: u64,
}

impl Process {
    /// The process that has a number now.
    pub(crate) fn of(number: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        // The second field, the name, may have spaces and brackets in it.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Process { number, started })
    }

    /// This one.
    pub(crate) fn own() -> Option<Process> {
        Process::of(i32::try_from(std::process::id()).ok()?)
    }

    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.number) == Some(self)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.started)
    }
}

impl FromStr for Process {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Process, Self::Err> {
        let (number, started) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Process { number: number.parse()?, started: started.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_under_its_own_start_time_only() {
        let own = Process::own().unwrap();
        assert!(own.is_alive() && own.to_string().parse() == Ok(own));
        assert!(!Process { started: 1, ..own }.is_alive());
        assert!(!Process { number: 4_194_305, started: 77 }.is_alive());
        assert!("nobody".parse::<Process>().is_err() && "7".parse::<Process>().is_err());
    }
}
