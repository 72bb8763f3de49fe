//! No expression and no sentence makes us panic. The first line is the expression, the rest the sentence.
//!
//! Seeds: `cargo +nightly fuzz run expression fuzz/corpus/expression fuzz/seeds`, from `bdd/expressions`.

#![no_main]

use kezhan_expressions::{Expression, ParameterTypes, propose};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (source, sentence) = text.split_once('\n').unwrap_or((text, text));
    if let Ok(expression) = Expression::parse(source, &ParameterTypes::default()) {
        let _ = expression.matches(sentence);
    }
    let _ = propose(sentence);
});
