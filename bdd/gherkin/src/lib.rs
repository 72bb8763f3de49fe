//! The Gherkin language: parser, syntax tree, pickles.
