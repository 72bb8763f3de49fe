//! The syntax tree of a feature file, in the shape of Cucumber Messages (`gherkinDocument`).
//!
//! Every node serialises to the JSON that the official tools read. Identifiers are numbers as text, given in
//! the order in which the official parser closes nodes ([`crate::number`]), so that two trees compare equal.

use serde::{Deserialize, Serialize};

/// A place in a file, both counted from one. A column counts Unicode scalar values.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Location {
    /// The line.
    pub line: usize,
    /// The column; absent where a whole line, or the end of the file, is meant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<usize>,
}

impl Location {
    /// A place by line and column.
    pub const fn new(line: usize, column: usize) -> Location {
        Location { line, column: Some(column) }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column.unwrap_or(1))
    }
}

/// What a step keyword says about its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeywordType {
    /// `*`, or a word that the language uses for several kinds.
    #[default]
    Unknown,
    /// Given: what already holds.
    Context,
    /// When: what is done.
    Action,
    /// Then: what must hold.
    Outcome,
    /// And, But: as the step before.
    Conjunction,
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The file's name, as given by the caller.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uri: Option<String>,
    /// The feature; absent in a file without one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feature: Option<Feature>,
    /// Every comment, in order.
    pub comments: Vec<Comment>,
}

/// A comment line, with its leading space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its line; the column is always one.
    pub location: Location,
    /// The whole line.
    pub text: String,
}

/// `Feature:` and all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Where the keyword stands.
    pub location: Location,
    /// Tags above the keyword.
    pub tags: Vec<Tag>,
    /// Code of the spoken language.
    pub language: String,
    /// The keyword as written.
    pub keyword: String,
    /// The text after the colon.
    pub name: String,
    /// The free text below, verbatim.
    pub description: String,
    /// Background, scenarios and rules in order.
    pub children: Vec<Child>,
}

/// What a feature or a rule holds. A rule never holds a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Child {
    /// Steps put before those of each scenario.
    Background(Background),
    /// A scenario or a scenario outline.
    Scenario(Scenario),
    /// A rule with scenarios of its own.
    Rule(Rule),
}

/// `Rule:` and all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where the keyword stands.
    pub location: Location,
    /// Tags above the keyword.
    pub tags: Vec<Tag>,
    /// The keyword as written.
    pub keyword: String,
    /// The text after the colon.
    pub name: String,
    /// The free text below.
    pub description: String,
    /// Background and scenarios.
    pub children: Vec<Child>,
    /// Identifier.
    pub id: String,
}

/// `Background:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Background {
    /// Where the keyword stands.
    pub location: Location,
    /// The keyword as written.
    pub keyword: String,
    /// The text after the colon.
    pub name: String,
    /// The free text below.
    pub description: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// Identifier.
    pub id: String,
}

/// `Scenario:` or `Scenario Outline:`; the second differs only in having examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Where the keyword stands.
    pub location: Location,
    /// Tags above the keyword.
    pub tags: Vec<Tag>,
    /// The keyword as written.
    pub keyword: String,
    /// The text after the colon.
    pub name: String,
    /// The free text below.
    pub description: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// The tables of examples.
    pub examples: Vec<Examples>,
    /// Identifier.
    pub id: String,
}

/// `Examples:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Examples {
    /// Where the keyword stands.
    pub location: Location,
    /// Tags above the keyword.
    pub tags: Vec<Tag>,
    /// The keyword as written.
    pub keyword: String,
    /// The text after the colon.
    pub name: String,
    /// The free text below.
    pub description: String,
    /// The names of the columns.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub table_header: Option<TableRow>,
    /// One scenario per row.
    pub table_body: Vec<TableRow>,
    /// Identifier.
    pub id: String,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Where the keyword stands.
    pub location: Location,
    /// The keyword with the space that belongs to it.
    pub keyword: String,
    /// What the keyword says.
    pub keyword_type: KeywordType,
    /// The sentence.
    pub text: String,
    /// The text block below it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doc_string: Option<DocString>,
    /// The table below it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_table: Option<DataTable>,
    /// Identifier.
    pub id: String,
}

/// A block of text between `"""` or three back-ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DocString {
    /// Where the opening delimiter stands.
    pub location: Location,
    /// What follows the opening delimiter.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub media_type: Option<String>,
    /// The text, without the delimiter's indentation.
    pub content: String,
    /// The delimiter.
    pub delimiter: String,
}

/// A table below a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataTable {
    /// Where its first row stands.
    pub location: Location,
    /// All rows; all have the same number of cells.
    pub rows: Vec<TableRow>,
}

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRow {
    /// Where the first bar stands.
    pub location: Location,
    /// The cells.
    pub cells: Vec<TableCell>,
    /// Identifier.
    pub id: String,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCell {
    /// Where its text stands.
    pub location: Location,
    /// Its text, unescaped.
    pub value: String,
}

/// A tag, with its `@`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Where the `@` stands.
    pub location: Location,
    /// The tag with its `@`.
    pub name: String,
    /// Identifier.
    pub id: String,
}
