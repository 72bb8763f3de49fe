//! From features to unit tests that a person completes.
//!
//! ```text
//! withdraw.feature --suite--> Suite { methods, tests } --back-end--> files
//!                                                                     |- always written again: interface, tests
//!                                                                     '- written once: the person's steps
//! ```
//!
//! Each distinct step becomes one method of a trait (interface, base class), each scenario and each row of
//! examples one test. A step not written yet makes its test fail there, with its name: red, then green. With
//! [`Options::strict`] the compiler lists what is missing instead. Generated code holds plain named functions and
//! no closures; a test of this crate parses the Rust to prove it.
//!
//! A back-end is a pure function from suites to files ([`Backend`]); [`write`] and [`check`] do the rest.

mod go;
mod model;
mod names;
mod output;
mod python;
mod rust;

pub use model::{Call, Field, FieldKind, Method, ModelError, Suite, Test, suite};
pub use names::{Case, Names, Vocabulary};
pub use output::{Action, OutputError, OutputFile, check, write};

use std::path::PathBuf;

/// The languages that tests are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Integration tests of a cargo package.
    Rust,
    /// Test files of a Go package.
    Go,
    /// Modules for pytest.
    Python,
}

/// How to generate.
#[derive(Clone, Debug)]
pub struct Options {
    /// The language.
    pub target: Target,
    /// No defaults for missing steps: the compiler, or the class's constructor, lists them all.
    pub strict: bool,
}

/// A language's templates.
pub trait Backend {
    /// The files for all suites, with names relative to the folder of output.
    fn files(&self, suites: &[Suite], strict: bool) -> Vec<OutputFile>;
    /// How the language spells names.
    fn vocabulary(&self) -> Vocabulary;
}

/// The files for features, with names relative to the folder of output.
///
/// # Errors
/// When two features would be written to one file.
pub fn generate(
    features: &[kezhan_features::Feature],
    options: &Options,
) -> Result<Vec<OutputFile>, ModelError> {
    let backend: &dyn Backend = match options.target {
        Target::Rust => &rust::Rust,
        Target::Go => &go::Go,
        Target::Python => &python::Python,
    };
    let vocabulary = backend.vocabulary();
    let suites = features.iter().map(|feature| suite(feature, &vocabulary)).collect::<Vec<_>>();
    for (at, one) in suites.iter().enumerate() {
        if let Some(other) = suites.iter().skip(at + 1).find(|other| other.stem == one.stem) {
            let (first, second) = (PathBuf::from(&one.source), PathBuf::from(&other.source));
            return Err(ModelError::SameName { first, second, stem: one.stem.clone() });
        }
    }
    Ok(backend.files(&suites, options.strict))
}

#[cfg(test)]
mod tests;
