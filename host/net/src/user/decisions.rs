//! What the policy decided lately, and why: the last few hundred decisions, for people and for tests.

use crate::policy::{Decision, Protocol};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Decisions that are kept; the oldest makes room.
const KEPT: usize = 512;

/// What was asked of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// To open a flow; the names are those that the guest learned the address by.
    Flow {
        /// The target.
        to: SocketAddr,
        /// The protocol.
        protocol: Protocol,
        /// What our resolver told the guest of it.
        names: Vec<String>,
    },
    /// To resolve a name.
    Name(String),
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRecord {
    /// When, on the gateway's clock.
    pub at: Duration,
    /// What was asked.
    pub subject: Subject,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Why, when a rule of the policy says; a name that no rule is about goes by the default.
    pub decision: Option<Decision>,
}

impl fmt::Display for DecisionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.allowed { "allowed" } else { "denied" };
        match &self.subject {
            Subject::Flow { to, protocol, names } => {
                write!(f, "{word}: {to}/{protocol:?} known as {names:?}")?;
            }
            Subject::Name(name) => write!(f, "{word}: the name {name:?}")?,
        }
        match self.decision {
            Some(decision) => write!(f, ": {:?}", decision.reason),
            None => Ok(()),
        }
    }
}

/// Lines that the log gets in a second: a guest must not fill it.
const LINES: u32 = 20;

/// The last decisions, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    kept: VecDeque<DecisionRecord>,
    /// This second, and the lines that it has seen.
    logged: (u64, u32),
}

impl Decisions {
    pub(super) fn note(&mut self, record: DecisionRecord) {
        if record.allowed {
            log::debug!("policy: {record}");
        } else if self.may_log(record.at) {
            log::info!("policy: {record}");
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }

    fn may_log(&mut self, now: Duration) -> bool {
        if self.logged.0 != now.as_secs() {
            self.logged = (now.as_secs(), 0);
        }
        self.logged.1 = self.logged.1.saturating_add(1);
        if self.logged.1 == LINES {
            log::info!("policy: more was denied in this second; the report counts it");
        }
        self.logged.1 < LINES
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DecisionRecord> {
        self.kept.iter()
    }
}
