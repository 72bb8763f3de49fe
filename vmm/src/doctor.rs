//! What this host can do, what is missing, and the command that mends it.
//!
//! ```text
//!   /proc, /sys, /dev (HostRoot) ─┐
//!   KVM's own answers ────────────┼─► one check after the other ─► Report ─► text or JSON
//!   the probe guest's verdict ────┘
//! ```
//!
//! A check looks at one thing, says what it found, and carries the exact commands that mend it. Only
//! [`State::Fault`]s cost the guest something (no KVM, no network of its own); [`State::Hint`]s are for
//! people who want more of the host. Nothing is altered and nothing but `/dev/kvm` is opened.
//!
//! Everything is read below a [`HostRoot`], and KVM's answers come in as a [`KvmReport`], so that tests
//! show it hosts that they are not.

mod checks;
mod kvm_checks;
mod modules;

pub use modules::ModuleState;

use crate::HostRoot;
use serde::Serialize;
use std::fmt;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// Could be better; nothing depends on it.
    Hint,
    /// Something of ours does not work for want of it.
    Fault,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, for example `"kvm device"`.
    pub name: &'static str,
    /// What it came to.
    pub state: State,
    /// What was found.
    pub found: String,
    /// Commands, or steps where no command helps, that mend it; none when it is good.
    pub mend: Vec<String>,
}

/// What KVM says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KvmReport {
    /// Why `/dev/kvm` could not be opened, if so.
    pub refused: Option<String>,
    /// KVM_GET_API_VERSION.
    pub api_version: Option<i32>,
    /// Most vCPUs of one machine.
    pub most_vcpus: Option<u32>,
    /// Whether guests can be hosts and have their state saved.
    pub nested_state: Option<bool>,
    /// CPU features that a guest can have.
    pub features: Vec<String>,
    /// Capabilities by name, with their values.
    pub capabilities: Vec<(String, i64)>,
    /// Whether an unmodified guest can run.
    pub runs_guests: Option<bool>,
    /// The probe guest's speed in ring 0, in instructions a second.
    pub instructions_per_second: Option<u64>,
    /// What the probe guest found missing.
    pub failing: Vec<String>,
}

/// The whole examination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The engine that `--engine auto` takes here.
    pub engine: &'static str,
    /// All checks.
    pub checks: Vec<Check>,
    /// What KVM says of itself.
    pub kvm: KvmReport,
}

/// Examines the host.
pub fn examine(host: &HostRoot, kvm: KvmReport) -> Report {
    let mut all = kvm_checks::all(host, &kvm);
    all.extend(checks::all(host));
    let engine = if kvm.runs_guests == Some(true) { "kvm" } else { "soft" };
    Report { engine, checks: all, kvm }
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, state: State::Good, found: found.into(), mend: Vec::new() }
    }

    fn hint(name: &'static str, found: impl Into<String>, mend: &[&str]) -> Check {
        Check { state: State::Hint, ..Check::good(name, found) }.mended_by(mend)
    }

    fn fault(name: &'static str, found: impl Into<String>, mend: &[&str]) -> Check {
        Check { state: State::Fault, ..Check::good(name, found) }.mended_by(mend)
    }

    fn mended_by(mut self, mend: &[&str]) -> Check {
        self.mend = mend.iter().map(|step| (*step).to_owned()).collect();
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let mark = match check.state {
                State::Good => "ok",
                State::Hint => "--",
                State::Fault => "!!",
            };
            writeln!(f, "{mark}  {:<16}{}", check.name, check.found)?;
            for step in &check.mend {
                writeln!(f, "      {:<14}mend: {step}", "")?;
            }
        }
        if !self.kvm.capabilities.is_empty() {
            let listed: Vec<_> = self
                .kvm
                .capabilities
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            writeln!(f, "    {:<16}{}", "capabilities", listed.join(" "))?;
        }
        writeln!(f, "Guests run on this host with the {} engine (--engine auto).", self.engine)
    }
}

#[cfg(test)]
mod tests;
