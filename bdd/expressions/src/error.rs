//! What can be wrong with an expression.

/// A fault of an expression; columns count characters from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// A bracket without its partner.
    #[error(
        "expression \"{expression}\", column {column}: '{bracket}' has no partner; write \\{bracket} for the character"
    )]
    Unbalanced {
        /// The expression.
        expression: String,
        /// Where.
        column: usize,
        /// The bracket.
        bracket: char,
    },
    /// A parameter or an optional inside an optional, or a parameter within an alternative.
    #[error(
        "expression \"{expression}\", column {column}: '{found}' cannot stand inside ( ) or {{ }}; write \\{found} for the character"
    )]
    Nested {
        /// The expression.
        expression: String,
        /// Where.
        column: usize,
        /// What stands there.
        found: char,
    },
    /// `()`, or an alternative without a letter that is always there.
    #[error(
        "expression \"{expression}\", column {column}: {what} is empty; put text there, or write \\( or \\/ for the character"
    )]
    Empty {
        /// The expression.
        expression: String,
        /// Where.
        column: usize,
        /// What is empty.
        what: &'static str,
    },
    /// A backslash before a character that needs none.
    #[error(
        "expression \"{expression}\", column {column}: only the characters ( ) {{ }} / \\ and space can be escaped"
    )]
    Escape {
        /// The expression.
        expression: String,
        /// Where.
        column: usize,
    },
    /// A parameter type that nobody defined.
    #[error(
        "expression \"{expression}\": parameter type \"{name}\" is not known; known are {known}"
    )]
    UnknownType {
        /// The expression.
        expression: String,
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// A regular expression that does not compile.
    #[error("regular expression /{expression}/ is wrong: {reason}")]
    Regex {
        /// The regular expression.
        expression: String,
        /// What the crate says.
        reason: String,
    },
}
