//! How a step ends when it does not pass.

/// Why a step did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// What should hold does not: it may yet, so a check is asked again.
    #[error("expected {expected}\n     saw {seen}")]
    Mismatch {
        /// What the sentence says.
        expected: String,
        /// What was there instead.
        seen: String,
    },
    /// The step could not be carried out; waiting does not help.
    #[error("{0}")]
    Broken(String),
    /// A machine died or its system panicked: the scenario ends at once.
    #[error("{0}")]
    Guard(String),
    /// The step is not written yet.
    #[error("this step is not written yet")]
    Pending,
    /// The scenario asks to be skipped here.
    #[error("skipped: {0}")]
    Skipped(String),
}

impl Failure {
    /// A mismatch of two texts.
    pub fn mismatch(expected: impl Into<String>, seen: impl Into<String>) -> Failure {
        Failure::Mismatch { expected: expected.into(), seen: seen.into() }
    }

    /// Something could not be done: `what` names it, `error` says why.
    pub fn broken(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Failure {
        Failure::Broken(format!("{what}: {error}"))
    }
}
