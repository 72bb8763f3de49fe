//! Reports of a test run, all from one stream of events.
//!
//! ```text
//! runner --Envelope--> NDJSON (Cucumber Messages, as they happen)
//!                 '--> Record --> terminal, JUnit XML, JSON, HTML
//! ```
//!
//! The events are Cucumber Messages, so that the official tools read them too; every other report is a function of
//! the [`Record`] that they add up to. Reports hold strangers' text: each escapes what it writes.

mod base64;
mod html;
mod json;
mod junit;
pub mod messages;
mod record;
mod terminal;

pub use html::html;
pub use json::json;
pub use junit::junit;
pub use record::{Attached, Attempt, Case, Record, StepRecord};
pub use terminal::{Style, case_text, summary_text};

/// Bytes as an attachment's body. (RFC 4648 §4)
pub fn encode(bytes: &[u8]) -> String {
    base64::encode(bytes)
}

#[cfg(test)]
mod tests;
