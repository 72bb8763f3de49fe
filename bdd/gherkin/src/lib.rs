//! The Gherkin language: parser, syntax tree, pickles.
//!
//! ```text
//! bytes --parse_bytes--> Document --pickles--> [Pickle]      (one per scenario and per row of examples)
//!             |
//!             +--> every fault of the file, each with line and column
//! ```
//!
//! The parser is complete to the official grammar, in all 80 languages of the official table, and gives the
//! same tree and the same pickles as the official parser; `tests/official.rs` compares them. It accepts one thing
//! more: a full-width colon after a title keyword. A parser of our own, and not the `gherkin` crate, because that
//! one stops at the first fault, loses media types and escapes of doc strings, and knows fewer keywords.
//!
//! Feature files come from strangers: nothing here panics, and length, faults and expansion are bounded
//! ([`spec`]).

pub mod ast;
mod error;
mod language;
mod line;
mod number;
mod parser;
mod pickle;
mod place;
pub mod spec;
mod story;
mod suggest;
mod table;
mod token;

pub use error::{Fault, ParseError};
pub use language::{Language, Title};
pub use number::{Ids, renumber};
pub use parser::{parse, parse_bytes};
pub use pickle::{
    Pickle, PickleArgument, PickleCell, PickleDocString, PickleRow, PickleStep, PickleTable,
    PickleTag, pickles,
};
pub use story::Story;
pub use suggest::nearest_keyword;

#[cfg(test)]
mod tests;
