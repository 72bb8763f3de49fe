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

/// The last decisions, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Decisions(VecDeque<DecisionRecord>);

impl Decisions {
    pub(super) fn note(&mut self, record: DecisionRecord) {
        if record.allowed {
            log::debug!("policy: {record}");
        } else {
            log::info!("policy: {record}");
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &DecisionRecord> {
        self.0.iter()
    }
}
