//! The log: what the crates say by `log`, as lines on standard error.
//!
//! ```text
//!   log::warn!(…) ── level (KEZHAN_LOG) ── so many a second ──► tell: "kezhan: warning: …"
//! ```
//! Warnings and errors are told unless `KEZHAN_LOG` says otherwise (`off`, `error`, `warn`, `info`, `debug`,
//! `trace`): `info` adds why a guest's policy denied something. A guest may cause lines, so that only a few are told
//! in a second; how many were not is told with the next one.
//!
//! Rejected: a file (standard error leads to one), times (whoever keeps the lines adds them), filters by module.

use crate::tell;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Names the level.
const VARIABLE: &str = "KEZHAN_LOG";

/// Lines in a second.
const LINES: u32 = 30;

/// The lines of the second that began at `since`.
#[derive(Debug)]
struct Lines {
    since: Option<Instant>,
    told: u32,
    kept: u32,
}

impl Lines {
    /// Whether another line may be told now, and how many were not before it.
    fn may(&mut self, now: Instant) -> Option<u32> {
        let over = |since: Instant| now.duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(over) {
            (self.since, self.told) = (Some(now), 0);
        }
        if self.told == LINES {
            self.kept = self.kept.saturating_add(1);
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.kept))
    }
}

/// The one logger.
struct Logger(Mutex<Lines>);

static LOGGER: Logger = Logger(Mutex::new(Lines { since: None, told: 0, kept: 0 }));

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let may = self.0.lock().unwrap_or_else(PoisonError::into_inner).may(Instant::now());
        match may {
            None => return,
            Some(0) => {}
            Some(kept) => tell(&format!("{kept} lines of the log were left out")),
        }
        tell(&format!("{}{}", word(record.level()), record.args()));
    }

    fn flush(&self) {}
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    }
}

/// From now on what is logged is told, from the level on that `KEZHAN_LOG` names.
pub fn tell_log() {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let level = match wanted.parse() {
        Ok(level) => level,
        Err(_) if wanted.is_empty() => LevelFilter::Warn,
        Err(_) => {
            tell(&format!("{VARIABLE}={wanted}: give off, error, warn, info, debug or trace"));
            LevelFilter::Warn
        }
    };
    // Set twice, it stays.
    log::set_logger(&LOGGER).ok();
    log::set_max_level(level);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Run by the test below in a process of its own.
    #[test]
    #[ignore = "is the inner part of another test"]
    fn something_is_logged() {
        tell_log();
        log::error!("one");
        log::warn!("two");
        log::info!("three");
        log::debug!("four");
    }

    fn told(level: &str) -> Vec<String> {
        let inner = "log_lines::tests::something_is_logged";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", inner, "--ignored", "--nocapture"]).env(VARIABLE, level);
        let text = String::from_utf8(command.output().unwrap().stderr).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("kezhan: "));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn warnings_are_told_and_more_or_less_on_demand() {
        assert_eq!(told(""), ["error: one", "warning: two"]);
        assert_eq!(told("error"), ["error: one"]);
        assert_eq!(told("info"), ["error: one", "warning: two", "three"]);
        assert_eq!(told("debug").last().unwrap(), "debug: four");
        assert!(told("off").is_empty());
        let wrong = told("loud");
        assert!(wrong[0].starts_with("KEZHAN_LOG=loud: give off, error"), "{wrong:?}");
        assert_eq!(wrong[1..], ["error: one", "warning: two"]);
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let mut lines = Lines { since: None, told: 0, kept: 0 };
        let start = Instant::now();
        let told = (0..100).filter(|_| lines.may(start).is_some()).count();
        assert_eq!(told, LINES as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!(lines.may(later), Some(100 - LINES));
        assert_eq!(lines.may(later), Some(0));
    }
}
