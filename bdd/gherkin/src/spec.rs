//! Constants of the language and our limits.

/// Delimiters of doc strings, and how each is written inside one. (Gherkin reference, "Doc Strings")
pub const DOC_STRINGS: [(&str, &str); 2] = [("\"\"\"", "\\\"\\\"\\\""), ("```", "\\`\\`\\`")];

/// What may end a title keyword. The second, full-width, is our extension: Chinese and Japanese input methods
/// produce it, and no official file can mean anything else by `功能：`. (Gherkin reference, "Keywords")
pub const COLONS: [char; 2] = [':', '：'];

/// The media type that Cucumber Messages gives to a feature file. (Cucumber Messages, `Source.mediaType`)
pub const MEDIA_TYPE: &str = "text/x.cucumber.gherkin+plain";

/// The longest file that is read, in bytes.
pub const MAX_SOURCE: u64 = 16 << 20;

/// How many faults of one file are listed.
pub const MAX_ERRORS: usize = 100;

/// How much text the outlines of one file may expand to, in bytes.
pub const MAX_EXPANSION: usize = 256 << 20;
