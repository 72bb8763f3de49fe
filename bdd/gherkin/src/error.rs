//! What can be wrong with a feature file.

use crate::ast::Location;
use std::fmt;

/// One fault of a file. `Display` gives `LINE:COLUMN: message`; the caller puts the file's name before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location}: {fault}")]
pub struct ParseError {
    /// Where the fault stands.
    pub location: Location,
    /// What it is.
    pub fault: Fault,
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are not UTF-8.
    #[error("byte {0:#04x} is not UTF-8; save the file as UTF-8")]
    NotUtf8(u8),
    /// The file is longer than [`crate::spec::MAX_SOURCE`].
    #[error("the file has {0} bytes, the limit is {limit}; split it", limit = crate::spec::MAX_SOURCE)]
    TooLarge(u64),
    /// `# language:` names none that we know.
    #[error(
        "language \"{0}\" is not known; codes are those of the Gherkin reference, such as en or zh-CN"
    )]
    UnknownLanguage(String),
    /// A line that cannot stand here.
    #[error("\"{found}\" cannot stand here{}; expected {expected}", Hint(.hint))]
    Unexpected {
        /// The line.
        found: String,
        /// The keyword that it may have meant.
        hint: Option<String>,
        /// What could stand here.
        expected: String,
    },
    /// The file ends too early.
    #[error("the file ends here; expected {0}")]
    UnexpectedEnd(String),
    /// A doc string is never closed.
    #[error("the doc string opened at line {opened} is not closed; end it with {delimiter}")]
    OpenDocString {
        /// Line of the opening delimiter.
        opened: usize,
        /// The delimiter.
        delimiter: &'static str,
    },
    /// A tag holds white space.
    #[error("a tag holds white space; write each tag as @name")]
    TagWithSpace,
    /// The rows of a table differ in length.
    #[error("this row has {found} cells, the first row has {expected}; give every row {expected}")]
    RaggedTable {
        /// Cells of the first row.
        expected: usize,
        /// Cells of this row.
        found: usize,
    },
    /// More faults than are worth listing.
    #[error("more than {0} faults; mend the first ones and look again")]
    TooMany(usize),
    /// The outlines of the file expand beyond [`crate::spec::MAX_EXPANSION`].
    #[error("the examples expand to more than {limit} bytes; use fewer rows", limit = crate::spec::MAX_EXPANSION)]
    TooManyRows,
}

struct Hint<'a>(&'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(keyword) => write!(f, " (is \"{keyword}\" meant?)"),
            None => Ok(()),
        }
    }
}
